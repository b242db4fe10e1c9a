/* The canvas: a frame with its masks, moved and magnified, and what tools draw on top. */

import { Overlay } from "./overlay.js";

const MAX_ZOOM = 40;
const MARGIN = 16;
/** Magnified this far by the user, pixels of the frame are shown as squares; a small video that is fitted stays smooth. */
const SHARP_FROM = 3;

export class View {
  #canvas;
  #context;
  #overlay;
  #picture = null;
  #map = null;
  #due = false;
  #fitted = true;
  scale = 1;
  #offset = { x: 0, y: 0 };

  /** `decorate(context, view)` draws the tool's marks, in pixels of the screen. */
  constructor(canvas, size, { store, decorate }) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.size = size;
    this.store = store;
    this.decorate = decorate;
    this.#overlay = new Overlay(size);
    new ResizeObserver(() => this.#resize()).observe(canvas.parentElement);
    store.watch(["project"], ({ project }) => {
      this.#overlay.colour(project.objects);
      if (this.#map) this.#overlay.draw(this.#map);
      this.redraw();
    });
    store.watch(["opacity", "hidden", "tool", "object", "brush"], () => this.redraw());
    this.#resize();
  }

  get map() {
    return this.#map;
  }

  show(picture, map) {
    this.#picture = picture;
    this.#map = map;
    this.#overlay.draw(map);
    this.redraw();
  }

  /** Draw an area of a map that has changed, if it is the one that is shown. */
  update(map, area) {
    if (map.frame !== this.#map?.frame) return;
    this.#map = map;
    this.#overlay.draw(map, area);
    this.redraw();
  }

  /** Draw again, once, with the next picture of the screen. */
  redraw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  /** Turn a place on the screen, relative to the canvas, into one in the frame. */
  toFrame({ x, y }) {
    return { x: (x - this.#offset.x) / this.scale, y: (y - this.#offset.y) / this.scale };
  }

  toScreen({ x, y }) {
    return { x: x * this.scale + this.#offset.x, y: y * this.scale + this.#offset.y };
  }

  /** Magnify around a place on the screen, or around the middle. */
  zoom(factor, at = { x: this.#canvas.clientWidth / 2, y: this.#canvas.clientHeight / 2 }) {
    const fixed = this.toFrame(at);
    this.scale = Math.min(MAX_ZOOM, Math.max(this.#fitScale() / 4, this.scale * factor));
    this.#offset = { x: at.x - fixed.x * this.scale, y: at.y - fixed.y * this.scale };
    this.#moved(false);
  }

  pan(x, y) {
    this.#offset = { x: this.#offset.x + x, y: this.#offset.y + y };
    this.#moved(false);
  }

  fit() {
    const { clientWidth, clientHeight } = this.#canvas;
    this.scale = this.#fitScale();
    this.#offset = {
      x: (clientWidth - this.size.width * this.scale) / 2,
      y: (clientHeight - this.size.height * this.scale) / 2,
    };
    this.#moved(true);
  }

  #fitScale() {
    const { clientWidth, clientHeight } = this.#canvas;
    const { width, height } = this.size;
    return Math.max(0.01, Math.min((clientWidth - 2 * MARGIN) / width, (clientHeight - 2 * MARGIN) / height));
  }

  #moved(fitted) {
    this.#fitted = fitted;
    this.store.set({ zoom: this.scale });
    this.redraw();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.#canvas;
    this.#canvas.width = Math.round(clientWidth * devicePixelRatio);
    this.#canvas.height = Math.round(clientHeight * devicePixelRatio);
    if (this.#fitted) this.fit();
    this.#draw();
  }

  #draw() {
    const context = this.#context;
    const { width, height } = this.size;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, this.#canvas.clientWidth, this.#canvas.clientHeight);
    if (!this.#picture) return;
    const { x, y } = this.#offset;
    const target = [x, y, width * this.scale, height * this.scale];
    context.imageSmoothingEnabled = this.#fitted || this.scale < SHARP_FROM;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#picture, ...target);
    const { opacity, hidden } = this.store.state;
    if (!hidden) {
      context.globalAlpha = opacity;
      context.imageSmoothingEnabled = this.scale < 1;
      context.drawImage(this.#overlay.canvas, ...target);
      context.globalAlpha = 1;
    }
    this.decorate(context, this);
  }
}
