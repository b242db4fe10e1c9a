/* Messages to the user, in a corner of the canvas. Errors stay until they are closed. */

import { element } from "./dom.js";

const SECONDS = 8;
const MAX_SHOWN = 4;

export class Notices {
  constructor(list) {
    this.list = list;
  }

  /** Show a sentence; `kind` is "info" or "error". Shown again, it counts as one. */
  show(text, kind = "info") {
    for (const old of this.list.children) if (old.dataset.text === text) old.remove();
    const close = element("button", { type: "button", className: "quiet", ariaLabel: "Close message", textContent: "×" });
    const note = element("div", { className: `notice ${kind}`, role: kind === "error" ? "alert" : "status" });
    note.dataset.text = text;
    note.append(element("p", { textContent: text }), close);
    close.onclick = () => note.remove();
    this.list.append(note);
    while (this.list.children.length > MAX_SHOWN) this.list.firstChild.remove();
    if (kind !== "error") setTimeout(() => note.remove(), 1000 * SECONDS);
  }
}
