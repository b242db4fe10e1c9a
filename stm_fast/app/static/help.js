/* The help sheet, made from the commands. */

import { $, element } from "./dom.js";
import { shown } from "./keys.js";

const MAX_KEYS = 4;
const POINTER = [
  ["Wheel", "Zoom; over the timeline, zoom in time"],
  ["Space+drag", "Move the frame, as the middle button does"],
  ["Right button", "With points: beside the object. With brush: erase. With polygon: remove the last corner"],
  ["Shift+click", "With points: beside the object"],
];

export function openHelp(commands) {
  const sections = [...grouped(commands, "group")].map(([title, members]) => section(title, rows(members)));
  $("help-body").replaceChildren(...sections, section("Pointer", POINTER.map(([key, name]) => [[key], name])));
  $("help").showModal();
}

/** Commands of one name are one row, with the first and the last of many keys. */
function rows(commands) {
  return [...grouped(commands, "name")].map(([name, members]) => {
    const keys = members.flatMap((command) => command.keys.map(shown));
    return [keys.length > MAX_KEYS ? [keys[0], "…", keys.at(-1)] : keys, name];
  });
}

/** Return a part of the sheet; its lines have keys and a name. */
function section(title, lines) {
  const list = element("dl");
  for (const [keys, name] of lines) {
    const names = keys.map((key) => (key === "…" ? key : element("kbd", { textContent: key })));
    list.append(element("div", {}, element("dt", {}, ...names), element("dd", { textContent: name })));
  }
  return element("section", {}, element("h3", { textContent: title }), list);
}

function grouped(commands, property) {
  const groups = new Map();
  for (const command of commands) groups.set(command[property], [...(groups.get(command[property]) ?? []), command]);
  return groups;
}
