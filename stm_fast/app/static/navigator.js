/* Which frame is shown. Scrubbing never waits: while one frame loads, only the last wanted one is next. */

const AHEAD = 8;
const MASKS_AHEAD = 3;
const AROUND = [1, -1, 2, -2, 3, -3];

export class Navigator {
  #turn = null;
  #fresh = false;

  constructor({ store, pictures, masks, notices, show }) {
    Object.assign(this, { store, pictures, masks, notices, show });
  }

  /** Show a frame; resolves once it is shown. */
  go(frame) {
    const { last } = this.store.state;
    const wanted = Math.max(0, Math.min(last, Math.round(frame)));
    this.store.set({ frame: wanted });
    this.#turn ??= this.#catchUp().finally(() => (this.#turn = null));
    return this.#turn;
  }

  step(by) {
    return this.go(this.store.state.frame + by);
  }

  /** Show the frame again, after its mask has changed. */
  reload() {
    this.#fresh = false;
    return this.go(this.store.state.frame);
  }

  async #catchUp() {
    while (!this.#fresh || this.store.state.shown !== this.store.state.frame) {
      const { frame } = this.store.state;
      this.#fresh = true;
      try {
        const [picture, map] = await Promise.all([this.pictures.get(frame), this.masks.get(frame)]);
        this.show(picture, map);
      } catch (error) {
        this.notices.show(`Frame ${frame} cannot be shown: ${error.message}`, "error");
        this.#fresh = false;
        return;
      }
      this.store.set({ shown: frame });
    }
    this.#prefetch();
  }

  #prefetch() {
    const { frame, last, playing, watching, job } = this.store.state;
    if (watching && job?.state === "running") return;
    const within = (near) => near >= 0 && near <= last;
    if (playing) {
      const frames = Array.from({ length: AHEAD }, (_, index) => frame + index + 1).filter(within);
      if (this.pictures.waiting < AHEAD) this.pictures.prefetch(frames);
      this.masks.prefetch(frames.slice(0, MASKS_AHEAD));
    } else this.#fetchAround(AROUND.map((offset) => frame + offset).filter(within));
  }

  /** Fetch frames one after the other, so that one that is wanted meanwhile waits for one of them at most. */
  async #fetchAround(frames) {
    const { frame } = this.store.state;
    for (const near of frames) {
      await Promise.allSettled([this.pictures.get(near), this.masks.get(near)]);
      if (this.store.state.frame !== frame) return;
    }
  }
}
