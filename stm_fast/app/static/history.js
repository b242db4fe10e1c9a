/* Undo and redo. A step is {frame, undo, redo}, whose functions may return promises. */

const MAX_STEPS = 200;

export class History {
  #store;
  #done = [];
  #undone = [];
  #turn = Promise.resolve();

  constructor(store) {
    this.#store = store;
  }

  /** Note a step that was made. */
  add(step) {
    this.#done.push(step);
    if (this.#done.length > MAX_STEPS) this.#done.shift();
    this.#undone = [];
    this.#show();
  }

  undo() {
    return this.#move("undo");
  }

  redo() {
    return this.#move("redo");
  }

  #move(way) {
    this.#turn = this.#turn.then(async () => {
      const [from, to] = way === "undo" ? [this.#done, this.#undone] : [this.#undone, this.#done];
      const step = from.pop();
      if (!step) return;
      await step[way]();
      to.push(step);
      this.#show();
    });
    return this.#turn;
  }

  #show() {
    this.#store.set({ canUndo: this.#done.length > 0, canRedo: this.#undone.length > 0 });
  }
}
