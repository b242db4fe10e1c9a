/* What the page knows, in one object; whoever shows a part of it is told when that part changes. */

export class Store {
  #state;
  #watchers = [];

  constructor(state) {
    this.#state = state;
  }

  get state() {
    return this.#state;
  }

  /** Change some keys, then tell those who watch one that is different now. */
  set(changes) {
    const changed = Object.keys(changes).filter((key) => this.#state[key] !== changes[key]);
    Object.assign(this.#state, changes);
    for (const { keys, show } of this.#watchers) if (keys.some((key) => changed.includes(key))) show(this.#state);
  }

  /** Call `show` now, and whenever one of the keys changes. */
  watch(keys, show) {
    this.#watchers.push({ keys, show });
    show(this.#state);
  }
}
