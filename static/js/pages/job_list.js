/** The list of jobs: shortcuts, and a fresh list every few seconds while something runs. */
import { shortcuts } from "../shortcuts.js";

shortcuts({
  n: { label: "New job", run: () => document.querySelector("[data-key=n]").click() },
  "/": { label: "Find by name", run: () => document.getElementById("q")?.focus() },
});

const REFRESH_MS = 3000;

async function refresh() {
  if (document.hidden || !document.querySelector(".badge[data-status=running]")) return;
  const response = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!response?.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("tbody");
  const current = document.querySelector("tbody");
  if (fresh && current && !current.contains(document.activeElement)) current.replaceWith(fresh);
}

setInterval(refresh, REFRESH_MS);
