/** Live progress of scans and preparations. */

import { api } from "../api.js";
import { subscribe } from "../live.js";
import { toast } from "../toast.js";
import { element } from "./dataset-browser.js";

const NAMES = { scan: "Looking for recordings", prepare: "Preparing recordings" };
const ENDED = ["completed", "failed", "cancelled"];
const list = document.getElementById("operation-list");
const mayManage = list?.dataset.manage === "yes";
const shown = new Map();

/** Follow `operation` (as the API gives it) in the page; `onEnd` is told once it stands still for good. */
export function follow(operation, onEnd = () => {}) {
  if (shown.has(operation.id)) return;
  const title = element("strong");
  const badge = element("span", { class: "badge" });
  const bar = element("progress", { class: "progress", max: "1", "aria-label": "Progress" });
  const message = element("span", { class: "small muted truncate", role: "status" });
  const log = element("pre", { class: "log" });
  const buttons = element("span", { class: "cluster" });
  log.hidden = true;
  const card = element("section", { class: "card operation", "data-operation": operation.id, "aria-label": NAMES[operation.kind] }, element("div", { class: "split" }, element("span", { class: "cluster" }, title, badge), buttons), bar, message, log);
  for (const old of list.querySelectorAll("[data-ended]")) old.remove();
  list.prepend(card);
  shown.set(operation.id, card);
  let state = operation;
  let ended = false;

  function show() {
    const total = state.total ? `${state.cursor} of ${state.total}` : "";
    title.textContent = state.parameters?.uploaded ? `Looking into ${state.parameters.uploaded}` : NAMES[state.kind];
    badge.dataset.status = state.status;
    badge.textContent = state.status;
    bar.dataset.status = state.status;
    if (state.total || ENDED.includes(state.status)) bar.value = state.status === "completed" ? 1 : state.progress;
    else bar.removeAttribute("value");
    message.textContent = state.error || [total, state.message].filter(Boolean).join(" · ");
    buttons.replaceChildren(...(mayManage ? (state.actions ?? []).map(button) : []));
    if (ENDED.includes(state.status)) buttons.append(dismiss());
    if (ENDED.includes(state.status) && !ended) {
      ended = true;
      card.dataset.ended = "yes";
      refresh().then(() => onEnd(state));
    } else if (!ENDED.includes(state.status)) {
      ended = false;
      delete card.dataset.ended;
    }
  }

  function dismiss() {
    const made = element("button", { type: "button", class: "button button-small button-quiet" }, "Dismiss");
    made.addEventListener("click", () => card.remove());
    return made;
  }

  function button(verb) {
    const made = element("button", { type: "button", class: `button button-small${verb === "cancel" ? " button-quiet" : ""}` }, verb[0].toUpperCase() + verb.slice(1));
    made.addEventListener("click", async () => {
      made.disabled = true;
      try {
        state = await api(`operations/${state.id}/${verb}`, { method: "POST" });
        show();
      } catch (problem) {
        toast(problem.message, "error");
        refresh();
      }
    });
    return made;
  }

  async function refresh() {
    try {
      state = await api(`operations/${state.id}`);
      show();
    } catch {
      // The next look will tell.
    }
  }

  subscribe(`operation:${operation.id}`, (event) => {
    if (event.type === "log") {
      log.hidden = false;
      log.append(`${event.line}\n`);
      while (log.childNodes.length > 200) log.firstChild.remove();
      log.scrollTop = log.scrollHeight;
      return;
    }
    if (ended && event.type === "progress") return;
    if (event.type !== "progress" && event.type !== "status") return;
    state = { ...state, ...event };
    if (event.actions) state.actions = event.actions.filter((verb) => verb !== "start");
    show();
  }, { poll: async () => ({ ...(await api(`operations/${operation.id}`)), type: "status" }) });
  show();
}
