/** The client: uploads, results and scans. */

import { Connection, type CallOptions, type SendOptions } from "./connection.js";
import { asFile, asForm, isLink, type Source } from "./files.js";
import type * as api from "./openapi.js";
import { byCursor, byOffset, PAGE_SIZE, type PageOptions } from "./pages.js";
import { randomName } from "./random.js";

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
export type HistoryFilter = Filter<"/api/inference/history">;
export type ScanFields = Omit<api.ScanRequest, "source" | "panel"> & Panel;
export type ScanFilter = Filter<"/api/scans/{scan_id}/results">;

const MOST_IDS = 1000;

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
    const files = await Promise.all(Array.from(images, (image) => asFile(image)));
    const form = upload({ ...fields, ...joined(panel), files }, options);
    const path = "/api/inference/predict-batch";
    return this.call((api) => api.POST(path, form), sending(form, options));
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

function upload<F extends object>(
  body: F,
  { idempotencyKey = randomName() }: UploadOptions,
): Upload<F> {
  const form = asForm(body);
  return {
    body,
    bodySerializer: () => form,
    headers: { "Content-Type": form.type },
    params: { header: { "Idempotency-Key": idempotencyKey } },
  };
}

function sending(form: Upload<unknown>, options: CallOptions): SendOptions {
  return { ...options, bytes: form.bodySerializer().size };
}

function joined(panel: Panel["panel"]): { panel?: string } {
  if (panel === undefined) return {};
  return { panel: typeof panel === "string" ? panel : panel.join(",") };
}
