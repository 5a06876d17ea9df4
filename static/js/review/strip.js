/** The strip of thumbnails: only those in sight exist, however long the recording. */

import { css } from "./colors.js";

const ITEM = 116; // width of an item with its gap, CSS pixels

export class Strip extends EventTarget {
  #element;
  #track;
  #store;
  #sequence = null;
  #current = -1;
  #items = new Map();
  #pending = 0;

  constructor(element, store) {
    super();
    this.#element = element;
    this.#store = store;
    this.#track = document.createElement("div");
    this.#track.className = "strip-track";
    element.append(this.#track);
    element.addEventListener("scroll", () => this.#schedule(), { passive: true });
    new ResizeObserver(() => this.#schedule()).observe(element);
    element.addEventListener("wheel", (event) => {
      if (Math.abs(event.deltaY) <= Math.abs(event.deltaX)) return;
      event.preventDefault();
      element.scrollLeft += event.deltaY;
    }, { passive: false });
    this.#track.addEventListener("click", (event) => {
      const item = event.target.closest("[data-number]");
      if (item) this.dispatchEvent(new CustomEvent("go", { detail: Number(item.dataset.number) }));
    });
  }

  show(sequence, number) {
    if (sequence !== this.#sequence) {
      this.#sequence = sequence;
      this.#track.replaceChildren();
      this.#items.clear();
      this.#track.style.width = `${sequence.frame_count * ITEM}px`;
    }
    this.#items.get(this.#current)?.removeAttribute("aria-current");
    this.#current = number;
    this.#items.get(number)?.setAttribute("aria-current", "true");
    const left = number * ITEM;
    const { scrollLeft, clientWidth } = this.#element;
    if (left < scrollLeft + ITEM || left > scrollLeft + clientWidth - 2 * ITEM) {
      this.#element.scrollLeft = left - clientWidth / 2 + ITEM / 2;
    }
    this.#schedule();
  }

  #schedule() {
    cancelAnimationFrame(this.#pending);
    this.#pending = requestAnimationFrame(() => this.#fill());
  }

  #fill() {
    if (!this.#sequence) return;
    const first = Math.max(0, Math.floor(this.#element.scrollLeft / ITEM) - 2);
    const last = Math.min(this.#sequence.frame_count - 1, first + Math.ceil(this.#element.clientWidth / ITEM) + 4);
    for (const [number, item] of this.#items) {
      if (number < first || number > last) {
        item.remove();
        this.#items.delete(number);
      }
    }
    for (let number = first; number <= last; number++) {
      if (!this.#items.has(number)) this.#items.set(number, this.#make(number));
    }
    const sequence = this.#sequence;
    this.#store.range(sequence, first, last).then(() => {
      if (sequence !== this.#sequence) return;
      for (const [number, item] of this.#items) this.#dress(item, this.#store.peek(sequence, number));
    }).catch(() => {});
  }

  #make(number) {
    const item = document.createElement("button");
    item.type = "button";
    item.tabIndex = -1;
    item.className = "strip-item";
    item.dataset.number = number;
    item.style.transform = `translateX(${number * ITEM}px)`;
    item.setAttribute("aria-label", `Frame ${number}`);
    if (number === this.#current) item.setAttribute("aria-current", "true");
    const caption = document.createElement("span");
    caption.textContent = number;
    item.append(caption);
    this.#track.append(item);
    return item;
  }

  #dress(item, frame) {
    if (!frame || item.dataset.dressed) return;
    item.dataset.dressed = "true";
    const image = document.createElement("img");
    image.alt = "";
    image.loading = "lazy";
    image.src = frame.media.thumbnail;
    const dots = document.createElement("i");
    for (const detection of frame.detections.slice(0, 14)) {
      const dot = document.createElement("b");
      dot.style.background = css(this.paint(detection));
      dots.append(dot);
    }
    item.prepend(image);
    item.append(dots);
    if (frame.uncertainty !== null) {
      const bar = document.createElement("u"); // full where a tenth of the picture is a toss-up
      bar.style.setProperty("--share", `${Math.min(100, frame.uncertainty * 1000)}%`);
      item.append(bar);
      item.title = `Uncertainty ${(frame.uncertainty * 100).toFixed(1)}%`;
    }
  }

  /** [r, g, b] of a detection; set by the page. */
  paint = () => [160, 160, 160];

  repaint() {
    for (const [number, item] of this.#items) {
      const frame = this.#store.peek(this.#sequence, number);
      const dots = item.querySelectorAll("b");
      frame?.detections.slice(0, dots.length).forEach((detection, n) => {
        dots[n].style.background = css(this.paint(detection));
      });
    }
  }
}
