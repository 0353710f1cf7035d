/** How a call is sent: with the caller's key, in time, and again where that helps. */

import createClient, { type Client } from "openapi-fetch";

import { D3Error, errorOf } from "./errors.js";
import type { paths } from "./openapi.js";
import { NoAnswer, retrying } from "./retries.js";

/** The calls of the OpenAPI document by method and path, as openapi-fetch offers them. */
export type Calls = Client<paths>;

export interface ClientOptions {
  /** Sent as `Authorization: Bearer`; in Node, `D3_API_KEY` of the environment unless given. */
  apiKey?: string | undefined;
  /** How often 429, 503 and lost connections are tried again, after what `Retry-After` says. */
  retries?: number;
  /**
   * Milliseconds until an answer must begin, and 10 seconds more for each megabyte of files that
   * are sent; 0: for ever.
   */
  timeout?: number;
  /** Sends the requests; the global `fetch` unless given. */
  fetch?: (request: Request) => Promise<Response>;
}

export interface CallOptions {
  /** Ends the call, also while it waits to try again. */
  signal?: AbortSignal | undefined;
}

export interface SendOptions extends CallOptions {
  /** Whether the request may be sent again if it is not known whether it was carried out. */
  repeatable?: boolean;
  /** How many bytes of files are sent. */
  bytes?: number;
}

const MILLISECONDS_PER_BYTE = 0.01;

export class Connection {
  readonly #baseUrl: string;
  readonly #apiKey: string | undefined;
  readonly #options: ClientOptions;

  /** @throws {TypeError} if the address or the key cannot be one. */
  constructor(baseUrl: string, options: ClientOptions = {}) {
    this.#baseUrl = checkedAddress(baseUrl.trim());
    this.#apiKey = checkedKey((options.apiKey ?? keyOfEnvironment())?.trim());
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
    { signal, repeatable = false, bytes = 0 }: SendOptions = {},
  ): Promise<T> {
    const attempt = async (): Promise<T> => {
      signal?.throwIfAborted();
      const sent: { request?: Request } = {};
      try {
        const { data, error, response } = await send(this.#calls(sent, signal, bytes));
        if (!response.ok) throw errorOf(response, error);
        return data as T;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof D3Error || sent.request === undefined) throw error;
        if (error instanceof SyntaxError) {
          const message = `${this.#baseUrl} did not answer in JSON. Is d3 serve there?`;
          throw new D3Error(200, "unexpected_answer", message, { cause: error });
        }
        const { cause } = error as { cause?: unknown };
        if ((cause as Error | undefined)?.name === "NotReadableError") throw cause; // its file
        throw new NoAnswer(sent.request, error, repeatable);
      }
    };
    return retrying(attempt, this.#options.retries ?? 5, signal);
  }

  /** The calls for one attempt; `sent` learns of the request. */
  #calls(sent: { request?: Request }, signal: AbortSignal | undefined, bytes: number): Calls {
    const { fetch = globalThis.fetch, timeout = 120_000 } = this.#options;
    const tooLate = new AbortController();
    return createClient<paths>({
      baseUrl: this.#baseUrl,
      headers: this.#apiKey ? { Authorization: `Bearer ${this.#apiKey}` } : {},
      signal: signal ? AbortSignal.any([signal, tooLate.signal]) : tooLate.signal,
      fetch: async (request) => {
        sent.request = request;
        const limit = timeout + bytes * MILLISECONDS_PER_BYTE;
        const timer = timeout > 0 ? setTimeout(() => tooLate.abort(), limit) : undefined;
        try {
          return await fetch(request);
        } finally {
          clearTimeout(timer);
        }
      },
    });
  }
}

function checkedAddress(address: string): string {
  const { location } = globalThis as { location?: { href: string } }; // of a page
  const { protocol } = URL.canParse(address, location?.href)
    ? new URL(address, location?.href)
    : { protocol: "" };
  if (protocol === "http:" || protocol === "https:") return address;
  throw new TypeError(
    `"${address}" is not the address of a service. ` +
      "Begin it with http:// or https://, as in http://localhost:5000.",
  );
}

function checkedKey(key: string | undefined): string | undefined {
  if (key === undefined || /^[ -~]*$/.test(key)) return key;
  throw new TypeError(
    "The API key holds a line break or another character that no key has. " +
      "Copy the key again. It is one line.",
  );
}

function keyOfEnvironment(): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.["D3_API_KEY"];
}
