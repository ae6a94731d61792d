"""From many cells to one curve point: the kept sums of all folds and seeds of a model, lined up so that sides can be compared.

Every test unit weighs the same on every side: a block that several folds test counts for its share in each. A seed is one fit; seeds and
blocks that are not on all sides are left out, so an unfinished sweep compares what is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from rs05bench.protocol.inference.intervals import Estimate, score_interval
from rs05bench.protocol.kept import KeptSums, Stats, joined
from rs05bench.protocol.metrics.cluster_boundary import ClusterBoundary
from rs05bench.protocol.metrics.cluster_confusion import ClusterConfusion
from rs05bench.protocol.result import ModelCard, Result

Fits = dict[int, Stats]
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


@dataclass
class Pool:
    """The cells of a store, grouped into points; sums are unpacked once.

    Args:
        points: Point -> its results.
    """

    points: dict[Point, list[Result]]
    _kept: dict[tuple[str, str], KeptSums | None] = field(default_factory=dict, repr=False)

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
        used = [result.budget.get("labels_used") for result in self.points[point]]
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
        parts: dict[int, list[Stats]] = defaultdict(list)
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

    def score(self, point: Point, role: str, metric: str | None = None, *, shift: str | None = None, draws: int = 1000) -> Estimate | None:
        """Score of a point with its interval, pooled over folds and seeds; None where the sums do not give it."""
        metric = metric or self.metric(point)
        fits = self.fits(point, metric, role, shift=shift)
        if not fits:
            return None
        (sides,), groups = line_up([fits], self.regions(point))
        return score_interval(sides, metric, groups=groups, draws=draws)


def line_up(sides: Sequence[Fits], regions: Mapping[str, str]) -> tuple[list[list[Stats]], dict[str, str]]:
    """Sides over their common seeds and clusters, and the region of each cluster.

    The clusters that come out are blocks: a block seen in two years is resampled as one.

    Args:
        sides: Sums by seed.
        regions: Region of each `ground<tab>block`.

    Returns:
        For each side its fits in order of seeds; empty lists where the sides have nothing in common.
    """
    seeds = sorted(set.intersection(*(set(side) for side in sides))) if sides else []
    if not seeds:
        return [[] for _ in sides], {}
    common = sorted(set.intersection(*(set(side[seed].clusters) for side in sides for seed in seeds)))
    if not common:
        return [[] for _ in sides], {}
    blocks = [name.split("\t", 1)[1] for name in common]
    groups = {block: regions[name] for name, block in zip(common, blocks, strict=True)}
    return [[side[seed].select(common).regroup(blocks) for seed in seeds] for side in sides], groups


def _finest(kept: KeptSums) -> str:
    return "block" if "block" in kept.keys else "region"


def share(parts: Sequence[Stats]) -> Stats:
    """The union over folds; a cluster that several folds test counts for its share in each."""
    times: dict[str, int] = defaultdict(int)
    total: Any = None
    for part in parts:
        for name in part.clusters:
            times[name] += 1
        total = part if total is None else total + part
    share = np.array([1.0 / times[name] for name in total.clusters])
    if (share == 1.0).all():
        return total
    if isinstance(total, ClusterConfusion | ClusterBoundary):
        return replace(total, counts=np.asarray(total.counts, dtype=np.float64) * share.reshape(-1, *[1] * (total.counts.ndim - 1)))
    return replace(total, sums=total.sums * share[:, None])
