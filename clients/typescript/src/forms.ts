/** What forms carry, how they are typed, and how they are sent. */

import type { CallOptions, SendOptions } from "./connection.js";
import type { paths } from "./openapi.js";
import { randomName } from "./random.js";

export interface UploadOptions extends CallOptions {
  /** The same key with the same request gets the same answer; a fresh one unless given. */
  idempotencyKey?: string;
}

type Path = keyof paths;
export type Form<P extends Path> = paths[P] extends {
  post: { requestBody?: { content: { "multipart/form-data": infer F } } };
}
  ? F
  : never;
export type Filter<P extends Path> = paths[P] extends { get: { parameters: { query?: infer Q } } }
  ? Omit<NonNullable<Q>, "limit" | "offset" | "cursor">
  : never;
/** Names of models, the chief first. */
export type Panel = { panel?: string | readonly string[] };

/** What a call sends for the fields of a form. */
type Sent<F> = {
  body: F;
  bodySerializer: () => Blob;
  headers: { "Content-Type": string };
};

export function formOf<F extends object>(body: F): Sent<F> {
  const form = asForm(body);
  return { body, bodySerializer: () => form, headers: { "Content-Type": form.type } };
}

/** A form with a key, so that it can be sent again without harm. */
export function upload<F extends object>(
  body: F,
  options: UploadOptions,
): Sent<F> & { params: { header: ReturnType<typeof keyHeader> } } {
  return { ...formOf(body), params: { header: keyHeader(options) } };
}

export function sending(form: Sent<unknown>, options: CallOptions): SendOptions {
  return { ...options, bytes: form.bodySerializer().size };
}

export function keyHeader(options: UploadOptions): { "Idempotency-Key": string } {
  return { "Idempotency-Key": options.idempotencyKey ?? randomName() };
}

export function joined(panel: Panel["panel"]): { panel?: string } {
  if (panel === undefined) return {};
  return { panel: typeof panel === "string" ? panel : panel.join(",") };
}

/**
 * A multipart form with a field for each value, and one for each element of an array.
 *
 * It is not a `FormData`, since Node 24 ends the process when a request with one is aborted before
 * it is sent, or when a file that it holds cannot be read. A `Blob` of the same bytes has no such
 * trouble, has a length, and its files are read while it is sent too.
 */
function asForm(fields: object): Blob {
  const boundary = `d3-${randomName()}`;
  const parts: BlobPart[] = [];
  for (const [name, value] of Object.entries(fields)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one === undefined) continue;
      const file = one instanceof File ? `; filename="${quoted(one.name)}"` : "";
      parts.push(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"${file}\r\n`);
      parts.push(file && "Content-Type: application/octet-stream\r\n");
      parts.push("\r\n", one instanceof Blob ? one : String(one), "\r\n");
    }
  }
  parts.push(`--${boundary}--\r\n`);
  return new Blob(parts, { type: `multipart/form-data; boundary=${boundary}` });
}

/** As the HTML standard has it for names in forms. */
function quoted(name: string): string {
  return name.replaceAll('"', "%22").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
}
