// Small pictures of images that were dropped here, by their SHA-256, in this browser alone.

const MOST = 2000;
const STORE = "pictures";

const opened = new Promise((done) => {
  const request = indexedDB.open("d3", 1);
  request.onupgradeneeded = () =>
    request.result.createObjectStore(STORE, { keyPath: "sha256" }).createIndex("at", "at");
  request.onsuccess = () => done(request.result);
  request.onerror = () => done(null);  // a private window may have no storage
});

const answered = (request) => new Promise((done) => {
  request.onsuccess = () => done(request.result);
  request.onerror = () => done(undefined);
});

/** Keep a canvas as a picture, and let go of the oldest beyond the bound. */
export async function keep(sha256, canvas) {
  const database = await opened;
  const blob = await new Promise((done) => canvas.toBlob(done, "image/webp", 0.7));
  if (!database || !blob) return;
  const store = database.transaction(STORE, "readwrite").objectStore(STORE);
  await answered(store.put({ sha256, blob, at: Date.now() }));
  let over = (await answered(store.count()) ?? 0) - MOST;
  if (over <= 0) return;
  const oldest = store.index("at").openCursor();
  oldest.onsuccess = () => {
    if (!oldest.result || over <= 0) return;
    oldest.result.delete();
    over -= 1;
    oldest.result.continue();
  };
}

/** Draw what is kept onto the canvases that name a SHA-256; the others stay hidden. */
export async function show(root) {
  const database = await opened;
  if (!database) return;
  for (const canvas of root.querySelectorAll("canvas[data-sha256]")) {
    const store = database.transaction(STORE).objectStore(STORE);
    const found = await answered(store.get(canvas.dataset.sha256));
    if (!found) continue;
    const picture = await createImageBitmap(found.blob);
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    canvas.hidden = false;
  }
}

/** Forget all of them. */
export async function forget() {
  (await opened)?.transaction(STORE, "readwrite").objectStore(STORE).clear();
}
