/* Box: drag around an object, and a prompter finds its outline. A click selects the object that is there. */

import { clipped } from "../raster.js";
import { outline } from "./brush.js";

const MIN_SIDE = 3;

export class BoxTool {
  sticky = true;
  #from = null;
  #to = null;

  constructor({ store, view, hints, notices }) {
    Object.assign(this, { store, view, hints, notices });
  }

  down(point) {
    this.#from = point;
    this.#to = point;
  }

  move(point) {
    if (!this.#from) return;
    this.#to = point;
    this.view.redraw();
  }

  up() {
    if (!this.#from) return;
    const { map } = this.view;
    const { x0, y0, x1, y1 } = clipped(this.#box(), map);
    this.cancel();
    if (x1 - x0 >= MIN_SIDE && y1 - y0 >= MIN_SIDE) this.hints.box([x0, y0, x1, y1]);
    else if (x0 < map.width && y0 < map.height && map.ids[y0 * map.width + x0])
      this.store.set({ object: map.ids[y0 * map.width + x0] });
    else this.notices.show("Drag from one corner of the object to the opposite one: that is its box.");
  }

  cancel() {
    const begun = this.#from !== null;
    this.#from = null;
    this.view.redraw();
    return begun;
  }

  draw(context, view, cursor) {
    this.hints.draw(context, view);
    if (this.#from) {
      const { x0, y0, x1, y1 } = this.#box();
      drawBox(context, view, [x0, y0, x1, y1]);
    } else if (cursor) {
      drawCross(context, view, cursor);
    }
  }

  #box() {
    const [a, b] = [this.#from, this.#to];
    return { x0: Math.min(a.x, b.x), y0: Math.min(a.y, b.y), x1: Math.max(a.x, b.x), y1: Math.max(a.y, b.y) };
  }
}

export function drawBox(context, view, [x0, y0, x1, y1]) {
  const from = view.toScreen({ x: x0, y: y0 });
  const to = view.toScreen({ x: x1, y: y1 });
  context.beginPath();
  context.rect(from.x, from.y, to.x - from.x, to.y - from.y);
  context.setLineDash([6, 4]);
  outline(context);
  context.setLineDash([]);
}

/** Lines through the cursor, by which the sides of a box are placed. */
function drawCross(context, view, cursor) {
  const { x, y } = view.toScreen(cursor);
  const from = view.toScreen({ x: 0, y: 0 });
  const to = view.toScreen({ x: view.size.width, y: view.size.height });
  if (x < from.x || y < from.y || x > to.x || y > to.y) return;
  context.beginPath();
  context.moveTo(from.x, y);
  context.lineTo(to.x, y);
  context.moveTo(x, from.y);
  context.lineTo(x, to.y);
  context.lineWidth = 1;
  context.strokeStyle = "rgb(255 255 255 / 45%)";
  context.stroke();
}
