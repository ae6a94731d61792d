"""What eyes would catch on a page, measured in a browser: sizes of panels, sizes of text, texts that touch or are cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WIDTHS = (390, 768, 1280, 1920)

MEASURE = r"""() => {
 const found = [], box = (e) => e.getBoundingClientRect(), shown = (e) => box(e).width > 0 && box(e).height > 0;
 const said = (e) => (e.firstChild?.nodeType === 3 ? e.firstChild.textContent : e.textContent).trim().slice(0, 30);
 for (const figure of document.querySelectorAll("figure, .maps")) {
  const plots = [...figure.querySelectorAll("svg.plot")].filter(shown);
  const drawn = plots.map((e) => `${Math.round(box(e).width)} x ${Math.round(box(e).height)}`);
  if (new Set(drawn).size > 1) found.push(`panels of ${figure.id || figure.className} differ in size: ${drawn.join(", ")}`);
 }
 for (const text of document.querySelectorAll("svg.plot text")) {
  if (!said(text) || !shown(text)) continue;
  const m = text.getScreenCTM(), size = parseFloat(getComputedStyle(text).fontSize) * Math.hypot(m.b, m.d);
  if (size < 9.99) found.push(`"${said(text)}" is set in ${size.toFixed(1)} px`);
 }
 for (const plot of [...document.querySelectorAll("svg.plot")].filter(shown)) {
  const edge = box(plot), texts = [...plot.querySelectorAll("text")].filter((t) => said(t) && shown(t)).map((t) => [said(t), box(t)]);
  for (const [name, b] of texts) {
   const inside = b.left > edge.left - 1 && b.right < edge.right + 1 && b.top > edge.top - 1 && b.bottom < edge.bottom + 1;
   if (!inside) found.push(`"${name}" is cut`);
  }
  for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++) {
   const [a, b] = [texts[i][1], texts[j][1]];
   if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
    found.push(`"${texts[i][0]}" and "${texts[j][0]}" overlap`);
  }
 }
 for (const e of document.querySelectorAll("p, li, td, th, dt, dd, h1, h2, h3, h4, summary, figcaption, small, button, label, a")) {
  if (!shown(e) || !said(e)) continue;
  const size = parseFloat(getComputedStyle(e).fontSize);
  if (size < 9.99) found.push(`"${said(e)}" is set in ${size.toFixed(1)} px`);
 }
 const root = document.documentElement;
 if (root.scrollWidth > root.clientWidth + 1) found.push(`the page scrolls sideways: ${root.scrollWidth} px in ${root.clientWidth}`);
 return [...new Set(found)];
}"""
"""Faults of a page as sentences."""

OPEN = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"


@contextmanager
def browser(executable: str) -> Iterator[Any]:
    """A browser of the system."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


def faults(started: Any, address: str) -> list[str]:
    """What is wrong with a page at any width, in light and dark, and on paper."""
    found: list[str] = []
    for scheme in ("light", "dark"):
        page = started.new_page(color_scheme=scheme, reduced_motion="reduce")
        page.on("pageerror", lambda error, seen=found: seen.append(f"script: {error}"))
        page.goto(address)
        page.evaluate(OPEN)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 1000})
            found += [f"{width} px, {scheme}: {fault}" for fault in page.evaluate(MEASURE)]
        if scheme == "light":
            page.set_viewport_size({"width": 700, "height": 1000})
            page.emulate_media(media="print")
            found += [f"print: {fault}" for fault in page.evaluate(MEASURE)]
        page.close()
    return found
