"""Panels of scores, drops and costs, as Vega-Lite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.drawing import PANEL, Spec, records
from rs05bench.report.evidence import ELSEWHERE
from rs05bench.report.style import INK, MUTED, PAPER, metric_name, number, seconds, tier_scale, with_interval

DASHED = [6, 4]
SHORTEST_S = 1e-3
"""Shorter times are drawn here: whether a majority vote takes 10 or 100 microseconds does not matter."""
LOWEST_R2 = -1.0
"""R² has no lower end; pictures stop here and say so."""


POINT: Spec = {"type": "point", "filled": True, "opacity": 1, "clip": True, "aria": True}
SAID: Spec = {"description": {"field": "said"}}
"""What a mark says when it is pointed at."""
LONG_NAME = 21
KEYS = ("region", "side", "score")


def _said(rows: pd.DataFrame, metric: str, count: str = "", counted: str = "") -> list[str]:
    """Model, score and interval of each row, for its mark."""
    scores = [with_interval(row) for row in rows.to_dict("records")]
    amounts = [f", {value:.0f} {counted}" for value in rows[count]] if count else [""] * len(rows)
    return [f"{model}{more}: {metric_name(metric)} {text}" for model, more, text in zip(rows["model"], amounts, scores, strict=True)]


def score_domain(values: Iterable[float], metric: str) -> list[float]:
    """Ends of a score axis: room around the values, R² cut at -1, or three below the best where nothing is above 0."""
    known = np.asarray([value for value in values if value is not None and math.isfinite(value)])
    if not len(known):
        return [0.0, 1.0]
    low, high = float(known.min()), float(known.max())
    if metric == "r2":
        low = max(low, LOWEST_R2 if high > 0 else min(LOWEST_R2, high - 3))
    room = max(0.04 * (high - low), 0.01)
    low, high = low - room, high + room
    return [max(0.0, low) if known.min() >= 0 else low, min(1.0, high) if known.max() <= 1 else high]


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the values, in their order, at least `gap` apart and inside the ends where there is room: labels that do not touch."""
    order = np.argsort(values, kind="stable")
    placed = np.clip(np.asarray(values, dtype=float)[order], low, high)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    if len(placed) and placed[-1] > high:
        placed[-1] = high
        for i in range(len(placed) - 2, -1, -1):
            placed[i] = min(placed[i], placed[i + 1] - gap)
    out = np.empty(len(placed))
    out[order] = placed
    return out.tolist()


def curve_panel(
    rows: pd.DataFrame,
    models: dict[str, str],
    title: str,
    subtitle: str,
    domain: list[float],
    metric: str,
    counted: str = "labels",
    sanity: pd.DataFrame | None = None,
) -> Spec:
    """Score against labels of one role: a line a model, its interval as a band.

    Args:
        rows: Rows of `estimates` of one split and role.
        models: Model -> tier, in the order drawn.
        title: Title of the panel.
        subtitle: What is held out.
        domain: Ends of the score axis, shared between panels.
        metric: The score.
        counted: What a budget counts: labels, or labelled chips.
        sanity: The same of a random split, drawn as a faint dotted line.
    """
    rows = rows[rows["model"].isin(models)].dropna(subset=["value"])
    dashed = bool((rows["role"] == ELSEWHERE).all()) and len(rows) > 0
    labels = sorted(rows["labels"].unique())
    first, last = (labels[0], labels[-1]) if labels else (1.0, 10.0)
    span = max(last / first, 2.0)
    # Room at the right for the names at the ends of the lines, enough for the longest of them on a phone.
    names = [*models.values(), *(["random split"] if sanity is not None and not sanity.empty else [])]
    share = min(0.58, max(0.22, 8.4 * max(map(len, names), default=0) / (PANEL - 60)))
    room = 1.06 * share / (1 - share)
    x = {
        "field": "labels",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [first / span**0.06, last * span**room], "nice": False},
        "axis": {"values": labels, "format": "d", "grid": False, "title": f"{counted} used, validation included"},
    }
    y = {"type": "quantitative", "scale": {"domain": domain, "nice": False, "zero": False}, "title": metric_name(metric)}
    look = tier_scale(models)
    ends = rows[rows["labels"] == rows.groupby("model")["labels"].transform("max")].copy()
    ends["text"] = ends["model"].map(models)
    if sanity is not None and not sanity.empty:
        chance = sanity.sort_values("labels").iloc[[-1]].assign(model="", text="random split")
        ends = pd.concat([ends, chance], ignore_index=True)
    gap = (domain[1] - domain[0]) * 15 / 260
    # Half a line inside the frame, or the panel would grow and its axis no longer stand beside its neighbour's.
    ends["at"] = spread(ends["value"].tolist(), gap, domain[0] + gap / 2, domain[1] - gap / 2)
    of_models, of_chance = ends[ends["model"] != ""], ends[ends["model"] == ""]
    drawn = rows.assign(said=_said(rows, metric, "labels", counted))
    line: Spec = {"type": "line", "strokeWidth": 2.2, "clip": True}
    if dashed:
        line["strokeDash"] = DASHED
    layers: list[Spec] = []
    if sanity is not None and not sanity.empty:
        faint = {"data": {"values": records(sanity[["labels", "value"]])}, "encoding": {"x": x, "y": y | {"field": "value"}}}
        layers.append(faint | {"mark": {"type": "line", "strokeDash": [1, 3], "color": MUTED, "strokeWidth": 1.5, "clip": True}})
    layers += [
        {
            "data": {"values": records(drawn.dropna(subset=["low", "high"])[["model", "labels", "low", "high"]])},
            "mark": {"type": "area", "opacity": 0.13, "clip": True},
            "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": look["color"]},
        },
        {
            "data": {"values": records(drawn[["model", "labels", "value", "said"]])},
            "layer": [
                {"mark": line, "encoding": {"color": look["color"]}},
                {
                    "mark": {**POINT, "size": 75, "stroke": PAPER, "strokeWidth": 1},
                    "encoding": {"color": look["color"], "shape": look["shape"], **SAID},
                },
            ],
            "encoding": {"x": x, "y": y | {"field": "value"}},
        },
        {
            "data": {"values": records(of_models[["model", "text", "labels", "at"]])},
            "mark": {"type": "text", "align": "left", "dx": 9, "fontSize": 11.5, "fontWeight": 600},
            "encoding": {"x": x, "y": y | {"field": "at"}, "text": {"field": "text"}, "color": look["color"]},
        },
        {
            "data": {"values": records(of_chance[["labels", "at", "text"]])},
            "mark": {"type": "text", "align": "left", "dx": 9, "fontSize": 10.5, "fontStyle": "italic", "color": MUTED},
            "encoding": {"x": x, "y": y | {"field": "at"}, "text": {"field": "text"}},
        },
    ]
    return {"title": {"text": title, "subtitle": subtitle}, "layer": layers}


def slope_panel(rows: pd.DataFrame, tier: str, domain: list[float], metric: str) -> Spec:
    """Score at home and held out on the same units: a faint line a region, a bold one over all.

    Args:
        rows: Rows of `drops` of one split, model and budget.
        tier: Tier of the model.
        domain: Ends of the score axis.
        metric: The score.
    """
    style = TIER_STYLES[tier]
    overall, regions = rows[rows["region"] == "all"], rows[rows["region"] != "all"].dropna(subset=["home", "held_out"])
    long = regions.melt(id_vars=["region"], value_vars=["home", "held_out"], var_name="side", value_name="score")
    bold = overall.melt(id_vars=["region"], value_vars=["home", "held_out"], var_name="side", value_name="score")
    for frame in (long, bold):
        frame["side"] = frame["side"].map({"home": "at home", "held_out": "held out"})
        frame["said"] = [f"{region}, {side}: {number(score)}" for region, side, score in zip(*map(frame.get, KEYS), strict=True)]
    named = regions.sort_values("value", ascending=False, kind="stable").head(3).copy()
    named["side"] = "held out"
    gap = (domain[1] - domain[0]) * 13 / 230
    named["at"] = spread(named["held_out"].tolist(), gap, domain[0] + gap / 2, domain[1] - gap / 2)
    x = {
        "field": "side",
        "type": "nominal",
        "sort": ["at home", "held out"],
        "axis": {"labelAngle": 0, "title": None, "grid": False, "ticks": False},
        # An empty third place leaves room for the names of regions.
        "scale": {"domain": ["at home", "held out", ""], "padding": 0.12},
    }
    y = {"type": "quantitative", "scale": {"domain": domain, "nice": False, "zero": False}, "title": metric_name(metric)}
    row = overall.iloc[0]
    told = f"drop {with_interval(row)}"
    return {
        "title": {"text": str(row["model"]), "subtitle": f"{tier}: {told}"},
        "layer": [
            {
                "data": {"values": records(long)},
                "mark": {"type": "line", "strokeWidth": 1.1, "opacity": 0.55, "color": style.colour, "clip": True},
                "encoding": {"x": x, "y": y | {"field": "score"}, "detail": {"field": "region"}},
            },
            {
                "data": {"values": records(long)},
                "mark": {**POINT, "size": 22, "opacity": 0.7, "color": style.colour},
                "encoding": {"x": x, "y": y | {"field": "score"}, **SAID},
            },
            {
                "data": {"values": records(bold)},
                "mark": {"type": "line", "strokeWidth": 3.4, "color": style.colour, "clip": True},
                "encoding": {"x": x, "y": y | {"field": "score"}},
            },
            {
                "data": {"values": records(bold)},
                "mark": {**POINT, "size": 110, "color": style.colour, "shape": style.marker},
                "encoding": {"x": x, "y": y | {"field": "score"}, **SAID},
            },
            {
                "data": {"values": records(named[["region", "side", "at"]])},
                "mark": {"type": "text", "align": "left", "dx": 9, "fontSize": 10.5, "color": MUTED, "limit": 95},
                "encoding": {"x": x, "y": y | {"field": "at"}, "text": {"field": "region"}},
            },
        ],
    }


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around two positive numbers, and threes where there are few decades."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    leads = (1, 3) if last - first <= 1 else (1,)
    return [round(lead * 10.0**power, 10) for power in range(first, last + 1) for lead in leads]


def cost_panel(frame: pd.DataFrame, metric: str) -> Spec:
    """Held-out score against the time to fit, with the frontier of what nothing cheaper beats."""
    frame = frame.dropna(subset=["fit_s", "value"])
    frame = frame.assign(fit_s=frame["fit_s"].clip(lower=SHORTEST_S))
    models = dict(zip(frame["model"], frame["tier"], strict=True))
    look = tier_scale(models)
    domain = score_domain([*frame["value"], *frame["low"], *frame["high"]], metric)
    low, high = float(frame["fit_s"].min()), float(frame["fit_s"].max())
    x = {
        "field": "fit_s",
        "type": "quantitative",
        # The left is free for the names: nothing is cheaper and better than a model on the frontier.
        "scale": {"type": "log", "domain": [low / max(high / low, 4.0) ** 0.65, high * 1.3], "nice": False},
        "axis": {"title": "seconds to fit, tuning included", "grid": False, "format": "~g", "values": log_ticks(low, high)},
    }
    y = {"type": "quantitative", "scale": {"domain": domain, "nice": False, "zero": False}, "title": f"{metric_name(metric)}, held out"}
    front = frame[frame["frontier"]]
    # The frontier goes on to the dearest model: nothing to its right is better.
    last = front.iloc[[-1]].assign(fit_s=high)
    steps = pd.concat([front, last])[["fit_s", "value"]]
    # A long name would reach beyond the picture; its tier and its mark say who it is.
    named = front.assign(
        text=[model if len(model) < LONG_NAME else tier for model, tier in zip(front["model"], front["tier"], strict=True)]
    )
    named["at"] = spread(named["value"].tolist(), (domain[1] - domain[0]) * 15 / 320, domain[0], domain[1])
    drawn = frame.assign(said=[f"{text}; {seconds(took)} to fit" for text, took in zip(_said(frame, metric), frame["fit_s"], strict=True)])
    return {
        "layer": [
            {
                "data": {"values": records(steps)},
                "mark": {"type": "line", "interpolate": "step-after", "color": INK, "strokeWidth": 1.3, "opacity": 0.75, "clip": True},
                "encoding": {"x": x, "y": y | {"field": "value"}},
            },
            {
                "data": {"values": records(drawn.dropna(subset=["low", "high"])[["model", "fit_s", "low", "high"]])},
                "mark": {"type": "rule", "opacity": 0.35, "strokeWidth": 1.5, "clip": True},
                "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": look["color"]},
            },
            {
                "data": {"values": records(drawn[["model", "fit_s", "value", "said"]])},
                "mark": {**POINT, "size": 105, "stroke": PAPER, "strokeWidth": 1},
                "encoding": {"x": x, "y": y | {"field": "value"}, **look, **SAID},
            },
            {
                "data": {"values": records(named[["model", "text", "fit_s", "at"]])},
                "mark": {"type": "text", "align": "right", "dx": -7, "dy": -9, "fontSize": 11.5, "fontWeight": 600},
                "encoding": {"x": x, "y": y | {"field": "at"}, "text": {"field": "text"}, "color": look["color"]},
            },
        ],
    }


ERROR_RAMP = ["#f4f1ec", "#f2c894", "#d9722e", "#8c2d04", "#3d1203"]
"""Light to dark in even steps of lightness, so that it reads in grey."""
