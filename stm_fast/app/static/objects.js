/* Objects: their names, colours and visibility, and which one is drawn. */

import { element } from "./dom.js";
import { ask } from "./question.js";

const MAX_OBJECTS = 254;
const COLOURS = ["#4aa3ff", "#ff8a3d", "#4fd07a", "#e85fb0", "#ffd23f", "#9b7bff", "#37d0d0", "#ff5c5c", "#a8d94a", "#c98a5b"];

export class Objects {
  #list;
  #rows = new Map();

  constructor(list, { api, store, notices, refresh }) {
    Object.assign(this, { api, store, notices, refresh });
    this.#list = list;
    store.watch(["project", "object"], () => this.#show());
    store.watch(["object"], ({ object }) => this.#rows.get(object)?.scrollIntoView({ block: "nearest" }));
  }

  /** Select an object by its place in the list, from 0. */
  selectAt(place) {
    const object = this.store.state.project.objects[place];
    if (object) this.store.set({ object: object.id });
  }

  /** Add an object and select it. The project has it once it is drawn or named. */
  add() {
    const { project } = this.store.state;
    const drafts = project.objects.filter(({ draft }) => draft);
    if (drafts.length) return this.store.set({ object: drafts[0].id });
    const made = newDraft(project);
    if (made.id > MAX_OBJECTS) return this.notices.show(`A project has at most ${MAX_OBJECTS} objects.`, "error");
    return this.store.set({ project: { ...project, objects: [...project.objects, made] }, object: made.id });
  }

  /** Make sure that the project has an object, before its mask is saved. */
  ensure(id) {
    if (this.#find(id).draft) this.#change(id, {});
  }

  toggle(id) {
    this.#change(id, { visible: !this.#find(id).visible });
  }

  rename(id, name) {
    if (name.trim() && name !== this.#find(id).name) this.#change(id, { name: name.trim() });
  }

  async remove(id) {
    const { name, draft: unsaved } = this.#find(id);
    if (unsaved) return this.#forget(id);
    const sure = await ask({
      title: `Delete ${name}?`,
      text: "Its masks are removed from all frames. This cannot be undone.",
      yes: "Delete",
      no: "Keep",
    });
    if (!sure) return undefined;
    try {
      await this.api.changeAnyway("DELETE", `objects/${id}`, undefined, this.refresh);
      await this.refresh();
    } catch (error) {
      this.notices.show(error.message, "error");
    }
    return undefined;
  }

  #forget(id) {
    const { project, object } = this.store.state;
    const objects = withDraft({ ...project, objects: project.objects.filter((each) => each.id !== id) });
    this.store.set({ project: { ...project, objects }, object: object === id ? objects[0].id : object });
  }

  #find(id) {
    return this.store.state.project.objects.find((object) => object.id === id);
  }

  async #change(id, changes) {
    const { project } = this.store.state;
    const { draft: _, ...object } = { ...this.#find(id), ...changes };
    this.store.set({ project: { ...project, objects: project.objects.map((each) => (each.id === id ? object : each)) } });
    const { name, colour, visible } = object;
    try {
      await this.api.changeAnyway("PUT", `objects/${id}`, { name, colour, visible }, this.refresh);
    } catch (error) {
      this.notices.show(`${name} was not changed: ${error.message}`, "error");
    }
  }

  #show() {
    const { project, object } = this.store.state;
    const ids = new Set(project.objects.map(({ id }) => id));
    for (const [id, row] of this.#rows) if (!ids.has(id)) this.#drop(id, row);
    project.objects.forEach((each, place) => {
      if (!this.#rows.has(each.id)) this.#rows.set(each.id, this.#row(each.id));
      const row = this.#rows.get(each.id);
      fill(row, each, place, each.id === object);
      if (this.#list.children[place] !== row) this.#list.insertBefore(row, this.#list.children[place] ?? null);
    });
  }

  #drop(id, row) {
    this.#rows.delete(id);
    row.remove();
  }

  #row(id) {
    const pick = button("pick", () => this.store.set({ object: id }));
    const swatch = element("input", { type: "color" });
    swatch.onchange = () => this.#change(id, { colour: swatch.value });
    const name = element("input", { type: "text", maxLength: 80 });
    name.onfocus = () => this.store.set({ object: id });
    name.onchange = () => this.rename(id, name.value);
    name.onkeydown = (event) => event.key === "Enter" && name.blur();
    const eye = button("quiet eye", () => this.toggle(id));
    const remove = button("quiet remove", () => this.remove(id));
    remove.textContent = "×";
    return element("li", {}, pick, swatch, name, eye, remove);
  }
}

function button(className, run) {
  const made = element("button", { type: "button", className });
  made.onclick = run;
  return made;
}

/** Show an object in its row; a name that is being typed is left alone. */
function fill(row, { id, name, colour, visible, draft: unsaved }, place, selected) {
  const [pick, swatch, label, eye, remove] = row.children;
  row.className = `${selected ? "selected" : ""} ${unsaved ? "draft" : ""}`;
  pick.textContent = place < 9 ? String(place + 1) : "·";
  pick.ariaLabel = `Draw ${name}`;
  pick.title = place < 9 ? `Draw ${name} (${place + 1})` : `Draw ${name}`;
  pick.setAttribute("aria-pressed", String(selected));
  swatch.value = colour;
  swatch.ariaLabel = swatch.title = `Colour of ${name}`;
  if (document.activeElement !== label) label.value = name;
  label.ariaLabel = `Name of object ${id}`;
  label.title = `${name}: click to rename`;
  eye.innerHTML = visible ? EYE : EYE_SHUT;
  eye.ariaLabel = `Show ${name}`;
  eye.title = visible ? "Shown; hide (V)" : "Hidden; show (V)";
  eye.setAttribute("aria-pressed", String(visible));
  remove.ariaLabel = remove.title = `Delete ${name}`;
}

/** Return the objects of a project with one to draw, if there is none yet. */
export function withDraft(project) {
  return project.objects.length ? project.objects : [newDraft(project)];
}

/** Return a new object. Ids of deleted ones are not used again: masks may still show them. */
function newDraft({ objects, deleted }) {
  const id = Math.max(0, ...deleted, ...objects.map((object) => object.id)) + 1;
  return { id, name: `Object ${id}`, colour: COLOURS[(id - 1) % COLOURS.length], visible: true, draft: true };
}

const EYE = icon('<path d="M2 12s4-7 10-7 10 7 10 7-4 7-10 7-10-7-10-7z"/><circle cx="12" cy="12" r="3"/>');
const EYE_SHUT = icon('<path d="M3 10c2 3 5 5 9 5s7-2 9-5M6 14l-2 3M12 15v4M18 14l2 3"/>');

function icon(paths) {
  return `<svg viewBox="0 0 24 24" aria-hidden="true">${paths}</svg>`;
}
