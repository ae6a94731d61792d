"use strict";
const content = JSON.parse(document.getElementById("content").textContent);

// One picture after the other, each in a turn of its own, so that the page can be scrolled meanwhile.
async function draw() {
  for (const place of document.querySelectorAll("[data-figure]")) {
    const title = place.closest("figure").querySelector("h4").textContent;
    for (const spec of content.figures[place.dataset.figure].panels) {
      const panel = document.createElement("div");
      panel.className = "panel";
      place.append(panel);
      const named = spec.title && spec.title.text ? `${title}: ${spec.title.text}` : title;
      await vegaEmbed(panel, { ...spec, description: named }, { mode: "vega-lite", renderer: "svg", actions: false, ast: false });
      await new Promise((next) => setTimeout(next));
    }
    place.style.minHeight = "0";
  }
  document.documentElement.dataset.drawn = "yes";
}

for (const button of document.querySelectorAll("[data-cells]")) {
  button.addEventListener("click", () => {
    const list = button.closest("details").querySelector(".digests");
    if (!list.textContent) {
      list.textContent = content.figures[button.dataset.cells].cells.map((i) => content.digests[i]).join("\n");
    }
    list.hidden = !list.hidden;
    button.setAttribute("aria-expanded", String(!list.hidden));
  });
  button.setAttribute("aria-expanded", "false");
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

for (const button of document.querySelectorAll(".rules button")) {
  button.addEventListener("keydown", (event) => {
    if (event.key === "Escape") button.blur();
  });
}

draw();
