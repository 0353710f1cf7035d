// The page of a result: the picture, where this browser has it, and labels by the keyboard.

import { label } from "./labels.js";
import { show } from "./thumbnails.js";

const item = document.querySelector("[data-item=page]");
const form = document.querySelector("#label");  // of those who may label

document.addEventListener("d3:label", ({ target, detail }) => {
  if (!form) return;
  if (target.dataset.id) label([target.dataset.id], detail);
  else form.querySelector(`button[value="${detail}"]`).click();
});
let sent = false;
form?.addEventListener("submit", (event) => {
  const { source, note } = form.elements;
  const same = event.submitter?.value === item.dataset.labelled && !source.value && !note.value;
  if (sent || same) event.preventDefault();
  else sent = true;
});
addEventListener("pageshow", () => { sent = false; });  // by the browser's Back
show(document);
