"use strict";
// The three pictures, drawn as SVG from the numbers of the table. Places in a row's numbers:
// 0 labels, 1-3 OOD with ends, 4 home, 5-7 drop with ends, 8 calibration, 9 fit, 10 predict, 11 trainable parameters, 12 memory.
window.rs05charts = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const make = (name, attributes, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const round = (value) => Math.round(value * 10) / 10;
  const known = (value) => value !== null && value !== undefined;
  const score = (value, digits = 2) => {
    const text = (Math.abs(value) >= 100 ? Math.abs(value).toPrecision(3) : Math.abs(value).toFixed(digits)).replace(/^0\./, ".");
    return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
  };
  const shorten = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

  function steps(low, high, most) {
    if (!(high > low)) return [low];
    let step = 10 ** Math.floor(Math.log10((high - low) / most));
    step *= [1, 2, 5, 10].find((factor) => (high - low) / (step * factor) <= most);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(Number((k * step).toPrecision(12)));
    return found;
  }
  const TIMES = [0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 360000];
  function logSteps(low, high, times) {
    const found = times ? TIMES.filter((value) => value >= low && value <= high) : [];
    if (found.length > 1) return found;
    found.length = 0;
    for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k += 1) {
      const value = 10 ** k;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
    return found.length > 1 ? found.filter((_, i) => found.length < 7 || i % 2 === 0) : [low, high];
  }

  // Labels near their places that do not touch.
  function spread(places, gap, low, high) {
    const order = places.map((value, i) => [value, i]).sort((a, b) => a[0] - b[0]);
    const y = order.map(([value]) => Math.min(Math.max(value, low), high));
    for (let i = 1; i < y.length; i += 1) y[i] = Math.max(y[i], y[i - 1] + gap);
    if (y.length && y.at(-1) > high) {
      y[y.length - 1] = high;
      for (let i = y.length - 2; i >= 0; i -= 1) y[i] = Math.min(y[i], y[i + 1] - gap);
    }
    const out = [];
    order.forEach(([, i], k) => { out[i] = y[k]; });
    return out;
  }

  class Plot {
    constructor(holder, width, height, margins, says) {
      Object.assign(this, { width, height, ...margins });
      this.svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, class: "plot", role: "img", "aria-label": says });
      holder.append(this.svg);
    }
    scales(x, y, logarithmic) {
      const turn = logarithmic ? Math.log10 : (value) => value;
      this.x = (value) => round(this.left + ((turn(value) - turn(x[0])) / (turn(x[1]) - turn(x[0]) || 1)) * (this.width - this.left - this.right));
      this.y = (value) => round(this.height - this.bottom - Math.min(Math.max((value - y[0]) / (y[1] - y[0] || 1), 0), 1) * (this.height - this.top - this.bottom));
    }
    path(d, kind) { if (d) this.svg.append(make("path", { d, class: kind })); }
    text(x, y, words, anchor = "start", kind = "tick") { this.svg.append(make("text", { x: round(x), y: round(y), "text-anchor": anchor, class: kind }, words)); }
    line(points, kind) { if (points.length > 1) this.path("M" + points.map(([x, y]) => `${this.x(x)},${this.y(y)}`).join("L"), kind); }
    dot(x, y, marker, kind, size = 4.5) { this.svg.append(make("path", { d: marker, class: kind, transform: `translate(${this.x(x)} ${this.y(y)}) scale(${size})` })); }
    axes(xTicks, yTicks, xTitle) {
      for (const value of yTicks) {
        this.path(`M${this.left},${this.y(value)}H${this.width - this.right}`, "grid");
        this.text(this.left - 6, this.y(value) + 4, score(value, Math.abs(value * 10 - Math.round(value * 10)) < 1e-9 ? 1 : 2), "end");
      }
      const base = this.height - this.bottom;
      this.path(`M${this.left},${base}H${this.width - this.right}`, "axis");
      for (const [value, words] of xTicks) { this.path(`M${this.x(value)},${base}v5`, "axis"); this.text(this.x(value), base + 18, words, "middle"); }
      this.text((this.left + this.width - this.right) / 2, this.height - 5, xTitle, "middle", "title");
    }
  }

  const amounts = {
    9: ["time to fit", (s) => (s < 1 ? `${+(s * 1000).toPrecision(2)} ms` : s < 60 ? `${+s.toPrecision(2)} s` : s < 3600 ? `${+(s / 60).toPrecision(2)} min` : `${+(s / 3600).toPrecision(2)} h`)],
    10: ["time to predict 1,000 units", (s) => amounts[9][1](s)],
    11: ["trainable parameters", (n) => (n >= 1e9 ? `${+(n / 1e9).toPrecision(2)} G` : n >= 1e6 ? `${+(n / 1e6).toPrecision(2)} M` : n >= 1e3 ? `${+(n / 1e3).toPrecision(2)} k` : String(+n.toPrecision(2)))],
    12: ["peak memory", (n) => (n >= 1000 ? `${+(n / 1000).toPrecision(2)} GB` : `${+n.toPrecision(2)} MB`)],
  };

  function highlighted(content, state, rows, ranked) {
    const there = rows.filter((row) => known(row.b[state.budget].n[1]));
    if (state.draw === "first") return there.slice(0, 8);
    const turn = content.higher ? -1 : 1;
    return Object.keys(content.tiers).flatMap((tier) => {
      const mine = there.filter((row) => row.tier === tier);
      mine.sort((a, b) => (ranked(b) - ranked(a)) || turn * (a.b[state.budget].n[1] - b.b[state.budget].n[1]));
      return mine.slice(0, 1);
    });
  }

  function curves(holder, content, state, rows, bright, named) {
    const wide = holder.clientWidth;
    const two = wide >= 720;
    const series = (row, place) => content.budgets.map((budget) => row.b[budget].n).filter((n) => known(n[place]) && n[0]).map((n) => [n[0], n[place]]);
    const labels = rows.flatMap((row) => content.budgets.map((budget) => row.b[budget].n[0])).filter(Boolean);
    if (!labels.length) { holder.textContent = "Nothing to draw."; return; }
    const x = [Math.min(...labels) / 1.15, Math.max(...labels) * 1.15];
    const every = rows.flatMap((row) => content.budgets.flatMap((budget) => [row.b[budget].n[1], row.b[budget].n[4]])).filter(known);
    const y = [Math.max(Math.min(...every), content.domain[0]), Math.max(...every)];
    const room = Math.max((y[1] - y[0]) * 0.05, 0.01);
    y[0] -= room; y[1] += room;
    const ticks = content.budgets.map((budget) => {
      const used = rows.map((row) => row.b[budget].n[0]).filter(Boolean).sort((a, b) => a - b);
      return used.length ? [used[Math.floor(used.length / 2)], Math.round(used[Math.floor(used.length / 2)]).toLocaleString("en")] : null;
    }).filter(Boolean);
    const space = two ? 168 : 138;
    for (const [place, kind, title] of [[4, "home", "At home"], [1, "ood", "Elsewhere"]]) {
      const last = place === 1 || !two;
      const width = two ? (last ? (wide - 24) * 0.5 + space / 2 : (wide - 24) * 0.5 - space / 2) : wide;
      const plot = new Plot(holder, width, two ? 330 : 300, { left: 42, right: last ? space : 14, top: 28, bottom: 42 }, `${title}: ${content.metric} against labels. ` + bright.map((row) => `${row.name} ${series(row, place).map(([, v]) => score(v)).join(", ")}`).join("; "));
      plot.scales(x, y, true);
      plot.text(plot.left, 15, title, "start", "name");
      plot.axes(ticks, steps(y[0], y[1], 6), "labels used");
      for (const row of rows) if (!bright.includes(row)) plot.line(series(row, place), `line faint ${kind}`);
      const ends = [];
      for (const [i, row] of bright.entries()) {
        const points = series(row, place);
        const n = row.b[state.budget].n;
        if (place === 1 && known(n[2])) plot.path(`M${round(plot.x(n[0]) + (i - (bright.length - 1) / 2) * 4)},${plot.y(n[2])}V${plot.y(n[3])}`, `whisker tier-${row.tier}`);
        plot.line(points, `line ${kind} tier-${row.tier}`);
        for (const [a, b] of points) plot.dot(a, b, content.tiers[row.tier], `dot fill tier-${row.tier}`, 4);
        if (points.length) ends.push([row, plot.x(points.at(-1)[0]), plot.y(points.at(-1)[1])]);
      }
      if (!last) continue;
      const places = spread(ends.map(([, , at]) => at), 14, plot.top + 4, plot.height - plot.bottom - 4);
      ends.forEach(([row, at, level], i) => {
        const edge = plot.width - plot.right + 12;
        plot.path(`M${at + 6},${level}L${edge - 3},${places[i]}`, "leader");
        plot.text(edge, places[i] + 4, shorten(named(row), two ? 24 : 20), "start", "label");
      });
    }
  }

  function drops(holder, content, state, bright, named) {
    const lines = bright.filter((row) => known(row.b[state.budget].n[1]) && known(row.b[state.budget].n[4]));
    lines.sort((a, b) => (content.higher ? 1 : -1) * (b.b[state.budget].n[1] - a.b[state.budget].n[1]));
    if (!lines.length) { holder.textContent = "No shown model has scores on both sides."; return; }
    const wide = holder.clientWidth, space = Math.min(170, wide * 0.38);
    const values = lines.flatMap((row) => [row.b[state.budget].n[1], row.b[state.budget].n[4]]);
    const room = Math.max((Math.max(...values) - Math.min(...values)) * 0.06, 0.01);
    const x = [Math.max(Math.min(...values), content.domain[0]) - room, Math.max(...values) + room];
    const plot = new Plot(holder, wide, 60 + lines.length * 30, { left: space, right: 54, top: 10, bottom: 42 }, "Drop: " + lines.map((row) => `${row.name} from ${score(row.b[state.budget].n[4])} to ${score(row.b[state.budget].n[1])}`).join("; "));
    plot.scales(x, [0, 1], false);
    const base = plot.height - plot.bottom;
    for (const value of steps(x[0], x[1], wide < 500 ? 4 : 6)) { plot.path(`M${plot.x(value)},${plot.top}V${base}`, "grid"); plot.text(plot.x(value), base + 18, score(value, 2), "middle"); }
    plot.text((plot.left + plot.width - plot.right) / 2, plot.height - 5, content.metric, "middle", "title");
    lines.forEach((row, i) => {
      const n = row.b[state.budget].n, y = plot.top + 16 + i * 30;
      const clip = (value) => plot.x(Math.max(value, x[0]));
      plot.path(`M${clip(n[4])},${y}H${clip(n[1])}`, `line tier-${row.tier}`);
      for (const [value, kind] of [[n[4], "fill"], [n[1], "hollow"]])
        plot.svg.append(make("path", { d: content.tiers[row.tier], class: `dot ${kind} tier-${row.tier}`, transform: `translate(${clip(value)} ${y}) scale(5.2)` }));
      plot.text(space - 12, y + 4, shorten(named(row), Math.floor(space / 6.6)), "end", "label");
      plot.text(plot.width - 48, y + 4, known(n[5]) ? (score(n[5]).startsWith("−") ? "" : "+") + score(n[5]) : "missing", "start", known(n[5]) ? "label" : "tick");
    });
  }

  function frontier(holder, content, state, rows, bright, named) {
    const place = Number(state.cost), [title, words] = amounts[place];
    const points = rows.map((row) => [row, row.b[state.budget].n[place], row.b[state.budget].n[1]]).filter(([, cost, value]) => cost > 0 && known(value));
    if (!points.length) { holder.textContent = "Nobody shown reports this cost."; return; }
    const wide = holder.clientWidth;
    const costs = points.map(([, cost]) => cost), values = points.map(([, , value]) => value);
    const x = [Math.min(...costs) / 1.6, Math.max(...costs) * 1.6];
    const y = [Math.max(Math.min(...values), content.domain[0]), Math.max(...values)];
    const room = Math.max((y[1] - y[0]) * 0.1, 0.01);
    y[0] -= room; y[1] += room;
    const plot = new Plot(holder, wide, Math.max(300, 60 + bright.length * 30), { left: 42, right: 20, top: 14, bottom: 42 }, `${content.metric} against ${title}: ` + bright.map((row) => `${row.name} ${score(row.b[state.budget].n[1])}`).join("; "));
    plot.scales(x, y, true);
    plot.axes(logSteps(...x, place < 11).map((value) => [value, words(value)]), steps(y[0], y[1], 6), title);
    const better = content.higher ? (a, b) => a > b : (a, b) => a < b;
    const edge = [];
    for (const point of [...points].sort((a, b) => a[1] - b[1] || (better(a[2], b[2]) ? -1 : 1))) if (!edge.length || better(point[2], edge.at(-1)[2])) edge.push(point);
    const d = edge.map(([, cost, value], i) => (i ? `H${plot.x(cost)}V${plot.y(value)}` : `M${plot.x(cost)},${plot.y(value)}`)).join("");
    plot.path(`${d}H${plot.width - plot.right}`, "edge");
    for (const [row, cost, value] of points) if (!bright.includes(row)) plot.dot(cost, value, content.tiers[row.tier], "dot faint", 3.5);
    const boxes = [], free = (box) => boxes.every((other) => box.x2 < other.x1 || box.x1 > other.x2 || box.y2 < other.y1 || box.y1 > other.y2);
    const shown = points.filter(([row]) => bright.includes(row) || edge.some(([member]) => member === row));
    for (const [, cost, value] of shown) boxes.push({ x1: plot.x(cost) - 6, x2: plot.x(cost) + 6, y1: plot.y(value) - 6, y2: plot.y(value) + 6 });
    for (const [row, cost, value] of shown) {
      plot.dot(cost, value, content.tiers[row.tier], `dot fill tier-${row.tier}`, 5.5);
      const text = shorten(named(row), 24), size = text.length * 6.3, at = [plot.x(cost), plot.y(value)];
      // The first place beside the marker that nothing else holds.
      const tries = [[10, 4, "start"], [-10, 4, "end"], [0, -11, "middle"], [0, 19, "middle"], [10, -9, "start"], [10, 17, "start"], [-10, -9, "end"], [-10, 17, "end"], [0, 32, "middle"], [0, -25, "middle"], [10, 30, "start"], [-10, 30, "end"]];
      for (const [dx, dy, anchor] of tries) {
        const left = at[0] + dx - (anchor === "end" ? size : anchor === "middle" ? size / 2 : 0);
        const box = { x1: left, x2: left + size, y1: at[1] + dy - 10, y2: at[1] + dy + 3 };
        if (left < plot.left || left + size > plot.width || box.y1 < 2 || box.y2 > plot.height - plot.bottom || !free(box)) continue;
        boxes.push(box);
        plot.text(at[0] + dx, at[1] + dy, text, anchor, "label");
        break;
      }
    }
  }

  return (content, state, rows, ranked) => {
    const bright = highlighted(content, state, rows, ranked);
    const named = (row) => row.name + (ranked(row) || !Object.values(content.rows).some((other) => Object.keys(other.b[state.budget].r).length) ? "" : " ○");
    for (const [id, draw] of [["curves", (holder) => curves(holder, content, state, rows, bright, named)], ["drops", (holder) => drops(holder, content, state, bright, named)], ["frontier", (holder) => frontier(holder, content, state, rows, bright, named)]]) {
      const holder = document.querySelector(`#${id} .panels`);
      holder.replaceChildren();
      draw(holder);
    }
  };
})();
