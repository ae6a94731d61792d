"""Moment sums of predicted numbers and the scores that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.declaration import Task, metric
from rs05bench.protocol.metrics.sums import Clusters, Sums, dense, ratio

Array = NDArray[np.float64]
NUMBERS: tuple[Task, ...] = ("regression",)
_ROUNDING = 1e-12  # a smaller share of the squares is what rounding leaves of a constant


class MomentParts(NamedTuple):
    """What the formulas take, (...,) each. `y` and `p` are counted from the origins; `apart` is the origin of p minus that of y."""

    n: NDArray[Any]
    y: NDArray[Any]
    yy: NDArray[Any]
    p: NDArray[Any]
    pp: NDArray[Any]
    yp: NDArray[Any]
    absolute: NDArray[Any]
    squared: NDArray[Any]
    with_interval: NDArray[Any]
    covered: NDArray[Any]
    apart: float


WIDTH = len(MomentParts._fields) - 1


@dataclass(frozen=True, eq=False)
class Moments(Sums):
    """Moment sums per cluster, for regression.

    Truth and prediction are counted from origins (their medians): without them the squares of values far from zero would cancel and lose
    digits.

    Attributes:
        values: (C, 10): n, sum of y, y2, p, p2, yp, |e|, e2, number with an interval, number inside it.
        origin: What was subtracted from the truth.
        p_origin: What was subtracted from the prediction.
    """

    origin: float = 0.0
    p_origin: float = 0.0
    kind = "moments"

    @classmethod
    def of(
        cls,
        truth: NDArray[Any],
        predicted: NDArray[Any],
        interval: NDArray[Any] | None = None,
        *,
        clusters: Clusters | None = None,
    ) -> Moments:
        """Sums units by their cluster.

        Args:
            truth: (n,), NaN = no label; those units are left out, their cluster stays.
            predicted: (n,), finite wherever the truth is known.
            interval: (n, 2) predicted 90 % intervals, or None.
            clusters: Cluster of each unit; default one cluster.

        Raises:
            DataError: See `paired_values` and `covered`.
        """
        y, p, known = paired_values(truth, predicted)
        where = Clusters.one(len(known)) if clusters is None else clusters
        if len(where.code) != len(known):
            raise DataError(f"{len(where.code)} clusters for {len(known)} units")
        origins = (float(np.median(y)), float(np.median(p))) if len(y) else (0.0, 0.0)
        ends = None if interval is None else np.asarray(interval, dtype=np.float64)[known]
        return cls.of_columns(moment_columns(y, p, ends, origins), Clusters(where.names, where.code[known]), origins)

    @classmethod
    def of_columns(cls, columns: tuple[Array, ...], clusters: Clusters, origins: tuple[float, float]) -> Moments:
        """Adds `moment_columns` up by cluster."""
        sums = np.stack([np.bincount(clusters.code, weights=column, minlength=len(clusters.names)) for column in columns], axis=1)
        return cls(clusters.names, sums, *origins)

    def parts(self, totals: NDArray[Any]) -> MomentParts:
        """The moments, by name."""
        n, y, yy, p, pp, yp, absolute, squared, with_interval, covered = np.moveaxis(totals, -1, 0)
        return MomentParts(n, y, yy, p, pp, yp, absolute, squared, with_interval, covered, self.p_origin - self.origin)

    @property
    def units(self) -> Array:
        """(C,) scored units."""
        return np.asarray(self.values[:, 0], dtype=np.float64)

    def aligned(self, other: Moments) -> Moments:
        """The other's sums counted from these origins."""
        return other.moved_to(self.origin, self.p_origin)

    def moved_to(self, origin: float, p_origin: float) -> Moments:
        """The same sums counted from other origins."""
        of_y, of_p = self.origin - origin, self.p_origin - p_origin
        n, y, yy, p, pp, yp, *rest = self.values.T
        sums = [n, y + n * of_y, yy + 2 * of_y * y + n * of_y**2, p + n * of_p, pp + 2 * of_p * p + n * of_p**2]
        sums.append(yp + of_p * y + of_y * p + n * of_y * of_p)
        return replace(self, origin=origin, p_origin=p_origin, values=np.stack([*sums, *rest], axis=1))

    def header(self) -> dict[str, Any]:
        """The origins."""
        return {"origin": self.origin} | ({} if self.p_origin == self.origin else {"p_origin": self.p_origin})

    @classmethod
    def unpack(cls, record: Mapping[str, Any], clusters: tuple[str, ...]) -> Moments:
        """Inverse of `pack`."""
        origin = float(record["origin"])
        return cls(clusters, dense(record, (len(clusters), WIDTH)), origin, float(record.get("p_origin", origin)))


def moment_columns(y: Array, p: Array, interval: Array | None, origins: tuple[float, float]) -> tuple[Array, ...]:
    """What each unit adds to the moments: ten columns (n,), in the order of `Moments.values`.

    Raises:
        DataError: See `covered`.
    """
    error, a, b, one = p - y, y - origins[0], p - origins[1], np.ones(len(y))
    inside = np.zeros(len(y)) if interval is None else covered(y, interval).astype(float)
    return one, a, a * a, b, b * b, a * b, np.abs(error), error * error, one * (interval is not None), inside


def paired_values(y_true: NDArray, y_pred: NDArray) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Truth and prediction where the truth is known, and which those are.

    Raises:
        DataError: Shapes differ, or a prediction is missing or infinite where the truth is known (a model may not abstain).
    """
    truth, predicted = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise DataError(f"expected truth and prediction (n,), found {truth.shape} and {predicted.shape}")
    known = ~np.isnan(truth)
    truth, predicted = truth[known], predicted[known]
    if not np.isfinite(predicted).all():
        raise DataError(f"{int((~np.isfinite(predicted)).sum())} predictions are missing or infinite", remedy="Give every unit a number.")
    if not np.isfinite(truth).all():
        raise DataError("a true value is infinite")
    return truth, predicted, known


def covered(y: Array, interval: Array) -> NDArray[np.bool_]:
    """Which true values are inside their interval, ends included.

    Raises:
        DataError: An interval is missing, or its lower end is above its upper end.
    """
    if interval.shape != (len(y), 2):
        raise DataError(f"expected intervals ({len(y)}, 2), found {interval.shape}")
    low, high = interval[:, 0], interval[:, 1]
    if not (low <= high).all():
        raise DataError(f"{int((~(low <= high)).sum())} intervals are missing or have their lower end above the upper")
    return (low <= y) & (y <= high)


@metric(
    "r2",
    sums=Moments,
    tasks=NUMBERS,
    range=(-math.inf, 1),
    better="higher",
    over_groups="median",
    words="1 - SSE / SST about the mean of the scored truth; NaN for fewer than two values or a constant truth",
)
def _r2(parts: MomentParts) -> NDArray:
    total = parts.yy - ratio(parts.y**2, parts.n)
    return 1 - ratio(parts.squared, total, floor=_ROUNDING * np.real(parts.yy))


@metric(
    "mae",
    sums=Moments,
    tasks=NUMBERS,
    range=(0, math.inf),
    better="lower",
    words="mean |prediction - truth|, in the target's unit",
)
def _mae(parts: MomentParts) -> NDArray:
    return ratio(parts.absolute, parts.n)


@metric("rmse", sums=Moments, tasks=NUMBERS, range=(0, math.inf), better="lower", words="root of the mean squared error")
def _rmse(parts: MomentParts) -> NDArray:
    return np.sqrt(ratio(parts.squared, parts.n))


@metric("bias", sums=Moments, tasks=NUMBERS, range=(-math.inf, math.inf), better=0.0, words="mean prediction - truth")
def _bias(parts: MomentParts) -> NDArray:
    return ratio(parts.p - parts.y, parts.n) + parts.apart


@metric(
    "pearson",
    sums=Moments,
    tasks=NUMBERS,
    range=(-1, 1),
    better="higher",
    words="linear correlation; NaN when either side is constant",
    source="Pearson 1895",
)
def _pearson(parts: MomentParts) -> NDArray:
    variance_y = parts.yy - ratio(parts.y**2, parts.n)
    variance_p = parts.pp - ratio(parts.p**2, parts.n)
    defined = (np.real(variance_y) > _ROUNDING * np.real(parts.yy)) & (np.real(variance_p) > _ROUNDING * np.real(parts.pp))
    # Two roots: the product of two variances can be too small or too large for a float.
    scale = np.sqrt(np.where(defined, variance_y, 1)) * np.sqrt(np.where(defined, variance_p, 1))
    value = np.where(defined, (parts.yp - ratio(parts.y * parts.p, parts.n)) / scale, np.nan)
    return value if np.iscomplexobj(value) else np.clip(value, -1.0, 1.0)


@metric(
    "coverage90",
    sums=Moments,
    tasks=NUMBERS,
    range=(0, 1),
    better=0.9,
    words="share of true values inside their 90 % interval, ends included",
)
def _coverage90(parts: MomentParts) -> NDArray:
    return ratio(parts.covered, parts.with_interval)
