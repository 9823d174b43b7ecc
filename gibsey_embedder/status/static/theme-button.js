// The button that goes through the system's colours, light and dark.

import { put } from "./dom.js";

const NAMES = { auto: "Auto", light: "Light", dark: "Dark" };
const NEXT = { auto: "light", light: "dark", dark: "auto" };

/** Make `button` switch the theme; `changed` is called after each change, the system's too. */
export function initTheme(button, label, changed) {
  const { dataset } = document.documentElement;
  const name = () => {
    put(label, NAMES[dataset.choice]);
    button.setAttribute("aria-label", `Colours: ${NAMES[dataset.choice]}`);
  };
  button.addEventListener("click", () => {
    window.showTheme(NEXT[dataset.choice]);
    remember(dataset.choice);
    name();
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  name();
}

function remember(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // storage is forbidden: the choice holds for this page only
  }
}
