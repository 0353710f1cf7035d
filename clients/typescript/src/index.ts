/** A client of a D3 service, which tells whether an image was made or altered by a generator. */

export {
  D3Client,
  type BatchFields,
  type Calls,
  type CallOptions,
  type ClientOptions,
  type HistoryFilter,
  type PageOptions,
  type PredictFields,
  type UploadOptions,
} from "./client.js";
export { D3Error } from "./errors.js";
export type { Source } from "./files.js";
export type * from "./openapi.js";
