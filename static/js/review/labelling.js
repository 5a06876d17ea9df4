/** What a person says of detections: a class confirmed or changed; taken back one by one. */

import { api } from "../api.js";

export class Labelling extends EventTarget {
  #done = []; // [{frame, id, before: {class_id, confirmed}, or null for what was added}], the last one last
  #sending = Promise.resolve();

  get canUndo() {
    return this.#done.length > 0;
  }

  /** Confirm `item` of `frame`, as `classId` if one is given. Gives the detection as it is now, or null if it stayed. */
  confirm(frame, item, classId = item.class_id) {
    const before = { class_id: item.class_id, confirmed: item.confirmed };
    return this.#send(async () => {
      const now = await this.#judge(frame, item, { class_id: classId, confirmed: true });
      if (now) this.#done.push({ frame, id: item.id, before });
      return now;
    });
  }

  /** Make a proposal an object of `frame`; gives it, or null if it was refused. */
  add(frame, { mask, quality }, segmenter, classId) {
    const json = { class_id: classId, mask, quality, segmenter };
    return this.#send(async () => {
      try {
        const made = await api(`frames/${frame.id}/detections`, { method: "POST", json, idempotencyKey: crypto.randomUUID() });
        this.#done.push({ frame, id: made.id, before: null });
        this.#tell("change", { frame, detection: made });
        return made;
      } catch (error) {
        this.#tell("refused", error);
        return null;
      }
    });
  }

  async #remove(frame, item) {
    try {
      await api(`detections/${item.id}`, { method: "DELETE", ifMatch: `"${item.version}"` });
      this.#tell("removed", { frame, detection: item });
    } catch (error) {
      this.#tell("refused", error);
    }
    return null;
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Take the last one back; gives {frame, detection}, or null if nothing is left of it or it has changed since. */
  undo() {
    return this.#send(async () => {
      const last = this.#done.pop();
      const item = last?.frame.detections.find(({ id }) => id === last.id);
      if (!item) return null;
      if (!last.before) return this.#remove(last.frame, item);
      const detection = await this.#judge(last.frame, item, last.before);
      return detection && { frame: last.frame, detection };
    });
  }

  /** One after the other: a quick second key must not overtake the first. */
  #send(call) {
    const sent = this.#sending.then(call);
    this.#sending = sent.catch(() => {}).then(() => this.dispatchEvent(new Event("settled")));
    return sent;
  }

  async #judge(frame, item, change) {
    // Read anew: an earlier call may have raised its version.
    const { version } = frame.detections.find(({ id }) => id === item.id) ?? item;
    try {
      const now = await api(`detections/${item.id}`, { method: "PATCH", ifMatch: `"${version}"`, json: change });
      this.#tell("change", { frame, detection: now });
      return now;
    } catch (error) {
      if (error.status === 412 && error.body.current) {
        this.#tell("change", { frame, detection: error.body.current });
      }
      this.#tell("refused", error);
      return null;
    }
  }
}

/** The key that gives a chosen object the class: its shortcut, else its number up to 9. */
export function classKeys(labels, taken = []) {
  const keys = new Map();
  for (const label of labels) {
    const shortcut = label.shortcut.toLowerCase();
    if (shortcut && !taken.includes(shortcut) && !keys.has(shortcut)) keys.set(shortcut, label.number);
  }
  for (const { number } of labels) {
    if (number <= 9 && !keys.has(String(number))) keys.set(String(number), number);
  }
  return keys;
}
