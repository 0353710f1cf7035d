/** The client: every call of a service, with retries, uploads and paging. */

import createClient, { type Client } from "openapi-fetch";

import { D3Error, errorOf } from "./errors.js";
import { asFile, asForm, isLink, type Source } from "./files.js";
import type * as api from "./openapi.js";
import { NoAnswer, retrying } from "./retries.js";

/** The calls of the OpenAPI document by method and path, as openapi-fetch offers them. */
export type Calls = Client<api.paths>;

export interface ClientOptions {
  /** Sent as `Authorization: Bearer`; in Node, `D3_API_KEY` of the environment unless given. */
  apiKey?: string | undefined;
  /** How often 429, 503 and lost connections are tried again, after what `Retry-After` says. */
  retries?: number;
  /** Milliseconds until the answer must begin; 0: for ever. */
  timeout?: number;
  /** Sends the requests; the global `fetch` unless given. */
  fetch?: (request: Request) => Promise<Response>;
}

export interface CallOptions {
  /** Ends the call, also while it waits to try again. */
  signal?: AbortSignal | undefined;
}

export interface PageOptions extends CallOptions {
  /** How many results a page has; 500 unless given. */
  pageSize?: number;
}

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
type Query<P extends Path> = api.paths[P] extends { get: { parameters: { query?: infer Q } } }
  ? Omit<NonNullable<Q>, "limit" | "offset" | "cursor">
  : never;
/** Names of models, the chief first. */
type Panel = { panel?: string | readonly string[] };

/** How an image is judged: `threshold`, `views`, `panel` and so on. */
export type PredictFields = Omit<Form<"/api/inference/predict">, "file" | "url" | "panel"> & Panel;
export type BatchFields = Omit<Form<"/api/inference/predict-batch">, "files" | "panel"> & Panel;
export type HistoryFilter = Query<"/api/inference/history">;

const PAGE = 500;
const MOST_IDS = 1000;

export class D3Client {
  readonly #baseUrl: string;
  readonly #options: ClientOptions;

  constructor(baseUrl: string, options: ClientOptions = {}) {
    this.#baseUrl = baseUrl;
    this.#options = options;
  }

  /**
   * Any call of the service, typed by its path, with the client's key and retries:
   * `client.call((api) => api.GET("/api/model/info"))`.
   *
   * A request whose connection was lost is sent again if that does no harm: a GET, one with an
   * `Idempotency-Key`, or one that the caller knows to be `repeatable`.
   *
   * @throws {D3Error} if the service answers with an error, or not at all.
   */
  async call<T>(
    send: (api: Calls) => Promise<{ data?: T; error?: unknown; response: Response }>,
    { signal, repeatable = false }: CallOptions & { repeatable?: boolean } = {},
  ): Promise<T> {
    const attempt = async (): Promise<T> => {
      const sent: { request?: Request } = {};
      try {
        const { data, error, response } = await send(this.#calls(sent, signal));
        if (!response.ok) throw errorOf(response, error);
        return data as T;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof D3Error || sent.request === undefined) throw error;
        throw error instanceof SyntaxError
          ? new D3Error(200, "unexpected_answer", `${this.#baseUrl} did not answer in JSON.`)
          : new NoAnswer(sent.request, error, repeatable);
      }
    };
    return retrying(attempt, this.#options.retries ?? 5, signal);
  }

  /** Judge one image. */
  async predict(
    image: Source,
    fields: PredictFields & { name?: string } = {},
    options: UploadOptions = {},
  ): Promise<api.Prediction> {
    const { name, panel, ...rest } = fields;
    const source = isLink(image) ? { url: image.href } : { file: await asFile(image, name) };
    const body = { ...rest, ...joined(panel), ...source };
    const header = keyHeader(options);
    return this.call(
      (api) =>
        api.POST("/api/inference/predict", { body, params: { header }, bodySerializer: asForm }),
      options,
    );
  }

  /** Judge several images in one request; a bad image has an error instead of a result. */
  async predictBatch(
    images: Iterable<Source>,
    fields: BatchFields = {},
    options: UploadOptions = {},
  ): Promise<api.BatchPrediction> {
    const { panel, ...rest } = fields;
    const body = { ...rest, ...joined(panel), files: await asFiles(images) };
    const header = keyHeader(options);
    return this.call(
      (api) =>
        api.POST("/api/inference/predict-batch", {
          body,
          params: { header },
          bodySerializer: asForm,
        }),
      options,
    );
  }

  /** Every result that matches, newest first; pages are fetched as needed. */
  history(filter: HistoryFilter = {}, options: PageOptions = {}): AsyncGenerator<api.HistoryItem> {
    return byCursor((cursor) =>
      this.call(
        (api) =>
          api.GET("/api/inference/history", {
            params: { query: { ...filter, limit: options.pageSize ?? PAGE, cursor } },
          }),
        options,
      ),
    );
  }

  /** One result. */
  async result(id: number, options: CallOptions = {}): Promise<api.HistoryItem> {
    const path = { result_id: String(id) };
    const answer = await this.call(
      (api) => api.GET("/api/inference/result/{result_id}", { params: { path } }),
      options,
    );
    return answer.result;
  }

  /** A result as a signed bundle of evidence: a zip file. */
  evidence(id: number, options: CallOptions = {}): Promise<Blob> {
    const path = { result_id: String(id) };
    return this.call(
      (api) =>
        api.GET("/api/inference/result/{result_id}/evidence", {
          params: { path },
          parseAs: "blob",
        }),
      options,
    );
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
    const answer = await this.call(
      (api) => api.POST("/api/inference/result/{result_id}/label", { params, body }),
      options,
    );
    return answer.label;
  }

  /** All that was said about a result's image, newest first. */
  async labels(id: number, options: CallOptions = {}): Promise<api.LabelItem[]> {
    const path = { result_id: String(id) };
    const answer = await this.call(
      (api) => api.GET("/api/inference/result/{result_id}/labels", { params: { path } }),
      options,
    );
    return answer.labels;
  }

  /** Delete results for good, a thousand in one transaction; returns those that were not there. */
  async delete(ids: Iterable<number>, options: CallOptions = {}): Promise<number[]> {
    const left = [...ids];
    const missing: number[] = [];
    while (left.length > 0) {
      const body = { ids: left.splice(0, MOST_IDS) };
      const answer = await this.call(
        (api) => api.POST("/api/inference/results/delete", { body }),
        options,
      );
      missing.push(...answer.missing);
    }
    return missing;
  }

  /** Let the service judge a whole prefix; a request that was lost is sent again. */
  async startScan(
    source: string,
    fields: Omit<api.ScanRequest, "source" | "panel"> & Panel = {},
    options: CallOptions = {},
  ): Promise<api.ScanItem> {
    const { panel, ...rest } = fields;
    const body = { id: `scan-${randomKey()}`, ...rest, ...joined(panel), source };
    const answer = await this.call((api) => api.POST("/api/scans", { body }), {
      ...options,
      repeatable: true,
    });
    return answer.scan;
  }

  /** Every scan, newest first; pages are fetched as needed. */
  scans(options: PageOptions = {}): AsyncGenerator<api.ScanItem> {
    return byOffset(options.pageSize ?? PAGE, async (query) => {
      const page = await this.call((api) => api.GET("/api/scans", { params: { query } }), options);
      return page.scans;
    });
  }

  /** One scan with its counts. */
  async scan(id: string, options: CallOptions = {}): Promise<api.ScanItem> {
    const path = { scan_id: id };
    const answer = await this.call(
      (api) => api.GET("/api/scans/{scan_id}", { params: { path } }),
      options,
    );
    return answer.scan;
  }

  /** Every result of a scan, by URI; pages are fetched as needed. */
  scanResults(
    id: string,
    filter: Query<"/api/scans/{scan_id}/results"> = {},
    options: PageOptions = {},
  ): AsyncGenerator<api.ScanResultItem> {
    return byCursor((cursor) =>
      this.call(
        (api) =>
          api.GET("/api/scans/{scan_id}/results", {
            params: {
              path: { scan_id: id },
              query: { ...filter, limit: options.pageSize ?? PAGE, ...(cursor && { cursor }) },
            },
          }),
        options,
      ),
    );
  }

  /** Stop a scan's workers after their current shard. */
  async cancelScan(id: string, options: CallOptions = {}): Promise<api.ScanItem> {
    const path = { scan_id: id };
    const answer = await this.call(
      (api) => api.DELETE("/api/scans/{scan_id}", { params: { path } }),
      { ...options, repeatable: true },
    );
    return answer.scan;
  }

  /** The calls for one attempt; `sent` learns of the request. */
  #calls(sent: { request?: Request }, signal: AbortSignal | undefined): Calls {
    const { apiKey = keyOfEnvironment(), fetch = globalThis.fetch, timeout = 120_000 } = this.#options;
    const tooLong = new AbortController();
    return createClient<api.paths>({
      baseUrl: this.#baseUrl,
      headers: apiKey ? { Authorization: `Bearer ${apiKey}` } : {},
      signal: signal ? AbortSignal.any([signal, tooLong.signal]) : tooLong.signal,
      fetch: async (request) => {
        sent.request = request;
        const timer = timeout > 0 ? setTimeout(() => tooLong.abort(), timeout) : undefined;
        try {
          return await fetch(request);
        } finally {
          clearTimeout(timer);
        }
      },
    });
  }
}

async function* byCursor<T>(
  fetchPage: (cursor: string) => Promise<{ results: T[]; next_cursor?: string | null }>,
): AsyncGenerator<T> {
  let cursor: string | null | undefined = "";
  do {
    const page: { results: T[]; next_cursor?: string | null } = await fetchPage(cursor);
    yield* page.results;
    cursor = page.next_cursor;
  } while (cursor);
}

async function* byOffset<T>(
  limit: number,
  fetchPage: (query: { limit: number; offset: number }) => Promise<T[]>,
): AsyncGenerator<T> {
  let offset = 0;
  let page: T[];
  do {
    page = await fetchPage({ limit, offset });
    yield* page;
    offset += page.length;
  } while (page.length === limit);
}

async function asFiles(images: Iterable<Source>): Promise<File[]> {
  return Promise.all(Array.from(images, (image) => asFile(image)));
}

function joined(panel: string | readonly string[] | undefined): { panel?: string } {
  if (panel === undefined) return {};
  return { panel: typeof panel === "string" ? panel : panel.join(",") };
}

function keyHeader({ idempotencyKey = randomKey() }: UploadOptions): { "Idempotency-Key": string } {
  return { "Idempotency-Key": idempotencyKey };
}

/** Pages without TLS have no `crypto.randomUUID`. */
function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function keyOfEnvironment(): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.["D3_API_KEY"]?.trim();
}
