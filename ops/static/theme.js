// Runs before the page is drawn, so that a chosen theme does not flash.
"use strict";
(() => {
  const chosen = (() => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is forbidden: the system's colours, then
    }
  })();
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
