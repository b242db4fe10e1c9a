/* What the timeline says of a frame in words. */

import { givenObjects } from "./edits.js";

/** What the timeline says of a frame, for those who hear it. */
export function describe({ store, data }) {
  const { frame, project, object } = store.state;
  const objects = [...project.objects].sort((a, b) => (b.id === object) - (a.id === object)); // the selected one first
  const parts = objects.map(({ id, name }) => [name, data.area(id)[frame]]).filter(([, area]) => area > 0);
  const shares = parts.map(([name, area]) => `${name} ${percent(area)}`);
  if (shares.length) shares.push(`${shares.pop()} of the picture`);
  const words = givenObjects(project, frame).size ? ["drawn by you"] : [];
  const doubt = data.doubts(project.objects.map(({ id }) => id))[frame];
  if (doubt > 0) words.push(`uncertainty ${doubt.toFixed(1)} × usual`);
  if (!shares.length) shares.push(data.masked[frame] ? "no object here" : "no masks yet");
  return [...words, ...shares].join(" · ");
}

function percent(share) {
  const value = 100 * share;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}
