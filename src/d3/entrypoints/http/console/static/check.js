// The page Check: images become cards at once, go to the API a few at a time, and come back judged.
// Words come from the page; nothing is written as HTML.

import { drawCourse, drawStrip, opened } from "./clips.js";
import { keep } from "./thumbnails.js";
import { say, word } from "./words.js";

const list = document.querySelector("#words");
const base = list.dataset.base;
const maxBytes = Number(list.dataset.maxBytes);
const maxVideoBytes = Number(list.dataset.maxVideoBytes);
const form = document.querySelector("#check");
const input = document.querySelector("#file");
const cards = document.querySelector("#cards");
const link = document.querySelector("#url");  // where the service fetches links
const blank = document.querySelector("#card").content.firstElementChild;
const blankOpinion = document.querySelector("#opinion").content.firstElementChild;
const tally = document.querySelector("#tally");

const AT_ONCE = 4;          // a browser keeps six connections to a server; two stay free
const THUMBNAILS_AT_ONCE = 2;
const MOST_TRIES = 8;       // while the service says it is busy

const percent = (share) =>
  share > 0 && share < 0.0005 ? "< 0.1 %"
    : share < 1 && share > 0.9995 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`;
const seconds = (time) => (time < 1 ? `${Math.round(1000 * time)} ms` : `${time.toFixed(1)} s`);
const size = (bytes) =>
  bytes < 1024 ** 2 ? `${Math.round(bytes / 1024)} KB` : `${(bytes / 1024 ** 2).toFixed(0)} MB`;

/** Runs tasks in order, at most some at once. */
class Line {
  #waiting = [];
  #running = 0;
  constructor(most) { this.most = most; }
  add(task) { this.#waiting.push(task); this.#next(); }
  async #next() {
    if (this.#running >= this.most || !this.#waiting.length) return;
    this.#running += 1;
    try { await this.#waiting.shift()(); } finally { this.#running -= 1; this.#next(); }
  }
}
const uploads = new Line(AT_ONCE);
const thumbnails = new Line(THUMBNAILS_AT_ONCE);

/** One image on its way: a file, or a link that the service fetches. */
class Card {
  constructor(image) {
    if (typeof image === "string") this.url = image; else this.file = image;
    this.node = blank.cloneNode(true);
    this.state = "waiting";
    // The same image sent again after a cut counts once.
    this.key = [...crypto.getRandomValues(new Uint8Array(16))]
      .map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const { views, threshold, stability, frames } = form.elements;
    this.asked = {
      views: views.value, threshold: threshold.value, stability: stability.checked,
      frames: frames.checked,
    };
    this.slot("name").textContent = this.url || this.file.name || "image";
    this.node.querySelector("progress").setAttribute("aria-label", this.slot("name").textContent);
    this.node.addEventListener("click", (event) => this.act(event.target));
    if (this.file) thumbnails.add(() => this.draw());
  }

  get isVideo() { return /^video\//.test(this.file?.type) || /\.(mkv|mp4|mov|webm)$/i.test(this.file?.name); }

  get most() { return this.isVideo ? maxVideoBytes : maxBytes; }

  get tooLarge() { return this.file?.size > this.most; }

  /** The form that brings the image, to be added to. */
  form() {
    const data = new FormData();
    if (this.file) data.append("file", this.file, this.file.name || "image");
    else data.append("url", this.url);
    data.append("views", this.asked.views);
    return data;
  }

  slot(name) { return this.node.querySelector(`[data-slot="${name}"]`); }

  show(state, sentence) {
    this.state = state;
    this.node.dataset.state = state;
    const busy = ["waiting", "sending", "judging", "fetching", "again", "queued"].includes(state);
    this.node.querySelector(".state").hidden = !busy;
    this.node.querySelector(".outcome").hidden = state !== "done";
    this.node.querySelector(".failure").hidden = state !== "failed";
    this.node.setAttribute("aria-busy", String(busy));
    if (busy) this.slot("state").textContent = say(state);
    if (state === "failed") this.slot("problem").textContent = sentence;
    count();
  }

  start() {
    if (this.tooLarge) {
      const limits = { size: size(this.file.size), limit: size(this.most) };
      this.show("failed", say("problem.too_large", limits));
      this.node.querySelector('[data-action="retry"]').hidden = true;
      return;
    }
    this.show("waiting");
    uploads.add(() => this.send());
  }

  async send() {
    if (!this.node.isConnected) return;
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const { status, body, wait } = await this.post();
      if (status === 200 && body?.result) { this.judged(body); return; }
      if (status === 202 && body?.job) { await this.wait(body.job.id); return; }
      const busy = status === 429 || (status === 503 && body?.code === "overloaded") ||
        (status === 409 && body?.code === "request_in_flight");
      if (!busy || tries === MOST_TRIES - 1) { this.failed(status, body); return; }
      this.show("again");
      await new Promise((done) => setTimeout(done, 1000 * Math.min(wait || 1, 30)));
    }
  }

  /** A long video is judged in the background: ask now and then. */
  async wait(job) {
    this.show("queued");
    while (this.node.isConnected) {
      await new Promise((done) => setTimeout(done, 1000));
      const answer = await fetch(`${base}api/jobs/${job}`, { headers: { Accept: "application/json" } });
      const body = await answer.json();
      if (!answer.ok) { this.failed(answer.status, body); return; }
      const [item] = body.results;
      if (item.state === "judged") { this.judged(item); return; }
      if (item.state !== "waiting") { this.failed(422, item); return; }
    }
  }

  async post() {
    try { await this.file?.slice(0, 1).arrayBuffer(); } catch { return { status: -1 }; }
    return new Promise((done) => {
      const data = this.form();
      if (this.asked.threshold) data.append("threshold", this.asked.threshold);
      if (this.asked.stability) data.append("stability", "true");
      if (this.asked.frames && !this.isVideo) data.append("frames", "all");
      const request = new XMLHttpRequest();
      const progress = this.node.querySelector("progress");
      request.open("POST", `${base}api/inference/predict${this.isVideo ? "-video" : ""}`);
      request.setRequestHeader("Idempotency-Key", this.key);
      request.setRequestHeader("Accept", "application/json");
      request.upload.onprogress = ({ loaded, total }) => { progress.value = loaded / total; };
      request.upload.onload = () => {
        progress.removeAttribute("value");
        this.show(this.file ? "judging" : "fetching");
      };
      request.onerror = () => done({ status: 0 });
      request.onload = () => {
        let body = null;
        try { body = JSON.parse(request.responseText); } catch { /* not ours: said below */ }
        done({ status: request.status, body, wait: Number(request.getResponseHeader("Retry-After")) });
      };
      progress.value = 0;
      this.show("sending");
      request.send(data);
    });
  }

  failed(status, body) {
    this.signedOut = status === 401;
    this.slot("sign-in").hidden = !this.signedOut;
    const known = body?.code && word(`problem.${body.code}`);
    const ours = status === 0 ? "unreachable" : status === -1 ? "unreadable" : "not_understood";
    this.show("failed", known || body?.error || say(`problem.${ours}`));
  }

  judged(body) {
    const { result, inference_id: id } = body;
    this.body = body;
    const verdict = this.slot("verdict");
    verdict.textContent = say(result.verdict);
    verdict.classList.add(result.verdict);
    verdict.classList.toggle("demo", Boolean(result.notice));
    this.slot("demo").hidden = !result.notice;
    this.slot("reason").textContent = result.reason_text ?? "";
    this.slot("reason").hidden = !result.reason_text;
    this.slot("image-note").textContent = result.image_note_text ?? "";
    this.slot("image-note").hidden = !result.image_note_text;
    const prediction = percent(result.prediction);
    const threshold = percent(result.threshold);
    this.slot("prediction").textContent = prediction;
    this.slot("probability").textContent = result.opinions.length
      ? say("probability_by", { model: result.model.name }) : say("probability");
    this.slot("scale").textContent = say("scale", { prediction, threshold });
    this.slot("threshold").textContent = say("threshold", { value: threshold });
    this.slot("spread").textContent = result.views > 1
      ? say("spread", { value: percent(result.spread) }) : say("one_view");
    const changed = Object.entries(result.stability);
    this.slot("stability").hidden = !changed.length;
    this.slot("stability").textContent = say("stability", {
      values: changed.map(([name, one]) => `${say(`change.${name}`)} ${percent(one)}`).join(", "),
    });
    const place = (name, attributes) => {
      for (const [key, value] of Object.entries(attributes)) this.slot(name).setAttribute(key, value);
    };
    const at = 100 * result.prediction;
    place("prediction-line", { x1: at, x2: at });
    place("threshold-line", { x1: 100 * result.threshold, x2: 100 * result.threshold });
    place("spread-bar", { x: Math.max(0, at - 50 * result.spread), width: 100 * result.spread });
    this.slot("model").textContent = `${result.model.name} ${result.model.version}`;
    this.slot("time").textContent =
      seconds(result.processing_time) + (result.cached ? ` (${say("cached")})` : "");
    this.slot("hash").textContent = `${result.image_sha256.slice(0, 16)}…`;
    this.slot("hash").title = result.image_sha256;
    this.slot("notice").textContent = result.notice;
    this.slot("notice").hidden = !result.notice;
    this.slot("open").href = `${base}history/${id}`;
    this.tellCourse(result);
    this.tellOpinions(result);
    this.tellProvenance(result.provenance);
    this.show("done");
    if (this.drawn) keep(result.image_sha256, this.node.querySelector("canvas"));
  }

  /** The frames of a clip over time, and some of them as this browser shows them. */
  tellCourse({ clip, threshold }) {
    this.slot("course").hidden = !clip;
    const explain = this.node.querySelector("[data-action=explain]");
    if (explain) explain.hidden = Boolean(clip);
    if (!clip) return;
    const told = drawCourse(this.node.querySelector(".course"), clip, threshold);
    this.slot("course-says").textContent = [
      say("course", { ...told, share: percent(clip.share_above) }), clip.end_text, ...clip.note_texts,
    ].join(" ");
    this.slot("rule").textContent = clip.rule;
    if (this.isVideo) drawStrip(this.slot("strip"), this.file, clip.frames).catch(() => {});
  }

  /** What each model of a panel says. */
  tellOpinions({ opinions, missing, agreement }) {
    this.slot("opinions").hidden = !opinions.length;
    if (!opinions.length) return;
    const models = missing.map((one) => one.model).join(" and ");
    this.slot("agreement").textContent = say(`agreement.${agreement}`, { models });
    const rows = opinions.map((one, place) => {
      const row = blankOpinion.cloneNode(true);
      const slot = (name) => row.querySelector(`[data-slot="${name}"]`);
      slot("model").textContent = `${one.model.name} ${one.model.version}`;
      slot("verdict").textContent = say(one.verdict);
      slot("verdict").classList.add(one.verdict);
      slot("why").textContent = [one.reason && say(`reason.${one.reason}`),
        one.calibrated || place === 0 ? "" : say("no_vote")].filter(Boolean).join(" ");
      slot("prediction").textContent = percent(one.prediction);
      for (const [name, share] of [["prediction", one.prediction], ["threshold", one.threshold]]) {
        slot(`${name}-line`).setAttribute("x1", 100 * share);
        slot(`${name}-line`).setAttribute("x2", 100 * share);
      }
      const from = Math.max(0, one.threshold - one.abstain_below);
      slot("band").setAttribute("x", 100 * from);
      slot("band").setAttribute("width", 100 * (Math.min(1, one.threshold + one.abstain_above) - from));
      return row;
    });
    for (const one of missing) {
      const row = document.createElement("tr");
      const [model, why] = [document.createElement("th"), document.createElement("td")];
      model.scope = "row";
      model.textContent = one.model;
      why.colSpan = 3;
      why.textContent = say("missing", { error: one.error });
      row.append(model, why);
      rows.push(row);
    }
    this.node.querySelector(".opinions tbody").replaceChildren(...rows);
  }

  /** What the file says about itself, beside the score. */
  tellProvenance(provenance) {
    const says = provenance?.says ?? "nothing";
    this.slot("provenance").hidden = says === "nothing" && !provenance?.sources.length;
    this.slot("says").textContent = say(`provenance.${says}`);
    this.slot("sources").replaceChildren(...(provenance?.sources ?? []).map((source) => {
      const node = document.createElement("li");
      node.textContent = [say(`source.${source.kind}`), ...Object.entries(source)
        .filter(([name, value]) => value?.length && word(`field.${name}`))
        .map(([name, value]) => `${say(`field.${name}`)} ${[value].flat().join(", ")}`)].join(" · ");
      return node;
    }));
  }

  async label(button) {
    const { value } = button;
    const headers = { Accept: "application/json", "Content-Type": "application/json" };
    const problem = this.slot("label-problem");
    problem.hidden = true;
    try {
      const answer = await fetch(`${base}api/inference/result/${this.body.inference_id}/label`, {
        method: "POST", headers, body: JSON.stringify({ label: value }),
      });
      if (!answer.ok) throw answer.status === 401 ? say("problem.signed_out") : (await answer.json()).error;
      for (const one of this.node.querySelectorAll("[data-action=label]")) {
        one.setAttribute("aria-pressed", String(one === button));
      }
    } catch (error) {
      problem.textContent = typeof error === "string" ? error : say("problem.unreachable");
      problem.hidden = false;
    }
  }

  async act(target) {
    if (target.dataset.action === "label") this.label(target);
    if (target.dataset.action === "retry") this.start();
    if (target.dataset.action === "explain") this.explain(target);
    if (target.dataset.action === "remove") { this.node.remove(); all.delete(this); count(); input.focus(); }
    if (target.dataset.action === "copy") {
      await copy(JSON.stringify(this.body, null, 2));
      target.textContent = say("copied");
      setTimeout(() => { target.textContent = say("copy"); }, 2000);
    }
  }

  /** Where the score comes from, drawn by the service, which keeps nothing of it. */
  async explain(button) {
    const problem = this.slot("map-problem");
    const map = this.node.querySelector(".map");
    button.disabled = true;
    button.textContent = say("explaining");
    problem.hidden = true;
    try {
      const data = this.form();
      const headers = { Accept: "application/json" };
      const answer = await fetch(`${base}api/inference/explain`, { method: "POST", body: data, headers });
      const body = await answer.json();
      if (answer.ok) {
        const bytes = Uint8Array.from(atob(body.explanation.overlay), (one) => one.charCodeAt(0));
        const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
        const picture = map.querySelector("img");
        picture.onload = () => URL.revokeObjectURL(url);
        picture.src = url;
        map.hidden = false;
        button.hidden = true;
        return;
      }
      problem.textContent = answer.status === 401 ? word("problem.signed_out") : body.error;
    } catch {
      problem.textContent = say("problem.unreachable");
    }
    problem.hidden = false;
    button.disabled = false;
    button.textContent = say("explain");
  }

  /** A small picture, made off the main thread; what cannot be drawn stays blank. */
  async draw() {
    const canvas = this.node.querySelector("canvas");
    try {
      const source = this.isVideo ? await opened(this.file) : this.file;
      const picture = await createImageBitmap(source);
      const scale = Math.max(canvas.width / picture.width, canvas.height / picture.height);
      const [wide, tall] = [picture.width * scale, picture.height * scale];
      const pen = canvas.getContext("2d");
      pen.imageSmoothingQuality = "high";
      pen.drawImage(picture, (canvas.width - wide) / 2, (canvas.height - tall) / 2, wide, tall);
      picture.close();
      this.drawn = true;
      if (this.body) keep(this.body.result.image_sha256, canvas);
    } catch { /* the server's word on the file stands on the card */ }
  }
}

async function copy(text) {
  if (navigator.clipboard) { await navigator.clipboard.writeText(text); return; }
  const area = document.createElement("textarea");  // an address without TLS has no clipboard
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

const all = new Set();
let counting = false;

/** Say how far it is, once a frame however many changed. */
function count() {
  if (counting) return;
  counting = true;
  setTimeout(() => {
    counting = false;
    const found = { all: all.size, done: 0, fake: 0, real: 0, uncertain: 0, failed: 0, demo: 0 };
    for (const card of all) {
      if (card.state === "failed") found.failed += 1;
      if (card.state === "done") { 
        found.done += 1;
        found[card.body.result.verdict] += 1;
        found.demo += Boolean(card.body.result.notice);
      }
    }
    const told = found.demo ? `${say("tally", found)} ${say("tally_demo", found)}` : say("tally", found);
    tally.textContent = all.size ? told : "";
    document.querySelector("#empty").hidden = all.size > 0;
    document.querySelector("#clear").hidden = all.size === 0;
    document.querySelector("#retry-all").hidden = found.failed < 2;
  }, 100);
}

/** Files, or links. */
function take(images) {
  const taken = [...images].map((image) => new Card(image));
  cards.prepend(...taken.map((card) => card.node));
  for (const card of taken) { all.add(card); card.start(); }
  count();
}

/** Files of what was dropped, folders searched to the bottom. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = [];
  const visit = async (entry) => {
    if (entry.isFile) files.push(await new Promise((done, fail) => entry.file(done, fail)));
    if (!entry.isDirectory) return;
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, fail) => reader.readEntries(done, fail));
      if (!some.length) return;
      for (const one of some) await visit(one);
    }
  };
  for (const entry of entries) await visit(entry);
  return files;
}

// Whoever signs in does so in another tab, since what was chosen here lives in this page alone.
new BroadcastChannel("d3").addEventListener("message", () => {
  for (const card of all) if (card.state === "failed" && card.signedOut) card.start();
});

document.documentElement.classList.add("scripted");
input.multiple = true;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!link?.value.trim()) return;
  take([link.value.trim()]);
  link.value = "";
});
const chosen = () => { take(input.files); input.value = ""; };
input.addEventListener("change", chosen);
if (input.files.length) chosen();  // somebody was quicker than this script
document.addEventListener("paste", (event) => {
  const { files } = event.clipboardData;
  const text = event.clipboardData.getData("text/plain").trim();
  const pasted = files.length ? files
    : link && !event.target.closest?.("input") && /^https?:\/\/\S+$/i.test(text) ? [text] : [];
  if (pasted.length) { event.preventDefault(); take(pasted); }
});
const over = (is) => {
  document.body.classList.toggle("over", is);
  document.querySelector("#dropping").hidden = !is;
};
document.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  over(false);
  take(await dropped(event.dataTransfer));
});
document.querySelector("#retry-all").addEventListener("click", () => {
  for (const card of all) if (card.state === "failed" && !card.tooLarge) card.start();
});
document.querySelector("#clear").addEventListener("click", () => {
  for (const card of all) card.node.remove();
  all.clear();
  count();
  input.focus();
});
