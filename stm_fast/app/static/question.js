/* A question with two answers; resolves to true for "yes". Escape is "no". What loses nothing has the focus: `safe`. */

import { $ } from "./dom.js";

export function ask({ title, text, yes, no, safe = "no" }) {
  const dialog = $("question");
  $("question-title").textContent = title;
  $("question-text").textContent = text;
  $("question-yes").textContent = yes;
  $("question-no").textContent = no;
  dialog.returnValue = "no";
  dialog.showModal();
  $(safe === "yes" ? "question-yes" : "question-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
