/** Calls of a real service. */

import assert from "node:assert/strict";
import { openAsBlob, readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { D3Client, D3Error } from "d3-deepfake-client";

import { all, client, clip, freshImage, image, images, proxy, url } from "./service.js";

test("an image is a path, a URL of a file, bytes, a Blob or a File", async () => {
  const bytes = readFileSync(image);
  const name = basename(image);
  const exact = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const given: [Parameters<D3Client["predict"]>[0], string][] = [
    [image, name],
    [pathToFileURL(image), name],
    [new File([bytes], "own.jpg"), "own.jpg"],
    [bytes, "image"],
    [new Uint8Array(bytes), "image"],
    [exact as ArrayBuffer, "image"],
    [await openAsBlob(image), "image"],
  ];
  for (const [source, expected] of given) {
    const { result, inference_id } = await client.predict(source);
    const stored = await client.result(inference_id);
    assert.equal(stored.image_bytes, bytes.length);
    assert.equal(stored.image_name, expected);
    assert.ok(result.prediction >= 0 && result.prediction <= 1);
  }
});

test("an image is judged as the caller asks", async () => {
  const asked = { threshold: 0.25, views: 4, stability: true, panel: ["starter"] };
  const { result, inference_id } = await client.predict(image, { ...asked, name: 'é "b".png' });
  assert.equal(result.threshold, 0.25);
  assert.equal(result.views, 4);
  assert.ok(result.stability);
  assert.equal((await client.result(inference_id)).image_name, 'é "b".png');
});

test("a file that is missing and a link where none can be are the caller's errors", async () => {
  await assert.rejects(client.predict("/no/such/file.jpg"), { code: "ENOENT" });
  await assert.rejects(client.predict(dirname(image)), /is not a file/);
  await assert.rejects(client.predict("https://example.org/a.jpg"), /new URL/);
  await assert.rejects(client.predictBatch([new URL("https://example.org/a.jpg")]), /link/);
});

test("errors have the service's code and sentence", async () => {
  const words = client.predict(new Blob(["words"]));
  const error = await words.catch((thrown: unknown) => thrown);
  assert.ok(error instanceof D3Error);
  assert.equal(error.code, "not_an_image");
  assert.match(error.message, /\.$/);
  assert.notEqual(error.requestId, "");
  await assert.rejects(client.predict(new URL("https://example.org/a.jpg")), { status: 403 });
  await assert.rejects(client.result(999_999_999), { code: "result_not_found", status: 404 });
  await assert.rejects(client.scan("no-such-scan"), { code: "scan_not_found" });
});

test("a key is sent", async () => {
  const stranger = new D3Client(url, { apiKey: "d3_not_a_key" });
  await assert.rejects(stranger.predict(image), { status: 401 });
});

test("a key may have white space at its ends", async () => {
  const apiKey = `${process.env["D3_API_KEY"]}\n`;
  const same = new D3Client(` ${url}\n`, { apiKey });
  assert.ok((await same.models()).models);
});

test("a job of nothing is refused in words about files", async () => {
  await assert.rejects(client.startJob([]), { code: "file_missing", message: /No file was sent/ });
});

test("a batch has an error in the place of a bad image", async () => {
  const { results } = await client.predictBatch([image, Buffer.from("words"), images[1]!]);
  assert.deepEqual(
    results.map((one) => one.code ?? "judged"),
    ["judged", "not_an_image", "judged"],
  );
});

test("the history is paged through, and filtered", async () => {
  for (const n of [1, 2, 3, 4, 5]) await client.predict(freshImage(), { name: `page-${n}.jpg` });
  const found = await all(client.history({ q: "page-" }, { pageSize: 2 }));
  assert.deepEqual(
    found.map((item) => item.image_name),
    [5, 4, 3, 2, 1].map((n) => `page-${n}.jpg`),
  );
  const ids = found.map((item) => item.id);
  assert.deepEqual(await client.deleteMany([...ids, 999_999_999]), [999_999_999]);
  assert.deepEqual(await all(client.history({ q: "page-" })), []);
});

test("a job is sent, waited for and read", async () => {
  const sources = [image, freshImage(), Buffer.from("words"), new File([freshImage()], "last")];
  const external_id = ["a", "b", "c", "d"];
  const { id } = await client.startJob(sources, { views: 2, external_id });
  const states = new Set<string>();
  const job = await client.waitForJob(id, { onProgress: ({ state }) => states.add(state) });
  assert.equal(job.state, "done");
  assert.ok(states.size <= 1 && !states.has("done"));
  const results = await all(client.jobResults(id, { pageSize: 3 }));
  const seen = results.map((one) => [one.external_id, one.code ?? one.name, one.result?.views]);
  assert.deepEqual(seen, [
    ["a", basename(image), 2],
    ["b", "image", 2],
    ["c", "not_an_image", undefined],
    ["d", "last", 2],
  ]);
  assert.equal((await client.cancelJob(id)).state, "done");
  assert.ok((await all(client.jobs({ pageSize: 1 }))).some((one) => one.id === id));
});

test("a video is judged at once, or as a job", async () => {
  const answer = await client.predictVideo(clip, { every: 0.5, most: 4, panel: ["starter"] });
  assert.ok("result" in answer);
  assert.equal(answer.result.clip?.frames.length, 4);
  assert.equal((await client.result(answer.inference_id)).image_name, basename(clip));
  const job = await client.predictVideo(clip, { every: 1, callback: "https://example.org/told" });
  assert.ok("state" in job && job.callback_secret);
  await client.waitForJob(job.id);
  const [judged] = await all(client.jobResults(job.id));
  assert.equal(judged?.result?.clip?.every, 1);
});

test("a job of links is named in JSON", async () => {
  const links = [new URL("https://example.org/a.jpg"), new URL("s3://bucket/key.jpg")];
  const { id } = await client.startJob(links, { external_id: ["a", "b"] });
  assert.equal((await client.waitForJob(id)).counts.error, 2);
  const [link, object] = await all(client.jobResults(id));
  assert.deepEqual([link?.external_id, link?.code], ["a", "links_off"]);
  assert.match(object?.error ?? "", /S3 server/);
  await assert.rejects(client.startJob([image, ...links]), /is a link/);
});

test("results are labelled, counted and taken away as evidence", async () => {
  const { inference_id } = await client.predict(freshImage());
  assert.equal(await client.labelMany([inference_id], "unknown"), 1);
  await client.label(inference_id, "real", { source: "photographer" });
  await client.label(inference_id, "generated");
  const labels = await client.labels(inference_id);
  assert.deepEqual(
    labels.map((one) => one.label),
    ["generated", "real", "unknown"],
  );
  const { groups } = await client.stats({ group: "label" });
  assert.ok(groups?.some((one) => one.name === "generated"));
  await assert.rejects(client.drift({ model: "no-such-model" }), D3Error);
  const bundle = new Uint8Array(await (await client.evidence(inference_id)).arrayBuffer());
  assert.equal(Buffer.from(bundle.subarray(0, 2)).toString(), "PK");
  await client.delete(inference_id);
  await assert.rejects(client.delete(inference_id), { code: "result_not_found" });
});

test("a scan is started, read and stopped", async () => {
  const { id } = await client.startScan(dirname(image), { views: 1 });
  assert.ok((await all(client.scans({ pageSize: 1 }))).some((one) => one.id === id));
  const results = await all(client.scanResults(id, {}, { pageSize: 2 }));
  assert.equal(new Set(results.map((one) => one.uri)).size, results.length);
  await client.cancelScan(id);
  assert.notEqual((await client.scan(id)).state, "running");
});

test("models are shown, and what is none is refused", async () => {
  assert.equal((await client.model()).model_name, "starter");
  assert.ok((await client.models()).models.includes("starter"));
  await client.loadModel("starter");
  await assert.rejects(client.uploadModel(image, { name: "mine" }), { name: "D3Error" });
});

test("calls without a helper are typed by their path", async () => {
  const { status } = await client.call((api) => api.GET("/health"));
  assert.equal(status, "healthy");
});

test("a webhook is told of a job, and what it was sent is listed", async (context) => {
  const heard: string[] = [];
  const receiver = await proxy((incoming, response) => {
    heard.push(String(incoming.headers["webhook-id"]));
    incoming.resume().on("end", () => response.end());
  });
  context.after(receiver.close);
  const { webhook, secret } = await client.createWebhook({
    url: `${receiver.url}/hook`,
    events: ["job.finished"],
  });
  assert.match(secret, /^whsec_/);
  const job = await client.startJob([freshImage()]);
  await client.waitForJob(job.id);
  while (heard.length === 0) await pause(50);
  const [delivery] = await all(client.deliveries({ webhook: webhook.id }, { pageSize: 1 }));
  assert.equal(delivery?.event_id, heard[0]);
  assert.equal((await client.changeWebhook(webhook.id, { enabled: false })).enabled, false);
  assert.ok((await client.webhooks()).some((one) => one.id === webhook.id));
  await client.removeWebhook(webhook.id);
  assert.ok(!(await client.webhooks()).some((one) => one.id === webhook.id));
});
