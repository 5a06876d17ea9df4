/** The review page: which frame, which picture, what is shown of what was found. */

import { api } from "../api.js";
import { Adding } from "../review/adding.js";
import { BirdsEye } from "../review/birdseye.js";
import { css, hexColor, trackColor } from "../review/colors.js";
import { describe, factRows } from "../review/describing.js";
import { FrameStore } from "../review/frames.js";
import { groundPoint } from "../review/geometry.js";
import { classKeys, Labelling } from "../review/labelling.js";
import { UncertainOrder } from "../review/order.js";
import { Strip } from "../review/strip.js";
import { Viewer } from "../review/viewer.js";
import { shortcuts } from "../shortcuts.js";
import { toast } from "../toast.js";

const TRAIL_FRAMES = 40;
const PLAY_MS = 90;

const $ = (selector) => document.querySelector(selector);
const { job, sequences, classes, labels, mayLabel, start } = JSON.parse($("#review-state").textContent);

const store = new FrameStore(job.id);
const viewer = new Viewer($("#stage"));
const birdsEye = new BirdsEye($("#birds-eye"));
const strip = new Strip($("#strip"), store);
const labelling = new Labelling();
const adding = new Adding({ labels, labelling, viewer, frame: () => state.frame });

const remembered = JSON.parse(localStorage.getItem("fovea-review") ?? "{}");
const state = {
  sequence: sequences.find(({ id }) => id === start?.sequence) ?? sequences.find((item) => item.frame_count) ?? sequences[0],
  number: start?.number ?? 0,
  view: "left",
  show: { boxes: true, masks: true, boxes3d: true, labels: true, uncertainty: false, ...remembered.show },
  opacity: remembered.opacity ?? 0.8, // of the uncertainty map
  colorBy: remembered.colorBy ?? "track",
  hidden: new Set(),
  minConfidence: 0,
  chosenId: null,
  chosenTrack: null,
  playing: null,
  direction: 1,
  order: null, // an UncertainOrder, or null: that of time
};
let turn = 0; // counts requests to show a frame, so that a late answer to an early one is dropped

const paintOf = (item) => (state.colorBy === "track" && item.track_id !== null ? trackColor(item.track_id) : hexColor(item.color));
const isShown = (item) => item.confidence >= state.minConfidence && !state.hidden.has(item.class_id);
strip.paint = paintOf;

async function go(number, { sequence = state.sequence } = {}) {
  if (!sequence?.frame_count) return;
  const wanted = Math.max(0, Math.min(sequence.frame_count - 1, number));
  state.direction = sequence === state.sequence && wanted < state.number ? -1 : 1;
  const mine = ++turn;
  try {
    const frame = await store.frame(sequence, wanted);
    if (!frame || mine !== turn) return;
    const address = frame.media[state.view] ?? frame.media.left;
    const image = await store.image(address);
    // Without its map a frame is still worth looking at.
    const map = state.show.uncertainty && frame.media.uncertainty ? await store.image(frame.media.uncertainty).catch(() => null) : null;
    if (mine !== turn) return;
    Object.assign(state, { sequence, number: wanted, frame, image, map });
    render();
    store.prefetch(sequence, wanted, state.view, state.direction);
    store.range(sequence, wanted - TRAIL_FRAMES, wanted).then(() => mine === turn && renderBirdsEye()).catch(() => {});
  } catch (error) {
    if (mine === turn) toast(error.message || "The image could not be loaded.", "error");
    stop();
  }
}

function render() {
  const { frame, sequence, number } = state;
  if (!frame) return;
  state.detections = frame.detections.filter(isShown).map((item) => ({ ...item, paint: paintOf(item) }));
  if (state.chosenTrack !== null) {
    state.chosenId = state.detections.find((item) => item.track_id === state.chosenTrack)?.id ?? null;
  } else if (!state.detections.some((item) => item.id === state.chosenId)) {
    state.chosenId = null;
  }
  const view = frame.media[state.view] ? state.view : "left";
  const haze = state.map && view === "left" ? { image: state.map, opacity: state.opacity } : null;
  viewer.show({ frame, image: state.image, haze, view, camera: sequence.camera, detections: state.detections, show: state.show });
  viewer.choose(state.chosenId);
  adding.moveTo(frame);
  renderBirdsEye();
  renderList();
  renderFacts(view);
  strip.show(sequence, number);
  const address = new URL(location.href);
  address.searchParams.set("frame", frame.id);
  history.replaceState(null, "", address);
}

function renderBirdsEye() {
  const boxes = state.detections.filter((item) => item.box_3d);
  $("#birds-eye-empty").hidden = boxes.length > 0;
  const trails = new Map();
  for (let number = Math.max(0, state.number - TRAIL_FRAMES); number <= state.number; number++) {
    for (const item of store.peek(state.sequence, number)?.detections ?? []) {
      if (item.track_id === null || !item.box_3d) continue;
      if (!trails.has(item.track_id)) trails.set(item.track_id, []);
      trails.get(item.track_id).push(groundPoint(item.box_3d));
    }
  }
  birdsEye.show({ camera: state.sequence.camera, detections: boxes, trails });
  birdsEye.choose(state.chosenId);
}

function renderList() {
  const list = $("#detections");
  const focused = document.activeElement?.closest?.("#detections button")?.dataset.id;
  list.replaceChildren(...state.detections.map((item) => {
    const row = $("#detection-template").content.firstElementChild.cloneNode(true);
    const button = row.firstElementChild;
    button.dataset.id = item.id;
    button.setAttribute("aria-pressed", String(item.id === state.chosenId));
    row.querySelector(".swatch").style.setProperty("--swatch", css(item.paint));
    row.querySelector("[data-part=name]").textContent = item.class_name;
    row.querySelector("[data-part=track]").textContent = item.track_id === null ? "" : `track ${item.track_id}`;
    row.querySelector("[data-part=confidence]").textContent = `${Math.round(item.confidence * 100)}%`;
    row.querySelector("[data-part=more]").textContent = describe(item);
    row.querySelector("[data-part=tick]").hidden = !item.confirmed;
    row.querySelector("meter").value = item.confidence;
    button.addEventListener("click", () => choose(item.id === state.chosenId ? null : item));
    return row;
  }));
  if (focused) list.querySelector(`[data-id="${focused}"]`)?.focus({ preventScroll: true });
  const hidden = state.frame.detections.length - state.detections.length;
  $("#detection-count").textContent = `${state.detections.length}${hidden ? ` of ${state.frame.detections.length}` : ""}`;
  $("#no-detections").hidden = state.detections.length > 0;
  const confirmed = state.detections.filter((item) => item.confirmed).length;
  $("#confirmed-count").textContent = confirmed ? `${confirmed} confirmed ·` : "";
  renderChosen();
}

const chosen = () => state.detections?.find((item) => item.id === state.chosenId) ?? null;

/** What is known of the chosen object, and how sure. */
function renderChosen() {
  if (adding.isOn) return adding.render();
  const item = chosen();
  $("#chosen").hidden = !item;
  if (!item) return;
  $("#chosen-name").textContent = item.track_id === null ? item.class_name : `${item.class_name}, track ${item.track_id}`;
  $("#chosen-badge").textContent = item.confirmed ? "confirmed" : "proposed";
  $("#chosen-badge").dataset.kind = item.confirmed ? "success" : "";
  if ($("#confirm")) $("#confirm").disabled = false;
  $("#chosen-facts").replaceChildren(...factRows(item));
  for (const button of document.querySelectorAll("[data-label]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.label) === item.class_id));
  }
}

/** Confirm the chosen object, as another class if one is given, and choose the next one nobody has confirmed. */
async function confirm(classId) {
  const item = chosen();
  if (!mayLabel || !item) return;
  const { frame } = state;
  const order = state.detections.map(({ id }) => id);
  const said = await labelling.confirm(frame, item, classId);
  if (!said || state.frame !== frame) return;
  const at = order.indexOf(item.id);
  const rest = [...order.slice(at + 1), ...order.slice(0, at)];
  const next = rest.map((id) => state.detections.find((other) => other.id === id)).find((other) => other && !other.confirmed);
  if (state.chosenId === item.id) choose(next ?? null);
  $("#announcement").textContent = `${said.class_name} confirmed. ${next ? `Next: ${next.class_name}.` : "All of this frame are confirmed."}`;
}

/** Enter: confirm what is chosen; else choose what nobody confirmed yet, here or in the next frame. */
async function confirmOrFind() {
  if (chosen()) return confirm();
  const here = state.detections?.find((item) => !item.confirmed);
  if (here) return choose(here);
  await move(1);
  choose(state.detections?.find((item) => !item.confirmed) ?? null);
}

async function undo() {
  const undone = await labelling.undo();
  if (!undone || undone.frame !== state.frame) return;
  choose(state.detections.find(({ id }) => id === undone.detection.id) ?? null);
}

labelling.addEventListener("change", ({ detail: { frame, detection } }) => {
  store.replace(frame, detection);
  if (frame === state.frame) render();
  strip.repaint();
});
labelling.addEventListener("settled", () => {
  $("#undo").disabled = !labelling.canUndo;
  offerTraining();
});

/** Once enough is new, the way to a (better) class head; asked some seconds after the last confirmation. */
function offerTraining() {
  if (!mayLabel || !job.dataset) return;
  clearTimeout(offerTraining.timer);
  offerTraining.timer = setTimeout(async () => {
    const { retrain, new_labels: count } = await api(`datasets/${job.dataset}/class-heads`).catch(() => ({}));
    $("#train").hidden = !retrain;
    $("#train").textContent = `Train (${count} new label${count === 1 ? "" : "s"})`;
  }, 1500);
}
adding.addEventListener("failed", ({ detail }) => toast(detail.message, "error"));
adding.addEventListener("added", ({ detail }) => { $("#announcement").textContent = `${detail.class_name} added.`; });
labelling.addEventListener("removed", ({ detail: { frame, detection } }) => {
  store.remove(frame, detection);
  if (frame === state.frame) render();
});
labelling.addEventListener("refused", ({ detail }) => toast(detail.message, "error"));

function toggleAdding() {
  if (!mayLabel || !labels.length) return;
  if (!adding.isOn && state.view !== "left") setView("left");
  choose(null);
  adding.set(!adding.isOn);
  renderChosen();
}

/** A class's key or button: of the object being added, else of the chosen one. */
const giveClass = (number) => (adding.isOn ? adding.setClass(number) : confirm(number));

function leave() {
  if (!adding.isOn) choose(null);
  else if (!adding.clear()) toggleAdding();
}

function renderFacts(view) {
  const { frame, sequence, number } = state;
  const seconds = (frame.timestamp_ns - (state.firstTime[sequence.id] ??= number === 0 ? frame.timestamp_ns : NaN)) / 1e9;
  $("#frame-number").value = number;
  $("#frame-total").textContent = `/ ${sequence.frame_count - 1}`;
  $("#scrubber").max = sequence.frame_count - 1;
  $("#scrubber").value = number;
  $("#facts").textContent = [
    Number.isFinite(seconds) ? `${seconds.toFixed(2)} s` : "",
    `source frame ${frame.source_index}`,
    `${frame.width} × ${frame.height}`,
    frame.uncertainty === null ? "" : `uncertainty ${(frame.uncertainty * 100).toFixed(1)}%`,
    frame.media.depth ? `depth on ${Math.round(frame.depth_coverage * 100)}%` : "no depth",
  ].filter(Boolean).join(" · ");
  for (const button of document.querySelectorAll("[data-view]")) {
    button.disabled = !frame.media[button.dataset.view];
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  }
  const seen = state.detections.length;
  $("#stage").setAttribute("aria-label", `Frame ${number}, ${view} view, ${seen} object${seen === 1 ? "" : "s"}`);
  if (!state.playing) $("#announcement").textContent = `Frame ${number}, ${seen} object${seen === 1 ? "" : "s"}`;
  $("#depth-legend").hidden = view !== "depth";
  $("#uncertainty-legend").hidden = !(state.map && view === "left");
  document.querySelector("[data-toggle=uncertainty]").disabled = !frame.media.uncertainty;
}
state.firstTime = {};

function choose(item) {
  state.chosenId = item?.id ?? null;
  state.chosenTrack = item?.track_id ?? null;
  viewer.choose(state.chosenId);
  birdsEye.choose(state.chosenId);
  for (const button of document.querySelectorAll("#detections button")) {
    const pressed = button.dataset.id === String(state.chosenId);
    button.setAttribute("aria-pressed", String(pressed));
    if (pressed) button.scrollIntoView({ block: "nearest" });
  }
  renderChosen();
}

async function setView(view) {
  if (!state.frame?.media[view]) return;
  state.view = view;
  await go(state.number);
}

function toggle(name) {
  state.show[name] = !state.show[name];
  remember();
  renderToggles();
  if (name === "uncertainty") go(state.number); // its map may have to be fetched
  else render();
}

function setColors(by) {
  state.colorBy = by;
  remember();
  renderToggles();
  render();
  strip.repaint();
}

function remember() {
  localStorage.setItem("fovea-review", JSON.stringify({ show: state.show, colorBy: state.colorBy, opacity: state.opacity }));
}

function renderToggles() {
  for (const button of document.querySelectorAll("[data-toggle]")) {
    button.setAttribute("aria-pressed", String(state.show[button.dataset.toggle]));
  }
  $("#color-by").value = state.colorBy;
}

function play() {
  if (state.playing) return stop();
  $("#play").setAttribute("aria-pressed", "true");
  const step = async () => {
    const began = performance.now();
    if (state.number >= state.sequence.frame_count - 1) return stop();
    await go(state.number + 1);
    if (state.playing) state.playing = setTimeout(step, Math.max(0, PLAY_MS - (performance.now() - began)));
  };
  state.playing = setTimeout(step, 0);
  if (state.number >= state.sequence.frame_count - 1) go(0);
}

function stop() {
  clearTimeout(state.playing);
  state.playing = null;
  $("#play").setAttribute("aria-pressed", "false");
}

function chooseNext(step) {
  if (!state.detections?.length) return;
  const at = state.detections.findIndex((item) => item.id === state.chosenId);
  choose(state.detections[(at + step + state.detections.length) % state.detections.length]);
}

function renderFilters() {
  const shownTotal = classes.filter((item) => !state.hidden.has(item.class_id)).length;
  $("#confidence-value").textContent = `${Math.round(state.minConfidence * 100)}%`;
  $("#filter-note").textContent = shownTotal < classes.length ? `${classes.length - shownTotal} hidden` : "";
  const link = $("#export");
  if (link) {
    const address = new URL(link.href);
    const set = (name, value) => (value ? address.searchParams.set(name, value) : address.searchParams.delete(name));
    set("excluded_class_ids", [...state.hidden].join(","));
    set("min_confidence", state.minConfidence || "");
    link.href = address;
  }
}

for (const input of document.querySelectorAll("[data-class]")) {
  input.addEventListener("change", () => {
    state.hidden[input.checked ? "delete" : "add"](Number(input.dataset.class));
    renderFilters();
    render();
  });
}
$("#confidence").addEventListener("input", (event) => {
  state.minConfidence = Number(event.target.value);
  renderFilters();
  render();
});
for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));
for (const button of document.querySelectorAll("[data-toggle]")) button.addEventListener("click", () => toggle(button.dataset.toggle));
$("#opacity").value = state.opacity;
$("#opacity").addEventListener("input", (event) => {
  state.opacity = Number(event.target.value);
  remember();
  render();
});
$("#color-by").addEventListener("change", (event) => setColors(event.target.value));
$("#sequence")?.addEventListener("change", (event) => {
  stop();
  choose(null);
  go(0, { sequence: sequences.find(({ id }) => id === event.target.value) });
});
$("#frame-number").addEventListener("change", (event) => go(Number(event.target.value) || 0));
$("#scrubber").addEventListener("input", (event) => go(Number(event.target.value)));
$("#play").addEventListener("click", play);
$("#previous").addEventListener("click", () => move(-1));
$("#next").addEventListener("click", () => move(1));
$("#order").addEventListener("change", ({ target }) => setOrder(target.value));
$("#fit").addEventListener("click", () => viewer.fit());
strip.addEventListener("go", ({ detail }) => { stop(); go(detail); });
viewer.addEventListener("choose", ({ detail }) => choose(detail));
birdsEye.addEventListener("choose", ({ detail }) => choose(detail));

for (const button of document.querySelectorAll("[data-label]")) button.addEventListener("click", () => giveClass(Number(button.dataset.label)));
$("#confirm")?.addEventListener("click", () => (adding.isOn ? adding.accept() : confirm()));
$("#undo")?.addEventListener("click", undo);
$("#add")?.addEventListener("click", toggleAdding);

/** `by` frames on, in the order that is chosen. */
async function move(by) {
  stop();
  if (!state.order) return go(state.number + by);
  const found = await state.order.step(by).catch((error) => toast(error.message, "error"));
  if (!found) return undefined;
  await go(found.number, { sequence: sequences.find(({ id }) => id === found.sequence) });
  if ($("#sequence")) $("#sequence").value = found.sequence;
  $("#announcement").textContent = `Number ${state.order.place} of the least sure`;
  return undefined;
}

function setOrder(name) {
  state.order = name === "uncertain" ? new UncertainOrder(job.id) : null;
  $("#order").value = state.order ? "uncertain" : "time";
  if (state.order) move(1);
}

const step = (by) => () => move(by);
const onPage = ({ target }) => !target.closest("button, a, summary, input, select") || Boolean(target.closest("#detections"));
const bindings = {
  ArrowRight: { run: step(1), label: "Next frame" },
  ArrowLeft: { run: step(-1), label: "Previous frame" },
  "Shift+ArrowRight": { run: step(10), label: "Ten frames on" },
  "Shift+ArrowLeft": { run: step(-10), label: "Ten frames back" },
  Home: { run: () => { stop(); go(0); }, label: "First frame" },
  End: { run: () => { stop(); go(state.sequence.frame_count - 1); }, label: "Last frame" },
  " ": { run: play, label: "Play or stop" },
  1: { run: () => setView("left"), label: "Left image" },
  2: { run: () => setView("right"), label: "Right image" },
  3: { run: () => setView("depth"), label: "Depth" },
  b: { run: () => toggle("boxes"), label: "Boxes" },
  m: { run: () => toggle("masks"), label: "Masks" },
  c: { run: () => toggle("boxes3d"), label: "3D boxes (cuboids)" },
  l: { run: () => toggle("labels"), label: "Labels" },
  u: { run: () => state.frame?.media.uncertainty && toggle("uncertainty"), label: "Uncertainty" },
  o: { run: () => setOrder(state.order ? "time" : "uncertain"), label: "Step through the least sure frames first, or through time" },
  t: { run: () => setColors(state.colorBy === "track" ? "class" : "track"), label: "Colour by track or by class" },
  n: { run: () => chooseNext(1), label: "Choose the next object" },
  p: { run: () => chooseNext(-1), label: "Choose the previous object" },
  Escape: { run: leave, label: "Choose nothing" },
  "+": { run: () => viewer.zoomBy(1.4), label: "Zoom in" },
  "-": { run: () => viewer.zoomBy(1 / 1.4), label: "Zoom out" },
  0: { run: () => viewer.fit(), label: "Fit the picture" },
};
if (mayLabel) {
  const given = classKeys(labels, ["a", "n", "p", "z", "u", "o"]);
  for (const [key, number] of given) {
    const other = bindings[key];
    const run = () => (adding.isOn || chosen() ? giveClass(number) : other?.run());
    bindings[key] = { run, label: other?.label, when: () => Boolean(adding.isOn || chosen() || other) };
    document.querySelector(`[data-label="${number}"]`)?.append(Object.assign(document.createElement("kbd"), { textContent: key }));
  }
  bindings["1…9"] = { label: "Give the chosen object the class of this number, and go on to the next" };
  bindings.a = { run: toggleAdding, label: "Add an object: drag a box around it, or click on it" };
  bindings.Tab = { run: () => adding.next(), when: () => adding.hasSeveral };
  bindings.Enter = { run: () => (adding.isOn ? adding.accept() : confirmOrFind()), when: onPage, label: "Confirm the chosen object; or choose one to confirm" };
  bindings.z = { run: undo, label: "Take the last confirmation back" };
}
const keys = shortcuts(bindings);
$("#help").addEventListener("click", keys.show);

renderToggles();
renderFilters();
offerTraining();
if (state.sequence?.frame_count) go(state.number);
