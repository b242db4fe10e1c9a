/* The pointer on the canvas, and a crosshair that keys move: both drive the tool, pan and zoom. */

const WHEEL = 0.0015;
const KEY_STEP = 12;

export class Pointer {
  cursor = null;
  #pressed = false;
  #panning = null;
  #spaceDown = false;
  #spacePanned = false;

  /** `tool()` is the tool at hand, or null while the frame that is wanted is not shown yet. */
  constructor(canvas, { view, tool, say }) {
    Object.assign(this, { canvas, view, tool, say });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => this.cancel());
    canvas.addEventListener("pointerleave", () => this.#leave());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  /** Space and dragging moves the frame; returns whether a Space that is released was used so. */
  space(down) {
    if (down && !this.#spaceDown) this.#spacePanned = false;
    this.#spaceDown = down;
    this.canvas.classList.toggle("pans", down);
    return this.#spacePanned;
  }

  /** Move the crosshair by steps, on the screen or, finely, in pixels of the frame. */
  nudge(x, y, fine) {
    const { width, height } = this.view.size;
    const step = fine ? 1 : KEY_STEP / this.view.scale;
    const from = this.cursor ?? { x: width / 2, y: height / 2 };
    this.cursor = {
      x: Math.min(width, Math.max(0, from.x + x * step)),
      y: Math.min(height, Math.max(0, from.y + y * step)),
    };
    this.tool()?.move(this.cursor);
    this.say(`${Math.floor(this.cursor.x)}, ${Math.floor(this.cursor.y)}`);
    this.view.redraw();
  }

  /** Press at the crosshair. Tools that drag are released by the next press. */
  press(beside) {
    const tool = this.tool();
    if (!this.cursor || !tool) return;
    if (this.#pressed) this.#release(this.cursor);
    else {
      this.#pressed = true;
      tool.down(this.cursor, { secondary: false, beside });
      if (!tool.sticky) this.#release(this.cursor);
    }
  }

  /** Give up what has begun; returns whether there was something. */
  cancel() {
    this.#pressed = false;
    this.#panning = null;
    return this.tool()?.cancel() ?? false;
  }

  #down(event) {
    this.canvas.focus({ preventScroll: true });
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.cursor = this.view.toFrame(place(event));
    if (event.button === 1 || this.#spaceDown) {
      this.#panning = place(event);
      this.#spacePanned ||= this.#spaceDown;
      return;
    }
    const tool = this.tool();
    if (!tool || this.#pressed) return;
    this.#pressed = true;
    tool.down(this.cursor, { secondary: event.button === 2, beside: event.shiftKey || event.altKey });
    this.view.redraw();
  }

  #move(event) {
    const at = place(event);
    if (this.#panning) {
      this.view.pan(at.x - this.#panning.x, at.y - this.#panning.y);
      this.#panning = at;
      return;
    }
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.tool()?.move(this.view.toFrame(place(each, this.canvas)));
    this.cursor = this.view.toFrame(at);
    this.view.redraw();
  }

  #up(event) {
    if (this.#panning) this.#panning = null;
    else if (this.#pressed) this.#release(this.view.toFrame(place(event)));
  }

  #release(point) {
    this.#pressed = false;
    this.tool()?.move(point);
    this.tool()?.up(point);
    this.view.redraw();
  }

  #leave() {
    if (this.#pressed) return;
    this.cursor = null;
    this.view.redraw();
  }

  #wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1);
    this.view.zoom(Math.exp(-pixels * WHEEL), place(event));
  }
}

function place(event, canvas = event.currentTarget) {
  const area = canvas.getBoundingClientRect();
  return { x: event.clientX - area.left, y: event.clientY - area.top };
}
