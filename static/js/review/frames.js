/** Frames of a job, fetched in chunks and kept; images of the neighbours fetched ahead. */

import { api } from "../api.js";

export const CHUNK = 20;
const KEPT_CHUNKS = 24;
const KEPT_IMAGES = 48;

export class FrameStore {
  #chunks = new Map(); // "sequence:chunk" → Promise of frames
  #ready = new Map(); // "sequence:number" → frame
  #images = new Map(); // address → Promise of an image
  #jobId;

  constructor(jobId) {
    this.#jobId = jobId;
  }

  /** The frame, if it is here already. */
  peek(sequence, number) {
    return this.#ready.get(`${sequence.id}:${number}`);
  }

  async frame(sequence, number) {
    await this.#chunk(sequence, Math.floor(number / CHUNK));
    return this.peek(sequence, number);
  }

  /** Put a detection that was changed in the place of what is here of it. */
  replace(frame, detection) {
    const at = frame.detections.findIndex((item) => item.id === detection.id);
    frame.detections.splice(at < 0 ? frame.detections.length : at, at < 0 ? 0 : 1, detection);
  }

  remove(frame, { id }) {
    frame.detections = frame.detections.filter((item) => item.id !== id);
  }

  /** Have the frames from `first` to `last` fetched; resolves once all are here. */
  range(sequence, first, last) {
    const wanted = [];
    const end = Math.min(last, sequence.frame_count - 1);
    for (let chunk = Math.floor(Math.max(0, first) / CHUNK); chunk * CHUNK <= end; chunk++) {
      wanted.push(this.#chunk(sequence, chunk));
    }
    return Promise.all(wanted);
  }

  #chunk(sequence, chunk) {
    const key = `${sequence.id}:${chunk}`;
    let frames = this.#chunks.get(key);
    if (frames) {
      this.#chunks.delete(key); // put it at the end: the least recently used goes first
    } else {
      frames = this.#fetch(sequence, chunk).catch((error) => {
        this.#chunks.delete(key);
        throw error;
      });
    }
    this.#chunks.set(key, frames);
    if (this.#chunks.size > KEPT_CHUNKS) this.#forget(this.#chunks.keys().next().value);
    return frames;
  }

  async #fetch(sequence, chunk) {
    const query = new URLSearchParams({ sequence: sequence.id, start: chunk * CHUNK, count: CHUNK });
    const { results } = await api(`jobs/${this.#jobId}/frames/batch?${query}`);
    for (const frame of results) this.#ready.set(`${sequence.id}:${frame.number}`, frame);
    return results;
  }

  #forget(key) {
    this.#chunks.delete(key);
    const [sequence, chunk] = key.split(":");
    for (let number = chunk * CHUNK; number < (Number(chunk) + 1) * CHUNK; number++) {
      this.#ready.delete(`${sequence}:${number}`);
    }
  }

  /** The decoded image at `address`. */
  image(address) {
    let image = this.#images.get(address);
    if (image) {
      this.#images.delete(address);
    } else {
      const element = new Image();
      element.decoding = "async";
      element.src = address;
      image = element.decode().then(() => element);
      image.catch(() => this.#images.delete(address));
    }
    this.#images.set(address, image);
    if (this.#images.size > KEPT_IMAGES) this.#images.delete(this.#images.keys().next().value);
    return image;
  }

  /** Fetch what a step forward or back will want. */
  prefetch(sequence, number, view, direction = 1) {
    for (const step of [1, 2, 3, -1]) {
      const next = number + step * direction;
      if (next < 0 || next >= sequence.frame_count) continue;
      this.frame(sequence, next)
        .then((frame) => frame?.media[view] && this.image(frame.media[view]))
        .catch(() => {});
    }
  }
}
