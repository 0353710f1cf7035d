/** What the client does when the service refuses, goes away or takes too long. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { D3Client, D3Error, type ClientOptions } from "d3-deepfake-client";

import {
  all,
  client as direct,
  freshImage,
  proxy,
  total,
  url,
  type Fault,
  type Proxy,
} from "./service.js";

const proxies: Proxy[] = [];
const folder = mkdtempSync(join(tmpdir(), "d3-"));
after(() => {
  for (const one of proxies) one.close();
  rmSync(folder, { recursive: true });
});

async function faulty(options: ClientOptions, ...faults: Fault[]): Promise<[D3Client, Proxy]> {
  const way = await proxy(...faults);
  proxies.push(way);
  return [new D3Client(way.url, options), way];
}

const busy: Fault = (incoming, response) => {
  incoming.resume();
  response.writeHead(503, { "Retry-After": "0", "Content-Type": "text/plain" }).end("busy");
};
const lost: Fault = (_, response) => response.destroy();
/** The service carries it out, and its answer gets lost. */
const answerLost: Fault = (_, response, forward) => void forward().then(() => response.destroy());
const silent: Fault = () => undefined;

test("busy services are asked again, as often as agreed", async () => {
  const [client, way] = await faulty({ retries: 2 }, busy, busy);
  assert.equal((await client.predict(freshImage())).success, true);
  assert.equal(way.asked.length, 3);

  const [impatient, other] = await faulty({ retries: 1 }, busy, busy);
  await assert.rejects(impatient.predict(freshImage()), { name: "D3Error", status: 503 });
  assert.equal(other.asked.length, 2);
});

test("Retry-After is waited for", async () => {
  const waits: Fault = (incoming, response) => {
    incoming.resume();
    response.writeHead(429, { "Retry-After": "0.3" }).end();
  };
  const [client] = await faulty({}, waits);
  const begun = performance.now();
  await client.call((api) => api.GET("/health"));
  assert.ok(performance.now() - begun >= 299);
});

test("Retry-After may be a date", async () => {
  const later: Fault = (incoming, response) => {
    incoming.resume();
    const date = new Date(Date.now() + 30_000).toUTCString();
    response.writeHead(503, { "Retry-After": date }).end();
  };
  const [client] = await faulty({ retries: 0 }, later);
  await assert.rejects(
    client.call((api) => api.GET("/health")),
    ({ retryAfter }: D3Error) => retryAfter !== undefined && retryAfter > 20 && retryAfter <= 30,
  );
});

test("an address or a key that cannot be one is refused at once", () => {
  for (const address of ["", "localhost:5000", "http://", "ftp://d3.example", "/api"]) {
    assert.throws(() => new D3Client(address), /Begin it with http:\/\/ or https:\/\//);
  }
  for (const apiKey of ["one\ntwo", "a\0b", "schlüssel"]) {
    assert.throws(() => new D3Client(url, { apiKey }), /It is one line/);
  }
});

test("an image whose answer got lost is judged again, and counted once", async () => {
  const before = await total();
  const [client, way] = await faulty({}, answerLost, lost);
  const { inference_id } = await client.predict(freshImage(), { name: "once.jpg" });
  assert.equal(way.asked.length, 3);
  assert.equal(await total(), before + 1);
  assert.equal((await client.result(inference_id)).image_name, "once.jpg");
});

test("a job whose answer got lost is begun once", async () => {
  const before = await all(direct.jobs());
  const [client, way] = await faulty({}, answerLost);
  const { id } = await client.startJob([freshImage(), freshImage()]);
  assert.equal(way.asked.length, 2);
  const after = await all(direct.jobs());
  assert.deepEqual([after.length, after[0]?.id], [before.length + 1, id]);
  assert.equal((await client.waitForJob(id)).counts.items, 2);
});

test("what may have been carried out and cannot be repeated is not sent again", async () => {
  const [client, way] = await faulty({}, lost);
  const asked = client.call((api) => api.POST("/api/model/unload"));
  await assert.rejects(asked, { name: "D3Error", code: "no_answer", status: 0 });
  assert.equal(way.asked.length, 1);
});

test("what was never sent is sent again", async () => {
  const way = await proxy();
  way.close();
  let attempts = 0;
  const client = new D3Client(way.url, {
    retries: 2,
    fetch: (request) => {
      attempts += 1;
      return fetch(request);
    },
  });
  await assert.rejects(
    client.call((api) => api.POST("/api/model/unload")),
    (error: D3Error) => error.code === "no_answer" && error.message.includes(way.url),
  );
  assert.equal(attempts, 3);
});

test("a service that does not answer in time is asked again", async () => {
  const [client, way] = await faulty({ timeout: 200 }, silent);
  await client.call((api) => api.GET("/health"));
  assert.ok(way.asked.length >= 2);
});

test("a large upload has longer", async () => {
  const slow: Fault = (_, __, forward) => void setTimeout(forward, 300);
  const [client, way] = await faulty({ timeout: 20, retries: 0 }, slow);
  const megabyte = Buffer.concat([freshImage(), Buffer.alloc(2 ** 20)]);
  await client.predict(megabyte);
  assert.equal(way.asked.length, 1);
});

test("a signal ends a call and its waits, with the caller's reason", async () => {
  const [client] = await faulty({}, silent, (incoming, response) => {
    incoming.resume();
    response.writeHead(503, { "Retry-After": "60" }).end();
  });
  for (const _ of ["unanswered", "waiting to try again"]) {
    const signal = AbortSignal.timeout(300);
    await assert.rejects(client.predict(freshImage(), {}, { signal }), { name: "TimeoutError" });
  }
  const aborted = AbortSignal.abort(new Error("never mind"));
  await assert.rejects(client.predict(freshImage(), {}, { signal: aborted }), /never mind/);
});

test("a large file is read as it is sent, not before", async () => {
  const path = join(folder, "large.mp4");
  writeFileSync(path, "");
  truncateSync(path, 300 * 2 ** 20);
  const aborting = new AbortController();
  const [client] = await faulty({}, (incoming) => {
    incoming.pause();
    setTimeout(() => aborting.abort(new Error("seen enough")), 500);
  });
  let most = 0;
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().arrayBuffers);
  }, 20);
  const { signal } = aborting;
  await assert.rejects(client.predictVideo(path, {}, { signal }), /seen enough/);
  clearInterval(watch);
  assert.ok(most > 0 && most < 64 * 2 ** 20, `${most} bytes`);
});

test("a file that changes while it is sent is not judged", async () => {
  const path = join(folder, "changing.jpg");
  writeFileSync(path, Buffer.alloc(1000));
  const [client, way] = await faulty({}, (incoming, response) => {
    incoming.resume();
    writeFileSync(path, Buffer.alloc(10));
    response.writeHead(503, { "Retry-After": "0" }).end();
  });
  await assert.rejects(client.predict(path), { name: "NotReadableError" });
  assert.ok(way.asked.length <= 2);
});

test("an answer that is not D3's says so", async () => {
  const page: Fault = (_, response) => response.end("<html>");
  const nothing: Fault = (_, response) => response.writeHead(404).end();
  const [client] = await faulty({ retries: 0 }, page, nothing);
  for (const _ of ["a page", "nothing"]) {
    await assert.rejects(
      client.call((api) => api.GET("/health")),
      { code: "unexpected_answer" },
    );
  }
});

test("a second request while the first is being answered waits for its answer", async () => {
  const before = await total();
  const busyKey: Fault = (incoming, response) => {
    incoming.resume();
    const problem = { code: "request_in_flight", error: "Wait.", request_id: "r" };
    response.writeHead(409, { "Retry-After": "0" }).end(JSON.stringify(problem));
  };
  const [client, way] = await faulty({ retries: 0 }, busyKey, busyKey);
  const idempotencyKey = `test-${Date.now()}`;
  const bytes = freshImage();
  const first = await client.predict(bytes, {}, { idempotencyKey });
  const again = await new D3Client(url).predict(bytes, {}, { idempotencyKey });
  assert.equal(again.inference_id, first.inference_id);
  assert.equal(way.asked.length, 3);
  assert.equal(await total(), before + 1);
});

test("errors in the caller's own code stay what they are", async () => {
  const client = new D3Client(url);
  await assert.rejects(
    client.call(() => {
      throw new TypeError("mine");
    }),
    /^TypeError: mine$/,
  );
});
