// Runs before the page is drawn, so that a chosen theme does not flash: `data-choice` is what was
// chosen (auto, light, dark), `data-theme` what is shown.
"use strict";
(() => {
  const { dataset } = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  window.showTheme = (choice) => {
    dataset.choice = choice;
    dataset.theme = choice === "auto" ? (system.matches ? "dark" : "light") : choice;
  };
  const chosen = (() => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is forbidden: the system's colours, then
    }
  })();
  window.showTheme(chosen === "light" || chosen === "dark" ? chosen : "auto");
  system.addEventListener("change", () => window.showTheme(dataset.choice));
})();
