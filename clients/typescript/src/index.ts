/** A client of a D3 service, which tells whether an image was made or altered by a generator. */

export type { ScanFields, ScanFilter, WebhookFields } from "./administration.js";
export * from "./client.js";
export type { CallOptions, Calls, ClientOptions, SendOptions } from "./connection.js";
export { D3Error } from "./errors.js";
export type { Source } from "./files.js";
export type { UploadOptions } from "./forms.js";
export type * from "./openapi.js";
export type { PageOptions } from "./pages.js";
