/** An export under way, live. */

import { api } from "../api.js";
import { subscribe } from "../live.js";

const { id, topic, status: before, seq } = JSON.parse(document.getElementById("live").textContent);
const $ = (name) => document.getElementById(name);

function show(event) {
  if (event.progress !== undefined) {
    $("progress").value = event.progress;
    $("percent").textContent = `${Math.floor(event.progress * 100)}%`;
  }
  if (event.message) $("message").textContent = event.message;
  if (event.status === undefined) return;
  $("status").dataset.status = $("progress").dataset.status = event.status;
  $("status").textContent = event.status[0].toUpperCase() + event.status.slice(1);
  $("error").textContent = event.error ?? "";
  $("error").hidden = !event.error;
  for (const form of document.querySelectorAll("[data-verb]")) form.hidden = !event.actions?.includes(form.dataset.verb);
  if (event.status === "completed" && before !== "completed") location.reload();
}

subscribe(topic, show, { since: seq, poll: () => api(`training-datasets/${id}/status`) });
