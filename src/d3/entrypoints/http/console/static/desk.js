// The page History: selection, labels, and deletion that can be undone for ten seconds.

import { show } from "./thumbnails.js";
import { say, word } from "./words.js";

const UNDO_SECONDS = 10;
const toast = document.querySelector("#undo");
const said = toast.querySelector("p");
const undo = toast.querySelector("button");
const form = () => document.querySelector("#selected");
const rows = () => [...document.querySelectorAll("tr[data-id]")];
const boxes = () => [...document.querySelectorAll("input[name=id]")];
const chosen = () => boxes().filter((box) => box.checked && !box.closest("tr").hidden);
const row = (id) => document.querySelector(`tr[data-id="${id}"]`);

let going = null;  // ids whose deletion is asked for but not sent
let timer = 0;

function tell(sentence, undoable = false) {
  said.textContent = sentence;
  undo.hidden = !undoable;
  toast.hidden = !sentence;
}

function count() {
  const all = document.querySelector("#all");
  if (!all) return;
  const some = chosen().length;
  all.hidden = false;
  all.checked = some > 0 && some === boxes().length;
  all.indeterminate = some > 0 && !all.checked;
  document.querySelector("#chosen").textContent = some ? say("chosen", { count: some }) : "";
  for (const button of form().querySelectorAll("button")) button.disabled = !some;
}

const place = (path) => `${toast.dataset.base}api/inference/${path}`;
const DELETION = "results/delete";
const LABELS = "labels";
const numbers = (ids) => ids.map(Number);
const encoded = (fields) => new Blob([JSON.stringify(fields)], { type: "application/json" });

/** Hide the rows; the service is asked when there is no way back any more. */
function remove(ids) {
  send();
  const name = row(ids[0]).querySelector("a").textContent;
  const one = ids.length === 1;
  if (!confirm(one ? say("ask_one", { name }) : say("ask_many", { count: ids.length }))) return;
  const next = rows().find((node) => !node.hidden && !ids.includes(node.dataset.id));
  for (const id of ids) row(id).hidden = true;
  going = ids;
  tell(one ? say("going_one", { name }) : say("going_many", { count: ids.length }), true);
  timer = setTimeout(send, 1000 * UNDO_SECONDS);
  count();
  (next?.querySelector("a") ?? undo).focus();
}

function restore(ids) {
  for (const id of ids) if (row(id)) row(id).hidden = false;
  count();
}

async function send() {
  if (!going) return;
  const ids = going;
  going = null;
  clearTimeout(timer);
  tell("");
  const answer = await ask(DELETION, { ids: numbers(ids) });
  if (answer !== true) { restore(ids); tell(answer); return; }
  htmx.ajax("GET", location.href, { target: "#results", select: "#results", swap: "outerHTML" });
}

/** Whether the service did it, or a sentence why not. */
async function ask(what, fields) {
  const headers = { Accept: "application/json" };
  try {
    const answer = await fetch(
      place(what), { method: "POST", headers, body: encoded(fields), keepalive: true });
    if (answer.status === 401) return word("problem.session_ended");
    return answer.ok || (await answer.json()).error;
  } catch {
    return word("problem.unreachable");
  }
}

async function label(ids, value) {
  const answer = await ask(LABELS, { ids: numbers(ids), label: value });
  if (answer !== true) { tell(answer); return; }
  tell("");
  for (const id of ids) {
    const slot = row(id)?.querySelector("[data-slot=label]");
    if (!slot) continue;
    const node = document.createElement("span");
    node.className = `label ${value}`;
    node.textContent = word(`label.${value}`);
    slot.replaceChildren(node);
  }
}

undo.addEventListener("click", () => {
  clearTimeout(timer);
  if (going) restore(going);
  going = null;
  tell("");
});
// Whoever leaves has not undone it.
addEventListener("pagehide", () => {
  if (!going) return;
  navigator.sendBeacon(place(DELETION), encoded({ ids: numbers(going) }));
  going = null;
});
document.addEventListener("submit", (event) => {
  if (event.target.matches("[action$='sign-out']")) send();  // while the session lasts
  if (!event.target.matches("#selected") || !event.submitter) return;  // a field is called id
  const { name, value } = event.submitter;
  const ids = name === "only" ? [value] : chosen().map((box) => box.value);
  if (value === "csv") return;
  event.preventDefault();
  if (name === "only" || value === "delete") remove(ids);
  else label(ids, value);
});
document.addEventListener("d3:label", (event) => {
  const allowed = form().querySelector(`button[value="${event.detail}"]`);
  if (allowed) label([event.target.dataset.id], event.detail);
});
document.addEventListener("change", (event) => {
  if (event.target.id === "all") for (const box of boxes()) box.checked = event.target.checked;
  if (event.target.closest("#results")) count();
});
document.addEventListener("htmx:afterSettle", () => {
  for (const id of going ?? []) if (row(id)) row(id).hidden = true;
  count();
  show(document);
});
count();
show(document);
