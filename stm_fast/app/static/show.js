/* The texts and buttons that show the state, and the inputs that change it. */

import { $, element } from "./dom.js";
import { givenObjects } from "./edits.js";
import { advice } from "./guide.js";
import { describe } from "./timeline_words.js";

const PLAY = "M7 4v16l13-8z";
const PAUSE = "M6 4h4v16H6zM14 4h4v16h-4z";

/** Keep the page as the state is; `go(frame)` shows a frame. */
export function showState(page, go) {
  const { store, data, follow } = page;
  document.title = `${store.state.project.video} · stm-fast`;
  $("video").textContent = store.state.project.video;
  showTools(store);
  showFrame(page, go);
  showOptions(store);
  store.watch(["unsaved", "saveProblem", "online"], ({ unsaved, saveProblem, online }) => {
    $("saved").textContent = saveProblem ? "Not saved" : unsaved ? "Saving…" : "All saved";
    $("saved").className = `saved ${saveProblem ? "problem" : unsaved || !online ? "saving" : ""}`;
  });
  addEventListener("beforeunload", (event) => store.state.unsaved && event.preventDefault());
  store.watch(["canUndo", "canRedo"], ({ canUndo, canRedo }) => {
    for (const [command, can] of [["undo", canUndo], ["redo", canRedo]])
      document.querySelector(`[data-command=${command}]`).disabled = !can;
  });
  const keys = ["unsaved", "project", "timeline", "frame", "job", "tool", "object", "hidden", "online", "refusal", "saveProblem"];
  store.watch(keys, (state) => {
    const text = advice({ state, data, following: follow.running, uncertain: follow.uncertain });
    if ($("guide").textContent !== text) $("guide").textContent = text;
    $("guide").className = state.online && !state.saveProblem ? "" : "problem";
  });
  store.watch(["busy"], ({ busy }) => {
    $("busy").hidden = !busy;
    $("busy").textContent = busy;
  });
}

function showTools(store) {
  const buttons = [...$("tools").children];
  for (const button of buttons) button.onclick = () => store.set({ tool: button.dataset.tool });
  $("tools").onkeydown = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    buttons[(buttons.indexOf(document.activeElement) + by + buttons.length) % buttons.length].focus();
  };
  store.watch(["tool"], ({ tool }) => {
    for (const button of buttons) {
      const chosen = button.dataset.tool === tool;
      button.setAttribute("aria-pressed", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    for (const option of document.querySelectorAll("[data-for]")) option.hidden = !option.dataset.for.split(" ").includes(tool);
    $("view").dataset.tool = tool;
  });
}

function showFrame({ store, data }, go) {
  const input = $("frame");
  input.max = store.state.last;
  $("last").textContent = `of ${store.state.last}`;
  input.onchange = () => go(Number(input.value));
  input.onkeydown = (event) => event.key === "Enter" && $("view").focus();
  $("timeline").ariaValueMax = String(store.state.last);
  store.watch(["shown"], ({ shown }) => ($("view").dataset.shown = shown));
  store.watch(["frame", "timeline", "project", "object", "playing"], (state) => {
    const { frame, playing, project, object } = state;
    const text = describe({ store, data });
    const name = project.objects.find(({ id }) => id === object)?.name;
    if (document.activeElement !== input || Number(input.value) !== frame) input.value = frame;
    $("frame-text").textContent = text;
    $("timeline").ariaValueNow = String(frame);
    $("timeline").ariaValueText = `Frame ${frame}: ${text}`;
    $("view").ariaLabel = `Frame ${frame} of ${state.last}: ${text}. Drawing ${name}. Keys: question mark.`;
    $("play").ariaLabel = playing ? "Pause" : "Play";
    $("play-icon").setAttribute("d", playing ? PAUSE : PLAY);
    const given = givenObjects(project, frame);
    const isHere = data.area(object)[frame] > 0 || givenObjects(project, frame).has(object);
    $("absent").hidden = !isHere;
    $("absent").textContent = `Mark ${name} as absent here`;
    $("here").hidden = !isHere && !givenObjects(project, frame).size;
    $("given").hidden = document.querySelector("[data-command=take-back]").hidden = !given.size;
    $("given").textContent = project.first_masks.includes(frame) ? "First mask, drawn by you" : "Corrected by you";
  });
}

function showOptions(store) {
  $("brush").oninput = () => store.set({ brush: Number($("brush").value) });
  $("opacity").oninput = () => store.set({ opacity: Number($("opacity").value) / 100 });
  $("prompter").onchange = () => store.set({ prompter: $("prompter").value });
  const { prompters } = store.state.project;
  $("prompter").replaceChildren(...prompters.map((name) => element("option", { value: name, textContent: name })));
  if (prompters.length < 2) $("prompter-label").dataset.for = "";
  store.watch(["brush", "opacity", "zoom"], ({ brush, opacity, zoom }) => {
    $("brush").value = brush;
    $("brush-size").textContent = `${brush} px`;
    $("opacity").value = Math.round(100 * opacity);
    $("zoom-level").textContent = `${Math.round(100 * zoom)} %`;
  });
}
