"""Pictures of where and for whom a model fails, and of what its confidence is worth."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rs05bench.protocol.tiers import TIER_STYLES, TierStyle
from rs05bench.report.drawing import Spec, records
from rs05bench.report.evidence import ELSEWHERE, HOME
from rs05bench.report.figures import DASHED, POINT, SAID
from rs05bench.report.style import PAPER, metric_name, tier_scale, with_interval


def group_panel(rows: pd.DataFrame, column: str, domain: list[float], metric: str) -> Spec:
    """Held-out scores of each tier's best model by the values of one group column."""
    models = dict(zip(rows["model"], rows["tier"], strict=True))
    look = tier_scale(models)
    order = rows.groupby("group")["value"].mean().sort_values().index.tolist()
    named = {group: int(units) for group, units in rows.groupby("group")["units"].max().items()}
    drawn = rows.assign(
        said=[f"{row['group']}, {row['model']}: {with_interval(row)}" for row in rows.to_dict("records")],
        group=[f"{group} ({named[group]:,})" for group in rows["group"]],
    )
    y = {
        "field": "group",
        "type": "nominal",
        "sort": [f"{group} ({named[group]:,})" for group in order],
        "axis": {"title": None, "labelLimit": 165, "grid": True, "ticks": False, "domain": False},
        "scale": {"paddingInner": 0.25},
    }
    offset = {"field": "model", "type": "nominal", "sort": list(models)}
    x = {"type": "quantitative", "scale": {"domain": domain, "nice": False, "zero": False}, "title": f"{metric_name(metric)}, held out"}
    x["axis"] = {"tickCount": 5}
    return {
        "title": {"text": column.replace("_", " "), "subtitle": "units in brackets"},
        "layer": [
            {
                "data": {"values": records(drawn.dropna(subset=["low", "high"])[["group", "model", "low", "high"]])},
                "mark": {"type": "rule", "opacity": 0.45, "strokeWidth": 1.5, "clip": True},
                "encoding": {"y": y, "yOffset": offset, "x": x | {"field": "low"}, "x2": {"field": "high"}, "color": look["color"]},
            },
            {
                "data": {"values": records(drawn[["group", "model", "value", "said"]])},
                "mark": {**POINT, "size": 55},
                "encoding": {"y": y, "yOffset": offset, "x": x | {"field": "value"}, **look, **SAID},
            },
        ],
    }


def _dot(style: TierStyle, *, filled: bool) -> Spec:
    return {**POINT, "stroke": style.colour, "shape": style.marker, "size": 45, "filled": filled, "fill": style.colour if filled else PAPER}


def reliability_panel(rows: pd.DataFrame, tier: str) -> Spec:
    """Confidence against share right; at home solid, held out dashed.

    Args:
        rows: Rows of `calibration` of one model.
        tier: Its tier.
    """
    style = TIER_STYLES[tier]
    x = {"field": "confidence", "type": "quantitative", "scale": {"domain": [0, 1]}, "axis": {"title": "how sure it was", "tickCount": 5}}
    y = {"type": "quantitative", "scale": {"domain": [0, 1]}, "title": "how often it was right", "field": "right"}
    rows = rows.assign(
        said=[
            f"{where}: {right:.2f} right where {sure:.2f} sure, {int(n):,} predictions"
            for where, right, sure, n in zip(rows["where"], rows["right"], rows["confidence"], rows["predictions"], strict=True)
        ]
    )
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
                    {"mark": _dot(style, filled=filled), "encoding": SAID},
                ],
                "encoding": {"x": x, "y": y},
            }
        )
    return {"title": {"text": str(rows["model"].iloc[0]), "subtitle": tier}, "layer": layers}


def coverage_panel(rows: pd.DataFrame, tier: str) -> Spec:
    """Share of truth inside the 90 % intervals against labels; at home solid, held out dashed."""
    style = TIER_STYLES[tier]
    labels = sorted(rows["labels"].unique())
    rows = rows.assign(
        said=[f"{where}, {n:.0f} labels: {value:.2f}" for where, n, value in zip(rows["where"], rows["labels"], rows["value"], strict=True)]
    )
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
                "data": {"values": records(part[["labels", "value", "said"]])},
                "layer": [
                    {"mark": {"type": "line", "color": style.colour, "strokeDash": dash, "strokeWidth": 2}},
                    {"mark": _dot(style, filled=filled), "encoding": SAID},
                ],
                "encoding": {"x": x, "y": y},
            }
        )
    return {"title": {"text": str(rows["model"].iloc[0]), "subtitle": tier}, "layer": layers}
