"use strict";
const content = document.getElementById("content") ? JSON.parse(document.getElementById("content").textContent) : {};

for (const button of document.querySelectorAll("[data-cells]")) {
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const list = button.closest("details").querySelector(".digests");
    if (!list.textContent) list.textContent = content.figures[button.dataset.cells].map((i) => content.digests[i]).join("\n");
    list.hidden = !list.hidden;
    button.setAttribute("aria-expanded", String(!list.hidden));
  });
}

// Every word of the search has to occur in the row.
for (const input of document.querySelectorAll("[data-search]")) {
  const rows = [...document.querySelectorAll(`[id="${input.dataset.search}"] tbody tr`)];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const count = document.querySelector(`[data-count="${input.dataset.search}"]`);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  });
}

// A link into a task opens it; paper shows all.
const open = () => { if (location.hash) document.getElementById(location.hash.slice(1))?.closest("details.chapter")?.setAttribute("open", ""); };
addEventListener("hashchange", open);
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.under)").forEach((part) => { part.open = true; }));
open();
document.documentElement.dataset.drawn = "yes";
