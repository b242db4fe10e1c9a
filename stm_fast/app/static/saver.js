/* Saves strokes in the background, frame after frame, and tries again while the server does not answer. */

import { CONFLICT, OFFLINE } from "./api.js";
import { encodeIds } from "./png.js";

const RETRY_MS = 1500;
/** Status after the server was started again, until its new address is opened. */
const FORBIDDEN = 403;

export class Saver {
  #frames = new Set();
  #running = null;

  /** `ask(frame)` says whether to keep this tab's strokes where another tab has changed the frame: a promise of true or false. */
  constructor({ api, masks, store, notices, refresh, ask, redraw }) {
    Object.assign(this, { api, masks, store, notices, refresh, ask, redraw });
  }

  /** Note that objects of a map have changed, and save them soon; or take back all that was given for its frame. */
  touch(map, ids, takeBack = false) {
    map.version++;
    map.takeBack = takeBack;
    for (const id of ids) map.unsaved.add(id);
    this.#frames.add(map);
    this.#count();
    this.settle().catch(() => {});
  }

  /** Return a promise that resolves once all is saved, or cannot be saved now. */
  settle() {
    this.#running ??= this.#work().finally(() => (this.#running = null));
    return this.#running;
  }

  async #work() {
    while (this.#frames.size) {
      const [map] = this.#frames;
      try {
        await this.api.inTurn(() => this.#save(map));
        this.store.set({ saveProblem: "" });
      } catch (error) {
        if (error.status === OFFLINE || error.status === FORBIDDEN || error.status >= 500) {
          this.store.set({ saveProblem: error.message });
          setTimeout(() => this.settle().catch(() => {}), RETRY_MS);
          throw error;
        }
        await this.#giveUp(map, error);
      }
      this.#count();
      // What is drawn while the project is fetched is saved by the next turn of this loop.
      if (!this.#frames.size) await this.api.inTurn(this.refresh).catch(() => {});
    }
  }

  async #save(map) {
    const objects = [...map.unsaved];
    const { version, takeBack } = map;
    if (map.stale && !(await this.#agree(map))) return;
    const sent = map.ids.slice();
    const body = takeBack ? undefined : await encodeIds(sent, map.width, map.height);
    const path = `masks/${map.frame}${takeBack ? "" : `?objects=${objects.join(",")}`}`;
    let answer;
    try {
      answer = await this.api.changeNow(takeBack ? "DELETE" : "PUT", path, body);
    } catch (error) {
      if (error.status !== CONFLICT) throw error;
      await this.refresh();
      map.stale = true;
      return;
    }
    // What is there after masks were taken back is for the next look at the frame to find out.
    map.etag = takeBack ? null : answer.headers.get("ETag");
    map.stale = takeBack;
    map.base = takeBack ? null : sent;
    if (map.version === version) {
      map.unsaved.clear();
      this.#frames.delete(map);
    }
  }

  /** After a change elsewhere: go on if it left these objects alone, else let the user decide. */
  async #agree(map) {
    const theirs = await this.masks.stored(map.frame);
    map.stale = false;
    if (theirs.etag === map.etag) return true;
    map.etag = theirs.etag;
    const safe = map.base && alike(map.base, theirs.ids, map.unsaved);
    if (safe || (await this.ask(map.frame))) merge(map, theirs.ids);
    else this.#replace(map, theirs.ids);
    this.redraw(map);
    return map.unsaved.size > 0;
  }

  async #giveUp(map, error) {
    this.notices.show(`Frame ${map.frame} was not saved: ${error.message}`, "error");
    try {
      const stored = await this.masks.stored(map.frame);
      map.etag = stored.etag;
      this.#replace(map, stored.ids);
      this.redraw(map);
    } catch {
      this.#frames.delete(map);
    }
  }

  #replace(map, ids) {
    map.ids.set(ids);
    map.version++;
    map.unsaved.clear();
    this.#frames.delete(map);
  }

  #count() {
    this.store.set({ unsaved: this.#frames.size });
  }
}

/** Whether objects are in the same places in two label maps. */
function alike(a, b, objects) {
  return a.every((id, at) => id === b[at] || (!objects.has(id) && !objects.has(b[at])));
}

/** Take from `theirs` all but the objects that this tab has changed. */
function merge(map, theirs) {
  for (let at = 0; at < map.ids.length; at++)
    if (!map.unsaved.has(map.ids[at])) map.ids[at] = map.unsaved.has(theirs[at]) ? 0 : theirs[at];
}
