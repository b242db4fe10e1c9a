/* Boxes and points of the object in this frame, and the masks that a prompter makes of them. */

import { decodeIds } from "./png.js";
import { placeObject } from "./raster.js";
import { drawBox } from "./tools/box.js";

/** A point that changes less than this share of an object leaves the user wondering whether it did anything. */
const LITTLE = 0.02;
const NONE = { box: null, points: [], version: null };

export class Hints {
  #given = new Map();
  #turn = Promise.resolve();

  constructor({ api, store, view, masks, edits, saver, notices }) {
    Object.assign(this, { api, store, view, masks, edits, saver, notices });
    store.watch(["shown"], () => this.#given.clear());
  }

  /** Take the object to be what is in a box, whatever was known of it. */
  box(box) {
    return this.#next((known) => ({ ...NONE, box, correct: false, version: known.version }));
  }

  /** Add a point [x, y, on the object]. It corrects a mask that points alone did not make. */
  point(point) {
    return this.#next((known, map, id) => {
      const fromPoints = known.box === null && known.version === map.version;
      const correct = !fromPoints && map.ids.includes(id);
      return { box: known.box, points: [...known.points, point], correct };
    });
  }

  draw(context, view) {
    const { shown, object } = this.store.state;
    const { box, points } = this.#of(shown, object);
    if (box) drawBox(context, view, box);
    for (const [x, y, on] of points) drawPoint(context, view.toScreen({ x: x + 0.5, y: y + 0.5 }), on);
  }

  #of(frame, id) {
    return this.#given.get(`${frame}:${id}`) ?? NONE;
  }

  #put(frame, id, hints) {
    this.#given.set(`${frame}:${id}`, hints);
    this.view.redraw();
  }

  #next(change) {
    const { map } = this.view;
    const id = this.store.state.object;
    this.#turn = this.#turn.then(() => this.#find(map.frame, id, change)).catch(() => {});
    return this.#turn;
  }

  async #find(frame, id, change) {
    const { map } = this.view;
    if (map.frame !== frame) return;
    const before = this.#of(frame, id);
    const wanted = change(before, map, id);
    if (!wanted.correct && !wanted.box && !wanted.points.some(([, , on]) => on)) {
      this.notices.show("First click on the object, then beside it.");
      return;
    }
    this.#put(frame, id, wanted);
    this.store.set({ busy: "Finding the outline…" });
    try {
      if (wanted.correct) await this.saver.settle();
      const mask = await this.#ask(frame, id, wanted);
      this.#place(await this.masks.get(frame), id, mask, before, wanted);
    } catch (error) {
      this.#put(frame, id, before);
      this.notices.show(error.message, "error");
    } finally {
      this.store.set({ busy: "" });
    }
  }

  async #ask(frame, object, { box, points, correct }) {
    const hints = { frame, object, box: correct ? null : box, points, correct, prompter: this.store.state.prompter };
    return (await decodeIds(await this.api.hint(hints))).ids;
  }

  #place(map, id, mask, before, wanted) {
    if (!mask.includes(1) && !wanted.correct) {
      this.#put(map.frame, id, before);
      this.notices.show("Nothing was found there. Draw the box closer around the object, or paint it.");
      return;
    }
    const edit = this.edits.begin(map, id);
    const size = map.ids.reduce((sum, each) => sum + (each === id), 0);
    placeObject(map, id, mask);
    const show = (hints) => () => this.#put(map.frame, id, hints);
    const changed = this.edits.finish(edit, { undo: show(before), redo: show(wanted) });
    this.#put(map.frame, id, { ...wanted, version: map.version });
    if (!changed && wanted.correct) this.notices.show("The mask is right at this point already; nothing has changed.");
    else if (wanted.points.length > before.points.length && differing(edit.before, map.ids) < LITTLE * size)
      this.notices.show("That point changed little. Draw the box again, closer around the object, or paint (B) and erase (E).");
  }
}

function differing(a, b) {
  return a.reduce((sum, id, at) => sum + (id !== b[at]), 0);
}

function drawPoint(context, { x, y }, on) {
  context.beginPath();
  context.arc(x, y, 7, 0, 2 * Math.PI);
  context.fillStyle = on ? "#1d8f4e" : "#c22f3d";
  context.fill();
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.stroke();
  context.beginPath();
  context.moveTo(x - 3.5, y);
  context.lineTo(x + 3.5, y);
  if (on) {
    context.moveTo(x, y - 3.5);
    context.lineTo(x, y + 3.5);
  }
  context.lineWidth = 2;
  context.stroke();
}
