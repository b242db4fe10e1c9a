/* Which frame is shown. Scrubbing never waits: while one frame loads, only the last wanted one is next. */

const AHEAD = 8;
const AROUND = 3;

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
    const offsets = playing
      ? Array.from({ length: AHEAD }, (_, index) => index + 1)
      : Array.from({ length: AROUND }, (_, index) => [index + 1, -index - 1]).flat();
    const frames = offsets.map((offset) => frame + offset).filter((near) => near >= 0 && near <= last);
    if (this.pictures.waiting < AHEAD) this.pictures.prefetch(frames);
    this.masks.prefetch(frames.slice(0, AROUND));
  }
}
