/** What callers give as an image or a clip, made into a file. */

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
