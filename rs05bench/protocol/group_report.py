"""Scores of the declared groups of one cell, with intervals, the worst of them, and whether the gap is more than chance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.cell_record import GroupGap, GroupReport, GroupScore
from rs05bench.protocol.inference.estimate import LEVEL, limits
from rs05bench.protocol.inference.over_blocks import over_blocks
from rs05bench.protocol.kept import KeptSums
from rs05bench.protocol.metrics import Sums, find_metric

LEAST_UNITS = 30
"""A group of fewer units is scored, and called neither worst nor best."""
PERMUTATIONS = 199


def report_of_kept(metric: str, column: str, kept: KeptSums, units: Mapping[str, float]) -> GroupReport:
    """The `group_report` of a group column that kept sums are split by.

    Args:
        metric: The score.
        column: The group column.
        kept: Sums by `block` and that column.
        units: Scored units of each group.
    """
    names = sorted(units)
    of_group = [kept.add_up(metric, "block", where=kept.keys[column] == name) for name in names]
    return group_report(metric, names, of_group, np.array([units[name] for name in names], dtype=np.int64))


def group_report(metric: str, names: list[str], of_group: list[Sums], units: NDArray[np.integer]) -> GroupReport:
    """Scores of declared groups, the worst and the gap.

    Args:
        metric: The score.
        names: G group names.
        of_group: Sums of each group over blocks.
        units: (G,) scored units.
    """
    known = find_metric(metric)
    groups: dict[str, GroupScore] = {}
    ranked: list[tuple[float, int]] = []
    for index, (name, stats) in enumerate(zip(names, of_group, strict=True)):
        there = [stats.clusters[row] for row in np.flatnonzero(np.asarray(stats.vectors).any(axis=1))]
        estimate = over_blocks([[(1.0, stats.select(there))]], metric, within=limits(metric, [1.0]))
        groups[name] = GroupScore(
            units=int(units[index]),
            clusters=len(there),
            value=_finite(estimate.value),
            low=_finite(estimate.low),
            high=_finite(estimate.high),
        )
        if units[index] >= LEAST_UNITS and np.isfinite(estimate.value):
            ranked.append((known.goodness(estimate.value), index))
    report = GroupReport(metric=metric, groups=groups)
    if not ranked:
        return report
    worst, best = min(ranked)[1], max(ranked)[1]
    report.worst, report.best = names[worst], names[best]
    if worst != best and known.higher_is_better is not None:
        report.gap = _gap(metric, [of_group[index] for _, index in ranked])
    return report


def _gap(metric: str, of_group: list[Sums]) -> GroupGap:
    """The largest difference between groups against what it is when the parts of blocks are dealt to groups by chance.

    A part is what one group has of one block; parts are dealt whole, each group getting as many as it has, so units of a block stay
    together.
    """
    goodness = np.vectorize(find_metric(metric).goodness, otypes=[float])
    vectors = [np.asarray(stats.vectors, dtype=np.float64) for stats in of_group]
    parts = [part[part.any(axis=1)] for part in vectors]
    every, sizes = np.concatenate(parts), [len(part) for part in parts]
    owner = np.repeat(np.arange(len(parts)), sizes)
    rng = np.random.default_rng(0)
    dealt = np.stack([owner, *(rng.permutation(owner) for _ in range(PERMUTATIONS))])
    weights = (dealt[:, None, :] == np.arange(len(parts))[None, :, None]).astype(np.float64)
    scores = goodness(of_group[0].evaluate(metric, weights @ every))
    gaps = scores.max(axis=1) - scores.min(axis=1)
    usable = gaps[1:][np.isfinite(gaps[1:])]
    # Equal up to rounding counts as reached.
    reached = np.count_nonzero(usable >= gaps[0] - 1e-12)
    reach = float(np.quantile(usable, LEVEL)) if len(usable) else float("nan")
    return GroupGap(
        value=float(gaps[0]),
        low=max(0.0, float(gaps[0]) - reach),
        high=float(gaps[0]) + reach,
        chance=float(usable.mean()) if len(usable) else float("nan"),
        p=(1 + reached) / (1 + len(usable)),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
