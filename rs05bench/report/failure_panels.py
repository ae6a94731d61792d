"""Pictures of where and for whom a model fails, and of what its confidence is worth."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rs05bench.protocol.geodesy import metres_per_degree
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.evidence import ELSEWHERE, HOME
from rs05bench.report.figures import DASHED, ERROR_RAMP, Spec, records
from rs05bench.report.style import FAINT, PAPER, metric_name, tier_scale, with_interval


def map_panel(rows: pd.DataFrame, title: str, subtitle: str, top: float, *, side: int, unit: str, kilometres: float) -> Spec:
    """Places of one region coloured by error, at equal scale up and across.

    Args:
        rows: Rows of `unit_errors` of one region.
        title: Region.
        subtitle: Its score.
        top: Error drawn darkest.
        side: Height of the panel, pixels.
        unit: What the error is.
        kilometres: Half the side of the ground shown.
    """
    middle_x, middle_y = (rows["lon"].min() + rows["lon"].max()) / 2, (rows["lat"].min() + rows["lat"].max()) / 2
    east_m, north_m = metres_per_degree(middle_y)
    east = (rows["lon"] - middle_x) * float(east_m) / 1000
    north = (rows["lat"] - middle_y) * float(north_m) / 1000
    placed = rows.assign(east=east.round(4), north=north.round(4))
    keep = ["place", "east", "north", "error", "predictions"] + (["usual_mistake"] if "usual_mistake" in placed else ["bias"])
    scale = {"domain": [-kilometres, kilometres], "nice": False}
    third = {"field": "usual_mistake", "title": "usual mistake"} if "usual_mistake" in placed else {"field": "bias", "format": "+.3f"}
    return {
        "title": {"text": title, "subtitle": f"{subtitle} · {_kilometres(2 * kilometres)} km across", "fontSize": 12},
        "height": side,
        "view": {"stroke": FAINT},
        "data": {"values": records(placed[keep])},
        "mark": {
            "type": "point",
            "filled": True,
            "size": 26 if len(rows) < 400 else 12,
            "opacity": 0.95,
            "stroke": "#9aa2ac",
            "strokeWidth": 0.4,
        },
        "encoding": {
            "x": {"field": "east", "type": "quantitative", "scale": scale, "axis": None},
            "y": {"field": "north", "type": "quantitative", "scale": scale, "axis": None},
            "color": {
                "field": "error",
                "type": "quantitative",
                "legend": None,
                "scale": {"domain": [0, top], "range": ERROR_RAMP, "clamp": True},
            },
            "order": {"field": "error"},
            "tooltip": [{"field": "place"}, {"field": "error", "title": unit, "format": ".2f"}, third, {"field": "predictions"}],
        },
    }


def _kilometres(length: float) -> str:
    return f"{length:,.0f}" if length >= 10 else f"{length:.1f}"


def group_panel(rows: pd.DataFrame, column: str, domain: list[float], metric: str) -> Spec:
    """Held-out scores of each tier's best model by the values of one group column."""
    models = dict(zip(rows["model"], rows["tier"], strict=True))
    look = tier_scale(models)
    order = rows.groupby("group")["value"].mean().sort_values().index.tolist()
    named = {group: int(units) for group, units in rows.groupby("group")["units"].max().items()}
    drawn = rows.assign(
        told=[with_interval(v, a, b) for v, a, b in zip(rows["value"], rows["low"], rows["high"], strict=True)],
        group=[f"{group} ({named[group]:,})" for group in rows["group"]],
    )
    y = {
        "field": "group",
        "type": "nominal",
        "sort": [f"{group} ({named[group]:,})" for group in order],
        "axis": {"title": None, "labelLimit": 150, "grid": True, "ticks": False, "domain": False},
        "scale": {"paddingInner": 0.25},
    }
    offset = {"field": "model", "type": "nominal", "sort": list(models)}
    x = {"type": "quantitative", "scale": {"domain": domain, "nice": False, "zero": False}, "title": f"{metric_name(metric)}, held out"}
    x["axis"] = {"tickCount": 5}
    return {
        "title": {"text": column.replace("_", " "), "subtitle": "units in brackets"},
        "height": len(order) * (9 * len(models) + 9),
        "layer": [
            {
                "data": {"values": records(drawn.dropna(subset=["low", "high"])[["group", "model", "low", "high"]])},
                "mark": {"type": "rule", "opacity": 0.45, "strokeWidth": 1.5, "clip": True},
                "encoding": {"y": y, "yOffset": offset, "x": x | {"field": "low"}, "x2": {"field": "high"}, "color": look["color"]},
            },
            {
                "data": {"values": records(drawn[["group", "model", "tier", "value", "told", "note"]])},
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1, "clip": True},
                "encoding": {
                    "y": y,
                    "yOffset": offset,
                    "x": x | {"field": "value"},
                    **look,
                    "tooltip": [{"field": "group"}, {"field": "model"}, {"field": "told", "title": metric_name(metric)}, {"field": "note"}],
                },
            },
        ],
    }


def reliability_panel(rows: pd.DataFrame, tier: str) -> Spec:
    """Confidence against share right; at home solid, held out dashed.

    Args:
        rows: Rows of `calibration` of one model.
        tier: Its tier.
    """
    style = TIER_STYLES[tier]
    x = {"field": "confidence", "type": "quantitative", "scale": {"domain": [0, 1]}, "axis": {"title": "how sure it was", "tickCount": 5}}
    y = {"type": "quantitative", "scale": {"domain": [0, 1]}, "title": "how often it was right", "field": "right"}
    tooltip = [
        {"field": "where"},
        {"field": "confidence", "format": ".2f"},
        {"field": "right", "format": ".2f"},
        {"field": "predictions", "format": ",d"},
    ]
    layers: list[Spec] = [
        {
            "data": {"values": [{"confidence": 0, "right": 0}, {"confidence": 1, "right": 1}]},
            "mark": {"type": "line", "color": "#aab1ba", "strokeWidth": 1},
            "encoding": {"x": x, "y": y},
        }
    ]
    for role, dash, filled in ((HOME, [1, 0], True), (ELSEWHERE, DASHED, False)):
        part = rows[rows["role"] == role]
        if part.empty:
            continue
        layers.append(
            {
                "data": {"values": records(part)},
                "layer": [
                    {"mark": {"type": "line", "color": style.colour, "strokeDash": dash, "strokeWidth": 2}},
                    {
                        "mark": {
                            "type": "point",
                            "stroke": style.colour,
                            "shape": style.marker,
                            "size": 45,
                            "filled": filled,
                            "fill": style.colour if filled else PAPER,
                            "opacity": 1,
                        },
                        "encoding": {"tooltip": tooltip},
                    },
                ],
                "encoding": {"x": x, "y": y},
            }
        )
    return {"title": {"text": str(rows["model"].iloc[0]), "subtitle": tier}, "height": 200, "layer": layers}


def coverage_panel(rows: pd.DataFrame, tier: str) -> Spec:
    """Share of truth inside the 90 % intervals against labels; at home solid, held out dashed."""
    style = TIER_STYLES[tier]
    labels = sorted(rows["labels"].unique())
    x = {
        "field": "labels",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [labels[0] / 1.2, labels[-1] * 1.2], "nice": False},
        "axis": {"values": labels, "format": "d", "grid": False, "title": "labels used"},
    }
    lowest = min(0.5, float(np.nanmin(rows[["value", "low"]].to_numpy(dtype=float))))
    scale = {"domain": [lowest, 1.0], "nice": False, "zero": False}
    y = {"type": "quantitative", "scale": scale, "title": "inside the 90 % interval", "field": "value"}
    layers: list[Spec] = [
        {"data": {"values": [{"value": 0.9}]}, "mark": {"type": "rule", "color": "#aab1ba"}, "encoding": {"y": y}},
        {
            "data": {"values": records(rows.dropna(subset=["low", "high"])[["labels", "low", "high", "where"]])},
            "mark": {"type": "area", "opacity": 0.12, "color": style.colour, "clip": True},
            "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "detail": {"field": "where"}},
        },
    ]
    for role, dash, filled in ((HOME, [1, 0], True), (ELSEWHERE, DASHED, False)):
        part = rows[rows["role"] == role]
        if part.empty:
            continue
        layers.append(
            {
                "data": {"values": records(part[["labels", "value", "where", "model"]])},
                "layer": [
                    {"mark": {"type": "line", "color": style.colour, "strokeDash": dash, "strokeWidth": 2}},
                    {
                        "mark": {
                            "type": "point",
                            "stroke": style.colour,
                            "shape": style.marker,
                            "size": 45,
                            "filled": filled,
                            "fill": style.colour if filled else PAPER,
                            "opacity": 1,
                        },
                        "encoding": {
                            "tooltip": [{"field": "where"}, {"field": "labels", "format": ".0f"}, {"field": "value", "format": ".2f"}]
                        },
                    },
                ],
                "encoding": {"x": x, "y": y},
            }
        )
    return {"title": {"text": str(rows["model"].iloc[0]), "subtitle": tier}, "height": 200, "layer": layers}
