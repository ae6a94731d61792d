"""Numbers of a study from its cells: scores and paired differences with intervals, all from the sums that results keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rs05bench.protocol.inference import Estimate
from rs05bench.protocol.pooled_contrast import contrast
from rs05bench.protocol.pooling import Fits, Point, Pool

DRAWS = 1000


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the mean over points of their score in a role."""

    points: tuple[Point, ...]
    role: str
    shift: str | None = None

    @classmethod
    def of(cls, point: Point, role: str, shift: str | None = None) -> Side:
        """A single point."""
        return cls((point,), role, shift)


def difference(pool: Pool, first: Side, second: Side, metric: str | None = None) -> tuple[Estimate, tuple[str, ...]] | None:
    """How much better the first side is, on the same test blocks and seeds; None where they share none.

    Args:
        pool: The cells.
        first: One side.
        second: The other.
        metric: Metric; default the task's main one. Turned where lower is better, so positive is better.

    Returns:
        The estimate and the cells it rests on.
    """
    if any(point not in pool.points for side in (first, second) for point in side.points):
        return None
    metric = metric or pool.metric(first.points[0])
    read = [
        [(1.0 / len(side.points), pool.fits(point, metric, side.role, shift=side.shift)) for point in side.points]
        for side in (first, second)
    ]
    if not all(fits for part in read for _, fits in part):
        return None
    regions = {
        _block(name, region): region for side in (first, second) for point in side.points for name, region in pool.regions(point).items()
    }
    lined = [
        [(weight, _on_blocks(fits, pool.regions(point))) for (weight, fits), point in zip(part, side.points, strict=True)]
        for part, side in zip(read, (first, second), strict=True)
    ]
    effect, _ = contrast(lined[0], lined[1], metric, regions, draws=DRAWS)
    if effect is None:
        return None
    seeds = set.intersection(*(set(fits) for part in read for _, fits in part))
    points = [point for side in (first, second) for point in side.points]
    return effect, tuple(sorted({cell.digest for point in points for cell in pool.points[point] if cell.sums and cell.cell.seed in seeds}))


def _on_blocks(fits: Fits, regions: dict[str, str]) -> Fits:
    """Sums whose clusters are named by region and block: two splits may gather regions into other grounds, the blocks are the same."""
    return {seed: stats.regroup([_block(name, regions[name]) for name in stats.clusters]) for seed, stats in fits.items()}


def _block(name: str, region: str) -> str:
    return f"{region}\t{name.partition(chr(9))[2]}"


def score(pool: Pool, point: Point, role: str, metric: str | None = None) -> Estimate | None:
    """A score with its interval; None where it is not there."""
    return pool.score(point, role, metric, draws=DRAWS) if point in pool.points else None


def over_draws(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean of values of independent draws with its t interval (Student 1908): what is resampled is the draw."""
    from scipy.special import stdtr, stdtrit

    known = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    n = len(known)
    mean = float(known.mean()) if n else float("nan")
    if n < 2:
        return Estimate(mean, np.nan, np.nan, level, np.nan, "none", "few-clusters", n, n, n, None, {}, "One draw gives no interval.")
    se = float(known.std(ddof=1) / np.sqrt(n))
    reach = float(stdtrit(n - 1, 0.5 + level / 2)) * se
    p = float(2 * stdtr(n - 1, -abs(mean) / se)) if se else (1.0 if mean == 0 else 0.0)
    return Estimate(mean, mean - reach, mean + reach, level, se, "t", "between-draws", n, n, n, p)
