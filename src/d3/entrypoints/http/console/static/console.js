// Every page: times where the reader is, and the keyboard.

const pad = (number) => String(number).padStart(2, "0");

/** UTC becomes the reader's own time; UTC stays on hover. */
function tellTimes(root) {
  for (const node of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(node.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    node.title = `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
    const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
    const seconds = "seconds" in node.dataset ? `:${pad(at.getSeconds())}` : "";
    node.textContent = `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}${seconds}`;
  }
}

/** Days in a form are the reader's days. */
function tellZone(root) {
  for (const field of root.querySelectorAll("input[name=zone]")) {
    field.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
  }
}

const arrive = (root) => { tellTimes(root); tellZone(root); };
arrive(document);
document.addEventListener("htmx:load", (event) => arrive(event.target));

const help = document.querySelector("#keys-help");
const offSwitch = help.querySelector("input");
const off = () => localStorage.getItem("d3.keys") === "off";
offSwitch.checked = !off();
offSwitch.addEventListener("change", () => {
  localStorage.setItem("d3.keys", offSwitch.checked ? "on" : "off");
});
const opener = document.querySelector("#keys-open");
opener.hidden = false;
opener.addEventListener("click", () => help.showModal());

const items = () => [...document.querySelectorAll("[data-item]")].filter((node) => !node.hidden);

/** The item with the focus, the one that the page is about, or the only one. */
function current() {
  const all = items();
  return document.activeElement?.closest("[data-item]")
    ?? document.querySelector("[data-item=page]") ?? (all.length === 1 ? all[0] : undefined);
}

function move(step) {
  const all = items();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement?.closest("[data-item]"));
  const first = step > 0 ? 0 : all.length - 1;
  const next = all[at < 0 ? first : Math.min(Math.max(at + step, 0), all.length - 1)];
  const link = [...next.querySelectorAll("a[href]")].find((node) => node.checkVisibility());
  if (!link) next.tabIndex = -1;
  (link ?? next).focus();
  next.scrollIntoView({ block: "nearest" });
}

/** Press the item's button for this label; where it has none, its page labels it. */
function label(word) {
  const item = current();
  const button = item?.querySelector(`button[value="${word}"]`);
  if (button) { if (button.checkVisibility()) button.click(); }
  else item?.dispatchEvent(new CustomEvent("d3:label", { bubbles: true, detail: word }));
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  x: () => current()?.querySelector("input[type=checkbox]")?.click(),
  g: () => label("generated"),
  r: () => label("real"),
  u: () => label("unknown"),
  z: () => [...document.querySelectorAll(".undo:not([hidden])")].at(-1)?.click(),
  "/": () => document.querySelector("input[type=search]")?.focus(),
  "?": () => help.showModal(),
};

document.addEventListener("keydown", (event) => {
  const writing = event.target.closest?.(
    "input:not([type=checkbox]), textarea, select, [contenteditable], dialog[open]");
  if (writing || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (!Object.hasOwn(KEYS, event.key) || (off() && event.key !== "?")) return;
  event.preventDefault();
  KEYS[event.key]();
});
