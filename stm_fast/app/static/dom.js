/* Elements of the page. */

export function $(id) {
  return document.getElementById(id);
}

/** Make an element; `properties` are set on it, or as attributes where it has no such property. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
