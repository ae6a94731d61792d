"""Pictures: Vega-Lite panels that are drawn while the page is written, at one size, in colours that follow the page's theme.

A page that draws its own panels has to ask the browser how wide they may be, and the answer depends on what was drawn before. Here a
panel's size is known beforehand, text keeps its size at every width of the window, and the page needs no script to be read or printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pandas as pd
from markupsafe import Markup

from rs05bench.experiment.query import without_formulas
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.style import FAINT, GRID, INK, MUTED, PAPER, RULE, VEGA_CONFIG, plain

Spec = dict[str, Any]
PANEL = 340
"""Outer width of a panel, pixels: it fits a phone of 390."""
WIDE = 700
"""Outer width of a figure's only panel where the window has room for it."""
MOST_INSIDE = 16_000
"""Letters of a CSV that a page holds itself."""
WIDEST_FONT = 1.16
"""How much wider the widest common fonts (Verdana, DejaVu Sans) set a text than the one it is measured with; room is kept for them."""
_SVG = "http://www.w3.org/2000/svg"
_DEFAULTS = {("opacity", "1"), ("stroke-width", "1"), ("transform", "translate(0,0)"), ("font-weight", "normal"), ("text-anchor", "start")}
_NUMBER = re.compile(r"-?\d+\.\d{2,}")


@dataclass(frozen=True)
class Figure:
    """A picture with what it was drawn from.

    Attributes:
        key: Name of its files and anchor.
        title: What it shows.
        caption: How to read it, in plain words.
        panels: Vega-Lite unit or layer specifications without a size; all are drawn in the size of the figure.
        frame: The numbers drawn; the figure's CSV.
        digests: Cells the numbers are computed from.
        height: Outer height of each panel, pixels; default what the tallest panel asks for (`height`), its title and its axis.
        width: Outer width of each panel, pixels.
        legend: Words and CSS colours of a colour ramp or classes, drawn by the page.
        models: Model -> tier, where the panels name tiers and the page says which models they are.
        fixed: A map, which keeps its width where it is the only panel: a kilometre is as long up as across.
    """

    key: str
    title: str
    caption: str
    panels: Sequence[Spec]
    frame: pd.DataFrame
    digests: Sequence[str] = field(default_factory=list)
    height: int = 0
    width: int = PANEL
    legend: Sequence[tuple[str, str]] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    fixed: bool = False

    @property
    def link(self) -> str:
        """Its numbers as CSV: inside the page where they are few, else the file next to it."""
        return csv_link(self.frame, f"figures/{self.key}.csv")

    @property
    def outer_height(self) -> int:
        """Height of each panel, pixels."""
        return self.height or max(int(panel.get("height", 210)) for panel in self.panels) + 90

    @property
    def drawn(self) -> list[Markup]:
        """The panels as SVG, for a page."""
        return [
            svg(panel, self.width, self.outer_height, f"{self.key}-{number}", self._named(panel))
            for number, panel in enumerate(self.panels)
        ]

    @property
    def wide(self) -> Markup | None:
        """The only panel of the figure at `WIDE`, for a window that has the room; None where there are several."""
        if len(self.panels) != 1 or self.fixed:
            return None
        return svg(self.panels[0], WIDE, self.outer_height, f"{self.key}-wide", self._named(self.panels[0]))

    def _named(self, panel: Spec) -> str:
        title = panel.get("title")
        return f"{self.title}: {title['text']}" if isinstance(title, dict) and title.get("text") else self.title

    def write(self, folder: Path, subtitle: str) -> None:
        """Writes the figure as `<key>.svg` and `<key>.png`, all panels side by side."""
        picture = self._whole(subtitle)
        (folder / f"{self.key}.svg").write_text(picture, encoding="utf-8")
        self._png(picture, folder / f"{self.key}.png")

    def write_png(self, path: Path, subtitle: str) -> None:
        """Writes the figure as one picture."""
        self._png(self._whole(subtitle), path)

    def _png(self, picture: str, path: Path) -> None:
        import vl_convert

        path.write_bytes(vl_convert.svg_to_png(picture, scale=2))

    def _whole(self, subtitle: str) -> str:
        width = (self.width if len(self.panels) > 1 or self.fixed else WIDE) - 70
        whole = {
            "title": {"text": self.title, "subtitle": subtitle, "fontSize": 16, "offset": 14},
            "concat": [{**panel, "width": width, "height": self.outer_height - 70} for panel in self.panels],
            "resolve": {"scale": {"color": "independent", "shape": "independent"}},
            "columns": min(4, max(1, 1060 // self.width)),
            "spacing": 28,
            "padding": 16,
            "config": VEGA_CONFIG,
        }
        return vega_svg(whole)


def _size(width: int, height: int) -> Spec:
    return {"width": width, "height": height, "autosize": {"type": "fit", "contains": "padding"}}


def svg(spec: Spec, width: int, height: int, key: str, label: str) -> Markup:
    """Draws one panel as an SVG element of exactly that size.

    Args:
        spec: Vega-Lite unit or layer specification; marks with a `description` channel show it when pointed at.
        width: Outer width, pixels.
        height: Outer height, pixels.
        key: Makes ids unique within a page.
        label: What it shows, for those who cannot see it.
    """
    config = {**VEGA_CONFIG, "background": None, "padding": {"left": 4, "right": 8, "top": 8, "bottom": 4}}
    # Text is measured larger than it is set, as the reader's font may be wider than the one here.
    measured = _sized({**spec, **_size(width, height), "config": config})
    root = ElementTree.fromstring(vega_svg(measured))
    _prune(root)
    for node in root.iter():
        _clean(node, key)
    root.attrib.update({"role": "img", "aria-label": plain(label), "class": "plot", "width": str(width), "height": str(height)})
    root.attrib["viewBox"] = f"0 0 {width} {height}"
    root.attrib.pop("version", None)
    ElementTree.register_namespace("", _SVG)
    return Markup(ElementTree.tostring(root, encoding="unicode").replace(f' xmlns="{_SVG}"', ""))


def vega_svg(spec: Spec) -> str:
    """Draws a specification; what is no letter of XML would end the process, and what cannot be seen becomes `�`."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(_shown(spec)))


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shown(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_shown(part) for part in value]
    return plain(value) if isinstance(value, str) else value


def _sized(value: Any, name: str = "") -> Any:
    """A specification with every size of text multiplied by `WIDEST_FONT`."""
    if isinstance(value, dict):
        return {key: _sized(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [_sized(part) for part in value]
    return value * WIDEST_FONT if name.endswith(("fontSize", "FontSize")) else value


def _prune(node: ElementTree.Element) -> None:
    """Without elements that draw nothing: the empty backgrounds and foregrounds of Vega's groups are half of its text."""
    for child in list(node):
        _prune(child)
        plain = child.tag == f"{{{_SVG}}}path" and not (child.get("fill") or child.get("stroke"))
        empty = child.tag == f"{{{_SVG}}}g" and not len(child)
        if empty or plain or child.get("display") == "none" or (child.tag == f"{{{_SVG}}}path" and not child.get("d")):
            node.remove(child)


def _clean(node: ElementTree.Element, key: str) -> None:
    """Colours of the theme, ids of this figure, few digits; what a mark says becomes its tooltip."""
    said = node.get("aria-label") if node.get("role") == "graphics-symbol" and node.tag != f"{{{_SVG}}}g" else None
    for name, value in list(node.attrib.items()):
        if name.startswith("aria-") or name in ("role", "font-family", "class", "stroke-miterlimit", "pointer-events"):
            del node.attrib[name]
        elif value.startswith("#") or "url(#" in value:
            node.set(name, THEME.get(value.lower(), value).replace("url(#", f"url(#{key}-"))
        elif name == "id":
            node.set(name, f"{key}-{value}")
        elif (name, value) in _DEFAULTS:
            del node.attrib[name]
        elif name == "font-size":
            node.set(name, f"{float(value.removesuffix('px')) / WIDEST_FONT:.4g}px")
        elif name in ("d", "transform"):
            node.set(name, _NUMBER.sub(lambda found: f"{float(found[0]):.1f}", value))
    if said:
        title = ElementTree.SubElement(node, f"{{{_SVG}}}title")
        title.text = said


def tier_colour(tier: str) -> str:
    """The CSS colour of a tier on a page."""
    return f"var(--tier-{tier})"


def _theme() -> dict[str, str]:
    names = {INK: "ink", MUTED: "muted", FAINT: "line", PAPER: "paper", GRID: "hair", RULE: "axis"}
    return {colour.lower(): f"var(--{name})" for colour, name in names.items()} | {
        style.colour.lower(): tier_colour(tier) for tier, style in reversed(TIER_STYLES.items())
    }


THEME = _theme()
"""Colours of a picture -> the page's own, which are lighter on a dark page."""


def csv_link(frame: pd.DataFrame, file: str) -> str:
    """A data URI that holds a frame as CSV, so that the download needs no server and no script; large ones are linked as a file."""
    text = quote(without_formulas(frame).to_csv(index=False, float_format="%.5g"))
    return f"data:text/csv;charset=utf-8,{text}" if len(text) < MOST_INSIDE else file


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain data for Vega, NaN as null."""
    clean = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in clean.to_dict("records")]


def all_digests(figures: Iterable[Figure]) -> list[str]:
    """Digests of the cells of several figures, each once."""
    return sorted({digest for figure in figures for digest in figure.digests})
