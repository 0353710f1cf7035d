// The interactive reference: Swagger UI, with the few parts of it that screen readers stumble over
// put right.

const page = document.querySelector("#page");

/** A link inside a button is reached by nobody; a choice among one server is none. */
const parts = (system) => ({
  wrapComponents: {
    DeepLink: () => ({ text }) => system.React.createElement("span", null, text),
    ServersContainer: () => () => null,
  },
});

SwaggerUIBundle({
  url: page.dataset.document,
  domNode: page,
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  syntaxHighlight: { activated: false },  // its colours are too faint
  plugins: [parts],
});

const NAMELESS = "select:not([aria-label]):not([id]), textarea:not([aria-label]), "
  + "input:not([aria-label]):not([id])";

/** Fields are called what stands before them; what scrolls takes the focus. */
function name(root) {
  for (const field of root.querySelectorAll(NAMELESS)) {
    const row = field.closest("tr, .content-type-wrapper, .opblock-section, section, div");
    const words = row?.querySelector(".parameter__name, .opblock-title, label, h4")?.textContent;
    field.setAttribute("aria-label", words?.trim() || field.placeholder || "value");
  }
  for (const table of root.querySelectorAll("table[role=region]:not([aria-label])")) {
    table.setAttribute("aria-label", table.id.replaceAll("_", " "));
  }
  for (const cross of root.querySelectorAll(".close-modal:not([aria-label])")) {
    cross.setAttribute("aria-label", "Close");
  }
  for (const code of root.querySelectorAll("pre:not([tabindex])")) code.tabIndex = 0;
}

new MutationObserver(() => name(page)).observe(page, { childList: true, subtree: true });
