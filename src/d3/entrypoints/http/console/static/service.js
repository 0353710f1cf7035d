// Asking the service for what a page changes without being loaded anew.

const { base } = document.querySelector("#words").dataset;
const place = (path) => `${base}api/inference/${path}`;
const encoded = (fields) => new Blob([JSON.stringify(fields)], { type: "application/json" });

/** The sign-in page, which leads back to this one. */
export const signInPlace = () => {
  const root = new URL(base, location.href).href;
  return `${base}sign-in?to=${encodeURIComponent(location.href.slice(root.length))}`;
};

/** Whether the service did it; else the status and the sentence of its answer, if there is one. */
export async function ask(path, fields) {
  const headers = { Accept: "application/json" };
  try {
    const answer = await fetch(
      place(path), { method: "POST", headers, body: encoded(fields), keepalive: true });
    const { ok, status } = answer;
    return ok ? { ok } : { ok, status, error: (await answer.json()).error };
  } catch {
    return { ok: false };
  }
}

/** Ask while the page is left; nobody waits for the answer. */
export const leave = (path, fields) => navigator.sendBeacon(place(path), encoded(fields));
