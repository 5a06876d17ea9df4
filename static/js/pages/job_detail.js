/** A job, live: bars, rates, remaining time, log, thumbnails, and the buttons its state allows. */
import { api } from "../api.js";
import { duration, percent, stageNumbers } from "../job_text.js";
import { subscribe } from "../live.js";
import { shortcuts } from "../shortcuts.js";
import { toast } from "../toast.js";

const page = JSON.parse(document.getElementById("live").textContent);
const find = (selector) => document.querySelector(selector);
const KEYS = { s: "start", p: "pause", r: "resume", c: "cancel", x: "restart" };
const MAX_THUMBNAILS = 12;
const MAX_LINES = 500;
const REFRESH_MS = 4000;
const ENDED = new Set(["completed", "failed", "cancelled"]);
let status = page.state.status;

function showStages(stages) {
  for (const stage of stages) {
    const row = find(`[data-stage="${stage.name}"]`);
    if (!row) continue;
    row.dataset.status = stage.status;
    const bar = row.querySelector("progress");
    bar.value = stage.progress;
    bar.dataset.status = stage.status;
    row.querySelector(".stage-numbers").textContent = stageNumbers(stage);
  }
}

function showProgress(event) {
  if (event.progress !== undefined) {
    find("[data-progress]").value = event.progress;
    find("[data-percent]").textContent = percent(event.progress);
    document.title = status === "running" ? `${percent(event.progress)} · ${find("h1").textContent}` : `${find("h1").textContent} · Fovea`;
  }
  if (event.message !== undefined) find("[data-message]").textContent = event.message;
  if (event.stages) showStages(event.stages);
  const spent = event.elapsed_s ? `${duration(event.elapsed_s)} worked` : "";
  const left = status === "running" && event.remaining_s ? `about ${duration(event.remaining_s)} left` : "";
  if (event.elapsed_s !== undefined) find("[data-remaining]").textContent = [spent, left].filter(Boolean).join(" · ");
}

function showStatus(event) {
  const before = status;
  status = event.status;
  const badge = find("[data-job-status]");
  badge.dataset.status = status;
  badge.textContent = status[0].toUpperCase() + status.slice(1);
  find("[data-progress]").dataset.status = status;
  find('[data-key="v"]')?.classList.toggle("button-primary", status === "completed");
  const error = find("[data-job-error]");
  error.textContent = event.error ?? "";
  error.hidden = !event.error;
  for (const form of document.querySelectorAll("[data-verb]")) {
    form.hidden = !(page.mayRun && event.actions?.includes(form.dataset.verb));
  }
  showProgress(event);
  if (ENDED.has(status) && status !== before) refresh();
}

/** Totals and the table of recordings are the server's: fetched again now and then, and once the work has ended. */
async function refresh() {
  const response = await fetch(location.pathname).catch(() => null);
  if (!response?.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-refresh]")) {
    const newer = fresh.querySelector(`[data-refresh="${part.dataset.refresh}"]`);
    if (newer && newer.innerHTML !== part.innerHTML) part.innerHTML = newer.innerHTML;
  }
  // While frames come in the newest stand first, in the order of their coming; at the end all stand in their own.
  if (ENDED.has(status)) find("[data-thumbnails]").replaceWith(fresh.querySelector("[data-thumbnails]"));
}
setInterval(() => status === "running" && !document.hidden && refresh(), REFRESH_MS);

function showLog(event) {
  const log = find("[data-log]");
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
  const line = document.createElement("div");
  line.dataset.level = event.level;
  const time = document.createElement("time");
  time.dateTime = event.at;
  time.textContent = event.at.slice(11, 19);
  const text = document.createElement("span");
  text.textContent = event.text;
  line.append(time, text);
  log.append(line);
  while (log.childElementCount > MAX_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function showThumbnail(event) {
  const list = find("[data-thumbnails]");
  const pattern = list.dataset.url;
  if (!pattern) return;
  const address = pattern.replace("00000000-0000-0000-0000-000000000000", event.frame);
  list.querySelector(`img[src="${address}"]`)?.closest(".thumbnail").remove();
  const link = document.createElement("a");
  link.className = "thumbnail is-new";
  link.href = `${list.dataset.review}?frame=${event.frame}`;
  const image = document.createElement("img");
  image.alt = `Frame ${event.number} of ${event.sequence}`;
  image.src = address;
  const caption = document.createElement("span");
  caption.textContent = `${event.sequence} · ${event.number}`;
  link.append(image, caption);
  list.prepend(link);
  while (list.childElementCount > MAX_THUMBNAILS) list.lastElementChild.remove();
  find("[data-no-frames]").hidden = true;
}

const SHOW = { status: showStatus, progress: showProgress, log: showLog, thumbnail: showThumbnail };
const CONNECTION = { live: "live", polling: "every 2 s", ended: "not live" };

async function poll() {
  const job = await api(`jobs/${page.job}`);
  return { type: "status", ...job };
}

subscribe(page.topic, (event) => SHOW[event.type]?.(event), {
  since: page.since,
  poll,
  onState(state) {
    const label = find("[data-connection]");
    label.dataset.state = state;
    label.textContent = CONNECTION[state];
  },
});

async function move(verb) {
  const form = find(`[data-verb="${verb}"]`);
  if (!form || form.hidden) return;
  if (verb === "cancel" && !confirm("Cancel the job? What is done is kept, but it cannot be resumed.")) return;
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    showStatus(toEvent(await api(`jobs/${page.job}/${verb}`, { method: "POST" })));
  } catch (problem) {
    toast(problem.message, "error");
  } finally {
    button.disabled = false;
  }
}

const toEvent = (job) => ({ ...job, type: "status" });

for (const form of document.querySelectorAll("[data-verb]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    move(form.dataset.verb);
  });
}
for (const button of document.querySelectorAll("[data-open]")) {
  button.addEventListener("click", () => {
    button.closest("details").open = false;
    find(`[data-dialog="${button.dataset.open}"]`).showModal();
  });
}
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
const follow = (key) => () => find(`[data-key="${key}"]`)?.click();
shortcuts({
  ...Object.fromEntries(
    Object.entries(KEYS).map(([key, verb]) => [key, { label: `${verb[0].toUpperCase()}${verb.slice(1)} the job`, run: () => move(verb) }]),
  ),
  v: { label: "Review its frames", run: follow("v") },
  e: { label: "Export a training dataset", run: follow("e") },
});

showStatus(page.state);
find("[data-log]").scrollTop = find("[data-log]").scrollHeight;
