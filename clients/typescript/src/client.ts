/** The client: images, jobs, results and scans. */

import { Connection, type CallOptions, type SendOptions } from "./connection.js";
import { asFile, asForm, isLink, type Source } from "./files.js";
import type * as api from "./openapi.js";
import { byCursor, byOffset, PAGE_SIZE, type PageOptions } from "./pages.js";
import { randomName } from "./random.js";
import { pause } from "./retries.js";

export interface UploadOptions extends CallOptions {
  /** The same key with the same request gets the same answer; a fresh one unless given. */
  idempotencyKey?: string;
}

type Path = keyof api.paths;
type Form<P extends Path> = api.paths[P] extends {
  post: { requestBody?: { content: { "multipart/form-data": infer F } } };
}
  ? F
  : never;
type Filter<P extends Path> = api.paths[P] extends { get: { parameters: { query?: infer Q } } }
  ? Omit<NonNullable<Q>, "limit" | "offset" | "cursor">
  : never;
/** Names of models, the chief first. */
type Panel = { panel?: string | readonly string[] };

/** How an image is judged: `threshold`, `views`, `panel` and so on. */
export type PredictFields = Omit<Form<"/api/inference/predict">, "file" | "url" | "panel"> & Panel;
export type BatchFields = Omit<Form<"/api/inference/predict-batch">, "files" | "panel"> & Panel;
export type JobFields = Omit<Form<"/api/jobs">, "files" | "panel"> & Panel;
export type HistoryFilter = Filter<"/api/inference/history">;
export type ScanFields = Omit<api.ScanRequest, "source" | "panel"> & Panel;
export type ScanFilter = Filter<"/api/scans/{scan_id}/results">;

const MOST_IDS = 1000;
/** Seconds between two looks at a job, at first and at last. */
const [FIRST_LOOK, LATER_LOOK] = [0.5, 5];

export class D3Client extends Connection {
  /** Judge one image. */
  async predict(
    image: Source,
    { name, panel, ...fields }: PredictFields & { name?: string } = {},
    options: UploadOptions = {},
  ): Promise<api.Prediction> {
    const source = isLink(image) ? { url: image.href } : { file: await asFile(image, name) };
    const form = upload({ ...fields, ...joined(panel), ...source }, options);
    return this.call((api) => api.POST("/api/inference/predict", form), sending(form, options));
  }

  /** Judge several images in one request; a bad image has an error instead of a result. */
  async predictBatch(
    images: Iterable<Source>,
    { panel, ...fields }: BatchFields = {},
    options: UploadOptions = {},
  ): Promise<api.BatchPrediction> {
    const files = await asFiles(images);
    const form = upload({ ...fields, ...joined(panel), files }, options);
    const path = "/api/inference/predict-batch";
    return this.call((api) => api.POST(path, form), sending(form, options));
  }

  /**
   * Begin a job: many images and clips that the service judges in the background. They are either
   * all files or all links: `https:` URLs, and `s3:` URLs of the service's own S3 server.
   * `external_id` has your own id of each, in the same order.
   */
  async startJob(
    images: Iterable<Source>,
    { panel, external_id, ...fields }: JobFields = {},
    options: UploadOptions = {},
  ): Promise<api.JobBody> {
    const sources = [...images];
    const asked = { ...fields, ...joined(panel) };
    const path = "/api/jobs";
    if (sources.every(isLink)) {
      const items = sources.map(({ protocol, href }, n) => ({
        [protocol === "s3:" ? "s3" : "url"]: href,
        ...(external_id?.[n] !== undefined && { external_id: external_id[n] }),
      }));
      const sent = { body: { ...asked, items }, params: { header: keyHeader(options) } };
      return (await this.call((api) => api.POST(path, sent), options)).job;
    }
    const files = await asFiles(sources);
    const form = upload({ ...asked, ...(external_id && { external_id }), files }, options);
    return (await this.call((api) => api.POST(path, form), sending(form, options))).job;
  }

  /** A job once it is over; `onProgress` sees it before, now and then. */
  async waitForJob(
    id: string,
    options: CallOptions & { onProgress?: (job: api.JobBody) => void } = {},
  ): Promise<api.JobBody> {
    for (let seconds = FIRST_LOOK; ; seconds = Math.min(seconds * 1.5, LATER_LOOK)) {
      const job = await this.job(id, options);
      if (job.state !== "running") return job;
      options.onProgress?.(job);
      await pause(seconds, options.signal);
    }
  }

  /** One job with its counts. */
  async job(id: string, options: CallOptions = {}): Promise<api.JobBody> {
    const params = { path: { job_id: id }, query: { limit: 1 } };
    return (await this.call((api) => api.GET("/api/jobs/{job_id}", { params }), options)).job;
  }

  /** One's jobs, newest first; pages are fetched as needed. */
  jobs(options: PageOptions = {}): AsyncGenerator<api.JobBody> {
    const limit = options.pageSize ?? PAGE_SIZE;
    return byOffset(limit, async (offset) => {
      const params = { query: { limit, offset } };
      return (await this.call((api) => api.GET("/api/jobs", { params }), options)).jobs;
    });
  }

  /** Every image of a job in the order sent, with its result if it has one. */
  jobResults(id: string, options: PageOptions = {}): AsyncGenerator<api.JobResult> {
    const limit = options.pageSize ?? PAGE_SIZE;
    return byCursor((cursor) => {
      const params = { path: { job_id: id }, query: { limit, ...(cursor && { cursor }) } };
      return this.call((api) => api.GET("/api/jobs/{job_id}", { params }), options);
    });
  }

  /** Cancel what of a job has not begun. */
  async cancelJob(id: string, options: CallOptions = {}): Promise<api.JobBody> {
    const params = { path: { job_id: id } };
    const again = { ...options, repeatable: true };
    return (await this.call((api) => api.DELETE("/api/jobs/{job_id}", { params }), again)).job;
  }

  /** Every result that matches, newest first; pages are fetched as needed. */
  history(filter: HistoryFilter = {}, options: PageOptions = {}): AsyncGenerator<api.HistoryItem> {
    const limit = options.pageSize ?? PAGE_SIZE;
    return byCursor((cursor = "") => {
      const query = { ...filter, limit, cursor };
      return this.call((api) => api.GET("/api/inference/history", { params: { query } }), options);
    });
  }

  /** One result. */
  async result(id: number, options: CallOptions = {}): Promise<api.HistoryItem> {
    const params = { path: { result_id: String(id) } };
    const path = "/api/inference/result/{result_id}";
    return (await this.call((api) => api.GET(path, { params }), options)).result;
  }

  /** A result as a signed bundle of evidence: a zip file. */
  evidence(id: number, options: CallOptions = {}): Promise<Blob> {
    const params = { path: { result_id: String(id) } };
    const path = "/api/inference/result/{result_id}/evidence";
    return this.call((api) => api.GET(path, { params, parseAs: "blob" }), options);
  }

  /** Say what an image truly is; `unknown` takes back what was said before. The verdict stays. */
  async label(
    id: number,
    label: api.LabelRequest["label"],
    more: { source?: string; note?: string } = {},
    options: CallOptions = {},
  ): Promise<api.LabelItem> {
    const params = { path: { result_id: String(id) } };
    const body = { label, source: "", note: "", ...more };
    const path = "/api/inference/result/{result_id}/label";
    return (await this.call((api) => api.POST(path, { params, body }), options)).label;
  }

  /** All that was said about a result's image, newest first. */
  async labels(id: number, options: CallOptions = {}): Promise<api.LabelItem[]> {
    const params = { path: { result_id: String(id) } };
    const path = "/api/inference/result/{result_id}/labels";
    return (await this.call((api) => api.GET(path, { params }), options)).labels;
  }

  /** Delete results for good, a thousand in one transaction; returns those that were not there. */
  async delete(ids: Iterable<number>, options: CallOptions = {}): Promise<number[]> {
    const left = [...ids];
    const missing: number[] = [];
    while (left.length > 0) {
      const body = { ids: left.splice(0, MOST_IDS) };
      const path = "/api/inference/results/delete";
      missing.push(...(await this.call((api) => api.POST(path, { body }), options)).missing);
    }
    return missing;
  }

  /** Let the service judge a whole prefix: `s3://BUCKET/PREFIX`, or a folder of the server's. */
  async startScan(
    source: string,
    { panel, ...fields }: ScanFields = {},
    options: CallOptions = {},
  ): Promise<api.ScanItem> {
    const body = { id: `scan-${randomName()}`, ...fields, ...joined(panel), source };
    const again = { ...options, repeatable: true }; // the id makes it so
    return (await this.call((api) => api.POST("/api/scans", { body }), again)).scan;
  }

  /** Every scan, newest first; pages are fetched as needed. */
  scans(options: PageOptions = {}): AsyncGenerator<api.ScanItem> {
    const limit = options.pageSize ?? PAGE_SIZE;
    return byOffset(limit, async (offset) => {
      const params = { query: { limit, offset } };
      return (await this.call((api) => api.GET("/api/scans", { params }), options)).scans;
    });
  }

  /** One scan with its counts. */
  async scan(id: string, options: CallOptions = {}): Promise<api.ScanItem> {
    const params = { path: { scan_id: id } };
    return (await this.call((api) => api.GET("/api/scans/{scan_id}", { params }), options)).scan;
  }

  /** Every result of a scan, by URI; pages are fetched as needed. */
  scanResults(
    id: string,
    filter: ScanFilter = {},
    options: PageOptions = {},
  ): AsyncGenerator<api.ScanResultItem> {
    const limit = options.pageSize ?? PAGE_SIZE;
    return byCursor((cursor) => {
      const query = { ...filter, limit, ...(cursor && { cursor }) };
      const params = { path: { scan_id: id }, query };
      return this.call((api) => api.GET("/api/scans/{scan_id}/results", { params }), options);
    });
  }

  /** Stop a scan's workers after their current shard. */
  async cancelScan(id: string, options: CallOptions = {}): Promise<api.ScanItem> {
    const params = { path: { scan_id: id } };
    const again = { ...options, repeatable: true };
    return (await this.call((api) => api.DELETE("/api/scans/{scan_id}", { params }), again)).scan;
  }
}

/** What a POST sends for these fields, and again without harm. */
type Upload<F> = {
  body: F;
  bodySerializer: () => Blob;
  headers: { "Content-Type": string };
  params: { header: { "Idempotency-Key": string } };
};

function upload<F extends object>(body: F, options: UploadOptions): Upload<F> {
  const form = asForm(body);
  return {
    body,
    bodySerializer: () => form,
    headers: { "Content-Type": form.type },
    params: { header: keyHeader(options) },
  };
}

function keyHeader(options: UploadOptions): { "Idempotency-Key": string } {
  return { "Idempotency-Key": options.idempotencyKey ?? randomName() };
}

async function asFiles(images: Iterable<Source>): Promise<File[]> {
  return Promise.all(Array.from(images, (image) => asFile(image)));
}

function sending(form: Upload<unknown>, options: CallOptions): SendOptions {
  return { ...options, bytes: form.bodySerializer().size };
}

function joined(panel: Panel["panel"]): { panel?: string } {
  if (panel === undefined) return {};
  return { panel: typeof panel === "string" ? panel : panel.join(",") };
}
