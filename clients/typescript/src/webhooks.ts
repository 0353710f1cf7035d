/** The calls about webhooks. */

import { Connection, type CallOptions } from "./connection.js";
import type * as api from "./openapi.js";
import { byCursor, PAGE_SIZE, type PageOptions } from "./pages.js";

/** A webhook to create: where to send which events. */
export type WebhookFields = Pick<api.WebhookRequest, "url" | "events"> &
  Partial<api.WebhookRequest>;

export class WebhookCalls extends Connection {
  /** Be told of events. Only this answer has the `secret` that checks their signatures. */
  createWebhook(fields: WebhookFields, options: CallOptions = {}): Promise<api.NewSecret> {
    const body = { verdicts: [], everyone: false, name: "", ...fields };
    return this.call((api) => api.POST("/api/webhooks", { body }), options);
  }

  /** One's webhooks, oldest first. */
  async webhooks(options: CallOptions = {}): Promise<api.WebhookItem[]> {
    return (await this.call((api) => api.GET("/api/webhooks"), options)).webhooks;
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
  async resendDelivery(id: number, options: CallOptions = {}): Promise<api.DeliveryItem> {
    const params = { path: { delivery_id: String(id) } };
    const path = "/api/webhooks/deliveries/{delivery_id}/resend";
    return (await this.call((api) => api.POST(path, { params }), options)).delivery;
  }
}
