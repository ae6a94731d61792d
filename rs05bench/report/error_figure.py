"""Errors on a map, of single units and of test blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rs05bench.report.drawing import Figure, Spec
from rs05bench.report.figures import ERROR_RAMP
from rs05bench.report.maps import MOST_POINTS, SIDE, Pairs, View, group_outlines, half_width, map_panel, thinned
from rs05bench.report.style import number

MOST_MAPS = 12
LEAST_ON_A_MAP = 5
"""A group of fewer places gets no map of its own."""
SPREAD_OUT = 12.0
"""Groups are mapped apart where the whole is this many times wider than they are: as dots on one map they would be invisible."""


@dataclass(frozen=True)
class MapMeasure:
    """What the colours of a map stand for.

    Attributes:
        mean: The measure of one panel, in words.
        colours: What light and dark mean.
        least: The lightest, in words.
        most: The darkest, in words; empty where the measure has no end.
    """

    mean: str
    colours: str
    least: str
    most: str


def of_errors(*, regression: bool) -> MapMeasure:
    """Errors of classes, or of numbers."""
    if regression:
        return MapMeasure("mean error", "light is right, dark is wrong", "0", "")
    return MapMeasure("share wrong", "light is right, dark is wrong", "right", "all wrong")


def of_disagreement(*, regression: bool) -> MapMeasure:
    """How far the fits of one model differ at a place, whether or not they are right."""
    if regression:
        return MapMeasure("mean deviation between fits", "light where the fits predict the same, dark where they differ", "0", "")
    return MapMeasure(
        "share of fits with another answer",
        "light where all fits answer alike, dark where many answer otherwise",
        "all alike",
        "none alike",
    )


def error_figure(
    key: str,
    title: str,
    what: str,
    placed: pd.DataFrame,
    groups: Sequence[str],
    *,
    measure: MapMeasure,
    digests: Sequence[str] = (),
) -> Figure:
    """Maps of errors: one of all, or one a group where groups are far apart, the worst first.

    Args:
        key: Name of the figure.
        title: Title.
        what: What is drawn, to begin the caption with.
        placed: `place`, `lon`, `lat`, `error`, `usual_mistake` and the group columns.
        groups: Group columns, the one that a split moves first.
        measure: What `error` holds.
        digests: Cells it is drawn from.
    """
    # A few extreme places must not bleach all others.
    top = float(np.quantile(placed["error"], 0.95)) or float(placed["error"].max()) or 1.0 if not measure.most else 1.0
    column = _compact_group(placed, groups)
    more = ""
    if column is not None:
        means = placed.groupby(column)["error"].mean().sort_values(ascending=False)
        parts = {str(value): placed[placed[column] == value] for value in means.index[:MOST_MAPS]}
        reach = float(np.quantile([half_width(rows["lon"], rows["lat"]) for rows in parts.values()], 0.75))
        panels = []
        for name, rows in parts.items():
            view = View.around(rows["lon"], rows["lat"], 1.1 * max(reach, half_width(rows["lon"], rows["lat"])))
            panels.append(error_map(rows, name, f"{measure.mean} {number(float(rows['error'].mean()))}", top, view))
        more = f" One map per {column.replace('_', ' ')}, the worst first"
        more += f": {len(parts)} of {len(means)} are drawn." if len(means) > len(parts) else "."
    else:
        outlines = group_outlines(placed, groups[0]) if groups else None
        view = View.around(placed["lon"], placed["lat"])
        panels = [
            error_map(placed, f"{measure.mean} {number(float(placed['error'].mean()))}", f"{len(placed):,} places", top, view, outlines)
        ]
    more += f" At most {MOST_POINTS:,} places are drawn on a map." if len(placed) > MOST_POINTS else ""
    caption = f"{what}: {measure.colours}.{more} Solid lines are borders (Natural Earth), dashed ones outline groups."
    return Figure(key, title, caption, panels, placed, digests, SIDE, legend=ramp_words(top, measure), fixed=True)


def _compact_group(placed: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """The group column whose values are the smallest patches, where patches are so far apart that one map would show dots; else None."""
    widths = {
        column: float(np.median([half_width(rows["lon"], rows["lat"]) for _, rows in placed.groupby(column)]))
        for column in columns
        if 2 <= placed[column].nunique() <= 2 * MOST_MAPS and placed[column].value_counts().median() >= LEAST_ON_A_MAP
    }
    best = min(widths, key=lambda column: widths[column], default=None)
    return best if best is not None and half_width(placed["lon"], placed["lat"]) > SPREAD_OUT * widths[best] else None


def error_map(rows: pd.DataFrame, title: str, subtitle: str, top: float, view: View, outlines: Mapping[str, Pairs] | None = None) -> Spec:
    """Places coloured by error, the worst on top.

    Args:
        rows: `place`, `lon`, `lat`, `error` and `usual_mistake`.
        title: Title.
        subtitle: Second line.
        top: Error drawn darkest.
        view: The ground shown.
        outlines: Outlines of groups.
    """
    drawn = thinned(rows).sort_values("error", kind="stable")
    columns = (drawn[name] for name in ("place", "error", "usual_mistake"))
    said = [f"{place}: {error:.2f}{f', {mistake}' if mistake else ''}" for place, error, mistake in zip(*columns, strict=True)]
    drawn = drawn.assign(said=said, error=drawn["error"].round(3))
    colour = {
        "field": "error",
        "type": "quantitative",
        "legend": None,
        "scale": {"domain": [0, top], "range": ERROR_RAMP, "clamp": True},
    }
    return map_panel(
        drawn[["lon", "lat", "error", "said"]], view, title=title, subtitle=subtitle, channels={"color": colour}, outlines=outlines
    )


def ramp_words(top: float, measure: MapMeasure) -> list[tuple[str, str]]:
    """The colours of an error map, a few steps of them, each with its words."""
    steps = [top * share / (len(ERROR_RAMP) - 1) for share in range(len(ERROR_RAMP))]
    words = [f"{value:.2g}" for value in steps]
    words[0], words[-1] = measure.least, measure.most or f"{words[-1]} and more"
    return list(zip(words, ERROR_RAMP, strict=True))
