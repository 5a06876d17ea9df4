/** The progress of long work on its own page, live; the page is loaded anew when it has completed. */

import { subscribe } from "./live.js";

const $ = (name) => document.getElementById(name);

/** `poll` gives the row with status, progress, message, error and actions, where no socket can be had. */
export function followWork(poll) {
  const { topic, status: before, seq } = JSON.parse($("live").textContent);
  const show = (event) => {
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
  };
  subscribe(topic, show, { since: seq, poll });
}
