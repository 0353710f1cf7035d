/** Lists that come in pages, as one. */

import type { CallOptions } from "./connection.js";

export interface PageOptions extends CallOptions {
  /** How many results are fetched at once; 500 unless given. */
  pageSize?: number;
}

export const PAGE_SIZE = 500;

/** The results of all pages; the first one's cursor is undefined. */
export async function* byCursor<T>(
  fetchPage: (cursor?: string) => Promise<{ results: T[]; next_cursor?: string | null }>,
): AsyncGenerator<T> {
  let cursor: string | undefined;
  do {
    const page: { results: T[]; next_cursor?: string | null } = await fetchPage(cursor);
    yield* page.results;
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
}

/** The elements of all pages, of which only the last is not full. */
export async function* byOffset<T>(
  limit: number,
  fetchPage: (offset: number) => Promise<T[]>,
): AsyncGenerator<T> {
  let offset = 0;
  let page: T[];
  do {
    page = await fetchPage(offset);
    yield* page;
    offset += page.length;
  } while (page.length === limit);
}
