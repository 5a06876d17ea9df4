/** The page of one recording: its calibration, and taking it out. */

import { api } from "../api.js";
import { toast } from "../toast.js";

const dataset = document.getElementById("dataset").dataset.id;
const file = document.getElementById("file");
const address = `datasets/${dataset}/files/${file.dataset.id}`;

document.getElementById("calibration")?.addEventListener("change", async (event) => {
  try {
    await api(address, { method: "PATCH", json: { calibration: event.target.value || null }, ifMatch: `"${file.dataset.version}"` });
    location.reload();
  } catch (problem) {
    toast(problem.message, "error");
  }
});

document.querySelector("[data-forget]")?.addEventListener("click", async () => {
  try {
    await api(address, { method: "DELETE" });
    location.assign(document.querySelector(".tabs a").href);
  } catch (problem) {
    toast(problem.message, "error");
  }
});
