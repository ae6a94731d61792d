"""How a report writes numbers and names, and how its pictures look."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from rs05bench.protocol.hashing import text_digest
from rs05bench.protocol.splits import Split
from rs05bench.protocol.tiers import TIER_STYLES

INK, MUTED, FAINT, PAPER = "#1b1f24", "#56606b", "#d9dde2", "#ffffff"
GRID, RULE = "#eceff2", "#87909b"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"

METRIC_NAMES = {
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "overall_accuracy": "overall accuracy",
    "kappa": "kappa",
    "r2": "R²",
    "mae": "mean absolute error",
    "rmse": "RMSE",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "morans_i": "Moran's I of the residuals",
    "boundary_f1": "boundary F1",
    "miou": "mIoU",
    "bias": "bias",
}

# What Vega draws for a marker, as an SVG path in a box from -1 to 1, for the legend of the page.
MARKER_PATHS = {
    "circle": "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z",
    "square": "M-.9,-.9H.9V.9H-.9Z",
    "cross": "M-1,-.35H-.35V-1H.35V-.35H1V.35H.35V1H-.35V.35H-1Z",
    "diamond": "M0,-1.2L1,0L0,1.2L-1,0Z",
    "triangle-up": "M0,-1L1,.85H-1Z",
    "triangle-down": "M0,1L1,-.85H-1Z",
    "triangle-right": "M1,0L-.85,1V-1Z",
    "triangle-left": "M-1,0L.85,1V-1Z",
    "wedge": "M0,-1.2L.6,1H-.6Z",
}


def number(value: float | None, digits: int = 2) -> str:
    """A number as the report writes it: `.71`, `−.05`, `1.20`; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{abs(value):.{digits}f}"
    if text.startswith("0.") and digits:
        text = text[1:]
    zero = not any(digit in text for digit in "123456789")
    return f"−{text}" if value < 0 and not zero else text


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign."""
    text = number(value, digits)
    return text if text.startswith("−") else f"+{text}"


def bracket(low: float, high: float, digits: int = 2) -> str:
    """An interval: `[.64, .77]`; empty where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


ENDS = ("value", "low", "high", "median", "median_low", "median_high")
"""Columns of an estimate: the mean over groups, its interval, and, where the mean has none, the median with its own."""


def plain(text: Any) -> str:
    """Text without what cannot be seen: control, format and unassigned characters become `�`, so nothing can turn or hide what follows."""
    text = str(text if text is not None else "")
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") else "�"
        for letter in text
    )


def interval_of(row: Mapping[str, Any], prefix: str = "") -> str:
    """The interval of an estimate's columns: `[.64, .77]`, `median .70 [.64, .77]`, or empty where there is none."""
    ends = bracket(row.get(f"{prefix}low", math.nan), row.get(f"{prefix}high", math.nan))
    middle = row.get(f"{prefix}median", math.nan)
    if ends or not math.isfinite(middle):
        return ends
    low, high = (row.get(f"{prefix}median_{end}", math.nan) for end in ("low", "high"))
    return f"median {number(middle)} {bracket(low, high)}".rstrip()


def with_interval(row: Mapping[str, Any]) -> str:
    """`.71 [.64, .77]`."""
    return f"{number(row['value'])} {interval_of(row)}".rstrip()


def seconds(value: float | None) -> str:
    """A time for people."""
    if value is None or not math.isfinite(value):
        return "–"
    if value < 0.1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.2g} s" if value < 100 else f"{value / 60:.3g} min"


def metric_name(name: str) -> str:
    """A metric's name for people."""
    if name in METRIC_NAMES:
        return METRIC_NAMES[name]
    stem, _, rest = name.partition("_")
    return f"{stem.upper()} of {rest}" if stem in ("f1", "iou") and rest else name.replace("_", " ")


def split_title(split: str) -> str:
    """What a split asks, in a few words."""
    return Split(split).heading


def elsewhere(split: str) -> str:
    """Where the held-out units are, to end a sentence with."""
    name = Split(split)
    return name.words(name.rule.elsewhere)


def layer_name(model: str) -> str:
    """A name as a layer and file name: `hybrid-rf`. One with other signs than a slash, or a long one, ends in a digest of its own."""
    plain = re.sub(r"[^A-Za-z0-9.@_-]+", "-", model).strip(".-")
    own = re.fullmatch(r"[A-Za-z0-9@_-][A-Za-z0-9.@_/-]*", model) and len(model) <= 60
    return plain if own and plain else f"{plain[:40] or 'layer'}-{text_digest(model)[:8]}"


def a(word: str) -> str:
    """A word with its article."""
    return f"{'an' if word[:1].lower() in 'aeio' else 'a'} {word}"


def tier_scale(models: dict[str, str]) -> dict[str, Any]:
    """Vega-Lite colour and shape channels for models (name -> tier); the same tier looks the same in every picture."""
    names = list(models)
    styles = [TIER_STYLES[tier] for tier in models.values()]
    return {
        "color": {"field": "model", "type": "nominal", "legend": None, "scale": {"domain": names, "range": [s.colour for s in styles]}},
        "shape": {"field": "model", "type": "nominal", "legend": None, "scale": {"domain": names, "range": [s.marker for s in styles]}},
    }


VEGA_CONFIG: dict[str, Any] = {
    "font": FONT,
    "mark": {"aria": False},
    "background": PAPER,
    "view": {"stroke": None},
    "axis": {
        "domainColor": RULE,
        "tickColor": RULE,
        "gridColor": GRID,
        "labelColor": MUTED,
        "titleColor": MUTED,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 6,
    },
    "title": {
        "color": INK,
        "fontSize": 13,
        "fontWeight": 600,
        "anchor": "start",
        "subtitleColor": MUTED,
        "subtitleFontSize": 11,
        "offset": 8,
    },
    "legend": {"labelColor": MUTED, "titleColor": MUTED, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"},
    "text": {"color": INK, "fontSize": 11},
}
