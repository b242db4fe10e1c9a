/* Playing: frame after frame at the video's rate, slower where frames do not come in time. */

const DEFAULT_FPS = 24;

export function togglePlay({ store, navigator }) {
  const playing = !store.state.playing;
  store.set({ playing });
  if (playing) play(store, navigator);
}

async function play(store, navigator) {
  if (store.state.frame >= store.state.last) await navigator.go(0);
  const milliseconds = 1000 / (store.state.project.fps ?? DEFAULT_FPS);
  let due = performance.now();
  while (store.state.playing && store.state.frame < store.state.last) {
    due = Math.max(due + milliseconds, performance.now());
    await navigator.step(1);
    await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
  }
  store.set({ playing: false });
}
