"use strict";
// Runs before the page is painted, so that a chosen theme does not flash.
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const order = ["", "light", "dark"];
  const words = { "": ["◐", "Theme: as the system"], light: ["☀", "Theme: light"], dark: ["☾", "Theme: dark"] };
  let chosen = "";
  // A page from a disk may have no storage.
  try { chosen = localStorage.getItem("theme") || ""; } catch { chosen = ""; }
  if (!order.includes(chosen)) chosen = "";
  const show = (button) => {
    if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
    if (button) { button.textContent = words[chosen][0]; button.setAttribute("aria-label", words[chosen][1]); }
  };
  show(null);
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    show(button);
    button.addEventListener("click", () => {
      chosen = order[(order.indexOf(chosen) + 1) % order.length];
      try { localStorage.setItem("theme", chosen); } catch { /* kept for this page only */ }
      show(button);
    });
  });
})();
