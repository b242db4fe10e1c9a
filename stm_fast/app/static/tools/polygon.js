/* Polygon: corners by clicks; a click on the first one, a double click or Enter fills it. */

import { fillPolygon } from "../raster.js";
import { outline } from "./brush.js";

const NEAR = 10;

export class Polygon {
  sticky = false;
  #corners = [];

  constructor({ store, view, edits }) {
    Object.assign(this, { store, view, edits });
  }

  down(point, { secondary }) {
    if (secondary) this.#corners.pop();
    else if (this.#corners.some((corner, index) => this.#near(corner, point) && [0, this.#corners.length - 1].includes(index)))
      this.close();
    else this.#corners.push(point);
    this.view.redraw();
  }

  move() {}

  up() {}

  /** Fill the polygon; returns whether there was one. */
  close() {
    const corners = this.#corners;
    if (corners.length < 3) return false;
    this.#corners = [];
    const { object } = this.store.state;
    const edit = this.edits.begin(this.view.map, object);
    fillPolygon(edit.map, corners, () => object);
    this.edits.finish(edit);
    return true;
  }

  cancel() {
    const begun = this.#corners.length > 0;
    this.#corners = [];
    this.view.redraw();
    return begun;
  }

  draw(context, view, cursor) {
    if (!this.#corners.length) return;
    const places = this.#corners.map((corner) => view.toScreen(corner));
    context.beginPath();
    for (const { x, y } of places) context.lineTo(x, y);
    if (cursor) context.lineTo(...Object.values(view.toScreen(cursor)));
    outline(context);
    places.forEach(({ x, y }, index) => {
      context.beginPath();
      context.arc(x, y, index ? 3 : 5, 0, 2 * Math.PI);
      context.fillStyle = "#fff";
      context.fill();
      outline(context);
    });
  }

  #near(a, b) {
    return Math.hypot(a.x - b.x, a.y - b.y) * this.view.scale < NEAR;
  }
}
