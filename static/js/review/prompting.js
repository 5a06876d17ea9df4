/** Pointing at what no segmenter found: clicks and boxes go to the server, masks come back, one of them is taken. */

import { api } from "../api.js";

export class Prompting extends EventTarget {
  frame = null;
  points = [];
  labels = [];
  box = null;
  proposals = [];
  segmenter = "";
  asking = false;
  #shown = 0;
  #turn = 0; // counts requests: a late answer to an early click is dropped

  /** Whether something is pointed at. */
  get isOpen() {
    return this.points.length > 0 || this.box !== null;
  }

  /** The proposal that is shown, or null. */
  get proposal() {
    return this.proposals[this.#shown] ?? null;
  }

  get place() {
    return this.#shown + 1;
  }

  /** A click on the object (label 1) or beside it (0). */
  point(frame, [x, y], label) {
    this.#open(frame);
    this.points.push([x, y]);
    this.labels.push(label);
    return this.#ask();
  }

  /** A box [x, y, width, height] around it: begins anew. */
  around(frame, box) {
    this.clear();
    this.#open(frame);
    this.box = box;
    return this.#ask();
  }

  next() {
    if (this.proposals.length) this.#shown = (this.#shown + 1) % this.proposals.length;
    this.#tell();
  }

  clear() {
    this.#turn++;
    Object.assign(this, { frame: null, points: [], labels: [], box: null, proposals: [], asking: false });
    this.#shown = 0;
    this.#tell();
  }

  #open(frame) {
    if (this.frame !== frame) this.clear();
    this.frame = frame;
  }

  async #ask() {
    const mine = ++this.#turn;
    this.asking = true;
    this.#tell();
    try {
      const json = { points: this.points, labels: this.labels, box: this.box };
      const { proposals, segmenter } = await api(`frames/${this.frame.id}/masks`, { method: "POST", json });
      if (mine !== this.#turn) return;
      Object.assign(this, { proposals, segmenter });
      this.#shown = 0;
    } catch (error) {
      if (mine === this.#turn) this.dispatchEvent(new CustomEvent("failed", { detail: error }));
    } finally {
      if (mine === this.#turn) {
        this.asking = false;
        this.#tell();
      }
    }
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
