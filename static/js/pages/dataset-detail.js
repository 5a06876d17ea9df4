/** The page of a dataset's recordings: scan, prepare, calibrations, live progress. */

import { api, Problem } from "../api.js";
import { toast } from "../toast.js";
import "./dataset-folder.js";
import { follow } from "./dataset-operations.js";

const dataset = document.getElementById("dataset").dataset.id;

/** Fetch the page again and exchange what changed, without losing what is being typed or uploaded. */
export async function refreshPage() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  const open = document.activeElement?.closest("#recordings form");
  for (const selector of [".stats", ".tabs", "#prepare-form", ...(open ? [] : ["#recordings"])]) {
    const [now, then] = [document.querySelector(selector), fresh.querySelector(selector)];
    if (now && then) now.replaceWith(then);
  }
  const scan = "#scan-form .form-actions button";
  if (document.querySelector(scan)) document.querySelector(scan).className = fresh.querySelector(scan).className;
  bind();
}

let waiting = 0;
export function ended(operation) {
  const counts = operation.result?.counts ?? {};
  if (operation.status === "completed") {
    const parts = operation.kind === "scan"
      ? [[counts.ready, "readable"], [counts.salvaged, "salvaged"], [counts.broken, "unreadable"]]
      : [[counts.prepared, "prepared"], [counts.duplicates, "duplicates"], [counts.failed, "failed"]];
    const told = parts.filter(([count]) => count).map(([count, word]) => `${count} ${word}`).join(", ");
    toast(told ? `Done: ${told}.` : operation.kind === "scan" ? "Done: nothing new was found." : "Done.");
  } else if (operation.status === "failed") toast(operation.error, "error");
  clearTimeout(waiting);
  waiting = setTimeout(refreshPage, 150);
}

for (const operation of JSON.parse(document.getElementById("operations").textContent)) {
  follow(operation, operation.status === "failed" ? undefined : ended);
}

function bind() {
  once(document.getElementById("scan-form"), "submit", (form) => start(form, "scan", { path: form.elements.path.value }));
  once(document.getElementById("prepare-form"), "submit", (form) =>
    start(form, "prepare", { mode: form.elements.mode.value, rename: form.elements.rename.value }));
  once(document.getElementById("calibration-form"), "submit", uploadCalibration);
  for (const button of document.querySelectorAll("[data-delete-calibration]")) {
    once(button, "click", async () => {
      await attempt(null, () => api(`datasets/${dataset}/calibrations/${button.dataset.deleteCalibration}`, { method: "DELETE" }));
      await refreshPage();
    });
  }
}

function once(target, type, run) {
  if (!target || target.dataset.bound) return;
  target.dataset.bound = "yes";
  target.addEventListener(type, (event) => {
    event.preventDefault();
    run(target);
  });
}

async function start(form, verb, json) {
  const operation = await attempt(form, () => api(`datasets/${dataset}/${verb}`, { method: "POST", json, idempotencyKey: crypto.randomUUID?.() ?? String(Math.random()) }));
  if (operation) follow(operation, ended);
}

/** Send a calibration file to the server; resolves to the calibration. */
export async function sendCalibration(file, serial = "") {
  const body = new FormData();
  body.append("file", file);
  body.append("serial", serial);
  const headers = { Accept: "application/json", "X-CSRFToken": document.querySelector("meta[name=csrf-token]").content };
  const response = await fetch(`/api/v1/datasets/${dataset}/calibrations`, { method: "POST", body, headers });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(answer, response.status);
  return answer;
}

async function uploadCalibration(form) {
  const made = await attempt(form, () => sendCalibration(form.elements.file.files[0], form.elements.serial.value.trim()));
  if (!made) return;
  toast(`Calibration ${made.serial ? `of camera ${made.serial} ` : ""}stored; ${made.file_count} recording${made.file_count === 1 ? "" : "s"} use it.`);
  form.reset();
  document.activeElement?.blur();
  await refreshPage();
}

/** Run `call` with the form's button disabled; errors go to the fields they name, else to a toast. */
async function attempt(form, call) {
  const button = form?.querySelector("button:not([type=button])");
  for (const place of form?.querySelectorAll("[data-error]") ?? []) place.textContent = "";
  for (const field of form?.querySelectorAll("[aria-invalid]") ?? []) field.removeAttribute("aria-invalid");
  if (button) button.disabled = true;
  try {
    return await call();
  } catch (problem) {
    const errors = problem.errors ?? [];
    let isShown = false;
    for (const error of errors) {
      const place = form?.querySelector(`[data-error="${CSS.escape(error.field)}"]`);
      form?.elements[error.field]?.setAttribute("aria-invalid", "true");
      if (place) {
        place.textContent = error.message;
        isShown = true;
      }
    }
    if (!isShown) toast(problem.message, "error");
    return null;
  } finally {
    if (button) button.disabled = false;
  }
}

bind();
