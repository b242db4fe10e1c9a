/* Brush and eraser: strokes on the selected object. The right button erases with either. */

import { strokeLine } from "../raster.js";

export class Brush {
  sticky = true;
  #edit = null;
  #last = null;
  #erases = false;

  constructor({ store, view, edits, notices }, { erases }) {
    Object.assign(this, { store, view, edits, notices, erases });
  }

  down(point, { secondary }) {
    this.#erases = this.erases || secondary;
    this.#edit = this.edits.begin(this.view.map, this.store.state.object);
    this.#last = point;
    this.#stroke(point);
  }

  move(point) {
    if (this.#edit) this.#stroke(point);
  }

  up() {
    if (this.#edit && !this.edits.finish(this.#edit) && this.#erases) this.#explain(this.#edit.id);
    this.#edit = null;
  }

  cancel() {
    if (!this.#edit) return false;
    this.edits.cancel(this.#edit);
    this.#edit = null;
    return true;
  }

  draw(context, view, cursor) {
    if (!cursor) return;
    const radius = Math.max(2, (this.store.state.brush / 2) * view.scale);
    const { x, y } = view.toScreen(cursor);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.setLineDash(this.erases ? [4, 3] : []);
    outline(context);
    context.setLineDash([]);
  }

  /** Say why nothing was erased. */
  #explain(id) {
    const { name } = this.store.state.project.objects.find((object) => object.id === id);
    this.notices.show(`${name} is not there: the eraser takes from the selected object alone.`);
  }

  #stroke(point) {
    const { map, id } = this.#edit;
    const paint = this.#erases ? (old) => (old === id ? 0 : old) : () => id;
    const area = strokeLine(map, this.#last, point, this.store.state.brush / 2, paint);
    this.#last = point;
    this.view.update(map, area);
  }
}

/** Stroke the path so that it is seen on light and on dark. */
export function outline(context, colour = "#fff") {
  context.lineWidth = 3;
  context.strokeStyle = "rgb(0 0 0 / 60%)";
  context.stroke();
  context.lineWidth = 1.5;
  context.strokeStyle = colour;
  context.stroke();
}
