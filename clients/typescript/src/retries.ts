/** When a request is sent again, and how long to wait before. */

import { D3Error } from "./errors.js";

const LONGEST_WAIT = 60;
/** Seconds to wait for an answer that another process may be working on. */
const IN_FLIGHT = 90;
/** What Node says when no connection came about, so that nothing was sent. */
const NOT_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"]);

/** No answer came. */
export class NoAnswer extends D3Error {
  /** Whether the request may be sent again although it may have been carried out. */
  readonly repeatable: boolean;

  constructor(request: Request, cause: unknown, repeatable: boolean) {
    const { origin } = new URL(request.url);
    super(0, "no_answer", `${origin} did not answer. Is d3 serve running there?`, { cause });
    const harmless = request.method === "GET" || request.headers.has("Idempotency-Key");
    this.repeatable = repeatable || harmless || wasNotSent(cause);
  }
}

/** Run `attempt` until it succeeds, or fails in a way that trying again does not mend. */
export async function retrying<T>(
  attempt: () => Promise<T>,
  retries: number,
  signal: AbortSignal | undefined,
): Promise<T> {
  let inFlight = IN_FLIGHT;
  for (let failed = 0; ; ) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof D3Error)) throw error;
      let seconds = Math.min(error.retryAfter ?? backoff(failed), LONGEST_WAIT);
      if (error.code === "request_in_flight" && inFlight > 0) {
        // The first request may have been ours, with its connection lost.
        seconds = Math.min(seconds, 2 + backoff(failed), inFlight);
        inFlight -= seconds;
      } else if (failed < retries && mayPass(error)) {
        failed += 1;
      } else {
        throw error;
      }
      await pause(seconds, signal);
    }
  }
}

function mayPass(error: D3Error): boolean {
  if (error instanceof NoAnswer) return error.repeatable;
  return error.status === 429 || error.status === 503;
}

function wasNotSent(error: unknown): boolean {
  const { cause } = error as { cause?: { code?: string } };
  return cause?.code !== undefined && NOT_SENT.has(cause.code);
}

/** Seconds, longer each time, with jitter. */
function backoff(failed: number): number {
  return Math.min(0.2 * 2 ** failed, LONGEST_WAIT) * (0.5 + Math.random() / 2);
}

/** Wait; throws the signal's reason as soon as it is aborted. */
export function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(done, seconds * 1000);
    signal?.addEventListener("abort", stop);
    function done(): void {
      signal?.removeEventListener("abort", stop);
      resolve();
    }
    function stop(): void {
      clearTimeout(timer);
      reject(signal?.reason);
    }
  });
}
