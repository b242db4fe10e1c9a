/* Puts the page together: state, parts, and what is shown of them. */

import { Api } from "./api.js";
import { commandsOf, nextGiven } from "./commands.js";
import { $, element } from "./dom.js";
import { Edits } from "./edits.js";
import { listen } from "./events.js";
import { Exports } from "./exports.js";
import { Follow } from "./follow.js";
import { capacityFor, Pictures } from "./frames.js";
import { Hints } from "./hints.js";
import { History } from "./history.js";
import { bindButtons, bindKeys } from "./keys.js";
import { Masks } from "./masks.js";
import { Navigator } from "./navigator.js";
import { Notices } from "./notices.js";
import { Objects, withDraft } from "./objects.js";
import { Pointer } from "./pointer.js";
import { ask } from "./question.js";
import { Saver } from "./saver.js";
import { showState } from "./show.js";
import { Store } from "./store.js";
import { reactTo } from "./sync.js";
import { savedTheme, startTheme } from "./theme.js";
import { Timeline } from "./timeline.js";
import { TimelineData } from "./timeline_data.js";
import { BoxTool } from "./tools/box.js";
import { Brush } from "./tools/brush.js";
import { Points } from "./tools/points.js";
import { Polygon } from "./tools/polygon.js";
import { View } from "./view.js";

const MAX_THUMBNAILS = 400;

async function start() {
  const api = new Api();
  const notices = new Notices($("notices"));
  let project;
  try {
    project = await api.project();
  } catch (error) {
    document.querySelector(".canvas").append(element("p", { className: "blocked", role: "alert", textContent: error.message }));
    return;
  }
  project = { ...project, objects: withDraft(project) };
  const size = { width: project.width, height: project.height };
  // Where the number of frames is not known, those are shown that have been reached.
  const frames = project.frames ?? Math.max(1, project.done);
  const store = new Store({
    project,
    last: frames - 1,
    frame: 0,
    shown: null,
    object: project.objects[0].id,
    tool: "box",
    brush: Math.max(4, Math.round(size.height / 20)),
    opacity: 0.8,
    hidden: false,
    zoom: 1,
    theme: savedTheme(),
    playing: false,
    job: project.job,
    watching: project.job !== null,
    direction: "forward",
    count: null,
    prompter: project.prompters[0] ?? null,
    busy: "",
    unsaved: 0,
    saveProblem: "",
    online: true,
    refusal: "",
    timeline: 0,
    canUndo: false,
    canRedo: false,
  });
  startTheme(store, $("theme-name"));

  const page = { api, store, notices, size };
  const pictures = new Pictures(api, (frame) => `frames/${frame}.jpg`, capacityFor(size));
  page.masks = new Masks(api, size);
  page.data = new TimelineData(api, store, frames);
  page.refresh = () => refresh(page);
  page.view = new View($("view"), size, { store, decorate: (context, view) => page.tool()?.draw(context, view, page.pointer.cursor) });
  page.navigator = new Navigator({ ...page, pictures, show: (picture, map) => page.view.show(picture, map) });
  page.history = new History(store);
  page.saver = new Saver({
    ...page,
    redraw: (map) => page.view.update(map),
    ask: (frame) =>
      ask({
        title: `Frame ${frame} was changed in another tab`,
        text: "What you drew here is not saved yet, and the other tab changed the same object.",
        yes: "Keep mine",
        no: "Take theirs",
        safe: "yes",
      }),
  });
  page.objects = new Objects($("objects"), page);
  page.edits = new Edits({
    ...page,
    redraw: (map, area) => page.view.update(map, area),
    visit: (frame) => (store.state.shown === frame ? undefined : page.navigator.go(frame)),
    reload: () => page.navigator.reload(),
    ensure: (id) => page.objects.ensure(id),
  });
  page.hints = new Hints(page);
  page.follow = new Follow(page);
  page.exports = new Exports(page);
  addTools(page);
  page.pointer = new Pointer($("view"), { view: page.view, tool: () => page.tool(), say: (text) => ($("spoken").textContent = text) });
  const go = (frame) => page.leave(() => page.navigator.go(frame));
  const thumbnails = new Pictures(api, (frame) => `thumbnails/${frame}.jpg`, MAX_THUMBNAILS);
  new Timeline($("timeline"), { ...page, thumbnails, go });
  addActions(page);

  const commands = commandsOf(page);
  bindButtons(commands, $("view"));
  bindKeys(commands, { space: (down) => page.pointer.space(down) });
  showState(page, go);
  listen(api.address("events"), reactTo(page));
  await page.navigator.go(project.first_masks[0] ?? 0);
  page.data.load();
}

/** Fetch the project; objects that are not drawn yet stay. */
async function refresh({ api, store }) {
  const { job } = store.state;
  const project = await api.project();
  const ids = new Set(project.objects.map(({ id }) => id));
  const drafts = store.state.project.objects.filter((object) => object.draft && !ids.has(object.id));
  const objects = withDraft({ ...project, objects: [...project.objects, ...drafts] });
  const known = objects.some(({ id }) => id === store.state.object);
  store.set({ project: { ...project, objects }, object: known ? store.state.object : objects[0].id });
  // What an event has told in the meantime is newer.
  if (store.state.job === job) store.set({ job: project.job });
}

function addTools(page) {
  const { store } = page;
  const tools = {
    box: new BoxTool(page),
    points: new Points(page),
    brush: new Brush(page, { erases: false }),
    eraser: new Brush(page, { erases: true }),
    polygon: new Polygon(page),
  };
  let last = tools[store.state.tool];
  // A tool works on the frame that is seen, and on none while another one is on its way.
  page.tool = () => (store.state.shown === store.state.frame ? tools[store.state.tool] : null);
  store.watch(["tool", "frame", "object"], ({ tool }) => {
    last.cancel();
    last = tools[tool];
  });
}

function addActions(page) {
  const { store, navigator, pointer } = page;
  /** Look elsewhere than where following is. */
  page.leave = (run) => {
    store.set({ watching: false });
    return run();
  };
  page.goGiven = (direction) => {
    const next = nextGiven(store.state.project, store.state.frame, direction);
    if (next !== null) page.leave(() => navigator.go(next));
  };
  page.enter = (beside) => {
    const tool = page.tool();
    if (store.state.tool === "polygon" && (beside || !pointer.cursor) && tool?.close()) return;
    pointer.press(beside);
  };
}

start();
