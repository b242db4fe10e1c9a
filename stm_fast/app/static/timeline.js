/* The timeline: thumbnails, marks of given frames, a strip per object, uncertainty as a curve. One canvas, whatever the length. */

const THUMBNAILS = 44;
const MARKS = 16;
const HALF_DIAMOND = 5.5;
const CURVE = 34;
const STRIP = 16;
const MAX_STRIPS = 8;
const OWNER = 4; // width of the colour at the left end of a strip, which says whose it is
const MIN_SPAN = 8;
const MIN_SCALE = 3; // the curve of uncertainty reaches up to this multiple of what is usual, or higher if it must

export class Timeline {
  #canvas;
  #context;
  #still = document.createElement("canvas");
  #from = 0;
  #span;
  #dragging = false;
  #due = false;
  #stillDue = true;
  #lacking = false;
  #unreadable = new Set();
  #panX = null;

  /** `go(frame)` shows a frame. */
  constructor(canvas, { store, data, thumbnails, size, go }) {
    Object.assign(this, { store, data, thumbnails, size, go });
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#span = Math.max(MIN_SPAN, data.frames);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", () => (this.#dragging = this.#panX = null));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    new ResizeObserver(() => this.redraw()).observe(canvas);
    store.watch(["project", "timeline", "theme", "object"], () => this.redraw());
    store.watch(["frame", "shown"], () => this.#moved());
    store.watch(["online"], () => this.#unreadable.clear());
  }

  /** Draw everything again. */
  redraw() {
    this.#stillDue = true;
    this.#plan();
  }

  #plan() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  /** Bring the current frame into sight, and draw it. */
  #moved() {
    const { frame, shown } = this.store.state;
    if (frame < this.#from || frame >= this.#from + this.#span) this.#look(frame - this.#span / 2, this.#span);
    if (this.#lacking && shown === frame) this.redraw();
    else this.#plan();
  }

  #look(from, span) {
    const most = Math.max(MIN_SPAN, this.data.frames);
    this.#span = Math.min(most, Math.max(MIN_SPAN, span));
    this.#from = Math.min(most - this.#span, Math.max(0, from));
    this.redraw();
  }

  #x(frame) {
    return ((frame - this.#from) / this.#span) * this.#canvas.clientWidth;
  }

  #frameAt(event) {
    const area = this.#canvas.getBoundingClientRect();
    const frame = Math.floor(this.#from + ((event.clientX - area.left) / area.width) * this.#span);
    return Math.max(0, Math.min(this.data.frames - 1, frame));
  }

  #down(event) {
    this.#canvas.focus({ preventScroll: true });
    this.#canvas.setPointerCapture(event.pointerId);
    if (event.button === 0) {
      this.#dragging = true;
      this.go(this.#frameAt(event));
    } else this.#panX = event.clientX;
  }

  #move(event) {
    this.#name(event);
    if (this.#dragging) this.go(this.#frameAt(event));
    if (this.#panX === null) return;
    this.#look(this.#from - ((event.clientX - this.#panX) / this.#canvas.clientWidth) * this.#span, this.#span);
    this.#panX = event.clientX;
  }

  #wheel(event) {
    event.preventDefault();
    const sideways = event.shiftKey ? event.deltaY : event.deltaX;
    if (Math.abs(sideways) > Math.abs(event.deltaY) || event.shiftKey) {
      this.#look(this.#from + (sideways / this.#canvas.clientWidth) * this.#span, this.#span);
      return;
    }
    const at = this.#frameAt(event);
    const factor = Math.exp(event.deltaY * 0.002);
    this.#look(at - (at - this.#from) * factor, this.#span * factor);
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width) return;
    const [w, h] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)];
    if (this.#canvas.width !== w || this.#canvas.height !== h) {
      this.#canvas.width = this.#still.width = w;
      this.#canvas.height = this.#still.height = h;
      this.#stillDue = true;
    }
    if (this.#stillDue) {
      this.#stillDue = false;
      this.#drawStill(this.#still.getContext("2d"), width, height);
    }
    const context = this.#context;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, w, h);
    context.drawImage(this.#still, 0, 0);
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    this.#drawPlayhead(context, height);
  }

  #drawStill(context, width, height) {
    const style = getComputedStyle(this.#canvas);
    const ink = (name) => style.getPropertyValue(name).trim();
    const { objects } = this.store.state.project;
    const strip = this.#stripHeight(height);
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#drawThumbnails(context, width, ink("--sunken"));
    this.#drawMarks(context, width, ink);
    objects.slice(0, MAX_STRIPS).forEach((object, row) => {
      this.#drawStrip(context, width, object, THUMBNAILS + MARKS + row * strip, strip - 2, ink("--sunken"));
    });
    this.#drawCurve(context, width, height - CURVE, ink);
  }

  /** Height of the strip of an object, with the gap below it. */
  #stripHeight(height) {
    const rows = Math.max(1, Math.min(MAX_STRIPS, this.store.state.project.objects.length));
    return Math.min(STRIP, (height - THUMBNAILS - MARKS - CURVE - 8) / rows);
  }

  /** Name the object whose strip is under the pointer. */
  #name(event) {
    const row = Math.floor((event.offsetY - THUMBNAILS - MARKS) / this.#stripHeight(this.#canvas.clientHeight));
    this.#canvas.title = this.store.state.project.objects.slice(0, MAX_STRIPS)[row]?.name ?? "";
  }

  /** Draw those that are here, and fetch one that is not: the next when it comes, and none while a frame is waited for. */
  #drawThumbnails(context, width, empty) {
    const step = (THUMBNAILS * this.size.width) / this.size.height + 2;
    const { frame: wanted, shown } = this.store.state;
    this.#lacking = false;
    for (let x = 0; x < width; x += step) {
      if (this.#from + (x / width) * this.#span >= this.data.frames) break;
      const middle = Math.min(x + step / 2, width - 1); // the last one is cut off at the edge
      const frame = Math.min(this.data.frames - 1, Math.floor(this.#from + (middle / width) * this.#span));
      const picture = this.thumbnails.peek(frame);
      if (picture) context.drawImage(picture, x, 0, step - 2, THUMBNAILS);
      else {
        context.fillStyle = empty;
        context.fillRect(x, 0, step - 2, THUMBNAILS);
        if (this.#unreadable.has(frame)) continue;
        if (!this.#lacking && !this.thumbnails.waiting && shown === wanted)
          this.thumbnails.get(frame).catch(() => this.#unreadable.add(frame)).then(() => this.redraw());
        this.#lacking = true;
      }
    }
  }

  #drawMarks(context, width, ink) {
    const { project } = this.store.state;
    const middle = THUMBNAILS + MARKS / 2;
    const given = [...project.first_masks, ...Object.keys(project.corrections).map(Number)];
    const marks = given.map((frame) => this.#x(frame + 0.5));
    const digits = String(this.data.frames).length;
    const step = niceStep((this.#span / width) * (digits * 10 + 40));
    context.font = `${0.75 * parseFloat(getComputedStyle(document.documentElement).fontSize)}px ${ink("--font")}`;
    context.textBaseline = "middle";
    context.fillStyle = ink("--faint");
    for (let frame = Math.ceil(this.#from / step) * step; frame < this.#from + this.#span; frame += step) {
      if (frame >= this.data.frames) break;
      const x = this.#x(frame);
      context.fillRect(x, THUMBNAILS + 3, 1, MARKS - 6);
      const end = x + 4 + context.measureText(String(frame)).width;
      const isFree = marks.every((mark) => mark + HALF_DIAMOND < x || mark - HALF_DIAMOND > end);
      if (isFree) context.fillText(String(frame), x + 4, middle);
    }
    for (const x of marks) {
      context.beginPath();
      context.moveTo(x, middle - HALF_DIAMOND);
      context.lineTo(x + HALF_DIAMOND, middle);
      context.lineTo(x, middle + HALF_DIAMOND);
      context.lineTo(x - HALF_DIAMOND, middle);
      context.closePath();
      context.fillStyle = ink("--accent");
      context.fill();
      context.lineWidth = 1.5;
      context.strokeStyle = ink("--panel");
      context.stroke();
    }
  }

  /** Where an object is; paler where it is small. */
  #drawStrip(context, width, { id, colour, visible }, y, height, empty) {
    const areas = this.data.area(id);
    context.fillStyle = empty;
    context.fillRect(0, y, Math.min(width, this.#x(this.data.frames)), height);
    context.fillStyle = colour;
    context.fillRect(0, y, OWNER, height);
    let largest = 0;
    for (const area of areas) if (area > largest) largest = area;
    this.#eachColumn(width, (x, size, from, to) => {
      let area = 0;
      for (let frame = from; frame < to; frame++) if (areas[frame] > area) area = areas[frame];
      if (!area) return;
      context.globalAlpha = (visible ? 1 : 0.35) * (0.45 + 0.55 * Math.sqrt(area / largest));
      context.fillRect(x, y, size, height);
    });
    context.globalAlpha = 1;
  }

  #drawCurve(context, width, top, ink) {
    const ids = this.store.state.project.objects.filter(({ visible }) => visible).map(({ id }) => id);
    const doubts = this.data.doubts(ids);
    const most = doubts.reduce((largest, value) => (value > largest ? value : largest), MIN_SCALE);
    context.fillStyle = ink("--line");
    context.fillRect(0, top + CURVE - 1, width, 1);
    context.fillStyle = ink("--warn");
    this.#eachColumn(width, (x, size, from, to) => {
      let value = 0;
      for (let frame = from; frame < to; frame++) value = Math.max(value, doubts[frame] || 0);
      const height = (value / most) * (CURVE - 4);
      if (height > 0) context.fillRect(x, top + CURVE - 1 - height, size, height);
    });
  }

  /** Call `draw(x, width, from, to)` for each column: of a frame, or of a pixel where frames are narrower. */
  #eachColumn(width, draw) {
    const perFrame = width / this.#span;
    const { frames } = this.data;
    if (perFrame >= 1) {
      const gap = perFrame > 6 ? 1 : 0;
      const last = Math.min(frames, Math.ceil(this.#from + this.#span));
      for (let frame = Math.floor(this.#from); frame < last; frame++)
        draw(this.#x(frame), perFrame - gap + (gap ? 0 : 0.5), frame, frame + 1);
      return;
    }
    for (let x = 0; x < width; x++) {
      const from = Math.floor(this.#from + x / perFrame);
      const to = Math.min(frames, Math.max(from + 1, Math.floor(this.#from + (x + 1) / perFrame)));
      if (from < frames) draw(x, 1, from, to);
    }
  }

  #drawPlayhead(context, height) {
    const { frame } = this.store.state;
    const x = this.#x(frame);
    const width = Math.max(2, this.#canvas.clientWidth / this.#span);
    const style = getComputedStyle(this.#canvas);
    context.fillStyle = style.getPropertyValue("--text");
    context.globalAlpha = 0.16;
    context.fillRect(x, 0, width, height);
    context.globalAlpha = 1;
    context.fillRect(x + width / 2 - 1, 0, 2, height);
  }
}

/** The smallest of 1, 2, 5, 10, 20, 50 ... that is not below a number. */
function niceStep(least) {
  let step = 1;
  for (let turn = 0; step < least; turn++) step *= turn % 3 === 1 ? 2.5 : 2;
  return step;
}
