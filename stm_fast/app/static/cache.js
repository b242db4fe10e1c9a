/* The newest entries of a map, up to a number of them; an entry that is pinned stays. */

export class Cache {
  #entries = new Map();

  constructor(capacity, { pinned = () => false, drop = () => {} } = {}) {
    this.capacity = capacity;
    this.pinned = pinned;
    this.drop = drop;
  }

  get(key) {
    const entry = this.#entries.get(key);
    if (entry !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
    }
    return entry;
  }

  has(key) {
    return this.#entries.has(key);
  }

  set(key, entry) {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    for (const [old, value] of this.#entries) {
      if (this.#entries.size <= this.capacity) break;
      if (old !== key && !this.pinned(value)) this.delete(old);
    }
  }

  delete(key) {
    const entry = this.#entries.get(key);
    this.#entries.delete(key);
    if (entry !== undefined) this.drop(entry);
  }

  keys() {
    return [...this.#entries.keys()];
  }
}
