/* Following objects through the video, and the frames to look at afterwards. */

import { $ } from "./dom.js";
import { isOver, takeAnswer } from "./jobs.js";

const WAYS = ["backward", "both", "forward"];
const WORDS = { forward: "Follow forward →", backward: "← Follow back", both: "← Follow both ways →" };

export class Follow {
  constructor({ api, store, data, saver, navigator, notices, refresh }) {
    Object.assign(this, { api, store, data, saver, navigator, notices, refresh });
    for (const button of $("direction").children)
      button.onclick = () => store.set({ direction: button.dataset.direction });
    $("direction").onkeydown = (event) => {
      const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!by) return;
      this.turn(by);
      $("direction").querySelector("[aria-checked=true]").focus();
    };
    $("count").onchange = () => store.set({ count: Number($("count").value) > 0 ? Math.round(Number($("count").value)) : null });
    store.watch(["direction", "count", "frame", "timeline", "project", "job", "unsaved"], () => this.#show());
  }

  turn(by = 1) {
    const { direction } = this.store.state;
    this.store.set({ direction: WAYS[(WAYS.indexOf(direction) + by + WAYS.length) % WAYS.length] });
  }

  get running() {
    const { job } = this.store.state;
    return job?.kind === "follow" && !isOver(job);
  }

  /** Follow from here, or stop. */
  toggle() {
    return this.running ? this.stop() : this.start();
  }

  async start() {
    if (!this.#ready) return this.notices.show("Draw an object first: a box around it is enough.");
    const { direction, count } = this.store.state;
    try {
      await this.saver.settle();
      // Following begins at the first mask, and goes on where masks end or a new correction is.
      const body = { from: this.store.state.project.first_masks[0], direction, count };
      const answer = await this.api.changeAnyway("POST", "follow", body, this.refresh);
      this.store.set({ watching: true, playing: false });
      takeAnswer(this.store, await answer.json());
    } catch (error) {
      this.notices.show(error.message, "error");
    }
    return undefined;
  }

  async stop() {
    try {
      const answer = await this.api.changeAnyway("POST", "stop", undefined, this.refresh);
      takeAnswer(this.store, await answer.json());
    } catch (error) {
      this.notices.show(error.message, "error");
    }
  }

  get uncertain() {
    const { project, frame } = this.store.state;
    const ids = project.objects.filter(({ visible }) => visible).map(({ id }) => id);
    return this.data.nextUncertain(frame, ids);
  }

  goUncertain() {
    const next = this.uncertain;
    if (next === null) this.notices.show("No frame stands out: the network is about as sure of all of them.");
    else this.navigator.go(next);
  }

  /** Whether there is something to follow. */
  get #ready() {
    const { project, unsaved } = this.store.state;
    return project.first_masks.length > 0 || unsaved > 0;
  }

  #show() {
    const { direction, job } = this.store.state;
    for (const button of $("direction").children) {
      const chosen = button.dataset.direction === direction;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    const button = $("follow");
    const busy = job?.state === "stopping" || (job?.state === "running" && !this.running);
    button.textContent = !this.running ? WORDS[direction] : busy ? "Stopping…" : "Stop";
    button.classList.toggle("stop", this.running);
    button.disabled = busy || (!this.running && !this.#ready);
    this.#showJob(job);
    const next = this.uncertain;
    $("uncertain").disabled = next === null;
    $("uncertain").textContent = next === null ? "Next uncertain frame" : `Next uncertain: frame ${next}`;
  }

  #showJob(job) {
    $("job").hidden = !this.running;
    $("plan").classList.toggle("unseen", this.running);
    if (!this.running) return;
    const progress = $("progress");
    if (job.total) [progress.max, progress.value] = [job.total, job.done];
    else progress.removeAttribute("value");
    const rate = job.per_second ? ` · ${job.per_second.toFixed(1)} per second` : "";
    $("job-text").textContent = `${job.done}${job.total ? ` of ${job.total}` : ""} frames${rate}`;
  }
}
