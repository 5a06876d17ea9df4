/** The class editor: each change is saved at once, guarded by the dataset's version. */

import { api } from "../api.js";
import { toast } from "../toast.js";

const dataset = document.getElementById("dataset").dataset.id;
const table = document.querySelector(".classes");
const status = document.getElementById("class-status");
let version = Number(table.dataset.version);
let queue = Promise.resolve();

/** One change after another: each needs the version that the one before has made. */
function change(path, method, json) {
  const call = queue.then(async () => {
    status.textContent = "Saving…";
    try {
      const answer = await api(`datasets/${dataset}/classes${path}`, { method, json, ifMatch: `"${version}"` });
      version += 1;
      status.textContent = "Saved.";
      return { answer };
    } catch (problem) {
      status.textContent = problem.status === 412 ? "Someone else changed the classes: load the page again." : "Not saved.";
      return { problem };
    }
  });
  queue = call;
  return call;
}

table.addEventListener("change", async (event) => {
  const input = event.target;
  const row = input.closest("tr[data-id]");
  if (!row || !input.name) return;
  const value = input.type === "number" ? (input.value === "" ? null : Number(input.value)) : input.value.trim();
  const { problem } = await change(`/${row.dataset.id}`, "PATCH", { [input.name]: value });
  input.toggleAttribute("aria-invalid", Boolean(problem));
  if (problem) {
    input.setAttribute("aria-invalid", "true");
    toast(problem.message, "error");
  } else {
    row.classList.add("is-saved");
    setTimeout(() => row.classList.remove("is-saved"), 800);
  }
});

table.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-delete]");
  if (!button) return;
  const row = button.closest("tr");
  button.disabled = true;
  const { problem } = await change(`/${row.dataset.id}`, "DELETE");
  button.disabled = false;
  if (problem) toast(problem.message, "error");
  else row.remove();
});

document.getElementById("add-class").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const place = form.querySelector("[data-error]");
  place.textContent = "";
  const { problem } = await change("", "POST", { name: form.elements.name.value.trim() });
  if (problem) place.textContent = problem.message;
  else location.reload();
});
