"""The two pictures a study needs: values with intervals by category, and values with intervals along a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rs05bench.protocol.inference import Estimate
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.drawing import Spec, records
from rs05bench.report.style import INK

# Okabe & Ito 2008, in an order whose neighbours differ in lightness too; a marker repeats what colour says.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8C5A2B", "#CC79A7", "#7F7F7F", "#E69F00", "#56B4E9")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "wedge")


def row(estimate: Estimate | None, **names: Any) -> dict[str, Any]:
    """A row of a figure's table: what it is, and the number with its interval."""
    if estimate is None:
        return {**names, "value": None, "low": None, "high": None, "p": None, "scope": "", "note": "not there"}
    return {
        **names,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": estimate.p,
        "scope": estimate.scope,
        "note": estimate.note,
    }


def look(series: Sequence[str], tiers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Colour and shape channels of named series; a series that is a tier's looks as it looks everywhere."""
    styles = [TIER_STYLES.get((tiers or {}).get(name, "")) for name in series]
    own = iter(zip(COLOURS, MARKERS, strict=True)) if len(series) <= len(COLOURS) else iter(zip(COLOURS * 4, MARKERS * 4, strict=True))
    chosen = [(style.colour, style.marker) if style else next(own) for style in styles]
    legend = {"orient": "bottom", "title": None, "columns": 2, "labelLimit": 320, "symbolOpacity": 1} if len(series) > 1 else None
    common = {"field": "series", "type": "nominal", "legend": legend}
    return {
        "color": {**common, "scale": {"domain": list(series), "range": [colour for colour, _ in chosen]}},
        "shape": {**common, "scale": {"domain": list(series), "range": [marker for _, marker in chosen]}},
    }


def by_category(
    frame: pd.DataFrame,
    *,
    title: str,
    axis: str,
    subtitle: str = "",
    tiers: Mapping[str, str] | None = None,
    zero: bool = False,
) -> Spec:
    """Values with intervals, a line a category.

    Args:
        frame: Columns `category`, `series`, `value`, `low`, `high`.
        title: Title of the panel.
        axis: What the values are, with unit.
        subtitle: What the panel is about.
        tiers: Tier of a series, for its colour.
        zero: Whether to draw the line of no difference.
    """
    frame = frame.dropna(subset=["value"])
    categories, series = list(dict.fromkeys(frame["category"])), list(dict.fromkeys(frame["series"]))
    y = {
        "field": "category",
        "type": "nominal",
        "sort": categories,
        "axis": {"title": None, "labelLimit": 260, "grid": True, "ticks": False, "domain": False},
    }
    offset = {"yOffset": {"field": "series", "type": "nominal", "sort": series}} if len(series) > 1 else {}
    style = look(series, tiers)
    x = {"type": "quantitative", "scale": {"zero": False, "nice": True}, "title": axis}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.65},
            "encoding": {"y": y, **offset, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": style["color"]},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"y": y, **offset, "x": {**x, "field": "value"}, **style, "tooltip": _tooltip("category")},
        },
    ]
    if zero:
        layers.insert(0, _zero("x"))
    step = 19 * max(len(series), 1) + 9
    height = step * len(categories) if categories else 60
    return {"title": _title(title, subtitle), "data": {"values": _drawn(frame)}, "height": height, "layer": layers}


def along(
    frame: pd.DataFrame,
    *,
    title: str,
    axis: str,
    x_title: str,
    subtitle: str = "",
    tiers: Mapping[str, str] | None = None,
    zero: bool = False,
    log: bool = True,
) -> Spec:
    """Values with intervals along a number, a line a series.

    Args:
        frame: Columns `x`, `series`, `value`, `low`, `high`.
        title: Title of the panel.
        axis: What the values are.
        x_title: What `x` is.
        subtitle: What the panel is about.
        tiers: Tier of a series, for its colour.
        zero: Whether to draw the line of no difference.
        log: Whether `x` is on a logarithmic scale.
    """
    frame = frame.dropna(subset=["value"])
    series = list(dict.fromkeys(frame["series"]))
    values = sorted(frame["x"].unique().tolist())
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log" if log else "linear", "nice": False, "padding": 14},
        "axis": {"values": values, "format": "d", "grid": False, "title": x_title, "labelOverlap": "greedy"},
    }
    y = {"type": "quantitative", "scale": {"zero": False}, "title": axis}
    style = look(series, tiers)
    layers: list[Spec] = [
        {
            "mark": {"type": "area", "opacity": 0.13},
            "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": style["color"]},
        },
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"x": x, "y": {**y, "field": "value"}, "color": style["color"]}},
        {
            "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
            "encoding": {"x": x, "y": {**y, "field": "value"}, **style, "tooltip": _tooltip("x")},
        },
    ]
    if zero:
        layers.insert(0, _zero("y"))
    return {"title": _title(title, subtitle), "data": {"values": _drawn(frame)}, "height": 250, "layer": layers}


def _title(title: str, subtitle: str) -> dict[str, Any]:
    return {"text": title, **({"subtitle": subtitle} if subtitle else {})}


def _zero(channel: str) -> Spec:
    return {
        "data": {"values": [{"zero": 0}]},
        "mark": {"type": "rule", "color": INK, "strokeWidth": 1, "strokeDash": [3, 3]},
        "encoding": {channel: {"field": "zero", "type": "quantitative"}},
    }


def _tooltip(first: str) -> list[dict[str, Any]]:
    numbers = [{"field": name, "type": "quantitative", "format": ".3f"} for name in ("value", "low", "high")]
    return [{"field": first, "title": first}, {"field": "series", "title": "series"}, *numbers]


def _drawn(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The columns that are drawn; where there is no interval, one of no width."""
    shown = frame[[name for name in ("category", "x", "series", "value", "low", "high") if name in frame]].copy()
    for end in ("low", "high"):
        shown[end] = pd.to_numeric(shown[end]).fillna(pd.to_numeric(shown["value"]))
    return records(shown)
