/** The client: images, jobs and results. */

import { Administration } from "./administration.js";
import type { CallOptions } from "./connection.js";
import { asFile, isLink, type Source } from "./files.js";
import {
  joined,
  keyHeader,
  sending,
  upload,
  type Filter,
  type Form,
  type Panel,
  type UploadOptions,
} from "./forms.js";
import type * as api from "./openapi.js";
import { byCursor, byOffset, PAGE_SIZE, type PageOptions } from "./pages.js";
import { pause } from "./retries.js";

/** How an image is judged: `threshold`, `views`, `panel` and so on. */
export type PredictFields = Omit<Form<"/api/inference/predict">, "file" | "url" | "panel"> & Panel;
export type BatchFields = Omit<Form<"/api/inference/predict-batch">, "files" | "panel"> & Panel;
export type VideoFields = Omit<Form<"/api/inference/predict-video">, "file" | "panel"> & Panel;
export type JobFields = Omit<Form<"/api/jobs">, "files" | "panel"> & Panel;
export type HistoryFilter = Filter<"/api/inference/history">;
export type StatsFilter = Filter<"/api/inference/stats">;
export type DriftFilter = Filter<"/api/inference/drift">;
export type Label = api.LabelRequest["label"];
export type LabelFields = { source?: string; note?: string };

const MOST_IDS = 1000;
/** Seconds between two looks at a job, at first and at last. */
const [FIRST_LOOK, LATER_LOOK] = [0.5, 5];

/**
 * Calls a D3 service: `new D3Client("http://localhost:5000")`. Each call throws a `D3Error` with a
 * stable `code` if the service does not do what was asked.
 */
export class D3Client extends Administration {
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
   * Judge a video by its frames. A small one has its result at once. A large one, or one with a
   * `callback`, becomes a job, for `waitForJob` and `jobResults`.
   */
  async predictVideo(
    video: Source,
    { panel, name, ...fields }: VideoFields & { name?: string } = {},
    options: UploadOptions = {},
  ): Promise<api.Prediction | api.JobBody> {
    const file = await asFile(video, name);
    const form = upload({ ...fields, ...joined(panel), file }, options);
    const path = "/api/inference/predict-video";
    const answer = await this.call((api) => api.POST(path, form), sending(form, options));
    return "job" in answer ? answer.job : answer;
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
    if (sources.length > 0 && sources.every(isLink)) {
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

  /** Cancel what of a job has no result yet; it is over then. */
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

  /** Totals, a time series with `bucket`, and totals of each group with `group`. */
  async stats(filter: StatsFilter = {}, options: CallOptions = {}): Promise<api.StatsBody> {
    const params = { query: filter };
    return (await this.call((api) => api.GET("/api/inference/stats", { params }), options)).stats;
  }

  /** Whether results are still like the calibration of their model, in all and by day. */
  async drift(filter: DriftFilter = {}, options: CallOptions = {}): Promise<api.DriftReport> {
    const params = { query: filter };
    return (await this.call((api) => api.GET("/api/inference/drift", { params }), options)).drift;
  }

  /** Say what an image truly is; `unknown` takes back what was said before. The verdict stays. */
  async label(
    id: number,
    label: Label,
    fields: LabelFields = {},
    options: CallOptions = {},
  ): Promise<api.LabelItem> {
    const params = { path: { result_id: String(id) } };
    const body = { label, source: "", note: "", ...fields };
    const path = "/api/inference/result/{result_id}/label";
    return (await this.call((api) => api.POST(path, { params, body }), options)).label;
  }

  /** Give results the same label, a thousand in one transaction; their number. */
  async labelMany(
    ids: Iterable<number>,
    label: Label,
    fields: LabelFields = {},
    options: CallOptions = {},
  ): Promise<number> {
    let count = 0;
    for (const some of thousands(ids)) {
      const body = { ids: some, label, source: "", note: "", ...fields };
      const path = "/api/inference/labels";
      count += (await this.call((api) => api.POST(path, { body }), options)).count;
    }
    return count;
  }

  /** All that was said about a result's image, newest first. */
  async labels(id: number, options: CallOptions = {}): Promise<api.LabelItem[]> {
    const params = { path: { result_id: String(id) } };
    const path = "/api/inference/result/{result_id}/labels";
    return (await this.call((api) => api.GET(path, { params }), options)).labels;
  }

  /** Delete one result for good. */
  async delete(id: number, options: CallOptions = {}): Promise<void> {
    const params = { path: { result_id: String(id) } };
    const path = "/api/inference/result/{result_id}";
    await this.call((api) => api.DELETE(path, { params }), options);
  }

  /** Delete results for good, a thousand in one transaction; those that were not there. */
  async deleteMany(ids: Iterable<number>, options: CallOptions = {}): Promise<number[]> {
    const missing: number[] = [];
    for (const some of thousands(ids)) {
      const body = { ids: some };
      const path = "/api/inference/results/delete";
      missing.push(...(await this.call((api) => api.POST(path, { body }), options)).missing);
    }
    return missing;
  }
}

async function asFiles(images: Iterable<Source>): Promise<File[]> {
  return Promise.all(Array.from(images, (image) => asFile(image)));
}

function* thousands(ids: Iterable<number>): Generator<number[]> {
  const left = [...ids];
  while (left.length > 0) yield left.splice(0, MOST_IDS);
}
