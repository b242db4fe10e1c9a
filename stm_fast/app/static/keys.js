/* Keys and buttons of commands. A command is {id, name, keys, group, run}; its first key is shown on its button. */

const TYPES_TEXT = "input:not([type=range]):not([type=checkbox]):not([type=color]), select, textarea";

/** Return the key of an event as commands write it, such as "Ctrl+Shift+z", "ArrowLeft" or "?". */
export function keyOf(event) {
  const { key } = event;
  const letter = key.length === 1 && key !== " ";
  const named = key === " " ? "Space" : letter ? key.toLowerCase() : key;
  const shifted = event.shiftKey && (!letter || /[a-z]/i.test(key));
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${shifted ? "Shift+" : ""}${named}`;
}

/** Run commands by their keys; `space(down)` hears of Space, which also pans, and says whether it did. */
export function bindKeys(commands, { space }) {
  const byKey = new Map(commands.flatMap((command) => command.keys.map((key) => [key, command])));
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const key = keyOf(event);
    if (event.target.matches(TYPES_TEXT)) {
      if (key === "Escape") event.target.blur();
      return;
    }
    const { target } = event;
    if ((key === "Space" || key === "Enter") && target.matches("button, a, summary, input")) return;
    if (key.startsWith("Arrow") && target.matches("input, [role=radio]")) return;
    if (key === "Space") {
      event.preventDefault();
      space(true);
      return;
    }
    const command = byKey.get(key);
    if (!command || (event.repeat && !command.repeats)) return;
    event.preventDefault();
    command.run();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key !== " " || event.target.matches(`${TYPES_TEXT}, button, a, input`)) return;
    if (!space(false) && !document.querySelector("dialog[open]")) byKey.get("Space").run();
  });
}

/** Connect buttons that name a command, and those of tools. */
export function bindButtons(commands, canvas) {
  for (const command of commands) {
    for (const button of document.querySelectorAll(`[data-command="${command.id}"]`)) {
      button.addEventListener("click", () => command.run());
      if (!command.keys.length) continue;
      button.title = `${command.name} (${shown(command.keys[0])})`;
      button.setAttribute("aria-keyshortcuts", command.keys.map((key) => key.replace("Ctrl", "Control")).join(" "));
    }
  }
  for (const button of document.querySelectorAll("[data-tool]")) {
    const { name, keys } = commands.find(({ id }) => id === `tool-${button.dataset.tool}`);
    button.title = `${name} (${shown(keys[0])})`;
  }
  // After a click of the mouse, Space and Enter belong to the canvas again.
  document.addEventListener("click", (event) => {
    if (event.detail > 0 && event.target.closest("button") && !event.target.closest("dialog")) canvas.focus({ preventScroll: true });
  });
}

const SHOWN = { ArrowLeft: "←", ArrowRight: "→", Escape: "Esc", Delete: "Del", Backspace: "⌫" };

/** A key as people write it. */
export function shown(key) {
  return key
    .split("+")
    .map((part) => SHOWN[part] ?? (part.length === 1 ? part.toUpperCase() : part))
    .join(key.endsWith("++") ? "" : "+");
}
