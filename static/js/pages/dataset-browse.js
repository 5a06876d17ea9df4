/** The page of the server's files: choose recordings, check them, start a job on them. */

import { api } from "../api.js";
import { toast } from "../toast.js";
import { browser, element } from "./dataset-browser.js";

const root = document.querySelector("[data-browser]");
const results = document.querySelector("[data-results]");
const validate = document.querySelector("[data-validate]");
const job = document.querySelector("[data-new-job]");
const dataset = document.querySelector("[data-new-dataset]");
const nothing = results.firstElementChild;
let chosen = new Map();

const shown = browser(root, {
  path: root.dataset.path,
  onFolder(path) {
    dataset.hidden = !path;
    dataset.href = `${dataset.pathname}?folder=${encodeURIComponent(path)}`;
    history.replaceState(null, "", path ? `?path=${encodeURIComponent(path)}` : location.pathname);
  },
  onChoose(now) {
    chosen = now;
    document.querySelector("[data-count]").textContent = chosen.size;
    validate.disabled = !chosen.size;
    if (job) {
      job.setAttribute("aria-disabled", String(!chosen.size));
      const query = new URLSearchParams([...chosen.keys()].map((path) => ["path", path]));
      if (chosen.size) job.href = `${job.dataset.newJob}?${query}`;
      else job.removeAttribute("href");
    }
    results.replaceChildren(...(chosen.size ? [...chosen.values()].map(row) : [nothing]));
  },
});

function row(entry) {
  const remove = element("button", { type: "button", class: "button button-small button-quiet", "aria-label": `Do not choose ${entry.name}` }, "×");
  remove.addEventListener("click", () => shown.forget(entry.path));
  return element("div", { class: "result", "data-path": entry.path }, element("div", { class: "split" }, element("strong", {}, entry.name), remove), element("div", { class: "small muted", "data-verdict": "" }, entry.path));
}

validate.addEventListener("click", async () => {
  validate.disabled = true;
  validate.textContent = "Checking…";
  try {
    const body = await api("files/validate", { method: "POST", json: { paths: [...chosen.keys()] } });
    for (const result of body.results) {
      const verdict = results.querySelector(`[data-path="${CSS.escape(result.path)}"] [data-verdict]`);
      if (!verdict) continue;
      const health = !result.ok ? ["broken", "unreadable"] : result.truncated ? ["salvaged", "cut off"] : ["ready", "readable"];
      const facts = result.ok ? ` ${result.frame_count} frames${result.metric ? ", metric" : ""}. ` : " ";
      verdict.replaceChildren(element("span", { class: "badge", "data-status": health[0] }, health[1]), facts, result.error || result.warnings.join(" "));
    }
  } catch (problem) {
    toast(problem.message, "error");
  }
  validate.textContent = "Check";
  validate.disabled = !chosen.size;
});
