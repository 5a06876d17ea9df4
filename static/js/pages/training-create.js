/** The export form: what the ratios come to, what the filter keeps, which files there will be. */

import { api } from "../api.js";

const form = document.getElementById("export-form");
const find = (selector) => form.querySelector(selector);
const field = (name) => form.elements.namedItem(name);
const SPLITS = ["train", "val", "test"];
const frames = Number(form.dataset.frames);

const ratio = (split) => Number(field(`${split}_ratio`).value) || 0;

/** Whole numbers of frames, as the export divides them: Hamilton's method, ties to the first. */
function counts() {
  const quotas = SPLITS.map((split) => frames * ratio(split));
  const whole = quotas.map((quota) => Math.floor(quota + 1e-9));
  const byRemainder = SPLITS.map((_, n) => n).sort((a, b) => whole[a] - quotas[a] - (whole[b] - quotas[b]) || a - b);
  for (const n of byRemainder.slice(0, Math.max(0, frames - whole.reduce((sum, count) => sum + count, 0)))) whole[n] += 1;
  return Object.fromEntries(SPLITS.map((split, n) => [split, whole[n]]));
}

function showSplits() {
  const sum = SPLITS.reduce((total, split) => total + ratio(split), 0);
  const fits = Math.abs(sum - 1) <= 1e-6;
  const bySequence = field("split_by").value === "sequence";
  const share = (split) => (bySequence ? `${Math.round(ratio(split) * 100)} %` : counts()[split].toLocaleString("en"));
  for (const split of SPLITS) {
    const part = find(`.split-preview [data-split=${split}]`);
    part.style.flex = `0 0 ${Math.max(0, Math.min(1, ratio(split))) * 100}%`;
    part.textContent = ratio(split) >= 0.08 ? `${split} · ${share(split)}` : "";
  }
  const note = document.getElementById("ratio-note");
  note.textContent = fits ? "" : `They sum to ${Number(sum.toFixed(6))} instead of 1`;
  note.className = fits ? "small" : "small field-error";
}

function showTree() {
  const on = (name) => field(name).checked;
  const format = form.querySelector("[name=format]:checked")?.value ?? "both";
  const lines = [];
  const used = SPLITS.filter((split) => ratio(split) > 0).join(", ");
  const branch = (root, entries) => {
    lines.push(`${root}/`, `└── ${used || "…"}/`);
    entries.forEach((entry, n) => lines.push(`    ${n < entries.length - 1 ? "├" : "└"}── ${entry}`));
  };
  const optional = (name, entry) => (on(name) ? [entry] : []);
  const masks = optional("include_masks", "masks/");
  const clouds = optional("include_velodyne", "velodyne/");
  const depth = optional("include_depth", "depth/");
  if (format !== "coco") branch("kitti", ["image_2/", "label_2/", "calib/", ...depth, ...masks, ...clouds]);
  if (format !== "kitti") branch("coco", ["images/", ...masks, "annotations.json"]);
  lines.push("lineage.json", "manifest-sha256.txt");
  document.getElementById("tree").textContent = lines.join("\n");
  field("segmentation").disabled = format === "kitti" || !on("include_masks");
}

let asked = 0;
let timer = null;

function showConfidence() {
  document.getElementById("confidence-value").textContent = `${Math.round(Number(field("min_confidence").value) * 100)}%`;
}

async function showKept() {
  const mine = ++asked;
  const boxes = [...form.querySelectorAll("[name=classes]")];
  const excluded = boxes.filter((box) => !box.checked).map((box) => Number(box.value));
  const filters = { excluded_class_ids: excluded, min_confidence: Number(field("min_confidence").value) };
  try {
    const { classes, total_annotations: total } = await api(`jobs/${form.dataset.job}/annotation-stats`, { method: "POST", json: filters });
    if (mine !== asked) return;
    const kept = new Map(classes.map((item) => [item.class_id, item.total_count]));
    for (const row of form.querySelectorAll("[data-class]")) {
      row.querySelector("[data-kept]").textContent = (kept.get(Number(row.dataset.class)) ?? 0).toLocaleString("en");
    }
    document.getElementById("annotation-note").textContent = `${total.toLocaleString("en")} annotations on ${frames.toLocaleString("en")} frames`;
  } catch {
    // The counts are a courtesy: the export itself says what is wrong.
  }
}

form.addEventListener("input", (event) => {
  showSplits();
  showTree();
  showConfidence();
  if (["classes", "min_confidence"].includes(event.target.name)) {
    clearTimeout(timer);
    timer = setTimeout(showKept, 150);
  }
});
form.addEventListener("submit", () => {
  field("segmentation").disabled = false; // a disabled field would not be sent
});
showSplits();
showTree();
showConfidence();
showKept();
