/** The service that the tests call, which pytest starts, and a proxy before it that fails. */

import { createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import { readdirSync, readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream";

import { D3Client } from "d3-deepfake-client";

/** Where it listens; its key is in D3_API_KEY. */
export const url = variable("D3_URL");
export const client = new D3Client(url);

const folder = variable("D3_TEST_IMAGES");

/** Paths of images that can be judged. */
export const images = readdirSync(folder, { recursive: false })
  .map((name) => join(folder, String(name)))
  .sort();
export const image = images[0]!;

/** The path of a video of two seconds. */
export const clip = variable("D3_TEST_CLIP");

let shade = 0;

/** The bytes of an image that nobody judged before. */
export function freshImage(): Buffer {
  shade += 1;
  return Buffer.concat([readFileSync(image), Buffer.from(`${process.pid} ${shade}`)]);
}

/** What an iterator yields. */
export async function all<T>(list: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of list) found.push(one);
  return found;
}

/** How many results there are. Files of tests run in turn, so that nobody else adds any. */
export async function total(): Promise<number> {
  const page = await client.call((api) => api.GET("/api/inference/history"));
  return page.total ?? 0;
}

/** Answers a request in the service's place; `forward` asks the service. */
export type Fault = (
  incoming: IncomingMessage,
  response: ServerResponse,
  forward: () => Promise<void>,
) => void;

export interface Proxy {
  url: string;
  /** What arrived, as method and path. */
  asked: string[];
  close(): void;
}

/** A way to the service on which these things happen to the first requests, one each. */
export async function proxy(...faults: Fault[]): Promise<Proxy> {
  const asked: string[] = [];
  const server = createServer((incoming, response) => {
    asked.push(`${incoming.method} ${incoming.url}`);
    const forward = (): Promise<void> => forwarded(incoming, response);
    const fault = faults.shift();
    if (fault) fault(incoming, response, forward);
    else forward().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = (): void => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${port}`, asked, close };
}

/** Pass a request on; resolves when the service has answered, before its answer is passed back. */
function forwarded(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  return new Promise((resolve, reject) => {
    const { method, headers } = incoming;
    const outgoing = request(new URL(incoming.url ?? "/", url), { method, headers }, (answer) => {
      resolve();
      setImmediate(() => {
        if (response.destroyed) return void answer.resume();
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
    });
    pipeline(incoming, outgoing, (error) => error && reject(error));
  });
}

function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`Set ${name}, or run pytest tests/e2e/test_typescript.py.`);
  return value;
}
