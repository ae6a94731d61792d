"use strict";
// The table's page: state <-> address, filters, order, the budget slider. All words were written by the builder; text only ever
// becomes text (textContent), never markup.
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const byId = (id) => document.getElementById(id);
  const rows = [...document.querySelectorAll("#board tr[data-slug]")].map((node) => ({ node, slug: node.dataset.slug, ...content.rows[node.dataset.slug] }));
  const tierNames = [...document.querySelectorAll('input[name="tier"]')].map((box) => box.value);
  const STANDINGS = ["verified", "reproduced", "rescored", "self-reported"];
  const ASCENDING = { rank: 1, name: 1, tier: 1, weights: 1, standing: 1, drop: 1, cal: 1, cost: 1, ood: content.higher ? -1 : 1 };
  const start = () => ({ budget: content.chosen, tiers: tierNames, weights: "", track: "deployment", hw: "", q: "", st: "", sort: "rank", flip: false });
  const has = (select, value) => [...byId(select).options].some((option) => option.value === value);

  function read() {
    const state = start();
    const said = new URLSearchParams(location.hash.slice(1));
    if (content.budgets.includes(said.get("budget"))) state.budget = said.get("budget");
    if (said.has("tier")) state.tiers = tierNames.filter((name) => said.get("tier").split(",").includes(name));
    for (const name of ["weights", "track", "hw", "st"]) if (said.has(name) && has(name, said.get(name))) state[name] = said.get(name);
    state.q = said.get("q") || "";
    const sort = (said.get("sort") || "rank").replace(/^-/, "");
    if (document.querySelector(`[data-sort="${CSS.escape(sort)}"]`)) { state.sort = sort; state.flip = (said.get("sort") || "").startsWith("-"); }
    return state;
  }

  function address(state) {
    const plain = start(), said = new URLSearchParams();
    for (const name of ["budget", "weights", "track", "hw", "st", "q"]) if (state[name] !== plain[name]) said.set(name, state[name]);
    if (state.tiers.length !== tierNames.length) said.set("tier", state.tiers.join(","));
    if (state.sort !== "rank" || state.flip) said.set("sort", (state.flip ? "-" : "") + state.sort);
    return said.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  }

  let state = read();
  let written = "";

  const here = (row, budget = state.budget) => row.b[budget];
  const rank = (row) => here(row).r[state.track];
  const visible = (row) =>
    state.tiers.includes(row.tier) && row.tracks.includes(state.track) &&
    (!state.weights || row.open === (state.weights === "open")) &&
    (!state.st || STANDINGS.indexOf(row.standing) <= STANDINGS.indexOf(state.st)) && (!state.hw || row.hw.includes(state.hw)) &&
    state.q.toLowerCase().split(/\s+/).every((word) => row.q.includes(word));

  function key(row) {
    const [name, budget] = [state.sort.split(":")[0], state.sort.slice(4)];
    const n = here(row).n;
    switch (name) {
      case "rank": return rank(row) ? rank(row)[0] : null;
      case "name": return row.name.toLowerCase();
      case "tier": return content.tiers.indexOf(row.tier);
      case "weights": return row.open ? 0 : 1;
      case "ood": return here(row, budget || state.budget).n[1] ?? null;
      case "drop": return n[5] ?? null;
      case "cal": return n[8] ?? null;
      case "cost": return n[9] ?? null;
      default: return STANDINGS.indexOf(row.standing);
    }
  }

  // What is missing stays last, whichever way the column is turned.
  function order(list) {
    const turn = (ASCENDING[state.sort.split(":")[0]] || 1) * (state.flip ? -1 : 1);
    const score = (row) => { const v = here(row).n[1]; return v == null ? Infinity : content.higher ? -v : v; };
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    return list.map((row) => [row, key(row)]).sort(([a, x], [b, y]) => {
      if ((x == null) !== (y == null)) return x == null ? 1 : -1;
      return turn * compare(x, y) || compare(score(a), score(b)) || compare(a.slug, b.slug);
    }).map(([row]) => row);
  }

  function fill(row) {
    const texts = { ...here(row).t }, place = rank(row);
    texts.rank = place ? place[1] : "–";
    texts.range = place ? place[2] : "";
    if (place) texts.why = "";
    for (const [name, text] of Object.entries(texts)) {
      const node = row.node.querySelector(`[data-f="${name}"]`);
      if (node && node.textContent !== text) {
        node.textContent = text;
        if (node.tagName === "B") node.classList.toggle("none", text === "missing");
      }
    }
  }

  function columns() {
    const all = content.budgets;
    const middle = [all[0], all.at(-1)].includes(state.budget) ? all[Math.floor(all.length / 2)] : state.budget;
    const shown = all.length <= 3 ? all : [all[0], middle, all.at(-1)];
    for (const cell of document.querySelectorAll("[data-budget]")) {
      cell.hidden = !shown.includes(cell.dataset.budget);
      cell.classList.toggle("now", cell.dataset.budget === state.budget);
    }
  }

  function heads() {
    for (const head of document.querySelectorAll("th[data-sort]")) {
      const mine = head.dataset.sort === state.sort;
      const turn = (ASCENDING[head.dataset.sort.split(":")[0]] || 1) * (state.flip ? -1 : 1);
      if (mine) head.setAttribute("aria-sort", turn > 0 ? "ascending" : "descending"); else head.removeAttribute("aria-sort");
    }
  }

  function controls() {
    byId("budget").value = content.budgets.indexOf(state.budget);
    byId("budget").setAttribute("aria-valuetext", content.words[state.budget]);
    byId("budget-said").textContent = content.words[state.budget];
    for (const name of ["weights", "track", "hw", "st"]) byId(name).value = state[name];
    if (byId("q").value !== state.q) byId("q").value = state.q;
    for (const box of document.querySelectorAll('input[name="tier"]')) box.checked = state.tiers.includes(box.value);
    byId("sort").value = has("sort", state.sort.split(":")[0]) ? state.sort.split(":")[0] : "rank";
  }

  function show() {
    controls(); columns(); heads();
    const sorted = order(rows), parts = { ranked: [], unranked: [] };
    let count = 0;
    const focused = document.activeElement;
    for (const row of sorted) {
      fill(row);
      row.node.hidden = !visible(row);
      count += row.node.hidden ? 0 : 1;
      parts[rank(row) ? "ranked" : "unranked"].push(row);
    }
    for (const [id, list] of Object.entries(parts)) {
      const body = byId(id), nodes = list.map((row) => row.node);
      if (nodes.length !== body.children.length || nodes.some((node, i) => body.children[i] !== node)) body.replaceChildren(...nodes);
    }
    if (focused !== document.activeElement && document.contains(focused)) focused.focus({ preventScroll: true });
    byId("gap").hidden = !parts.unranked.some((row) => !row.node.hidden);
    byId("nothing").hidden = count > 0 || !rows.length;
    byId("said").textContent = count === rows.length ? `${rows.length} submissions` : `${count} of ${rows.length} submissions`;
    const hash = address(state);
    for (const link of document.querySelectorAll("a.keep")) link.hash = hash;
    if (hash !== written) { written = hash; history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search); }
  }

  const change = (more) => { state = { ...state, ...more }; show(); };
  byId("budget").addEventListener("input", (event) => change({ budget: content.budgets[event.target.value] }));
  for (const name of ["weights", "track", "hw", "st"]) byId(name).addEventListener("change", (event) => change({ [name]: event.target.value }));
  byId("q").addEventListener("input", (event) => change({ q: event.target.value.trim() }));
  byId("sort").addEventListener("change", (event) => change({ sort: event.target.value === "ood" ? `ood:${state.budget}` : event.target.value, flip: false }));
  for (const box of document.querySelectorAll('input[name="tier"]'))
    box.addEventListener("change", () => change({ tiers: [...document.querySelectorAll('input[name="tier"]:checked')].map((checked) => checked.value) }));
  byId("reset").addEventListener("click", () => { state = start(); show(); });
  // The address belongs to the filters, so this is no link: below a long table the pictures would never be found.
  byId("to-pictures").addEventListener("click", () => {
    byId("pictures-head").scrollIntoView();
    byId("pictures-head").focus({ preventScroll: true });
  });
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const head of document.querySelectorAll("th[data-sort]"))
    head.querySelector("button").addEventListener("click", () => change({ sort: head.dataset.sort, flip: head.dataset.sort === state.sort && !state.flip }));
  byId("board").addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-slug]");
    if (row && !event.target.closest("a, button") && !String(getSelection())) row.querySelector("a").click();
  });
  // Up and down walk through the models; Enter on the link opens one.
  byId("board").addEventListener("keydown", (event) => {
    if (!["ArrowDown", "ArrowUp"].includes(event.key) || !event.target.matches("tr[data-slug] a")) return;
    const links = [...document.querySelectorAll("#board tr[data-slug]:not([hidden]) th a")];
    const next = links[links.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) { next.focus(); event.preventDefault(); }
  });
  byId("copy").addEventListener("click", async (event) => {
    let said = "Copied";
    try { await navigator.clipboard.writeText(location.href); } catch { said = "The address bar holds the link"; }
    event.target.textContent = said;
    setTimeout(() => { event.target.textContent = "Copy a link to this view"; }, 2000);
  });
  addEventListener("hashchange", () => { if (location.hash.slice(1) !== written) { state = read(); show(); } });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; show(); } });
  if (matchMedia("(max-width: 760px)").matches) byId("filters").open = false;
  written = location.hash.slice(1);
  show();
  document.documentElement.classList.add("ready");
  performance.mark("interactive");
})();
