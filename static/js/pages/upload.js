/** Uploads by drag and drop: resumable (tus), with pause, and going on after a reload. */

/* global tus */
import { api } from "../api.js";
import { toast } from "../toast.js";
import { bytes, element } from "./dataset-browser.js";
import { ended, refreshPage, sendCalibration } from "./dataset-detail.js";
import { follow } from "./dataset-operations.js";

const CHUNK = 16 * 1024 * 1024;
const AT_ONCE = 2;
const CALIBRATIONS = /\.(conf|json|txt)$/i;
const HASHED_UP_TO = 512 * 1024 * 1024;

const zone = document.getElementById("drop-zone");
const input = document.getElementById("upload-input");
const list = document.getElementById("upload-list");
const dataset = zone.dataset.dataset;
const accepted = zone.dataset.accept.split(",");
const endpoint = `/api/v1/datasets/${dataset}/uploads`;
const waiting = [];
let running = 0;

for (const type of ["dragenter", "dragover"]) {
  zone.addEventListener(type, (event) => {
    event.preventDefault();
    zone.classList.add("is-over");
  });
}
for (const type of ["dragleave", "drop"]) zone.addEventListener(type, () => zone.classList.remove("is-over"));
// A file dropped beside the zone must not replace the page.
for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());
zone.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
input.addEventListener("change", () => {
  take(input.files);
  input.value = "";
});
addEventListener("beforeunload", (event) => {
  if (running || waiting.length) event.preventDefault();
});

async function take(files) {
  for (const file of files) {
    const suffix = file.name.slice(file.name.lastIndexOf(".")).toLowerCase();
    if (!accepted.includes(suffix)) toast(`${file.name} is no recording: expected ${accepted.join(", ")}.`, "error");
    else if (CALIBRATIONS.test(file.name)) await takeCalibration(file);
    else enqueue(file);
  }
}

async function takeCalibration(file) {
  try {
    const made = await sendCalibration(file);
    toast(`${file.name} is stored; ${made.file_count} recording${made.file_count === 1 ? "" : "s"} use it.`);
    await refreshPage();
  } catch (problem) {
    toast(problem.message, "error");
  }
}

/** The SHA-256 promised to the server, where the browser can compute it (small files, secure pages). */
async function digest(file) {
  if (!crypto.subtle || file.size > HASHED_UP_TO) return "";
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function enqueue(file) {
  const view = show(file.name, file.size);
  for (const left of list.querySelectorAll("[data-left]")) if (left.dataset.left === `${file.name} ${file.size}`) left.remove();
  view.note.textContent = "Waits for its turn.";
  waiting.push(() => send(file, view));
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    waiting.shift()();
  }
}

function done() {
  running -= 1;
  next();
}

async function send(file, view) {
  view.note.textContent = "Reading…";
  const sha256 = await digest(file);
  const began = performance.now();
  let first = null;
  let isPaused = false;
  const upload = new tus.Upload(file, {
    endpoint,
    chunkSize: CHUNK,
    retryDelays: [0, 1000, 3000, 10000, 30000],
    removeFingerprintOnSuccess: true,
    metadata: { filename: file.name, ...(sha256 && { sha256 }) },
    fingerprint: async () => ["fovea", dataset, file.name, file.size, file.lastModified].join("-"),
    onBeforeRequest(request) {
      const xhr = request.getUnderlyingObject();
      xhr.setRequestHeader("X-CSRFToken", document.querySelector("meta[name=csrf-token]").content);
    },
    onShouldRetry(error) {
      const status = error.originalResponse?.getStatus() ?? 0;
      return status === 0 || status === 409 || status === 423 || status === 429 || status >= 500 && status !== 507;
    },
    onProgress(sent, total) {
      first ??= sent;
      const seconds = (performance.now() - began) / 1000;
      const rate = seconds > 0.5 ? (sent - first) / seconds : 0;
      view.bar.value = sent / total;
      view.note.textContent = `${bytes(sent)} of ${bytes(total)}${rate ? ` · ${bytes(rate)}/s · ${Math.ceil((total - sent) / rate)} s left` : ""}`;
    },
    async onSuccess() {
      view.bar.value = 1;
      view.bar.dataset.status = "completed";
      view.note.textContent = "Uploaded.";
      view.buttons.replaceChildren();
      done();
      setTimeout(() => view.item.remove(), 4000);
      const body = await api(`operations?dataset=${dataset}&status=running&status=completed&page_size=5`);
      for (const operation of body.results) {
        if (operation.parameters.uploaded && operation.status === "running") follow(operation, ended);
      }
      await refreshPage();
    },
    onError(error) {
      let problem = {};
      try {
        problem = JSON.parse(error.originalResponse?.getBody() ?? "{}");
      } catch {
        // Not one of ours: a proxy's page.
      }
      view.bar.dataset.status = "failed";
      view.note.textContent = problem.detail ?? "The server cannot be reached. What has arrived is kept.";
      view.set("Try again", () => resume(), "Remove", () => remove());
      done();
    },
  });

  async function begin() {
    const before = await upload.findPreviousUploads();
    if (before.length) upload.resumeFromPreviousUpload(before[0]);
    upload.start();
  }
  function pause() {
    isPaused = true;
    upload.abort();
    view.bar.dataset.status = "paused";
    view.note.textContent = `Paused at ${bytes(view.bar.value * file.size)}.`;
    view.set("Resume", resume, "Cancel", remove);
    done();
  }
  function resume() {
    running += 1;
    isPaused = false;
    view.bar.dataset.status = "running";
    view.set("Pause", pause, "Cancel", remove);
    begin();
  }
  async function remove() {
    if (!isPaused && view.bar.dataset.status === "running") done();
    view.item.remove();
    try {
      await upload.abort(true);
    } catch {
      // Nothing had been announced yet, or it is gone already.
    }
  }
  view.bar.dataset.status = "running";
  view.set("Pause", pause, "Cancel", remove);
  await begin();
}

function show(name, size) {
  const bar = element("progress", { class: "progress", max: "1", "aria-label": `Upload of ${name}` });
  bar.value = 0;
  const note = element("span", { class: "small muted upload-note", role: "status" }, bytes(size));
  const buttons = element("span", { class: "cluster" });
  const item = element("li", { class: "upload" }, element("span", { class: "truncate" }, name), buttons, bar, note);
  list.append(item);
  const set = (...pairs) => {
    buttons.replaceChildren();
    for (let number = 0; number < pairs.length; number += 2) {
      const button = element("button", { type: "button", class: "button button-small button-quiet", "aria-label": `${pairs[number]} ${name}` }, pairs[number]);
      button.addEventListener("click", pairs[number + 1]);
      buttons.append(button);
    }
  };
  return { item, bar, note, buttons, set };
}

/** Uploads of an earlier visit: they go on once their file is given again. */
async function showUnfinished() {
  const unfinished = await api(`datasets/${dataset}/uploads`);
  if (unfinished.length) document.getElementById("add-recordings").open = true;
  for (const left of unfinished) {
    const view = show(left.filename, left.length);
    view.item.dataset.left = `${left.filename} ${left.length}`;
    view.bar.value = left.offset / left.length;
    view.bar.dataset.status = "paused";
    view.note.textContent = `${bytes(left.offset)} of ${bytes(left.length)} are here. Drop the file again to go on.`;
    view.set("Choose file", () => input.click(), "Discard", async () => {
      const headers = { "Tus-Resumable": "1.0.0" };
      await api(left.url, { method: "DELETE", headers }).catch((problem) => toast(problem.message, "error"));
      view.item.remove();
    });
  }
}

showUnfinished().catch(() => {});
