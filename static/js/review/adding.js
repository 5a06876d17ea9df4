/**
 * Adding what no segmenter found. While it is on, a drag is a box around the object and a click lies on it (with Shift
 * beside it); the mask proposed is drawn and, with Enter, becomes an object of the class that is set.
 */

import { hexColor } from "./colors.js";
import { Prompting } from "./prompting.js";

const $ = (selector) => document.querySelector(selector);

export class Adding extends EventTarget {
  isOn = false;
  #prompting = new Prompting();
  #labels;
  #labelling;
  #viewer;
  #number; // of the class of the next object

  /** `frame` gives the frame that is shown. */
  constructor({ labels, labelling, viewer, frame }) {
    super();
    [this.#labels, this.#labelling, this.#viewer] = [labels, labelling, viewer];
    this.#number = labels[0]?.number;
    viewer.addEventListener("point", ({ detail: { at, label } }) => this.#prompting.point(frame(), at, label));
    viewer.addEventListener("box", ({ detail }) => this.#prompting.around(frame(), detail));
    this.#prompting.addEventListener("change", () => this.isOn && this.render());
    this.#prompting.addEventListener("failed", ({ detail }) => this.dispatchEvent(new CustomEvent("failed", { detail })));
  }

  get hasSeveral() {
    return this.#prompting.proposals.length > 1;
  }

  set(isOn) {
    this.#prompting.clear();
    this.isOn = isOn;
    this.#viewer.pointing = isOn;
    this.#viewer.draft(null);
    $("#add").setAttribute("aria-pressed", String(isOn));
    $("#prompt-hint").hidden = !isOn;
    if (isOn) this.render();
  }

  setClass(number) {
    this.#number = number;
    this.render();
  }

  next() {
    this.#prompting.next();
  }

  /** Forget what is pointed at; false if nothing was. */
  clear() {
    const wasOpen = this.#prompting.isOpen;
    if (wasOpen) this.#prompting.clear();
    return wasOpen;
  }

  moveTo(frame) {
    if (this.#prompting.frame && this.#prompting.frame !== frame) this.#prompting.clear();
  }

  async accept() {
    const { frame, proposal, segmenter } = this.#prompting;
    if (!proposal) return;
    const made = await this.#labelling.add(frame, proposal, segmenter, this.#number);
    if (!made) return;
    this.#prompting.clear();
    this.dispatchEvent(new CustomEvent("added", { detail: made }));
  }

  /** The draft on the picture, the hint above it, the panel beside it. */
  render() {
    const label = this.#labels.find(({ number }) => number === this.#number);
    const { proposal, points, labels, box, isOpen, segmenter } = this.#prompting;
    this.#viewer.draft(isOpen ? { mask: proposal?.mask, points, labels, box, paint: hexColor(label.color) } : null);
    this.#hint(label);
    $("#chosen").hidden = false;
    $("#chosen-name").textContent = "New object";
    $("#chosen-badge").textContent = proposal ? segmenter : "nothing yet";
    $("#chosen-badge").dataset.kind = proposal ? "info" : "";
    $("#chosen-facts").replaceChildren();
    $("#confirm").disabled = !proposal;
    for (const button of document.querySelectorAll("[data-label]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.label) === this.#number));
    }
  }

  #hint(label) {
    const hint = $("#prompt-hint");
    const { proposal, proposals, place, asking, isOpen } = this.#prompting;
    hint.toggleAttribute("data-busy", asking);
    if (!isOpen) hint.textContent = `New ${label.name}: drag a box around it, or click on it. Esc leaves.`;
    else if (asking) hint.textContent = "Looking…";
    else if (!proposal) hint.textContent = "Nothing stands out there: draw a box, or click on it again.";
    else {
      const keys = [["Enter", "adds it"], ["1…9", "its class"], ["Esc", "away"], ["Shift+click", "not this"]];
      if (this.hasSeveral) keys.splice(2, 0, ["Tab", "another mask"]);
      const several = this.hasSeveral ? `, ${place} of ${proposals.length}` : "";
      hint.replaceChildren(`${label.name}, quality ${Math.round(proposal.quality * 100)}%${several}  `);
      for (const [key, what] of keys) {
        hint.append(Object.assign(document.createElement("kbd"), { textContent: key }), ` ${what}  `);
      }
    }
  }
}
