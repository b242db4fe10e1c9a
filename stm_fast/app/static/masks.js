/* Label maps by frame: fetched when they are looked at, kept while there is room, and until they are saved. */

import { Cache } from "./cache.js";
import { decodeIds } from "./png.js";

const MAX_BYTES = 128e6;

export class Masks {
  #api;
  #size;
  #entries;
  #loading = new Map();
  #outdated = new Set();

  constructor(api, { width, height }) {
    this.#api = api;
    this.#size = { width, height };
    const capacity = Math.max(8, Math.floor(MAX_BYTES / (width * height)));
    this.#entries = new Cache(capacity, { pinned: isEdited });
  }

  /**
   * Return the map of a frame if it is here: its ids, width, height and frame; the etag of what the server has; `unsaved`
   * objects, the ids before they were changed as `base`, the number of changes as `version`, whether to `takeBack` what
   * was given; whether it is `held` by a tool, and `stale` because the server has another one.
   */
  peek(frame) {
    return this.#entries.get(frame);
  }

  /** Return the map of a frame; what is painted on it and not saved yet is kept. */
  get(frame) {
    const map = this.peek(frame);
    if (map && (!map.stale || isEdited(map))) return Promise.resolve(map);
    if (!this.#loading.has(frame))
      this.#loading.set(
        frame,
        this.#load(frame).finally(() => this.#loading.delete(frame)),
      );
    return this.#loading.get(frame);
  }

  prefetch(frames) {
    for (const frame of frames) this.get(frame).catch(() => {});
  }

  /**
   * Note that the server has other masks of the frames from `from` to the one before `to`. One that is edited here stays,
   * for its saving to look at.
   */
  changed(from, to) {
    for (const frame of this.#entries.keys()) if (frame >= from && frame < to) this.#entries.get(frame).stale = true;
    for (const frame of this.#loading.keys()) if (frame >= from && frame < to) this.#outdated.add(frame);
  }

  /** Fetch what the server has of a frame: {ids, etag}. */
  async stored(frame) {
    const { buffer, etag } = await this.#api.mask(frame);
    const { width, height } = this.#size;
    if (!buffer) return { ids: new Uint8Array(width * height), etag };
    const picture = await decodeIds(buffer);
    if (picture.width !== width || picture.height !== height)
      throw new Error(`Its mask is ${picture.width}×${picture.height}, the video is ${width}×${height}.`);
    return { ids: picture.ids, etag };
  }

  async #load(frame) {
    let stored;
    do {
      this.#outdated.delete(frame);
      stored = await this.stored(frame);
    } while (this.#outdated.has(frame));
    const now = this.peek(frame);
    if (now && (isEdited(now) || now.etag === stored.etag)) {
      now.stale = now.etag !== stored.etag;
      return now;
    }
    const fresh = { unsaved: new Set(), base: null, version: 0, takeBack: false, held: false, stale: false };
    const map = { ...stored, ...this.#size, frame, ...fresh };
    this.#entries.set(frame, map);
    return map;
  }
}

function isEdited(map) {
  return map.held || map.unsaved.size > 0;
}
