/** The picture of a frame with what was found in it: zoom, pan, hover, choose. */

import { css, inkOn } from "./colors.js";
import { projectedEdges, projectedFront } from "./geometry.js";
import { covers, decodeMask, paintMask } from "./rle.js";

const MAX_ZOOM = 40;

export class Viewer extends EventTarget {
  #stage;
  #picture;
  #overlay;
  #scene = null; // {frame, image, haze: {image, opacity} or null, view, camera, detections: [{…, paint: [r, g, b]}], show}
  #zoom = 1;
  #pan = [0, 0]; // of the picture's centre from the stage's, in CSS pixels
  #masks = new WeakMap(); // detection → {pixels, painted: {color: canvas}}
  #hovered = null;
  #chosen = null;
  #drag = null;
  #frameRequest = 0;
  #pointing = false; // a drag is a box, a click a point; else they pan and choose
  #draft = null; // {mask, points, labels, box, paint}: what is being pointed at, and the mask proposed for it

  constructor(stage) {
    super();
    this.#stage = stage;
    [this.#picture, this.#overlay] = stage.querySelectorAll("canvas");
    new ResizeObserver(() => this.#redraw(true)).observe(stage);
    stage.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#onDown(event));
    stage.addEventListener("pointermove", (event) => this.#onMove(event));
    stage.addEventListener("pointerup", (event) => this.#onUp(event));
    stage.addEventListener("pointerleave", () => this.#hover(null));
    stage.addEventListener("dblclick", () => this.fit());
  }

  show(scene) {
    const before = this.#scene?.haze;
    const pictureChanged =
      scene.image !== this.#scene?.image || scene.haze?.image !== before?.image || scene.haze?.opacity !== before?.opacity;
    this.#scene = scene;
    this.#hovered = scene.detections.find((item) => item.id === this.#hovered?.id) ?? null;
    this.#redraw(pictureChanged);
  }

  choose(id) {
    this.#chosen = id;
    this.#redraw();
  }

  set pointing(value) {
    this.#pointing = value;
    this.#stage.style.cursor = value ? "crosshair" : "";
    this.#hover(null);
  }

  draft(draft) {
    this.#draft = draft;
    this.#redraw();
  }

  fit() {
    this.#zoom = 1;
    this.#pan = [0, 0];
    this.#redraw(true);
  }

  zoomBy(factor, at = [this.#stage.clientWidth / 2, this.#stage.clientHeight / 2]) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, this.#zoom * factor));
    const centre = [this.#stage.clientWidth / 2, this.#stage.clientHeight / 2];
    this.#pan = this.#pan.map((value, n) => (value - (at[n] - centre[n])) * (zoom / this.#zoom) + (at[n] - centre[n]));
    this.#zoom = zoom;
    if (zoom === 1) this.#pan = [0, 0];
    this.#redraw(true);
  }

  /** CSS pixels per pixel of the frame, and where the frame's corner lies. */
  get #placement() {
    const { width, height } = this.#scene.frame;
    const fitted = Math.min(this.#stage.clientWidth / width, this.#stage.clientHeight / height);
    const scale = fitted * this.#zoom;
    return {
      scale,
      left: (this.#stage.clientWidth - width * scale) / 2 + this.#pan[0],
      top: (this.#stage.clientHeight - height * scale) / 2 + this.#pan[1],
    };
  }

  #redraw(picture = false) {
    this.pictureStale ||= picture;
    cancelAnimationFrame(this.#frameRequest);
    this.#frameRequest = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    if (!this.#scene) return;
    const ratio = window.devicePixelRatio || 1;
    const size = [Math.round(this.#stage.clientWidth * ratio), Math.round(this.#stage.clientHeight * ratio)];
    for (const canvas of [this.#picture, this.#overlay]) {
      if (canvas.width !== size[0] || canvas.height !== size[1]) {
        [canvas.width, canvas.height] = size;
        this.pictureStale = true;
      }
    }
    if (this.pictureStale) this.#drawPicture(ratio);
    this.pictureStale = false;
    this.#drawOverlay(ratio);
  }

  #drawPicture(ratio) {
    const context = this.#picture.getContext("2d");
    const { scale, left, top } = this.#placement;
    const { frame, image, haze } = this.#scene;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#picture.width, this.#picture.height);
    context.setTransform(ratio, 0, 0, ratio, left * ratio, top * ratio);
    context.imageSmoothingEnabled = scale * ratio < 3;
    context.imageSmoothingQuality = "high";
    if (image) context.drawImage(image, 0, 0, frame.width * scale, frame.height * scale);
    if (haze) {
      // The picture steps back, and what is uncertain shines through: black adds nothing.
      context.fillStyle = `rgb(7 9 12 / ${0.55 * haze.opacity})`;
      context.fillRect(0, 0, frame.width * scale, frame.height * scale);
      context.imageSmoothingEnabled = true;
      context.globalCompositeOperation = "screen";
      context.globalAlpha = haze.opacity;
      context.drawImage(haze.image, 0, 0, frame.width * scale, frame.height * scale);
      context.globalAlpha = 1;
      context.globalCompositeOperation = "source-over";
    }
  }

  #drawOverlay(ratio) {
    const context = this.#overlay.getContext("2d");
    const { scale, left, top } = this.#placement;
    const { detections, show, view, camera } = this.#scene;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#overlay.width, this.#overlay.height);
    context.setTransform(ratio, 0, 0, ratio, left * ratio, top * ratio);
    const eye = view === "right" ? "right" : "left";
    const dimmed = Boolean(this.#draft) || (this.#chosen !== null && detections.some((item) => item.id === this.#chosen));
    for (const item of detections) {
      context.globalAlpha = dimmed && item.id !== this.#chosen ? 0.35 : 1;
      if (show.masks && item.mask && item.camera === eye) this.#drawMask(context, item, scale);
    }
    for (const item of detections) {
      const strong = item.id === this.#chosen || item === this.#hovered;
      context.globalAlpha = dimmed && !strong ? 0.4 : 1;
      if (show.boxes3d && item.box_3d && camera) drawBox3d(context, item, this.#scene, scale, strong);
      if (show.boxes && item.camera === eye) drawBox(context, item, scale, strong, show.boxes3d && item.box_3d);
    }
    if (show.labels) {
      for (const item of detections) {
        const strong = item.id === this.#chosen || item === this.#hovered;
        context.globalAlpha = dimmed && !strong ? 0.25 : 1;
        if (item.camera === eye) drawLabel(context, item, scale, strong);
      }
    }
    context.globalAlpha = 1;
    if (eye === "left") this.#drawDraft(context, scale);
  }

  #drawDraft(context, scale) {
    const { mask, points, labels, box, paint } = this.#draft ?? {};
    if (mask) this.#drawMask(context, { mask, paint }, scale);
    const drawn = this.#drag?.box ?? box;
    if (drawn) {
      const [x, y, width, height] = drawn.map((value) => value * scale);
      context.lineWidth = 3;
      context.strokeStyle = "rgb(0 0 0 / 0.55)";
      context.strokeRect(x, y, width, height);
      context.setLineDash([6, 4]);
      context.lineWidth = 1.5;
      context.strokeStyle = "#fff";
      context.strokeRect(x, y, width, height);
      context.setLineDash([]);
    }
    points?.forEach(([x, y], n) => {
      context.beginPath();
      context.arc(x * scale, y * scale, 5, 0, 2 * Math.PI);
      context.fillStyle = labels[n] ? "#2fbf71" : "#e5484d";
      context.fill();
      context.lineWidth = 2;
      context.strokeStyle = "#fff";
      context.stroke();
    });
  }

  /** Where in the frame an event of the pointer is, in its pixels, within it. */
  #place(event) {
    const outer = this.#stage.getBoundingClientRect();
    const { scale, left, top } = this.#placement;
    const { width, height } = this.#scene.frame;
    const within = (value, most) => Math.max(0, Math.min(most - 0.01, value));
    return [within((event.clientX - outer.left - left) / scale, width), within((event.clientY - outer.top - top) / scale, height)];
  }

  #pixels(item) {
    let known = this.#masks.get(item.mask);
    if (!known) {
      known = { pixels: decodeMask(item.mask), painted: new Map() };
      this.#masks.set(item.mask, known);
    }
    return known;
  }

  #drawMask(context, item, scale) {
    const known = this.#pixels(item);
    // Over the map of uncertainty only outlines: a fill would give its colours another meaning.
    const look = this.#scene.haze ? { fill: 0 } : {};
    const key = [...item.paint, look.fill].join();
    if (!known.painted.has(key)) known.painted.set(key, paintMask(item.mask, known.pixels, item.paint, look));
    const [height, width] = item.mask.size;
    context.imageSmoothingEnabled = scale < 2;
    context.drawImage(known.painted.get(key), item.mask.left * scale, item.mask.top * scale, width * scale, height * scale);
  }

  /** The detection under a point of the stage: the smallest, masks before boxes. */
  #at(event) {
    if (!this.#scene || this.#scene.view === "right") return null;
    const box = this.#stage.getBoundingClientRect();
    const { scale, left, top } = this.#placement;
    const x = (event.clientX - box.left - left) / scale;
    const y = (event.clientY - box.top - top) / scale;
    const inBox = this.#scene.detections.filter(
      ({ bbox: [bx, by, bw, bh] }) => x >= bx && y >= by && x <= bx + bw && y <= by + bh,
    );
    const onMask = inBox.filter((item) => item.mask && covers(item.mask, this.#pixels(item).pixels, x, y));
    const area = ({ bbox }) => bbox[2] * bbox[3];
    return (onMask.length ? onMask : inBox).sort((a, b) => area(a) - area(b))[0] ?? null;
  }

  #hover(item) {
    if (item === this.#hovered) return;
    this.#hovered = item;
    this.#stage.style.cursor = item ? "pointer" : "";
    this.dispatchEvent(new CustomEvent("hover", { detail: item }));
    this.#redraw();
  }

  #onWheel(event) {
    if (!this.#scene) return;
    event.preventDefault();
    const box = this.#stage.getBoundingClientRect();
    this.zoomBy(Math.exp(-event.deltaY * 0.0015), [event.clientX - box.left, event.clientY - box.top]);
  }

  #onDown(event) {
    if (event.button > 1) return;
    this.#drag = { at: [event.clientX, event.clientY], pan: this.#pan, moved: false };
    if (this.#pointing && event.button === 0 && this.#scene) this.#drag.from = this.#place(event);
    this.#stage.setPointerCapture(event.pointerId);
  }

  #onMove(event) {
    if (!this.#drag) return this.#pointing ? undefined : this.#hover(this.#at(event));
    const moved = [event.clientX - this.#drag.at[0], event.clientY - this.#drag.at[1]];
    if (Math.hypot(...moved) > 4) this.#drag.moved = true;
    if (this.#drag.from) {
      if (this.#drag.moved) this.#drag.box = between(this.#drag.from, this.#place(event));
      this.#redraw();
    } else if (this.#drag.moved && this.#zoom > 1) {
      this.#pan = this.#drag.pan.map((value, n) => value + moved[n]);
      this.#stage.style.cursor = "grabbing";
      this.#redraw(true);
    }
  }

  #onUp(event) {
    const { from, box } = this.#drag ?? {};
    const clicked = this.#drag && !this.#drag.moved;
    this.#drag = null;
    this.#stage.style.cursor = this.#pointing ? "crosshair" : "";
    if (from) {
      if (clicked) this.dispatchEvent(new CustomEvent("point", { detail: { at: from, label: event.shiftKey ? 0 : 1 } }));
      else if (box?.[2] >= 2 && box[3] >= 2) this.dispatchEvent(new CustomEvent("box", { detail: box }));
      this.#redraw();
    } else if (clicked) this.dispatchEvent(new CustomEvent("choose", { detail: this.#at(event) }));
  }
}

/** [x, y, width, height] between two corners. */
const between = ([x1, y1], [x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2), Math.abs(x1 - x2), Math.abs(y1 - y2)];

/** `quiet`: there is a 3D box too, so the flat one only hints at its extent. */
function drawBox(context, { bbox, paint }, scale, strong, quiet) {
  const [x, y, width, height] = bbox.map((value) => value * scale);
  if (quiet && !strong) {
    context.lineWidth = 1;
    context.strokeStyle = css(paint, 0.75);
    context.strokeRect(x, y, width, height);
    return;
  }
  context.lineWidth = strong ? 3 : 1.75;
  context.strokeStyle = "rgb(0 0 0 / 0.45)";
  context.strokeRect(x - 1, y - 1, width + 2, height + 2);
  context.strokeStyle = css(paint);
  context.strokeRect(x, y, width, height);
}

function drawBox3d(context, { box_3d: box, paint }, { camera, view }, scale, strong) {
  const shift = view === "right" ? (camera.baseline ?? 0) : 0;
  const front = projectedFront(box, camera, shift);
  if (front) {
    context.beginPath();
    front.forEach(([u, v], n) => context[n ? "lineTo" : "moveTo"](u * scale, v * scale));
    context.closePath();
    context.fillStyle = css(paint, 0.16);
    context.fill();
  }
  context.beginPath();
  for (const [[u1, v1], [u2, v2]] of projectedEdges(box, camera, shift)) {
    context.moveTo(u1 * scale, v1 * scale);
    context.lineTo(u2 * scale, v2 * scale);
  }
  context.lineJoin = context.lineCap = "round";
  context.lineWidth = strong ? 4.5 : 3.5;
  context.strokeStyle = "rgb(0 0 0 / 0.4)";
  context.stroke();
  context.lineWidth = strong ? 2.5 : 1.6;
  context.strokeStyle = css(paint);
  context.stroke();
}

function drawLabel(context, item, scale, strong) {
  const [x, y] = item.bbox;
  const track = item.track_id === null ? "" : ` ${item.track_id}`;
  const text = `${item.class_name}${track}  ${Math.round(item.confidence * 100)}%`;
  context.font = `${strong ? 600 : 500} 11.5px system-ui, sans-serif`;
  const width = context.measureText(text).width + 10;
  const left = x * scale - 1;
  const top = Math.max(0, y * scale - 19);
  context.fillStyle = css(item.paint, strong ? 1 : 0.92);
  context.beginPath();
  context.roundRect(left, top, width, 17, 4);
  context.fill();
  context.fillStyle = inkOn(item.paint);
  context.textBaseline = "middle";
  context.fillText(text, left + 5, top + 9);
}
