/* The next useful thing to do, in one sentence. */

import { givenObjects } from "./edits.js";

export function advice({ state, data, following, uncertain }) {
  const { project, frame, job, tool, online, refusal, saveProblem } = state;
  if (!online || saveProblem) {
    const problem = refusal ? refusal[0].toUpperCase() + refusal.slice(1) : "The server does not answer";
    return `${problem}. What you draw is kept here, and saved as soon as it is back.`;
  }
  if (following) {
    const at = job.frame === null ? "" : ` Frame ${job.frame} is done.`;
    return `Following.${at} Stop (F) when a mask goes wrong, correct it, and follow again.`;
  }
  const selected = project.objects.find(({ id }) => id === state.object);
  const given = project.first_masks.length + Object.keys(project.corrections).length;
  if (!given && !data.done) return "Draw a box around the first object, or paint it.";
  if (selected.draft) return `Draw a box around ${selected.name}, or paint it.`;
  if (!data.done || data.done <= given)
    return tool === "box" || tool === "points"
      ? "Refine with points (P): click on what is missing, right-click what is too much. Then follow (F)."
      : "Paint until the object is covered. Add others with N. Then follow (F).";
  if (givenObjects(project, frame).size && !data.masked[frame + 1] && frame < state.last)
    return "Follow (F) to go on from here.";
  if (givenObjects(project, frame).size) return "Drawn by you. Follow (F) to do the frames that it reaches again.";
  if (!data.masked[frame]) return "No masks here yet. Follow (F) to get here, or draw the object.";
  if (data.isUnsure(frame, project.objects.map(({ id }) => id)))
    return "The network is unsure here. Correct the mask if it is wrong, then follow again (F).";
  if (uncertain !== null) return "Play (Space), or go to uncertain frames (U). Correct what is wrong, then follow again (F).";
  return "Look through the masks (Space). Correct what is wrong, then follow again (F). Export (X) when done.";
}
