/** What callers give as an image or a clip, made into what a form carries. */

import { randomName } from "./random.js";

/**
 * An encoded image or clip: a `Blob` or `File`, its bytes (`Buffer`, `Uint8Array`, `ArrayBuffer`),
 * or, in Node, its path as a text or a `file:` URL. An `https:` URL is a link, which the service
 * fetches if its `D3_FETCH_LINKS` is on.
 */
export type Source = string | URL | Blob | ArrayBuffer | ArrayBufferView;

/** Node's own modules, without an import that a bundler for browsers would stumble over. */
interface Node {
  getBuiltinModule(name: "node:fs"): {
    openAsBlob(path: string): Promise<Blob>;
    promises: { stat(path: string): Promise<{ isFile(): boolean }> };
  };
  getBuiltinModule(name: "node:path"): { basename(path: string): string };
  getBuiltinModule(name: "node:url"): { fileURLToPath(url: URL): string };
}

/** Whether the service is to fetch it. */
export function isLink(source: Source): source is URL {
  return source instanceof URL && source.protocol !== "file:";
}

/** A file with a name; one of a path is read while it is sent. */
export async function asFile(source: Source, name?: string): Promise<File> {
  if (isLink(source)) throw new TypeError(`${source.href} is a link. This call sends files.`);
  if (typeof source === "string" || source instanceof URL) return openPath(source, name);
  const ownName = source instanceof Blob && "name" in source ? String(source.name) : undefined;
  return new File([source as BlobPart], name ?? ownName ?? "image");
}

async function openPath(source: string | URL, name?: string): Promise<File> {
  if (typeof source === "string" && /^https?:/.test(source)) {
    throw new TypeError(`${source} is a link. Give new URL(...) to let the service fetch it.`);
  }
  const { process } = globalThis as { process?: Partial<Node> };
  if (!process?.getBuiltinModule) {
    throw new TypeError("Only Node reads paths. Give a File or a Blob.");
  }
  const node = process as Node;
  const { basename } = node.getBuiltinModule("node:path");
  const { fileURLToPath } = node.getBuiltinModule("node:url");
  const { openAsBlob, promises } = node.getBuiltinModule("node:fs");
  const path = source instanceof URL ? fileURLToPath(source) : source;
  const found = await promises.stat(path); // says which file is missing, which openAsBlob does not
  if (!found.isFile()) throw new TypeError(`${path} is not a file.`);
  return new File([await openAsBlob(path)], name ?? basename(path));
}

/**
 * A multipart form with a field for each value, and one for each element of an array.
 *
 * It is not a `FormData`, since Node 24 ends the process when a request with one is aborted before
 * it is sent, or when a file that it holds cannot be read. A `Blob` of the same bytes has no such
 * trouble, has a length, and its files are read while it is sent too.
 */
export function asForm(fields: object): Blob {
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
