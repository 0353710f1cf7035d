/** What a call throws. */

import type { Problem } from "./openapi.js";

/** The service answered with an error, or not at all. */
export class D3Error extends Error {
  override readonly name = "D3Error";
  /** The HTTP status; 0 if no answer came. */
  readonly status: number;
  /** The service's stable word, such as `not_an_image`; `no_answer` if none came. */
  readonly code: string;
  /** Finds the request in the service's logs; empty if no answer came. */
  readonly requestId: string;
  /** Seconds after which the service asks to try again. */
  readonly retryAfter: number | undefined;

  constructor(
    status: number,
    code: string,
    message: string,
    more: { requestId?: string; retryAfter?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, "cause" in more ? { cause: more.cause } : undefined);
    this.status = status;
    this.code = code;
    this.requestId = more.requestId ?? "";
    this.retryAfter = more.retryAfter;
  }
}

/** The error of an answer whose body has been read. */
export function errorOf(response: Response, body: unknown): D3Error {
  const retryAfter = secondsAsked(response.headers.get("Retry-After"));
  if (!isProblem(body)) {
    return new D3Error(
      response.status,
      "unexpected_answer",
      `The service answered ${response.status}. Is this the address of d3 serve?`,
      { retryAfter },
    );
  }
  const requestId = body.request_id;
  return new D3Error(response.status, body.code, body.error, { requestId, retryAfter });
}

/** `Retry-After` has seconds or a date. */
function secondsAsked(header: string | null): number | undefined {
  if (!header) return undefined;
  const seconds = Number(header);
  const asked = Number.isNaN(seconds) ? (Date.parse(header) - Date.now()) / 1000 : seconds;
  return Number.isNaN(asked) ? undefined : Math.max(0, asked);
}

function isProblem(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && "code" in body && "error" in body;
}
