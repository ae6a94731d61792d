"""From many cells to one curve point: what all folds and seeds of a model scored, group by group, and the sums they keep by block.

A seed is one fit. What several folds test counts once: scores of a group are averaged over the folds, sums of a block count for their
share in each.
"""

from __future__ import annotations

import functools
import operator
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.kept import KeptSums, joined
from rs05bench.protocol.metrics import Sums
from rs05bench.protocol.result import ModelCard, Result
from rs05bench.protocol.splits import Split

Fits = dict[int, Sums]
"""Sums of one side, by seed."""


class Point(NamedTuple):
    """A point of a curve: what cells share that differ in fold and seed only."""

    task: str
    target: str
    split: str
    model: str
    budget: str
    options: str = "[]"

    @classmethod
    def of(cls, result: Result) -> Point:
        """The point a cell belongs to."""
        cell = result.cell
        return cls(cell.task, cell.target, cell.split, cell.model, cell.budget, str(sorted(cell.options.items())))


@dataclass(frozen=True, eq=False)
class GroupScores:
    """Scores inside groups: what every main score, drop and difference is the mean of.

    Args:
        groups: G names.
        seeds: S seeds.
        values: (G, S) score, the mean over the folds that test the group; NaN where there is none.
        units: (G,) test units of each group.
        small: Groups left out because they have fewer than `least` test units.
        least: See `small`.
    """

    groups: tuple[str, ...]
    seeds: tuple[int, ...]
    values: NDArray[np.float64]
    units: NDArray[np.int64]
    small: tuple[str, ...] = ()
    least: int = 1

    def rows(self, groups: Sequence[str]) -> GroupScores:
        """Only these groups, in this order."""
        at = [self.groups.index(group) for group in groups]
        return replace(self, groups=tuple(groups), values=self.values[at], units=self.units[at])


@dataclass
class Pool:
    """The cells of a store, grouped into points; sums are unpacked once.

    Args:
        points: Point -> its results.
    """

    points: dict[Point, list[Result]]
    _kept: dict[tuple[str, str], KeptSums | None] = field(default_factory=dict, repr=False)
    _inside: dict[tuple[Point, str, str, str | None], GroupScores] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, results: Iterable[Result]) -> Pool:
        """Groups results into points, in order of appearance."""
        points: dict[Point, list[Result]] = defaultdict(list)
        for result in results:
            points[Point.of(result)].append(result)
        return cls(dict(points))

    def kept(self, result: Result, role: str) -> KeptSums | None:
        """The sums of a cell's role; None where it keeps none."""
        key = (result.digest, role)
        if key not in self._kept:
            self._kept[key] = result.kept(role)
        return self._kept[key]

    def model(self, point: Point) -> ModelCard:
        """The model card of a point."""
        return self.points[point][0].model

    def metric(self, point: Point) -> str:
        """The main metric of a point's task."""
        return self.points[point][0].main_metric

    def labels(self, point: Point) -> float:
        """Labels used, the mean over cells; NaN where unknown."""
        used = [result.budget.labels_used for result in self.points[point]]
        known = [float(value) for value in used if value]
        return float(np.mean(known)) if known else float("nan")

    def digests(self, point: Point) -> tuple[str, ...]:
        """Digests of a point's cells."""
        return tuple(sorted(result.digest for result in self.points[point]))

    def fits(
        self,
        point: Point,
        metric: str,
        role: str,
        *,
        shift: str | None = None,
        ground: str | None = None,
        where: tuple[str, str] | None = None,
    ) -> Fits:
        """Sums of a point over its folds, a fit a seed; clusters are named `ground<tab>block`.

        Args:
            point: Which model, split and budget.
            metric: The metric the sums must give.
            role: `test_id` or `test_ood`.
            shift: Only units under this shift.
            ground: Only units on this ground.
            where: Only rows with this value in a group column.

        Returns:
            Empty where nothing was kept that gives the metric.
        """
        parts: dict[int, list[Sums]] = defaultdict(list)
        for result in self.points[point]:
            kept = self.kept(result, role)
            if kept is None or not kept.gives(metric) or (where is not None and where[0] not in kept.keys):
                continue
            rows = np.ones(len(kept), dtype=bool)
            for column, value in (("shift", shift), ("ground", ground), where or ("", None)):
                if value is not None:
                    rows &= kept.keys[column] == value
            if rows.any():
                parts[result.cell.seed].append(kept.add_up(metric, "ground", _finest(kept), where=rows))
        return {seed: share(found) for seed, found in sorted(parts.items())}

    def regions(self, point: Point) -> dict[str, str]:
        """Cluster -> region, over all folds and roles of a point."""
        found: dict[str, str] = {}
        for result in self.points[point]:
            for role in result.sums:
                kept = self.kept(result, role)
                if kept is not None:
                    found.update(zip(joined(kept.keys, ["ground", _finest(kept)]), kept.keys["region"], strict=True))
        return found

    def inside(self, point: Point, role: str, metric: str, shift: str | None = None) -> GroupScores:
        """Scores of a point inside each group.

        Args:
            point: Which model, split and budget.
            role: `test_id` or `test_ood`.
            metric: The metric.
            shift: Only under this shift; default the one the split is about (`leave-<group>-year-out` also tests region and year apart),
                or all of them where it is about none.
        """
        key = (point, role, metric, shift)
        if key not in self._inside:
            found = _inside(self.points[point], role, metric, shift or (shift_of(point) if role == "test_ood" else None))
            self._inside[key] = _large_enough(found, self.points[point][0].about.least_units)
        return self._inside[key]


def shift_of(point: Point) -> str | None:
    """What changes between training and the held-out units of a point's split; None where the split is about no shift."""
    declared = Split(point.split).rule.shift
    return None if declared == "none" else declared


LEAST_GROUPS = 3


def _large_enough(scores: GroupScores, least: int) -> GroupScores:
    """Without groups of few units, where at least three others are left.

    The R2 of n units has no finite mean below n = 4 and no finite variance below n = 6 (its denominator is a chi-squared of n - 1 degrees
    of freedom), so that one county with two tracts would decide the mean over groups.
    """
    kept = [group for group, units in zip(scores.groups, scores.units, strict=True) if units >= least]
    if len(kept) < LEAST_GROUPS or len(kept) == len(scores.groups):
        return scores
    return replace(scores.rows(kept), least=least, small=tuple(group for group in scores.groups if group not in kept))


def _inside(results: Sequence[Result], role: str, metric: str, shift: str | None) -> GroupScores:
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    units: dict[str, int] = {}
    for result in results:
        of_fold: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for stratum in result.strata:
            if stratum.role == role and (shift is None or stratum.shift == shift):
                of_fold[stratum.group or stratum.ground].append((stratum.scores.get(metric, np.nan), stratum.units))
        if not result.strata and metric in result.scores.get(role, {}):
            # Results of earlier versions keep no scores by group: what the fold holds out is the group.
            of_fold[result.cell.fold].append((result.scores[role][metric], 1))
        for group, parts in of_fold.items():
            # Under several shifts at once (`shift` is None) a group has a part under each; they weigh by their units.
            values, weights = np.array(parts, dtype=np.float64).T
            found[group][result.cell.seed].append(float(np.average(values, weights=weights)))
            units[group] = max(units.get(group, 0), int(weights.sum()))
    groups, seeds = sorted(found), sorted({seed for of_group in found.values() for seed in of_group})
    table = np.full((len(groups), len(seeds)), np.nan)
    for row, group in enumerate(groups):
        for column, seed in enumerate(seeds):
            if seed in found[group]:
                table[row, column] = float(np.mean(found[group][seed]))
    return GroupScores(tuple(groups), tuple(seeds), table, np.array([units[group] for group in groups], dtype=np.int64))


def line_up(sides: Sequence[Fits]) -> list[list[Sums]]:
    """Sides over their common seeds and blocks.

    A block seen in two years is one block.

    Args:
        sides: Sums by seed; clusters are named `ground<tab>block`.

    Returns:
        For each side its fits in order of seeds; empty lists where the sides have nothing in common.
    """
    seeds = sorted(set.intersection(*(set(side) for side in sides))) if sides else []
    by_block = [[side[seed].regroup([name.split("\t", 1)[1] for name in side[seed].clusters]) for seed in seeds] for side in sides]
    every = [set(fit.clusters) for side in by_block for fit in side]
    common = sorted(set.intersection(*every)) if every else []
    return [[fit.select(common) for fit in side] if common else [] for side in by_block]


def _finest(kept: KeptSums) -> str:
    return "block" if "block" in kept.keys else "region"


def share(parts: Sequence[Sums]) -> Sums:
    """The union over folds; a cluster that several folds test counts for its share in each."""
    times: dict[str, int] = defaultdict(int)
    for part in parts:
        for name in part.clusters:
            times[name] += 1
    total = functools.reduce(operator.add, parts)
    share = np.array([1.0 / times[name] for name in total.clusters])
    if (share == 1.0).all():
        return total
    return total.scale(share)
