"""Scores of the declared groups of one cell: each with an interval, the worst of them, and the gap, from kept sums."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.inference.intervals import Estimate, paired_difference, score_interval
from rs05bench.protocol.kept import Stats
from rs05bench.protocol.metrics import METRICS, find_metric

LEAST_UNITS = 30
"""A group of fewer units is scored, and called neither worst nor best."""


def group_report(metric: str, names: list[str], of_group: list[Stats], units: NDArray[np.integer]) -> dict[str, Any]:
    """Scores of declared groups, the worst and the gap, as plain data.

    Args:
        metric: The score.
        names: G group names.
        of_group: Sums of each group, over equally many clusters that stand for the same blocks in the same order.
        units: (G,) scored units.

    Returns:
        `metric`, `groups` (name -> `units`, `clusters`, `value`, `low`, `high`), `worst`, `best`, `gap` (how much worse the worst is, with
        interval; both groups are resampled together. Choosing the extremes makes it larger than the gap of two groups named beforehand).
        Only groups of at least 30 units can be worst or best.
    """
    known = find_metric(metric, METRICS)
    groups: dict[str, dict[str, Any]] = {}
    ranked: list[tuple[float, int]] = []
    for index, (name, stats) in enumerate(zip(names, of_group, strict=True)):
        there = [stats.clusters[row] for row in np.flatnonzero(np.asarray(stats.vectors).any(axis=1))]
        estimate = score_interval(stats.select(there), metric, method="t")
        groups[name] = {"units": int(units[index]), "clusters": len(there), **_ends(estimate)}
        if units[index] >= LEAST_UNITS and np.isfinite(estimate.value):
            ranked.append((known.goodness(estimate.value), index))
    record: dict[str, Any] = {"metric": metric, "groups": groups, "worst": None, "best": None, "gap": None}
    if not ranked:
        return record
    worst, best = min(ranked)[1], max(ranked)[1]
    record |= {"worst": names[worst], "best": names[best]}
    if worst != best and known.higher_is_better is not None:
        first, second = (best, worst) if known.higher_is_better else (worst, best)
        common = of_group[first].clusters
        sides = [replace(of_group[index], clusters=common) for index in (first, second)]
        record["gap"] = _ends(paired_difference(sides[0], sides[1], metric, method="t"))
    return record


def _ends(estimate: Estimate) -> dict[str, float | None]:
    return {
        "value": estimate.value if np.isfinite(estimate.value) else None,
        "low": estimate.low if np.isfinite(estimate.low) else None,
        "high": estimate.high if np.isfinite(estimate.high) else None,
    }
