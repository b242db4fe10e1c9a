/* The export dialogue: formats, options, the files that were made. */

import { $, element } from "./dom.js";
import { isOver, takeAnswer } from "./jobs.js";

export class Exports {
  #isEmpty = false;

  constructor({ api, store, refresh }) {
    Object.assign(this, { api, store, refresh });
    $("export-format").onchange = () => this.#describe();
    $("export-go").onclick = () => this.#start();
    store.watch(["job"], ({ job }) => this.#showJob(job));
  }

  open() {
    const { exports } = this.store.state.project;
    const select = $("export-format");
    if (select.options.length !== exports.length)
      select.replaceChildren(...exports.map(({ name }) => element("option", { value: name, textContent: name })));
    this.#describe();
    $("export-state").textContent = $("export-frames").textContent = "";
    $("export").showModal();
    this.#list();
    this.#countFrames();
  }

  get #format() {
    return this.store.state.project.exports.find(({ name }) => name === $("export-format").value);
  }

  #describe() {
    const { about, takes } = this.#format;
    $("export-about").textContent = about.replaceAll("`", "");
    $("export-categories-label").hidden = !takes.includes("categories");
    $("export-images-label").hidden = !takes.includes("images");
  }

  #names() {
    const { objects } = this.store.state.project;
    return Object.fromEntries(objects.filter(({ draft }) => !draft).map(({ id, name }) => [id, name]));
  }

  async #start() {
    const { name, takes } = this.#format;
    const body = { format: name };
    if (takes.includes("categories")) body.categories = $("export-categories").checked ? this.#names() : {};
    if (takes.includes("images")) body.images = $("export-images").checked;
    try {
      const answer = await this.api.changeAnyway("POST", "export", body, this.refresh);
      takeAnswer(this.store, await answer.json());
    } catch (error) {
      $("export-state").textContent = error.message;
    }
  }

  #enable() {
    const { job } = this.store.state;
    $("export-go").disabled = this.#isEmpty || (job !== null && !isOver(job));
  }

  #showJob(job) {
    this.#enable();
    if (job?.kind !== "export") return;
    const share = job.total ? `: ${job.done} of ${job.total} frames` : "";
    $("export-state").textContent = {
      running: `Exporting${share}…`,
      stopping: "Stopping…",
      stopped: "Stopped.",
      done: "Done. The file is below.",
      failed: job.error,
    }[job.state];
    if (job.state === "done") this.#list();
  }

  /** Say which frames there are to export, unless it is all of them. */
  async #countFrames() {
    const { done, frames } = await this.api.json("project").catch(() => this.store.state.project);
    this.#isEmpty = !done;
    this.#enable();
    if (!done) $("export-frames").textContent = "There are no masks to export yet: follow an object first.";
    else if (frames === null || done < frames)
      $("export-frames").textContent = `${done}${frames === null ? "" : ` of ${frames}`} frames have masks; the others are left out.`;
  }

  async #list() {
    let files;
    try {
      files = await this.api.json("exports");
    } catch (error) {
      $("export-state").textContent = error.message;
      return;
    }
    const rows = files.map(({ name, bytes }) => {
      const address = `/api/exports/${encodeURIComponent(name)}`;
      return element("li", {}, element("a", { href: address, download: name, textContent: name }), ` ${size(bytes)}`);
    });
    $("export-files").replaceChildren(...(rows.length ? rows : [element("li", { className: "faint", textContent: "None yet." })]));
  }
}

function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let at = 0;
  for (; bytes >= 1000 && at < units.length - 1; at++) bytes /= 1000;
  return `${at ? bytes.toFixed(1) : bytes} ${units[at]}`;
}
