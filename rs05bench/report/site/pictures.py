"""The pictures of the site: the panels of the report, drawn from the records of the board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.result import TIERS
from rs05bench.report import figures
from rs05bench.report.drawing import Figure, Spec
from rs05bench.report.error_figure import error_map
from rs05bench.report.failure_panels import reliability_panel
from rs05bench.report.figures import ERROR_RAMP
from rs05bench.report.foldmap import fold_panel
from rs05bench.report.maps import SIDE, View
from rs05bench.report.site.records import BoardPoint, BoardTable, FoldPlace, Leaderboard, Row, Spread
from rs05bench.report.style import elsewhere, metric_name, number

ROLES = {"test_id": "at home", "test_ood": "elsewhere"}


@dataclass(frozen=True)
class GroupCentres:
    """Where the held-out groups of a split are.

    Attributes:
        centres: Fold -> longitude and latitude of the middle of what it holds out.
        drawn: Folds worst first -> the map of them; submissions that order the folds alike share it.
    """

    centres: Mapping[str, tuple[float, float]]
    drawn: dict[tuple[tuple[str, str], ...], Figure] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, places: Mapping[str, FoldPlace]) -> GroupCentres:
        """The ground of a split's folds."""
        return cls({fold: place.centre for fold, place in places.items() if place.centre is not None})


def table_figures(table: BoardTable, board: Leaderboard, budget: str) -> list[Figure]:
    """Few-shot curves, and cost against score at a budget: the best submission of each tier."""
    best = _best(table, board, budget)
    if not best:
        return []
    metric, where = metric_name(table.metric), elsewhere(table.split)
    frame = pd.concat([curve_frame(row, board.entries[row.slug].model.name, tier) for tier, row in best.items()], ignore_index=True)
    models = {board.entries[row.slug].model.name: tier for tier, row in best.items()}
    caption = f"{metric} against labels used: the best submission of each tier. Bands are 95 % intervals. Elsewhere: {where}."
    found = [Figure("curves", "Few-shot curves", caption, _curves(frame, models, table.metric), frame, height=300, models=models)]
    costs = _costs(table, board, budget)
    if len(costs) > 1:
        machine = costs["hardware"].iloc[0] if costs["measured"].all() else ""
        said = f"measured by one command on one machine ({machine})" if machine else "as reported on different machines"
        words = f"{metric} {where} against the time to fit, {said}. On the line nobody is cheaper and better."
        found.append(Figure("frontier", "What the score costs", words, [figures.cost_panel(costs, table.metric)], costs, height=340))
    return found


def _best(table: BoardTable, board: Leaderboard, budget: str) -> dict[str, Row]:
    """The submission of each tier with the best score at a budget; random-init controls only where alone."""
    goodness = find_metric(table.metric).goodness
    best: dict[str, tuple[bool, float, Row]] = {}
    for row in table.rows:
        point, model = row.points.get(budget), board.entries[row.slug].model
        if point is None or point.ood is None:
            continue
        rank = (not model.random_twin, goodness(point.ood.value))
        if model.tier not in best or rank > best[model.tier][:2]:
            best[model.tier] = (*rank, row)
    return {tier: best[tier][2] for tier in TIERS if tier in best}


def curve_frame(row: Row, model: str, tier: str) -> pd.DataFrame:
    """A row a budget and role, as the report's curves take it."""
    rows = []
    for point in row.points.values():
        for role, spread in (("test_id", point.home), ("test_ood", point.ood)):
            if spread is not None and point.labels:
                rows.append({"model": model, "tier": tier, "labels": point.labels, "role": role, "where": ROLES[role], **_ends(spread)})
    return pd.DataFrame(rows, columns=["model", "tier", "labels", "role", "where", "value", "low", "high", "note"])


def _ends(spread: Spread) -> dict[str, Any]:
    low, high = (np.nan if end is None else end for end in (spread.low, spread.high))
    return {"value": spread.value, "low": low, "high": high, "note": ""}


def _curves(frame: pd.DataFrame, models: dict[str, str], metric: str) -> list[Spec]:
    low, high = figures.score_domain(frame["value"], metric)
    reach = 0.35 * (high - low)
    ends = [*frame["low"].clip(lower=low - reach), *frame["high"].clip(upper=high + reach)]
    domain = figures.score_domain([*frame["value"], *ends], metric)
    return [
        figures.curve_panel(frame[frame["role"] == role], models, where.capitalize(), "", domain, metric)
        for role, where in ROLES.items()
        if (frame["role"] == role).any()
    ]


def _costs(table: BoardTable, board: Leaderboard, budget: str) -> pd.DataFrame:
    goodness = find_metric(table.metric).goodness
    rows = []
    for row in table.rows:
        point, model = row.points.get(budget), board.entries[row.slug].model
        if point is not None and point.ood is not None and point.cost is not None and point.cost.fit_s:
            origin = {"hardware": point.cost.hardware, "measured": point.measured}
            rows.append({"model": model.name, "tier": model.tier, "fit_s": point.cost.fit_s, **_ends(point.ood), **origin})
    frame = pd.DataFrame(rows).drop_duplicates("model") if rows else pd.DataFrame()
    if frame.empty:
        return frame
    # Times of one machine and one command can be compared; those that others report are drawn only where there are no such times.
    alike = frame[frame["measured"] & (frame["hardware"] == frame.loc[frame["measured"], "hardware"].mode().get(0))]
    frame = alike if len(alike) > 1 else frame
    frame = frame.sort_values("fit_s", kind="stable").reset_index(drop=True)
    best = pd.Series([goodness(value) for value in frame["value"]]).cummax()
    return frame.assign(frontier=best.diff().fillna(1.0) > 0)


def model_figures(points: Sequence[BoardPoint], model: str, tier: str, metric: str, key: str) -> list[Figure]:
    """A submission's curve, and its reliability at the last of the points that has one."""
    frame = curve_frame(Row(slug="", points={point.budget: point for point in points}), model, tier)
    found = []
    if len(frame):
        words = f"{metric_name(metric)} against labels used, with 95 % intervals."
        found.append(Figure(f"{key}-curve", "Few-shot curve", words, _curves(frame, {model: tier}, metric), frame, height=260))
    return found


def reliability_figures(point: BoardPoint, model: str, tier: str, key: str) -> list[Figure]:
    """Accuracy against confidence, at home and elsewhere."""
    rows = [
        {"model": model, "role": role, "where": ROLES[role], "confidence": sure, "right": right, "predictions": count}
        for role, curve in point.curves.items()
        if role in ROLES
        for sure, right, count in zip(
            curve["confidence"], curve["accuracy"], curve.get("count", [0] * len(curve["confidence"])), strict=True
        )
    ]
    if not rows:
        return []
    frame = pd.DataFrame(rows)
    words = "Below the line it is surer than it should be. Solid: at home. Dashed: elsewhere."
    return [Figure(f"{key}-calibration", "Calibration", words, [reliability_panel(frame, tier)], frame, height=260, fixed=True)]


def group_map(ground: GroupCentres, table: BoardTable, point: BoardPoint, key: str) -> Figure | None:
    """Held-out groups where they are, coloured by their rank: dark is worst."""
    goodness = find_metric(table.metric).goodness
    there = sorted((fold for fold in ground.centres if fold in point.by_fold), key=lambda fold: goodness(point.by_fold[fold]))
    if len(there) < 2:
        return None
    frame = pd.DataFrame(
        {
            "place": there,
            "lon": [ground.centres[fold][0] for fold in there],
            "lat": [ground.centres[fold][1] for fold in there],
            "error": np.linspace(1, 0, len(there)),
            "usual_mistake": [f"{metric_name(table.metric)} {number(point.by_fold[fold], 3)}" for fold in there],
        }
    )
    known = tuple(zip(frame["place"], frame["usual_mistake"], strict=True))
    if known not in ground.drawn:
        panel = error_map(frame, "Held-out regions", "dark is worst", 1.0, View.around(frame["lon"], frame["lat"]))
        legend = [("best", ERROR_RAMP[0]), ("worst", ERROR_RAMP[-1])]
        ground.drawn[known] = Figure(f"{key}-map", "Where it fails", "", [panel], frame, height=SIDE, legend=legend, fixed=True)
    return ground.drawn[known]


def fold_figure(places: Mapping[str, FoldPlace], counts: Mapping[str, str], key: str) -> Figure | None:
    """Who trains and who is tested, a map a fold."""
    panels = []
    for fold, place in places.items():
        rows = [{"lon": lon, "lat": lat, "role": role} for role, points in place.points.items() for lon, lat in points]
        if rows:
            frame = pd.DataFrame(rows)
            panels.append(fold_panel(frame, fold, counts.get(fold, ""), View.around(frame["lon"], frame["lat"])))
    if not panels:
        return None
    return Figure(key, "Where it trains and where it is tested", "", panels, pd.DataFrame(), height=SIDE, fixed=True)
