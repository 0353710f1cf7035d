// The page History: selection, labels, and deletion that can be undone for ten seconds.

import { label } from "./labels.js";
import { complain, tellUndoable } from "./messages.js";
import { ask, leave } from "./service.js";
import { show } from "./thumbnails.js";
import { say, word } from "./words.js";

const UNDO_SECONDS = 10;
const UNKNOWN_SECONDS = 3;  // what was asked for by the page before this is done by then
const DELETION = "results/delete";
const LEFT = "d3.deleting";

const form = () => document.querySelector("#selected");
const rows = () => [...document.querySelectorAll("tr[data-id]")];
const boxes = () => rows().map((one) => one.querySelector("input[name=id]"));
const shown = () => boxes().filter((box) => !box.closest("tr").hidden);
const chosen = () => shown().filter((box) => box.checked);
const values = (nodes) => nodes.map((box) => box.value);
const row = (id) => document.querySelector(`tr[data-id="${id}"]`);
const encoded = (ids) => ({ ids: [...ids].map(Number) });
const focus = (node) => (node?.querySelector("a") ?? document.querySelector("#contains")).focus();

const waiting = new Set();  // deletions that can be undone
const unknown = new Set();  // ids that are to be deleted: their rows are hidden until it is known
const deleted = new Set();

function count() {
  for (const one of rows()) one.hidden = unknown.has(one.dataset.id) || deleted.has(one.dataset.id);
  const all = document.querySelector("#all");
  if (!all) return;
  const some = chosen().length;
  all.closest("label").hidden = false;
  all.checked = some > 0 && some === shown().length;
  all.indeterminate = some > 0 && !all.checked;
  document.querySelector("#chosen").textContent = some ? say("chosen", { count: some }) : "";
  for (const button of form().querySelectorAll("button")) button.disabled = !some;
}

function refresh() {
  if (document.querySelector(".filters.htmx-request")) return;  // the rows are on their way
  htmx.ajax("GET", location.href, { target: "#results", select: "#results", swap: "outerHTML" });
}

/** Hide the rows; the service is asked when there is no way back any more. */
function remove(ids) {
  const { name } = row(ids[0]).dataset;
  const one = ids.length === 1;
  if (!confirm(one ? say("ask_one", { name }) : say("ask_many", { count: ids.length }))) return;
  const all = rows().filter((node) => !node.hidden);
  const last = all.indexOf(row(ids.at(-1)));
  const left = (node) => !ids.includes(node.dataset.id);
  const next = all.slice(last).find(left) ?? all.slice(0, last).findLast(left);
  for (const id of ids) unknown.add(id);
  const deletion = { ids };
  const sentence = one ? say("going_one", { name }) : say("going_many", { count: ids.length });
  deletion.close = tellUndoable(sentence, () => undo(deletion));
  deletion.timer = setTimeout(() => send(deletion), 1000 * UNDO_SECONDS);
  waiting.add(deletion);
  count();
  focus(next);
}

function restore(ids) {
  for (const id of ids) unknown.delete(id);
  count();
}

function end(deletion) {
  clearTimeout(deletion.timer);
  waiting.delete(deletion);
  deletion.close();
}

function undo(deletion) {
  end(deletion);
  restore(deletion.ids);
  focus(deletion.ids.map(row).find(Boolean));
}

async function send(deletion) {
  const { ids } = deletion;
  end(deletion);
  const answer = await ask(DELETION, encoded(ids));
  if (!answer.ok) { restore(ids); complain(answer); return; }
  for (const id of ids) deleted.add(id);
  restore(ids);
  refresh();
}

/** What the page before this one asked for is hidden until it must be done. */
function takeOver() {
  const left = JSON.parse(sessionStorage.getItem(LEFT));
  sessionStorage.removeItem(LEFT);
  if (!left || Date.now() - left.at > 1000 * UNDO_SECONDS) return;
  for (const id of left.ids) unknown.add(id);
  setTimeout(() => { restore(left.ids); refresh(); }, 1000 * UNKNOWN_SECONDS);
}

// Whoever leaves has not undone it.
addEventListener("pagehide", () => {
  const ids = [...waiting].flatMap((deletion) => deletion.ids);
  for (const deletion of [...waiting]) end(deletion);
  const left = { ids: [...unknown], at: Date.now() };
  if (unknown.size) sessionStorage.setItem(LEFT, JSON.stringify(left));
  if (ids.length) leave(DELETION, encoded(ids));
});
document.addEventListener("submit", async (event) => {
  // While the session lasts.
  if (event.target.matches("[action$='sign-out']")) for (const one of [...waiting]) send(one);
  if (!event.target.matches("#selected") || !event.submitter) return;  // a field is called id
  const { name, value } = event.submitter;
  if (value === "csv") return;
  event.preventDefault();
  const ids = name === "only" ? [value] : values(chosen());
  if (!ids.length) return;
  if (name === "only" || value === "delete") { remove(ids); return; }
  if (!await label(ids, value)) return;
  for (const box of boxes()) if (ids.includes(box.value)) box.checked = false;
  count();
});
document.addEventListener("d3:label", ({ target, detail }) => {
  if (form().querySelector(`button[value="${detail}"]`)) label([target.dataset.id], detail);
});
document.addEventListener("change", (event) => {
  if (event.target.id === "all") for (const box of shown()) box.checked = event.target.checked;
  if (event.target.closest("#results")) count();
});

let ticked = [];
const problem = document.querySelector("#filter-problem");

/** The rows that stand there are not what was asked for. */
function stale(sentence) {
  problem.textContent = sentence;
  problem.hidden = false;
  document.querySelector("#results").classList.add("stale");
}
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status >= 400) {
    event.detail.shouldSwap = false;  // else the page of the error takes the form away
    const answer = new DOMParser().parseFromString(xhr.responseText, "text/html");
    const said = answer.querySelector("[role=alert]")?.textContent;
    stale(`${said ?? word("problem.unreachable")} ${word("stale")}`);
    return;
  }
  problem.hidden = true;
  ticked = values(chosen());
});
document.addEventListener("htmx:sendError", () => {
  stale(`${word("problem.unreachable")} ${word("stale")}`);
});
document.addEventListener("htmx:afterSwap", () => {
  for (const box of boxes()) if (ticked.includes(box.value)) box.checked = true;
  count();
  show(document);
});
addEventListener("pageshow", (event) => {
  if (event.persisted) { takeOver(); count(); }
});
takeOver();
count();
show(document);
