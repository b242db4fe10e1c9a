/* Drawing on label maps: {ids, width, height}, one id per pixel. Each function returns the box that it may have changed. */

/** A box of pixels; right and bottom are exclusive. */
export function box(x0, y0, x1, y1) {
  return { x0, y0, x1, y1 };
}

export function union(a, b) {
  if (!a || !b) return a ?? b;
  return box(Math.min(a.x0, b.x0), Math.min(a.y0, b.y0), Math.max(a.x1, b.x1), Math.max(a.y1, b.y1));
}

export function clipped(area, { width, height }) {
  const [x0, y0] = [Math.max(0, Math.floor(area.x0)), Math.max(0, Math.floor(area.y0))];
  return box(x0, y0, Math.max(x0, Math.min(width, Math.ceil(area.x1))), Math.max(y0, Math.min(height, Math.ceil(area.y1))));
}

/** Paint all pixels whose middle is within `radius` of the line from a to b; `paint(old)` gives the new id. */
export function strokeLine(map, a, b, radius, paint) {
  const reach = Math.max(radius, 0.5);
  const area = clipped(
    box(Math.min(a.x, b.x) - reach, Math.min(a.y, b.y) - reach, Math.max(a.x, b.x) + reach, Math.max(a.y, b.y) + reach),
    map,
  );
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const length = dx * dx + dy * dy;
  for (let y = area.y0; y < area.y1; y++) {
    for (let x = area.x0; x < area.x1; x++) {
      const [px, py] = [x + 0.5 - a.x, y + 0.5 - a.y];
      const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
      const distance = Math.hypot(px - along * dx, py - along * dy);
      const inside = distance <= reach || (radius <= 0.5 && Math.max(Math.abs(px), Math.abs(py)) <= 0.5);
      if (inside) {
        const at = y * map.width + x;
        map.ids[at] = paint(map.ids[at]);
      }
    }
  }
  return area;
}

/** Paint the pixels whose middle is in a polygon, by the even-odd rule. */
export function fillPolygon(map, corners, paint) {
  const xs = corners.map((corner) => corner.x);
  const ys = corners.map((corner) => corner.y);
  const area = clipped(box(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)), map);
  for (let y = area.y0; y < area.y1; y++) {
    const crossings = crossed(corners, y + 0.5);
    for (let index = 0; index + 1 < crossings.length; index += 2) {
      const from = Math.max(area.x0, Math.ceil(crossings[index] - 0.5));
      const to = Math.min(area.x1 - 1, Math.ceil(crossings[index + 1] - 0.5) - 1);
      for (let x = from; x <= to; x++) map.ids[y * map.width + x] = paint(map.ids[y * map.width + x]);
    }
  }
  return area;
}

function crossed(corners, y) {
  const xs = [];
  corners.forEach((a, index) => {
    const b = corners[(index + 1) % corners.length];
    if (a.y <= y !== b.y <= y) xs.push(a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x));
  });
  return xs.sort((a, b) => a - b);
}

/** Put the mask (0 or 1 per pixel) of an object in place of what it had. A smaller object in front of it stays. */
export function placeObject(map, id, mask) {
  const areas = new Uint32Array(256);
  let size = 0;
  for (let at = 0; at < mask.length; at++) {
    areas[map.ids[at]]++;
    if (mask[at]) size++;
  }
  for (let at = 0; at < mask.length; at++) {
    const old = map.ids[at];
    if (!mask[at]) map.ids[at] = old === id ? 0 : old;
    else if (old === 0 || old === id || areas[old] >= size) map.ids[at] = id;
  }
  return size;
}

/** Return the mask (0 or 1 per pixel) of an object, as {area, mask} of the box around it, which may be empty. */
export function cutObject({ ids, width }, id) {
  const mask = ids.map((each) => (each === id ? 1 : 0));
  const found = difference(new Uint8Array(mask.length), mask, width);
  return found ? { area: found.area, mask: found.after } : { area: box(0, 0, 0, 0), mask };
}

/** Put an object where `cutObject` found it, and nowhere else. */
export function pasteObject({ ids, width }, id, { area, mask }) {
  for (let at = 0; at < ids.length; at++) if (ids[at] === id) ids[at] = 0;
  let index = 0;
  for (let y = area.y0; y < area.y1; y++)
    for (let x = area.x0; x < area.x1; x++, index++) if (mask[index]) ids[y * width + x] = id;
}

/** Compare two label maps of a size: {area, before, after, changed ids}, or null where they are equal. */
export function difference(before, after, width) {
  const height = before.length / width;
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  const ids = new Set();
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (before[at] === after[at]) continue;
      if (x < x0) x0 = x;
      if (x >= x1) x1 = x + 1;
      if (y < y0) y0 = y;
      y1 = y + 1;
      ids.add(before[at]).add(after[at]);
    }
  }
  if (!x1) return null;
  ids.delete(0);
  const area = box(x0, y0, x1, y1);
  return { area, ids, before: cut(before, width, area), after: cut(after, width, area) };
}

/** Turn the pixels of `area` that are as `from` says into what `to` says; others were changed since, and stay. */
export function patch(map, area, from, to) {
  let index = 0;
  for (let y = area.y0; y < area.y1; y++)
    for (let x = area.x0; x < area.x1; x++, index++) {
      const at = y * map.width + x;
      if (map.ids[at] === from[index]) map.ids[at] = to[index];
    }
}

function cut(ids, width, area) {
  const size = area.x1 - area.x0;
  const part = new Uint8Array(size * (area.y1 - area.y0));
  for (let y = area.y0; y < area.y1; y++)
    part.set(ids.subarray(y * width + area.x0, y * width + area.x1), (y - area.y0) * size);
  return part;
}
