/** The browser of the server's folders: a list to walk through by mouse or keyboard. */

import { api } from "../api.js";

const ICONS = {
  folder: "M3 6a1 1 0 0 1 1-1h5l2 2h9a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1z",
  recording: "M3 7a1 1 0 0 1 1-1h11a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1zm13 4 5-3v8l-5-3z",
};
const FOLDER_KINDS = ["stereo_images", "images"]; // recordings that are folders themselves
const KINDS = { svo2: "SVO2", stereo_video: "stereo video", stereo_images: "stereo images", video: "video", images: "images" };

export function bytes(count) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) count /= 1024;
  return `${count >= 100 || unit === 0 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && typeof value !== "string") made[name] = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function icon(type) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("fill", "currentColor");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[type]);
  svg.append(path);
  return svg;
}

/**
 * Show the folders in `root`. `onFolder(path)` is told of each folder opened; with `onChoose(entries)` recordings can be
 * chosen, and the chosen ones (a Map from path to entry) are told. Without it, a recording that is a folder (a sequence
 * of images) can be picked as one: `onFolder` is told of it.
 */
export function browser(root, { path = "", onFolder = () => {}, onChoose = null } = {}) {
  const crumbs = element("nav", { class: "crumbs", "aria-label": "Folders above" });
  const list = element("ul", { class: "browser-list", role: "listbox", "aria-label": "Folders and recordings", "aria-multiselectable": onChoose ? "true" : null });
  const note = element("p", { class: "small muted", role: "status" });
  root.replaceChildren(crumbs, list, note);
  const chosen = new Map();
  let here = { path: "", parent: null };

  async function open(target, focus = false) {
    note.textContent = "Looking…";
    let body;
    try {
      body = await api(`files/browse?path=${encodeURIComponent(target)}`);
    } catch (problem) {
      note.textContent = problem.message;
      if (target && !here.path) await open("");
      return;
    }
    here = body;
    showCrumbs(body);
    list.replaceChildren(...body.entries.map(show));
    const recordings = body.entries.filter((entry) => entry.type === "recording").length;
    const folders = body.entries.length - recordings;
    note.textContent = body.entries.length
      ? `${folders} folder${folders === 1 ? "" : "s"}, ${recordings} recording${recordings === 1 ? "" : "s"}${body.truncated ? "; there is more than is listed" : ""}.`
      : body.path ? "No folders or recordings here." : "The server has no data folder: set FOVEA_DATA_ROOTS.";
    list.firstElementChild?.setAttribute("tabindex", "0");
    if (focus) list.firstElementChild?.focus();
    onFolder(body.path);
  }

  function showCrumbs(body) {
    const parts = [element("button", { type: "button", class: "button button-small button-quiet", "data-path": "" }, "Roots")];
    const top = body.roots.filter((item) => body.path === item || body.path.startsWith(`${item}/`)).sort((a, b) => b.length - a.length)[0];
    if (top) {
      let walked = top;
      const names = [top, ...body.path.slice(top.length).split("/").filter(Boolean)];
      names.forEach((name, number) => {
        if (number) walked = `${walked}/${name}`;
        parts.push(element("span", { class: "faint", "aria-hidden": "true" }, "›"));
        parts.push(element("button", { type: "button", class: "button button-small button-quiet", "data-path": walked, "aria-current": walked === body.path ? "location" : null }, name));
      });
    }
    crumbs.replaceChildren(...parts);
  }

  function show(entry) {
    const canPick = entry.type === "folder" || onChoose || FOLDER_KINDS.includes(entry.kind);
    const row = element(
      "li",
      { class: "browser-entry", role: "option", tabindex: "-1", "data-path": entry.path, "data-type": entry.type, "aria-selected": String(chosen.has(entry.path)), "aria-disabled": canPick ? null : "true" },
      icon(entry.type),
      element("span", { class: "truncate" }, entry.name),
      element("span", { class: "small muted" }, KINDS[entry.kind] ?? entry.kind),
      element("span", { class: "small muted num" }, entry.size_bytes ? bytes(entry.size_bytes) : ""),
    );
    row.entry = entry;
    return row;
  }

  function activate(row, focus) {
    const { entry } = row;
    if (entry.type === "folder") return open(entry.path, focus);
    if (!onChoose) return row.ariaDisabled === "true" ? undefined : pick(row);
    chosen.has(entry.path) ? chosen.delete(entry.path) : chosen.set(entry.path, entry);
    row.setAttribute("aria-selected", String(chosen.has(entry.path)));
    return onChoose(chosen);
  }

  function pick(row) {
    const isPicked = row.getAttribute("aria-selected") !== "true";
    for (const other of list.children) other.setAttribute("aria-selected", String(other === row && isPicked));
    onFolder(isPicked ? row.entry.path : here.path);
  }

  crumbs.addEventListener("click", (event) => {
    const button = event.target.closest("[data-path]");
    if (button) open(button.dataset.path, true);
  });
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".browser-entry");
    if (row) activate(row, false);
  });
  list.addEventListener("keydown", (event) => {
    const row = event.target.closest(".browser-entry");
    if (!row) return;
    const move = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling, Home: list.firstElementChild, End: list.lastElementChild }[event.key];
    if (move !== undefined) {
      event.preventDefault();
      move?.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      activate(row, true);
    } else if ((event.key === "Backspace" || event.key === "ArrowLeft") && here.parent !== null) {
      event.preventDefault();
      open(here.parent, true);
    }
  });
  list.addEventListener("focusin", (event) => {
    for (const row of list.querySelectorAll("[tabindex='0']")) row.setAttribute("tabindex", "-1");
    event.target.setAttribute("tabindex", "0");
  });
  open(path);
  return { open, forget(gone) { chosen.delete(gone); list.querySelector(`[data-path="${CSS.escape(gone)}"]`)?.setAttribute("aria-selected", "false"); onChoose?.(chosen); } };
}
