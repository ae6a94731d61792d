"""What labels from the new region buy: held-out scores under `leave-<group>-out` and its `+k` forms, on the same test blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rs05bench.protocol.inference.intervals import Estimate, ood_drop, score_interval
from rs05bench.protocol.metrics import Sums, find_metric
from rs05bench.protocol.pooling import Fits, Point, Pool, line_up
from rs05bench.protocol.result import Result
from rs05bench.protocol.splits import Split


@dataclass(frozen=True, slots=True)
class AdaptationPoint:
    """Held-out score with `k` labels (per class, for classes) from the held-out region.

    Attributes:
        point: Which model and budget; its split is the one with `k` in it.
        metric: Metric.
        k: Labels per class (or in all, for numbers) from the held-out region.
        extra_labels: Labels from there, the mean over cells.
        score: Held-out score with interval.
        gain: How much better than with k = 0 on the same test blocks, positive for better; None for k = 0 and where that is missing.
        better_on: Grounds on which it is better than with k = 0.
        grounds: Grounds compared.
    """

    point: Point
    metric: str
    k: int
    extra_labels: float
    score: Estimate
    gain: Estimate | None
    better_on: int
    grounds: int


def adaptation_curve(results: Iterable[Result] | Pool, metric: str | None = None, *, draws: int = 1000) -> list[AdaptationPoint]:
    """Every model's curve over `k`, from the sums that results keep.

    Args:
        results: Results of any cells, or a pool of them.
        metric: Metric; default each task's main metric.
        draws: Bootstrap draws.

    Returns:
        Points by model, budget and form of the draw, ascending in `k`; only for splits that have a `+k` form among the results.
    """
    pool = results if isinstance(results, Pool) else Pool.of(results)
    # Labels drawn per class, at random and in a few blocks are three curves, and start at the same point.
    curves: dict[tuple[Point, str], dict[int, Point]] = {}
    for point in pool.points:
        name = Split(point.split)
        if name.extra:
            curves.setdefault((point._replace(split=name.base), str(name).partition("+")[2].lstrip("0123456789")), {})[name.extra] = point
    found = []
    for (base, _), curve in curves.items():
        if base in pool.points:
            curve[0] = base
        for k in sorted(curve):
            entry = _point(pool, curve, k, metric or pool.metric(curve[k]), draws)
            if entry is not None:
                found.append(entry)
    return found


def _point(pool: Pool, curve: dict[int, Point], k: int, metric: str, draws: int) -> AdaptationPoint | None:
    point = curve[k]
    fits = pool.fits(point, metric, "test_ood")
    if not fits:
        return None
    regions = pool.regions(point)
    (alone,), groups = line_up([fits], regions)
    score = score_interval(alone, metric, groups=groups, draws=draws)
    used = [float(cell.budget.get("extra") or 0) for cell in pool.points[point]]
    gain, better, grounds = None, 0, 0
    if k and 0 in curve:
        none = pool.fits(curve[0], metric, "test_ood")
        sides, groups = line_up([fits, none], regions)
        if sides[0]:
            gain = ood_drop(sides[0], sides[1], metric, groups=groups, draws=draws)
            better, grounds = grounds_better(fits, none, metric)
    return AdaptationPoint(point, metric, k, float(np.mean(used)), score, gain, better, grounds)


def grounds_better(one: Fits, other: Fits, metric: str) -> tuple[int, int]:
    """On how many grounds one side is better than the other (mean over common seeds), and how many could be compared."""
    goodness = find_metric(metric).goodness
    seeds = sorted(set(one) & set(other))
    means: list[dict[str, float]] = []
    for side in (one, other):
        by_seed = [_by_ground(side[seed], metric) for seed in seeds]
        shared = set.intersection(*(set(found) for found in by_seed)) if by_seed else set()
        means.append({ground: goodness(float(np.mean([found[ground] for found in by_seed]))) for ground in shared})
    both = [ground for ground in means[0] if ground in means[1] and np.isfinite([means[0][ground], means[1][ground]]).all()]
    return sum(means[0][ground] > means[1][ground] for ground in both), len(both)


def _by_ground(stats: Sums, metric: str) -> dict[str, float]:
    grouped = stats.regroup([name.split("\t", 1)[0] for name in stats.clusters])
    scores = np.atleast_1d(grouped.evaluate(metric, np.asarray(grouped.vectors, dtype=np.float64)))
    return dict(zip(grouped.clusters, scores.tolist(), strict=True))
