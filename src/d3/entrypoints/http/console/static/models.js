// The page Models: an upload shows how far it is; without this script the form does it alone.

function upload(form) {
  const progress = form.querySelector("progress");
  const state = form.querySelector("[role=status]");
  const problem = form.querySelector("[role=alert]");
  const button = form.querySelector("button");
  const busy = (is) => {
    progress.hidden = !is;
    button.disabled = is;
  };
  const failed = (sentence) => {
    problem.textContent = sentence;
    problem.hidden = false;
    state.textContent = "";
    busy(false);
  };
  const request = new XMLHttpRequest();
  request.open("POST", `${form.dataset.base}api/model/upload`);
  request.setRequestHeader("Accept", "application/json");
  request.upload.onprogress = ({ loaded, total }) => { progress.value = loaded / total; };
  request.upload.onload = () => {
    progress.removeAttribute("value");
    state.textContent = form.dataset.checking;
  };
  request.onerror = () => failed(form.dataset.unreachable);
  request.onload = () => {
    let body = null;
    try { body = JSON.parse(request.responseText); } catch { /* not ours */ }
    if (request.status === 200) location.assign(`${form.dataset.base}models?done=upload`);
    else failed(request.status === 401 ? form.dataset.signedOut : body?.error ?? form.dataset.unreachable);
    form.querySelector(".sign-in-link").hidden = request.status !== 401;
  };
  problem.hidden = true;
  progress.value = 0;
  busy(true);
  state.textContent = form.dataset.sending;
  request.send(new FormData(form));
}

// On the document, since an answer may put another form in the place of this one.
document.addEventListener("submit", (event) => {
  if (event.target.id !== "upload") return;
  event.preventDefault();
  upload(event.target);
});
