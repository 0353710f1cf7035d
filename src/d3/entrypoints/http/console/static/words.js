// The words of a page, from its list of terms.

const words = new Map();
for (const term of document.querySelectorAll("#words dt")) {
  words.set(term.textContent, term.nextElementSibling.textContent);
}

export const word = (name) => words.get(name);
export const say = (name, values = {}) =>
  words.get(name).replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
