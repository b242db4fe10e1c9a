/* The next useful thing to do, in one sentence, for the tool at hand. */

import { givenObjects } from "./edits.js";

/** How a tool shows an object that has no mask yet. */
const SHOW = {
  box: (name) => `Draw a box around ${name}, or paint it.`,
  points: (name) => `Click on ${name}: its outline is found. More points refine it.`,
  brush: (name) => `Paint ${name}, or draw a box around it (R).`,
  eraser: (name) => `There is nothing of ${name} to erase yet. Draw a box around it (R), or paint it (B).`,
  polygon: (name) => `Click around ${name}, corner by corner.`,
};

/** How a tool changes the first masks. */
const REFINE = {
  box: "Refine with points (P): click on what is missing, right-click what is too much. Then follow (F).",
  points: "Click on what is missing; right-click, or Shift+click, what is too much. Then follow (F).",
  brush: "Paint what is missing; the right button erases. Add other objects with N. Then follow (F).",
  eraser: "Erase what is too much. Add other objects with N. Then follow (F).",
  polygon: "Click around what is missing, corner by corner. Add other objects with N. Then follow (F).",
};

export function advice({ state, data, following, uncertain }) {
  const { project, frame, job, tool, online, refusal, saveProblem, hidden } = state;
  if (!online || saveProblem) {
    const problem = refusal ? refusal[0].toUpperCase() + refusal.slice(1) : "The server does not answer";
    return `${problem}. What you paint is kept here, and saved as soon as it is back at this address.`;
  }
  if (following) {
    const at = job.frame === null ? "" : ` Frame ${job.frame} is done.`;
    return `Following.${at} Stop (F) when a mask goes wrong, correct it, and follow again.`;
  }
  if (hidden) return "Masks are hidden. Press H to show them.";
  const selected = project.objects.find(({ id }) => id === state.object);
  const given = project.first_masks.length + Object.keys(project.corrections).length;
  if (!given && !data.done) return SHOW[tool]("the first object");
  if (selected.draft) return SHOW[tool](selected.name);
  if (!data.done || data.done <= given) return REFINE[tool];
  if (givenObjects(project, frame).size && !data.masked[frame + 1] && frame < state.last)
    return "Follow (F) to go on from here.";
  if (givenObjects(project, frame).size) return "Drawn by you. Follow again (F): the frames that it changes are done anew.";
  if (!data.masked[frame]) return "No masks here yet. Follow (F) to get here, or draw the object.";
  if (data.isUnsure(frame, project.objects.map(({ id }) => id)))
    return "The network is unsure here. Correct the mask if it is wrong, then follow again (F).";
  if (uncertain !== null) return "Play (Space), or go to uncertain frames (U). Correct what is wrong, then follow again (F).";
  return "Look through the masks (Space). Correct what is wrong, then follow again (F). Export (X) when done.";
}
