/* All that can be done with a key, in the order of the help sheet. */

import { nextTheme } from "./theme.js";
import { togglePlay } from "./playback.js";
import { openHelp } from "./help.js";
import { givenObjects } from "./edits.js";

const LARGE_STEP = 10;
const ZOOM = 1.25;
const BRUSH = 1.2;

/** Return the commands. `page` has the parts of the page: store, navigator, view, pointer, tools, and so on. */
export function commandsOf(page) {
  const { store, navigator, view, pointer, history, objects, follow, edits } = page;
  const state = () => store.state;
  const commands = [];
  const add = (group, id, name, keys, run, repeats = false) => commands.push({ group, id, name, keys, run, repeats });

  const tool = (id, name, key) => add("Tools", `tool-${id}`, name, [key], () => store.set({ tool: id }));
  tool("box", "Box around an object", "r");
  tool("points", "Points on the object, and beside it", "p");
  tool("brush", "Brush", "b");
  tool("eraser", "Eraser", "e");
  tool("polygon", "Polygon", "g");
  const brush = (factor) => {
    const size = Math.round(state().brush * factor);
    store.set({ brush: Math.max(1, Math.min(200, size === state().brush ? size + Math.sign(factor - 1) : size)) });
  };
  add("Tools", "smaller", "Smaller brush", ["["], () => brush(1 / BRUSH), true);
  add("Tools", "larger", "Larger brush", ["]"], () => brush(BRUSH), true);
  add("Tools", "cancel", "Give up what has begun; stop following", ["Escape"], () => {
    if (!pointer.cancel() && follow.running) follow.stop();
  });
  add("Tools", "undo", "Undo", ["Ctrl+z"], () => history.undo());
  add("Tools", "redo", "Redo", ["Ctrl+Shift+z", "Ctrl+y"], () => history.redo());

  add("Objects", "new-object", "New object", ["n"], () => objects.add());
  for (let place = 0; place < 9; place++)
    add("Objects", `object-${place + 1}`, "Select an object of the list", [String(place + 1)], () => objects.selectAt(place));
  add("Objects", "visible", "Show or hide the selected object", ["v"], () => objects.toggle(state().object));
  add("Objects", "hide", "Show or hide all masks", ["h"], () => store.set({ hidden: !state().hidden }));
  add("Objects", "absent", "Mark the selected object as absent from this frame", ["Delete", "Backspace"], () =>
    edits.absent(state().shown, state().object),
  );
  add("Objects", "take-back", "Take back what you drew in this frame", ["Shift+Delete", "Shift+Backspace"], () =>
    edits.takeBack(state().shown),
  );

  add("Frames", "back", "Previous frame", ["ArrowLeft"], () => page.leave(() => navigator.step(-1)), true);
  add("Frames", "forth", "Next frame", ["ArrowRight"], () => page.leave(() => navigator.step(1)), true);
  add("Frames", "far-back", "10 frames back", ["Shift+ArrowLeft"], () => page.leave(() => navigator.step(-LARGE_STEP)), true);
  add("Frames", "far-forth", "10 frames forward", ["Shift+ArrowRight"], () => page.leave(() => navigator.step(LARGE_STEP)), true);
  add("Frames", "begin", "First frame", ["Home"], () => page.leave(() => navigator.go(0)));
  add("Frames", "end", "Last frame", ["End"], () => page.leave(() => navigator.go(state().last)));
  add("Frames", "play", "Play or pause", ["Space"], () => page.leave(() => togglePlay(page)));
  add("Frames", "jump", "Go to a frame by its number", ["j"], () => document.getElementById("frame").select());
  add("Frames", "next-given", "Next frame that you drew in", ["c"], () => page.goGiven(1));
  add("Frames", "previous-given", "Previous frame that you drew in", ["Shift+c"], () => page.goGiven(-1));
  add("Frames", "uncertain", "Next uncertain frame", ["u"], () => page.leave(() => follow.goUncertain()));

  add("Follow", "follow", "Follow, or stop", ["f"], () => follow.toggle());
  add("Follow", "direction", "Change the direction", ["Shift+f"], () => follow.turn());
  add("Follow", "export", "Export", ["x"], () => page.exports.open());

  add("View", "zoom-in", "Zoom in", ["+", "="], () => view.zoom(ZOOM), true);
  add("View", "zoom-out", "Zoom out", ["-"], () => view.zoom(1 / ZOOM), true);
  add("View", "fit", "Fit the frame", ["0"], () => view.fit());
  add("View", "theme", "Dark, light, or as the system has it", ["t"], () => nextTheme(store));
  add("View", "help", "This list", ["?"], () => openHelp(commands));

  const steps = [["w", 0, -1], ["a", -1, 0], ["s", 0, 1], ["d", 1, 0]];
  for (const [key, x, y] of steps) add("Crosshair", `nudge-${key}`, "Move the crosshair", [key], () => pointer.nudge(x, y, false), true);
  for (const [key, x, y] of steps)
    add("Crosshair", `fine-${key}`, "Move it by one pixel", [`Shift+${key}`], () => pointer.nudge(x, y, true), true);
  add("Crosshair", "press", "Press at the crosshair; drags end with the next press", ["Enter"], () => page.enter(false));
  add("Crosshair", "press-beside", "With points: beside the object. With polygon: fill it", ["Shift+Enter"], () => page.enter(true));
  return commands;
}

/** Return the next frame in a direction that the user drew in, or null. */
export function nextGiven(project, frame, direction) {
  const given = [...project.first_masks, ...Object.keys(project.corrections).map(Number)];
  const beyond = given.filter((each) => (each - frame) * direction > 0 && givenObjects(project, each).size);
  return beyond.length ? beyond.reduce((a, b) => (Math.abs(a - frame) < Math.abs(b - frame) ? a : b)) : null;
}
