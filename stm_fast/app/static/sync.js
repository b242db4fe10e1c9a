/* What events of the server change on the page. */

const REFRESH_MS = 200;

/** Return the listeners of `listen`. */
export function reactTo({ api, store, data, masks, navigator, notices, saver, refresh }) {
  let lost = false;
  let timer = null;

  function seeFrame({ frame, areas, uncertainty }) {
    masks.changed(frame, frame + 1);
    if (areas) data.note(frame, areas, uncertainty);
    else data.refresh(frame, frame + 1);
    if (store.state.watching) navigator.go(frame);
    else if (store.state.shown === frame) navigator.reload();
  }

  function seeMasks({ from, to: end }) {
    const to = end ?? store.state.last + 1;
    masks.changed(from, to);
    data.refresh(from, to);
    const { shown } = store.state;
    if (shown >= from && shown < to) navigator.reload();
  }

  function seeJob(job, before) {
    if (!job || job.kind !== "follow" || before?.state === job.state || job.state === "running") return;
    if (job.state === "failed") notices.show(job.error, "error");
    if (job.state === "done") notices.show(`Followed for ${job.done} frames.`);
    if (job.state === "stopped") notices.show(`Stopped after ${job.done} frames.`);
  }

  /** Fetch the project soon. While something is not saved, what this tab knows of it is newer. */
  function seeProject() {
    timer ??= setTimeout(() => {
      timer = null;
      api.inTurn(() => (store.state.unsaved ? undefined : refresh())).catch(() => {});
    }, REFRESH_MS);
  }

  let lastJob = store.state.job;
  store.watch(["job"], ({ job }) => {
    seeJob(job, lastJob);
    lastJob = job;
  });

  const seen = {
    frame: seeFrame,
    masks: seeMasks,
    job: ({ job }) => store.set({ job }),
    project: seeProject,
    notice: ({ text }) => notices.show(text),
  };

  return {
    onEvent: (event) => seen[event.event]?.(event),
    /** The server answers, but not with events: find out why. */
    onRefused: () => api.json("project").catch(({ message }) => store.set({ refusal: message })),
    onOnline: (online) => {
      store.set(online ? { online, refusal: "" } : { online });
      if (!online) lost = true;
      if (!online || !lost) return;
      lost = false;
      api.inTurn(refresh).catch(() => {});
      masks.changed(0, store.state.last + 1);
      navigator.reload();
      data.load();
      saver.settle().catch(() => {});
    },
  };
}
