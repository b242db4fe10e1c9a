/* Edits of a label map, as steps that can be undone and are saved. */

import { cutObject, difference, pasteObject, patch } from "./raster.js";

export class Edits {
  /**
   * `redraw(map, area)` shows a change, `visit(frame)` shows a frame, `reload()` shows it again, `ensure(id)` makes sure
   * that the project has an object.
   */
  constructor({ store, masks, saver, history, redraw, visit, reload, ensure }) {
    Object.assign(this, { store, masks, saver, history, redraw, visit, reload, ensure });
  }

  /** Begin to change a map; until `finish` or `cancel`, nothing else replaces it. */
  begin(map, id) {
    map.held = true;
    const before = map.ids.slice();
    if (!map.unsaved.size) map.base = before;
    return { map, id, before };
  }

  cancel({ map, before }) {
    map.ids.set(before);
    map.held = false;
    this.redraw(map);
  }

  /** Note what has changed, and save it. `extra` is undone and redone with it. Returns whether anything changed. */
  finish({ map, id, before }, extra = {}) {
    const change = difference(before, map.ids, map.width);
    map.held = false;
    if (!change) return false;
    this.ensure(id);
    const { frame } = map;
    const given = givenObjects(this.store.state.project, frame);
    // An object that lost pixels is saved too where its own mask was given, so that both agree.
    const ids = [id, ...[...change.ids].filter((other) => other !== id && given.has(other))];
    // A stroke that makes the mask of an object the user's own needs all of it to be done again: after it is undone, the
    // rest of that mask is what was followed, which may be gone by then.
    const whole = given.has(id) ? null : cutObject(map, id);
    // Undoing what was drawn first in a frame takes it back, unless there is more by now, as of another tab.
    const isAll = () => [...givenObjects(this.store.state.project, frame)].every((other) => ids.includes(other));
    const turn = async (from, to, { takeBack = false, object = null, more }) => {
      await this.visit(frame);
      const now = await this.masks.get(frame);
      if (!now.unsaved.size) now.base = now.ids.slice();
      patch(now, change.area, from, to);
      if (object) pasteObject(now, id, object);
      this.#save(now, ids, takeBack, object ? undefined : change.area);
      more?.();
    };
    this.history.add({
      undo: () => turn(change.after, change.before, { takeBack: given.size === 0 && isAll(), more: extra.undo }),
      redo: () => turn(change.before, change.after, { object: whole, more: extra.redo }),
    });
    this.#save(map, ids, false, change.area);
    return true;
  }

  /** Say that an object is not in a frame. */
  async absent(frame, id) {
    const map = await this.masks.get(frame);
    const edit = this.begin(map, id);
    for (let at = 0; at < map.ids.length; at++) if (map.ids[at] === id) map.ids[at] = 0;
    return this.finish(edit);
  }

  /** Take back all that was given for a frame. */
  async takeBack(frame) {
    const given = [...givenObjects(this.store.state.project, frame)];
    if (!given.length) return;
    const map = await this.masks.get(frame);
    const objects = given.map((id) => [id, cutObject(map, id)]);
    const redo = async () => {
      await this.visit(frame);
      const all = this.store.state.project.objects.map(({ id }) => id);
      this.saver.touch(await this.masks.get(frame), all, true);
      await this.saver.settle();
      await this.reload();
    };
    const undo = async () => {
      await this.visit(frame);
      const now = await this.masks.get(frame);
      if (!now.unsaved.size) now.base = now.ids.slice();
      for (const [id, object] of objects) pasteObject(now, id, object);
      this.#save(now, given, false);
    };
    await redo();
    this.history.add({ undo, redo });
  }

  #save(map, ids, takeBack, area) {
    const { project } = this.store.state;
    this.store.set({ project: withGiven(project, map.frame, takeBack ? [] : ids) });
    this.saver.touch(map, ids, takeBack);
    this.redraw(map, area);
  }
}

/** Return the ids of objects whose masks the user gave in a frame. */
export function givenObjects(project, frame) {
  if (project.first_masks.includes(frame)) return new Set(project.objects.filter(({ draft }) => !draft).map(({ id }) => id));
  return new Set(project.corrections[frame] ?? []);
}

/** Return the project as it will be when masks of a frame are saved; with no ids, when they are taken back. */
function withGiven(project, frame, ids) {
  const corrections = { ...project.corrections };
  if (!ids.length) {
    delete corrections[frame];
    return { ...project, corrections, first_masks: project.first_masks.filter((first) => first !== frame) };
  }
  if (!project.first_masks.includes(frame)) corrections[frame] = [...new Set([...(corrections[frame] ?? []), ...ids])];
  return { ...project, corrections };
}
