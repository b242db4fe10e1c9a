/* Watches the page: when which frame was drawn, and what the canvas shows. Runs before the page's own scripts. */

globalThis.watch = (() => {
  const QUIET_MS = 2000;
  let shown = [];
  let begun = 0;
  let waiting = [];
  const $ = (id) => document.getElementById(id);
  const wanted = () => Number($("timeline").ariaValueNow);
  performance.setResourceTimingBufferSize(1e5);

  // The page asks for its drawing before it says which frame is shown: it is done in the same picture of the screen.
  new MutationObserver(() => requestAnimationFrame(() => setTimeout(note))).observe(document, {
    subtree: true,
    attributes: true,
    attributeFilter: ["data-shown"],
  });
  for (const kind of ["pointermove", "pointerdown", "keydown"])
    addEventListener(kind, (event) => (begun = event.timeStamp), { capture: true });

  function note() {
    const frame = Number($("view").dataset.shown);
    if (Number.isNaN(frame)) return;
    shown.push({ frame, at: performance.now() });
    waiting = waiting.filter((look) => !look());
  }

  function once(condition) {
    return new Promise((resolve) => {
      const look = () => {
        const last = shown.at(-1);
        const found = last && condition(last);
        if (found) resolve({ ...last, wanted: wanted(), milliseconds: last.at - begun });
        return found;
      };
      if (!look()) waiting.push(look);
    });
  }

  return {
    /** Resolves with the first frame, in milliseconds since the navigation. */
    opened: () => once(() => !$("follow").disabled),

    /** Resolves with the frame that is wanted, once it is seen. */
    answered: () => once(({ frame, at }) => frame === wanted() && (at >= begun || Number($("view").dataset.shown) === frame)),

    clear: () => void (shown = shown.slice(-1)),

    /** Milliseconds from each frame that was shown to the next. */
    gaps: () => shown.slice(1).map(({ at }, index) => at - shown[index].at),

    /** Resolves when nothing was fetched for a while: when the last of each kind came, and what was fetched. */
    async rest() {
      const fetched = () => performance.getEntriesByType("resource");
      let seen = -1;
      while (seen !== fetched().length) {
        seen = fetched().length;
        await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
      }
      const end = (part) => Math.max(0, ...fetched().filter(({ name }) => name.includes(part)).map((each) => each.responseEnd));
      return { "all of the timeline": end("/api/timeline"), "all thumbnails": end("/api/thumbnails") };
    },

    /** The mean colours of squares of the frame, of `cell` of its pixels a side, by row. */
    async cells(cell) {
      const { width, height } = await (await fetch("/api/project")).json();
      const view = $("view");
      const copy = new OffscreenCanvas(view.width, view.height).getContext("2d", { willReadFrequently: true });
      copy.drawImage(view, 0, 0);
      const scale = Math.min((view.clientWidth - 32) / width, (view.clientHeight - 32) / height) * devicePixelRatio;
      const [left, top] = [(view.width - width * scale) / 2, (view.height - height * scale) / 2];
      const means = [];
      for (let y = 0; y < height; y += cell)
        for (let x = 0; x < width; x += cell) {
          const side = Math.round(cell * scale);
          const { data } = copy.getImageData(Math.round(left + x * scale), Math.round(top + y * scale), side, side);
          const sum = [0, 0, 0];
          for (let at = 0; at < data.length; at++) if (at % 4 < 3) sum[at % 4] += data[at];
          means.push(...sum.map((each) => each / (data.length / 4)));
        }
      return means;
    },
  };
})();
