/** The scene from above, in the left camera's axes: boxes, where they look, and where their tracks have been. */

import { css } from "./colors.js";
import { footprint, groundPoint } from "./geometry.js";

const RANGES = [2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 65, 80, 120];

export class BirdsEye extends EventTarget {
  #canvas;
  #scene = null; // {camera, detections: [{box_3d, track_id, paint}], trails: Map(track → [[right, ahead], …])}
  #chosen = null;
  #shapes = [];
  #range = 5;

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
    canvas.addEventListener("click", (event) => {
      const hit = this.#shapes.find(({ path }) => this.#hit(path, event));
      this.dispatchEvent(new CustomEvent("choose", { detail: hit?.item ?? null }));
    });
    new MutationObserver(() => this.#draw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  show(scene) {
    this.#scene = scene;
    this.#draw();
  }

  choose(id) {
    this.#chosen = id;
    this.#draw();
  }

  #hit(path, event) {
    const box = this.#canvas.getBoundingClientRect();
    const ratio = this.#canvas.width / box.width;
    const context = this.#canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    return context.isPointInPath(path, (event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio);
  }

  /** Metres ahead that are shown: all boxes fit, and the scale does not jump about with each frame. */
  #fit() {
    const farthest = Math.max(1, ...this.#scene.detections.map(({ box_3d: b }) => Math.hypot(...groundPoint(b)) + 0.5));
    const needed = RANGES.find((range) => range >= farthest) ?? RANGES.at(-1);
    if (needed > this.#range || farthest < this.#range * 0.45) this.#range = needed;
    return this.#range;
  }

  #draw() {
    if (!this.#scene || !this.#canvas.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.#canvas.clientWidth, this.#canvas.clientHeight];
    this.#canvas.width = width * ratio;
    this.#canvas.height = height * ratio;
    const context = this.#canvas.getContext("2d");
    const style = getComputedStyle(this.#canvas);
    const color = (name) => style.getPropertyValue(name).trim();
    const range = this.#fit();
    const scale = (height - 34) / range;
    const place = ([x, z]) => [width / 2 + x * scale, height - 20 - z * scale];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);

    this.#drawView(context, place, scale, range, color);
    this.#drawTrails(context, place);
    this.#shapes = [];
    for (const item of this.#scene.detections) this.#drawBox(context, place, item, ratio);
    this.#drawCamera(context, place, color);
  }

  #drawView(context, place, scale, range, color) {
    const { camera } = this.#scene;
    const [x0, y0] = place([0, 0]);
    const half = camera ? Math.atan2(camera.width / 2, camera.fx) : Math.PI / 4;
    context.beginPath();
    context.moveTo(x0, y0);
    context.arc(x0, y0, range * scale, -Math.PI / 2 - half, -Math.PI / 2 + half);
    context.closePath();
    const light = context.createRadialGradient(x0, y0, 0, x0, y0, range * scale);
    light.addColorStop(0, css([76, 195, 217], 0.2));
    light.addColorStop(1, css([76, 195, 217], 0.02));
    context.fillStyle = light;
    context.fill();
    const step = [0.5, 1, 2, 5, 10, 20, 40].find((value) => range / value <= 6);
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "left";
    context.lineWidth = 1;
    for (let metres = step; metres <= range + 1e-6; metres += step) {
      context.beginPath();
      context.arc(x0, y0, metres * scale, Math.PI, 2 * Math.PI);
      context.strokeStyle = color("--line-strong");
      context.globalAlpha = 0.6;
      context.stroke();
      context.globalAlpha = 1;
      context.fillStyle = color("--faint");
      context.fillText(`${metres} m`, x0 + 4, y0 - metres * scale - 3);
    }
  }

  #drawTrails(context, place) {
    context.lineCap = context.lineJoin = "round";
    for (const item of this.#scene.detections) {
      const trail = this.#scene.trails.get(item.track_id) ?? [];
      for (let n = 1; n < trail.length; n++) {
        context.beginPath();
        context.moveTo(...place(trail[n - 1]));
        context.lineTo(...place(trail[n]));
        context.strokeStyle = css(item.paint, 0.1 + 0.75 * (n / trail.length));
        context.lineWidth = 1 + 2 * (n / trail.length);
        context.stroke();
      }
    }
  }

  #drawBox(context, place, item, ratio) {
    const points = footprint(item.box_3d).map(place);
    const path = new Path2D();
    const hit = new Path2D();
    points.forEach(([x, y], n) => {
      path[n ? "lineTo" : "moveTo"](x, y);
      hit[n ? "lineTo" : "moveTo"](x * ratio, y * ratio);
    });
    path.closePath();
    hit.closePath();
    this.#shapes.unshift({ path: hit, item });
    const strong = item.id === this.#chosen;
    context.fillStyle = css(item.paint, strong ? 0.75 : 0.4);
    context.fill(path);
    context.strokeStyle = css(item.paint);
    context.lineWidth = strong ? 2.5 : 1.4;
    context.stroke(path);
    // Where it looks: from its middle through the middle of its front.
    const middle = [0, 1].map((n) => points.reduce((sum, point) => sum + point[n], 0) / 4);
    const front = [0, 1].map((n) => (points[0][n] + points[1][n]) / 2);
    context.beginPath();
    context.moveTo(...middle);
    context.lineTo(...front);
    context.stroke();
    if (item.track_id !== null) {
      context.font = "600 10px system-ui, sans-serif";
      context.textAlign = "center";
      context.fillStyle = css(item.paint);
      context.fillText(String(item.track_id), middle[0], Math.min(...points.map(([, y]) => y)) - 4);
    }
  }

  #drawCamera(context, place, color) {
    const [x, y] = place([0, 0]);
    context.fillStyle = color("--accent");
    context.beginPath();
    context.moveTo(x, y - 7);
    context.lineTo(x + 6, y + 6);
    context.lineTo(x - 6, y + 6);
    context.closePath();
    context.fill();
  }
}
