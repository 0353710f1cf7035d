// What a page says at its foot. A deletion that can be undone has a place of its own; the news
// has another, so that neither takes the other away.

import { signInPlace } from "./service.js";
import { word } from "./words.js";

const NEWS_SECONDS = 10;
const place = document.querySelector("#messages");
const blank = document.querySelector("#message").content.firstElementChild;

let news = null;
let timer = 0;

/** The parts of a sentence; what stands in backticks is code. */
function* marked(sentence) {
  for (const [at, part] of sentence.split("`").entries()) {
    if (at % 2 === 0) yield part;
    else {
      const code = document.createElement("code");
      code.textContent = part;
      yield code;
    }
  }
}

function show(sentence) {
  const node = blank.cloneNode(true);
  node.querySelector("p").replaceChildren(...marked(sentence));
  place.append(node);
  place.scrollTop = place.scrollHeight;
  return node;
}

/** Take a message away; the focus does not get lost with it. */
function close(node) {
  if (node?.contains(document.activeElement)) document.querySelector("#content").focus();
  node?.remove();
}

function quiet() {
  clearTimeout(timer);
  close(news);
  news = null;
}

/** Say that something is done. It goes by itself. */
export function tell(sentence) {
  quiet();
  news = show(sentence);
  const closing = news.querySelector(".close");
  closing.hidden = false;
  closing.addEventListener("click", quiet);
  timer = setTimeout(quiet, 1000 * NEWS_SECONDS);
}

/** Say why the service did not do something. It stays until it is closed, or until other news. */
export function complain({ status, error }) {
  tell(status === 401 ? word("problem.signed_out") : error || word("problem.unreachable"));
  clearTimeout(timer);
  if (status !== 401) return;
  const link = news.querySelector("a");
  link.href = signInPlace();
  link.hidden = false;
}

/** Say something that can be undone; the answer takes the message away. */
export function tellUndoable(sentence, undo) {
  const node = show(sentence);
  const button = node.querySelector(".undo");
  button.hidden = false;
  button.querySelector("kbd").hidden = localStorage.getItem("d3.keys") === "off";
  button.addEventListener("click", undo);
  return () => close(node);
}
