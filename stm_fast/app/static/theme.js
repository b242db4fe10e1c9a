/* Dark, light, or as the system has it. */

const THEMES = ["system", "dark", "light"];
const KEY = "stm-fast-theme";

export function startTheme(store, label) {
  store.watch(["theme"], ({ theme }) => {
    document.documentElement.dataset.theme = theme;
    label.textContent = { system: "Theme: system", dark: "Theme: dark", light: "Theme: light" }[theme];
    localStorage.setItem(KEY, theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    const { theme } = store.state;
    store.set({ theme: "" });
    store.set({ theme });
  });
}

export function savedTheme() {
  const theme = localStorage.getItem(KEY);
  return THEMES.includes(theme) ? theme : "system";
}

export function nextTheme(store) {
  store.set({ theme: THEMES[(THEMES.indexOf(store.state.theme) + 1) % THEMES.length] });
}
