// The page Models: an upload shows how far it is; without this script the form does it alone.

const form = document.querySelector("#upload");
const progress = document.querySelector("#upload-progress");
const state = document.querySelector("#upload-state");
const problem = document.querySelector("#upload-problem");
const button = form.querySelector("button");

function failed(sentence) {
  problem.textContent = sentence;
  problem.hidden = false;
  progress.hidden = true;
  state.textContent = "";
  button.disabled = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
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
    else failed(body?.error ?? form.dataset.unreachable);
  };
  problem.hidden = true;
  progress.hidden = false;
  progress.value = 0;
  button.disabled = true;
  state.textContent = form.dataset.sending;
  request.send(new FormData(form));
});
