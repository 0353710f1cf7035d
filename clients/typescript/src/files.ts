/** What callers give as an image or a clip, made into what a form carries. */

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
    promises: { access(path: string): Promise<void> };
  };
  getBuiltinModule(name: "node:path"): { basename(path: string): string };
  getBuiltinModule(name: "node:url"): { fileURLToPath(url: URL): string };
}

/** Whether the service is to fetch it. */
export function isLink(source: Source): source is URL {
  return source instanceof URL && source.protocol !== "file:";
}

/** A file with a name; one of a path is read as it is sent. */
export async function asFile(source: Source, name?: string): Promise<File> {
  if (isLink(source)) {
    throw new TypeError(`${source.href} is a link. This call sends files.`);
  }
  if (typeof source === "string" || source instanceof URL) return openPath(source, name);
  const ownName = source instanceof Blob && "name" in source ? String(source.name) : undefined;
  return new File([source as BlobPart], name ?? ownName ?? "image");
}

async function openPath(source: string | URL, name?: string): Promise<File> {
  const { process } = globalThis as { process?: Partial<Node> };
  if (!process?.getBuiltinModule) {
    throw new TypeError("Only Node reads paths. Give a File or a Blob.");
  }
  const node = process as Node;
  if (typeof source === "string" && /^https?:/.test(source)) {
    throw new TypeError(`${source} is a link. Give new URL(...) to let the service fetch it.`);
  }
  const path =
    source instanceof URL ? node.getBuiltinModule("node:url").fileURLToPath(source) : source;
  const fs = node.getBuiltinModule("node:fs");
  await fs.promises.access(path); // says which file is missing, which openAsBlob does not
  return new File([await fs.openAsBlob(path)], name ?? node.getBuiltinModule("node:path").basename(path));
}

/** A form with a field for each value, and as many for an array as it has elements. */
export function asForm(fields: unknown): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields as object)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined) form.append(name, one instanceof Blob ? one : String(one));
    }
  }
  return form;
}
