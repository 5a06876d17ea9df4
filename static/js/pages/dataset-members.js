/** Members: roles are changed at once; what is refused is put back. */

import { api } from "../api.js";
import { toast } from "../toast.js";

const dataset = document.getElementById("dataset").dataset.id;
const address = `datasets/${dataset}/members`;

document.querySelector("tbody").addEventListener("change", async (event) => {
  const select = event.target;
  const row = select.closest("tr");
  try {
    await api(`${address}/${row.dataset.id}`, { method: "PATCH", json: { role: select.value } });
    select.dataset.before = select.value;
    toast("The role was changed.");
  } catch (problem) {
    select.value = select.dataset.before;
    toast(problem.message, "error");
  }
});

document.querySelector("tbody").addEventListener("click", async (event) => {
  const button = event.target.closest("[data-remove]");
  if (!button) return;
  const row = button.closest("tr");
  try {
    await api(`${address}/${row.dataset.id}`, { method: "DELETE" });
    row.remove();
  } catch (problem) {
    toast(problem.message, "error");
  }
});

document.getElementById("add-member").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const place = form.querySelector("[data-error]");
  place.textContent = "";
  try {
    await api(address, { method: "POST", json: { email: form.elements.email.value, role: form.elements.role.value } });
    location.reload();
  } catch (problem) {
    place.textContent = problem.message;
  }
});
