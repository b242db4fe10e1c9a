/* Jobs of the server, as events and answers tell of them. */

/** Whether a job has come to an end. */
export function isOver(job) {
  return !["running", "stopping"].includes(job.state);
}

/** Take what a request answered of a job, unless an event that was faster has told of its end already. */
export function takeAnswer(store, job) {
  const known = store.state.job;
  if (job === null || known?.number !== job.number || !isOver(known)) store.set({ job });
}
