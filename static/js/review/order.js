/** The way through the frames when it is not that of time: the least sure first, fetched page by page. */

import { api } from "../api.js";

export class UncertainOrder {
  #jobId;
  #frames = []; // [{sequence, number, uncertainty}]
  #next;
  #place = -1;

  constructor(jobId) {
    this.#jobId = jobId;
    this.#next = `jobs/${jobId}/frames?${new URLSearchParams({ ordering: "-uncertainty", page_size: 100 })}`;
  }

  /** "3 least sure", for the page. */
  get place() {
    return this.#place + 1;
  }

  /** The frame `by` places on (or back); null at either end. */
  async step(by) {
    const wanted = Math.max(0, this.#place + by);
    while (wanted >= this.#frames.length && this.#next) {
      const { results, next } = await api(this.#next);
      this.#frames.push(...results.map(({ sequence, number, uncertainty }) => ({ sequence, number, uncertainty })));
      this.#next = next && new URL(next).pathname + new URL(next).search;
    }
    if (!this.#frames.length || wanted === this.#place) return null;
    this.#place = Math.min(wanted, this.#frames.length - 1);
    return this.#frames[this.#place];
  }
}
