/* Areas and uncertainty of objects in each frame, fetched in parts. */

const PART = 2000;
const REFRESH_MS = 700;
const NEAR = 5;
const MIN_DOUBT = 1.5;

export class TimelineData {
  #api;
  #store;
  #areas = new Map();
  #uncertainty = new Map();
  #outdated = null;
  #doubts = { key: null, values: null };

  constructor(api, store, frames) {
    this.#api = api;
    this.#store = store;
    this.frames = frames;
    this.masked = new Uint8Array(frames);
  }

  /** Fetch everything, in the background. */
  async load() {
    for (let from = 0; from < this.frames; from += PART) await this.#fetch(from, Math.min(this.frames, from + PART));
  }

  /** Areas of an object by frame, as shares of the frame; NaN where nothing is known. */
  area(id) {
    return this.#row(this.#areas, id);
  }

  uncertainty(id) {
    return this.#row(this.#uncertainty, id);
  }

  /** Take the numbers of a frame from an event. */
  note(frame, areas, uncertainty) {
    this.masked[frame] = 1;
    for (const [id, area] of Object.entries(areas)) this.area(id)[frame] = area ?? NaN;
    for (const [id, unsure] of Object.entries(uncertainty)) this.uncertainty(id)[frame] = unsure ?? NaN;
    this.#changed();
  }

  /** Fetch frames from `from` to the one before `to` again, after a moment in which more may change. */
  refresh(from, to) {
    const known = this.#outdated;
    this.#outdated = known ? { from: Math.min(known.from, from), to: Math.max(known.to, to) } : { from, to };
    if (known) return;
    setTimeout(async () => {
      const { from: begin, to: end } = this.#outdated;
      this.#outdated = null;
      for (let at = begin; at < end; at += PART) await this.#fetch(at, Math.min(this.frames, end, at + PART));
    }, REFRESH_MS);
  }

  /**
   * Doubt by frame: the uncertainty of an object as a multiple of its median, the largest of the objects; NaN where it is
   * unknown. Uncertainty has no unit, and thin objects always have more of it: an object is compared with itself alone.
   */
  doubts(ids) {
    const key = `${this.#store.state.timeline} ${ids}`;
    if (this.#doubts.key !== key) this.#doubts = { key, values: this.#allDoubts(ids) };
    return this.#doubts.values;
  }

  /** Whether the doubt in a frame is well above what is usual. */
  isUnsure(frame, ids) {
    return this.doubts(ids)[frame] >= MIN_DOUBT;
  }

  /** Return the next frame, after `frame` and then from the beginning, whose doubt stands out; or null. */
  nextUncertain(frame, ids) {
    const values = this.doubts(ids);
    for (let step = 1; step < this.frames; step++) {
      const at = (frame + step) % this.frames;
      if (values[at] >= MIN_DOUBT && isPeak(values, at)) return at;
    }
    return null;
  }

  #allDoubts(ids) {
    const doubts = new Float32Array(this.frames).fill(NaN);
    for (const id of ids) {
      const row = this.uncertainty(id);
      const usual = median(row) || 1;
      row.forEach((value, at) => {
        if (!(value / usual <= doubts[at]) && !Number.isNaN(value)) doubts[at] = value / usual;
      });
    }
    return doubts;
  }

  get done() {
    return this.masked.reduce((sum, one) => sum + one, 0);
  }

  #row(rows, id) {
    const key = String(id);
    if (!rows.has(key)) rows.set(key, new Float32Array(this.frames).fill(NaN));
    return rows.get(key);
  }

  async #fetch(from, to) {
    let part;
    try {
      part = await this.#api.json(`timeline?from=${from}&to=${to}`);
    } catch {
      return; // offline: all is fetched again when the server is back
    }
    this.masked.set(part.masked, part.from);
    for (const [id, values] of Object.entries(part.areas)) this.area(id).set(values.map(number), part.from);
    for (const [id, values] of Object.entries(part.uncertainty)) this.uncertainty(id).set(values.map(number), part.from);
    this.#changed();
  }

  #changed() {
    this.#store.set({ timeline: this.#store.state.timeline + 1 });
  }
}

function number(value) {
  return value ?? NaN;
}

function median(values) {
  const known = values.filter((value) => !Number.isNaN(value)).sort();
  return known[known.length >> 1];
}

function isPeak(values, at) {
  for (let near = Math.max(0, at - NEAR); near <= Math.min(values.length - 1, at + NEAR); near++)
    if (values[near] > values[at] || (values[near] === values[at] && near < at)) return false;
  return true;
}
