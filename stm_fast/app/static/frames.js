/* Pictures of frames, and of the timeline: fetched when they are looked at, a few ahead, the newest kept. */

import { Cache } from "./cache.js";

export class Pictures {
  #api;
  #path;
  #cache;
  #loading = new Map();

  /** `path(frame)` is the address of a picture; up to `capacity` of them are kept. */
  constructor(api, path, capacity) {
    this.#api = api;
    this.#path = path;
    this.#cache = new Cache(capacity, { drop: (picture) => picture.close() });
  }

  peek(frame) {
    return this.#cache.get(frame);
  }

  get(frame) {
    const picture = this.peek(frame);
    if (picture) return Promise.resolve(picture);
    if (!this.#loading.has(frame))
      this.#loading.set(
        frame,
        this.#load(frame).finally(() => this.#loading.delete(frame)),
      );
    return this.#loading.get(frame);
  }

  /** Fetch pictures ahead of need. */
  prefetch(frames) {
    for (const frame of frames) if (!this.#cache.has(frame)) this.get(frame).catch(() => {});
  }

  /** How many pictures are under way. */
  get waiting() {
    return this.#loading.size;
  }

  async #load(frame) {
    const picture = await createImageBitmap(await this.#api.picture(this.#path(frame)));
    this.#cache.set(frame, picture);
    return picture;
  }
}

/** How many pictures of a size fit into 256 MB. */
export function capacityFor({ width, height }) {
  return Math.max(12, Math.min(200, Math.floor(256e6 / (width * height * 4))));
}
