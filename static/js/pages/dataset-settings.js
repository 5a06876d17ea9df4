/** Settings: leave or delete the dataset, after a question. */

import { api } from "../api.js";
import { toast } from "../toast.js";
import "./dataset-folder.js";

const dataset = document.getElementById("dataset").dataset.id;
const dialog = document.getElementById("confirm");

function ask(question) {
  dialog.querySelector("#confirm-text").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function end(question, call) {
  if (!(await ask(question))) return;
  try {
    await call();
    location.assign(document.querySelector(".breadcrumbs a").href);
  } catch (problem) {
    toast(problem.message, "error");
  }
}

document.querySelector("[data-leave]").addEventListener("click", () =>
  end("Leave this dataset?", () => api(`datasets/${dataset}/leave`, { method: "POST" })));
document.querySelector("[data-delete]")?.addEventListener("click", () =>
  end("Delete this dataset for all its members?", () => api(`datasets/${dataset}`, { method: "DELETE" })));
