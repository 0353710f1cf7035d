// Labels of results that stand in a list.

import { complain, tell } from "./messages.js";
import { ask } from "./service.js";
import { say, word } from "./words.js";

const going = new Map();  // the last label on its way, by id: those of one result go in turn

const row = (id) => document.querySelector(`[data-id="${id}"]`);

function draw(id, value) {
  const node = document.createElement("span");
  node.className = `label ${value}`;
  node.textContent = word(`label.${value}`);
  row(id)?.querySelector("[data-slot=label]").replaceChildren(node);
  if (row(id)) row(id).dataset.labelled = value;
}

async function give(ids, value) {
  const other = ids.filter((id) => row(id)?.dataset.labelled !== value);
  if (other.length) {
    const answer = await ask("labels", { ids: other.map(Number), label: value });
    if (!answer.ok) { complain(answer); return false; }
    for (const id of other) draw(id, value);
  }
  const values = { count: ids.length, name: row(ids[0])?.dataset.name, label: word(`label.${value}`) };
  tell(say(ids.length > 1 ? "labelled_many" : "labelled_one", values));
  return true;
}

/** Label results; those that have this label already are not sent. Whether all have it now. */
export function label(ids, value) {
  const before = Promise.all(ids.map((id) => going.get(id)));
  const given = before.then(() => give(ids, value));
  for (const id of ids) going.set(id, given);
  return given;
}
