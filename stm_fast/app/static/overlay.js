/* A label map as a picture: objects in their colours, with a clear outline. */

import { clipped } from "./raster.js";

const INSIDE = 110;
const OUTLINE = 255;

export class Overlay {
  #inside = new Uint32Array(256);
  #outline = new Uint32Array(256);

  constructor({ width, height }) {
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d");
  }

  /** Take colours and visibility from the objects. */
  colour(objects) {
    this.#inside.fill(0);
    this.#outline.fill(0);
    for (const { id, colour, visible } of objects) {
      if (!visible) continue;
      const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
      const pixel = (alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
      this.#inside[id] = pixel(INSIDE);
      this.#outline[id] = pixel(OUTLINE);
    }
  }

  /** Draw the part of a map in `area`, and one pixel around it, whose outline may have changed. */
  draw(map, area = { x0: 0, y0: 0, x1: map.width, y1: map.height }) {
    const { x0, y0, x1, y1 } = clipped({ x0: area.x0 - 1, y0: area.y0 - 1, x1: area.x1 + 1, y1: area.y1 + 1 }, map);
    if (x1 <= x0 || y1 <= y0) return;
    const { ids, width, height } = map;
    const part = new ImageData(x1 - x0, y1 - y0);
    const pixels = new Uint32Array(part.data.buffer);
    let index = 0;
    for (let y = y0; y < y1; y++)
      for (let x = x0; x < x1; x++, index++) {
        const at = y * width + x;
        const id = ids[at];
        if (!id) continue;
        const edge =
          (x > 0 && ids[at - 1] !== id) ||
          (x + 1 < width && ids[at + 1] !== id) ||
          (y > 0 && ids[at - width] !== id) ||
          (y + 1 < height && ids[at + width] !== id);
        pixels[index] = (edge ? this.#outline : this.#inside)[id];
      }
    this.context.putImageData(part, x0, y0);
  }
}
