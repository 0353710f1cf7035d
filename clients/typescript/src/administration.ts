/** The calls about a service's models, scans and webhooks. */

import { Connection, type CallOptions } from "./connection.js";
import { asFile, type Source } from "./files.js";
import { formOf, joined, sending, type Filter, type Form, type Panel } from "./forms.js";
import type * as api from "./openapi.js";
import { byCursor, byOffset, PAGE_SIZE, type PageOptions } from "./pages.js";
import { randomName } from "./random.js";

export type ScanFields = Omit<api.ScanRequest, "source" | "panel"> & Panel;
export type ScanFilter = Filter<"/api/scans/{scan_id}/results">;
/** A webhook to create: where to send which events. */
export type WebhookFields = Pick<api.WebhookRequest, "url" | "events"> &
  Partial<api.WebhookRequest>;

export class Administration extends Connection {
  /** All models. */
  models(options: CallOptions = {}): Promise<api.ModelList> {
    return this.call((api) => api.GET("/api/model/list"), options);
  }

  /** The model in use. */
  async model(options: CallOptions = {}): Promise<api.LoadedModelInfo> {
    return (await this.call((api) => api.GET("/api/model/info"), options)).info;
  }

  /** Load a model; the active one unless given. */
  async loadModel(name?: string, options: CallOptions = {}): Promise<void> {
    const params = { query: name === undefined ? {} : { name } };
    await this.call((api) => api.POST("/api/model/load", { params }), options);
  }

  /** Free the model's memory. */
  async unloadModel(options: CallOptions = {}): Promise<void> {
    await this.call((api) => api.POST("/api/model/unload"), options);
  }

  /** Store a file as a model: a head, or all that the architecture wants. */
  async uploadModel(
    head: Source,
    fields: Omit<Form<"/api/model/upload">, "file"> = {},
    options: CallOptions = {},
  ): Promise<api.Uploaded> {
    const form = formOf({ ...fields, file: await asFile(head) });
    return this.call((api) => api.POST("/api/model/upload", form), sending(form, options));
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

  /** Be told of events. Only this answer has the `secret` that checks their signatures. */
  createWebhook(fields: WebhookFields, options: CallOptions = {}): Promise<api.NewSecret> {
    const body = { verdicts: [], everyone: false, name: "", ...fields };
    return this.call((api) => api.POST("/api/webhooks", { body }), options);
  }

  /** One's webhooks, oldest first. */
  async webhooks(options: CallOptions = {}): Promise<api.WebhookItem[]> {
    return (await this.call((api) => api.GET("/api/webhooks"), options)).webhooks;
  }

  /** One webhook. */
  async webhook(id: number, options: CallOptions = {}): Promise<api.WebhookItem> {
    const params = { path: { webhook_id: String(id) } };
    const path = "/api/webhooks/{webhook_id}";
    return (await this.call((api) => api.GET(path, { params }), options)).webhook;
  }

  /** Change a webhook, or turn it off and on with `enabled`; what is left out stays. */
  async changeWebhook(
    id: number,
    body: api.WebhookChange,
    options: CallOptions = {},
  ): Promise<api.WebhookItem> {
    const params = { path: { webhook_id: String(id) } };
    const path = "/api/webhooks/{webhook_id}";
    return (await this.call((api) => api.PATCH(path, { params, body }), options)).webhook;
  }

  /** Remove a webhook with its deliveries. */
  async removeWebhook(id: number, options: CallOptions = {}): Promise<void> {
    const params = { path: { webhook_id: String(id) } };
    await this.call((api) => api.DELETE("/api/webhooks/{webhook_id}", { params }), options);
  }

  /** Give a webhook a new secret, which only this answer has. */
  rotateWebhook(id: number, options: CallOptions = {}): Promise<api.NewSecret> {
    const params = { path: { webhook_id: String(id) } };
    const path = "/api/webhooks/{webhook_id}/rotate";
    return this.call((api) => api.POST(path, { params }), options);
  }

  /** Send a webhook an event that says nothing. */
  async testWebhook(id: number, options: CallOptions = {}): Promise<api.DeliveryItem> {
    const params = { path: { webhook_id: String(id) } };
    const path = "/api/webhooks/{webhook_id}/test";
    return (await this.call((api) => api.POST(path, { params }), options)).delivery;
  }

  /** What was sent, or is to be, newest first: of all webhooks and callbacks, or of one webhook. */
  deliveries(
    { webhook, only }: { webhook?: number; only?: api.DeliveryState } = {},
    options: PageOptions = {},
  ): AsyncGenerator<api.DeliveryItem> {
    const limit = options.pageSize ?? PAGE_SIZE;
    return byCursor(async (cursor) => {
      const query = { limit, ...(only && { only }), ...(cursor && { cursor }) };
      const page = await this.call(
        (api) =>
          webhook === undefined
            ? api.GET("/api/webhooks/deliveries", { params: { query } })
            : api.GET("/api/webhooks/{webhook_id}/deliveries", {
                params: { path: { webhook_id: String(webhook) }, query },
              }),
        options,
      );
      return { ...page, results: page.deliveries };
    });
  }

  /** Send again what was given up. */
  async resend(id: number, options: CallOptions = {}): Promise<api.DeliveryItem> {
    const params = { path: { delivery_id: String(id) } };
    const path = "/api/webhooks/deliveries/{delivery_id}/resend";
    return (await this.call((api) => api.POST(path, { params }), options)).delivery;
  }
}
