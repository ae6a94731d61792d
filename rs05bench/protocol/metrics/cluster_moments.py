"""Moment sums per cluster, for predicted numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.cluster_sums import complex_step, grouped, over, positions, unknown
from rs05bench.protocol.metrics.regression import covered, paired_values

Array = NDArray[np.float64]
MOMENTS = ("n", "y", "yy", "p", "pp", "yp", "ae", "ee", "with_interval", "covered")


@dataclass(frozen=True, eq=False)
class ClusterMoments:
    """Moment sums per cluster, for regression.

    `y` and `p` are counted from `origin` (the median of the truth): without it the squares of values far from zero would cancel and
    lose digits.

    Args:
        clusters: C names.
        origin: What was subtracted from truth and prediction.
        sums: (C, 10): n, sum of y, y2, p, p2, yp, |e|, e2, number with an interval, number inside it.
    """

    clusters: tuple[str, ...]
    origin: float
    sums: Array
    metrics: ClassVar[tuple[str, ...]] = ("r2", "mae", "rmse", "bias", "pearson", "coverage90")

    @classmethod
    def from_values(
        cls, clusters: Sequence[str] | NDArray, y_true: NDArray, y_pred: NDArray, interval: NDArray | None = None
    ) -> ClusterMoments:
        """Sum units (n,) by their cluster; units of unknown truth (NaN) are left out, their cluster stays."""
        names, index = grouped(clusters)
        y, p, known = paired_values(y_true, y_pred)
        if len(index) != len(known):
            raise DataError(f"{len(index)} clusters for {len(known)} units")
        index = index[known]
        origin = float(np.median(y)) if len(y) else 0.0
        y, p, error = y - origin, p - origin, p - y
        inside = np.zeros(len(y)) if interval is None else covered(y + origin, np.asarray(interval, dtype=np.float64)[known]).astype(float)
        one = np.ones(len(y))
        columns = (one, y, y * y, p, p * p, y * p, np.abs(error), error * error, one * (interval is not None), inside)
        sums = np.stack([np.bincount(index, weights=column, minlength=len(names)) for column in columns], axis=1)
        return cls(names, origin, sums)

    @property
    def vectors(self) -> Array:
        """(C, 10), see `MOMENTS`."""
        return self.sums

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """See `SufficientStats.evaluate`."""
        if name not in self.metrics:
            raise unknown(name, self.metrics)
        return _OF_MOMENTS[name](totals)

    def gradient(self, name: str, totals: Array) -> Array:
        """See `SufficientStats.gradient`."""
        return complex_step(lambda t: self.evaluate(name, t), totals)

    def regroup(self, groups: Sequence[str]) -> ClusterMoments:
        """See `SufficientStats.regroup`."""
        names, index = grouped(groups)
        sums = np.zeros((len(names), self.sums.shape[1]))
        np.add.at(sums, index, self.sums)
        return replace(self, clusters=names, sums=sums)

    def select(self, clusters: Sequence[str]) -> ClusterMoments:
        """See `SufficientStats.select`."""
        return replace(self, clusters=tuple(clusters), sums=self.sums[positions(self.clusters, clusters)])

    def __add__(self, other: ClusterMoments) -> ClusterMoments:
        """See `SufficientStats`."""
        moved = np.concatenate([self.sums, other.moved_to(self.origin).sums])
        both = replace(self, clusters=self.clusters + other.clusters, sums=moved)
        return both.regroup(both.clusters)

    def moved_to(self, origin: float) -> ClusterMoments:
        """The same sums counted from another origin."""
        shift = self.origin - origin
        n, y, yy, p, pp, yp, *rest = self.sums.T
        sums = [n, y + n * shift, yy + 2 * shift * y + n * shift**2, p + n * shift, pp + 2 * shift * p + n * shift**2]
        sums.append(yp + shift * (y + p) + n * shift**2)
        return replace(self, origin=origin, sums=np.stack([*sums, *rest], axis=1))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"kind": "moments", "clusters": list(self.clusters), "origin": self.origin, "sums": self.sums.tolist()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ClusterMoments:
        """Inverse of `to_dict`."""
        return cls(
            tuple(record["clusters"]), float(record["origin"]), np.asarray(record["sums"], dtype=np.float64).reshape(-1, len(MOMENTS))
        )


def _r2(t: NDArray) -> NDArray:
    total = t[..., 2] - over(t[..., 1] ** 2, t[..., 0])
    # A constant truth leaves only rounding; that is no variance to explain.
    return 1 - over(t[..., 7], total, floor=1e-12 * np.real(t[..., 2]))


def _pearson(t: NDArray) -> NDArray:
    n = t[..., 0]
    variance_y = t[..., 2] - over(t[..., 1] ** 2, n)
    variance_p = t[..., 4] - over(t[..., 3] ** 2, n)
    defined = (np.real(variance_y) > 1e-12 * np.real(t[..., 2])) & (np.real(variance_p) > 1e-12 * np.real(t[..., 4]))
    scale = np.sqrt(np.where(defined, variance_y * variance_p, 1))
    return np.where(defined, (t[..., 5] - over(t[..., 1] * t[..., 3], n)) / scale, np.nan)


_OF_MOMENTS: dict[str, Callable[[NDArray], NDArray]] = {
    "r2": _r2,
    "mae": lambda t: over(t[..., 6], t[..., 0]),
    "rmse": lambda t: np.sqrt(over(t[..., 7], t[..., 0])),
    "bias": lambda t: over(t[..., 3] - t[..., 1], t[..., 0]),
    "pearson": _pearson,
    "coverage90": lambda t: over(t[..., 9], t[..., 8]),
}
