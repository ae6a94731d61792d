"""What has to be kept of each cluster so that any score and its interval can be computed later without the predictions.

A cluster is what an interval resamples: a test block, a fire, a county. The numbers kept are sums, so clusters add up to larger
clusters, folds to a whole, and a bootstrap draw is a weighted sum: 10,000 draws are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.metrics.calibration import N_BINS, bin_of, brier_terms, checked_probabilities, nll_terms
from rs05bench.protocol.metrics.confusion import OF_ALL_CLASSES, OF_ONE_CLASS, slopes
from rs05bench.protocol.metrics.regression import covered, paired_values

Array = NDArray[np.float64]


class SufficientStats(Protocol):
    """Sums per cluster from which scores follow; what the intervals and tests work on."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Names of the clusters."""

    @property
    def vectors(self) -> Array:
        """(C, D): each cluster's sums, additive over clusters."""

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """Score `name` of summed vectors (..., D), over all leading axes."""

    def gradient(self, name: str, totals: Array) -> Array:
        """Derivative of score `name` by each sum, at summed vectors (..., D)."""

    def regroup(self, groups: Sequence[str]) -> Self:
        """Add clusters up to larger ones; `groups` names the larger cluster of each."""

    def select(self, clusters: Sequence[str]) -> Self:
        """Keep these clusters, in this order."""

    def __add__(self, other: Self) -> Self:
        """The union; clusters of one name add up."""


def metric_from_stats(stats: SufficientStats, name: str, weights: NDArray | None = None) -> float | Array:
    """A score from sums.

    Args:
        stats: Sums per cluster.
        name: The score.
        weights: How often each cluster counts, (..., C); None = once each.

    Returns:
        One float without weights, else an array over the leading axes of `weights`.

    Raises:
        ProtocolError: These sums do not hold this score.
    """
    if weights is None:
        return float(stats.evaluate(name, stats.vectors.sum(0)))
    return stats.evaluate(name, np.asarray(weights, dtype=np.float64) @ stats.vectors)


def complex_step(evaluate: Callable[[NDArray], NDArray], totals: Array) -> Array:
    """Derivative of a score by each sum, exact to rounding (Squire & Trapp 1998, https://doi.org/10.1137/S003614459631241X)."""
    step = 1e-30
    slope = np.zeros(totals.shape)
    for d in range(totals.shape[-1]):
        moved = totals.astype(np.complex128)
        moved[..., d] += 1j * step
        slope[..., d] = np.imag(evaluate(moved)) / step
    return slope


def _grouped(labels: Sequence[str] | NDArray) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    names, index = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    return tuple(names.tolist()), index.ravel()


def _positions(have: Sequence[str], want: Sequence[str]) -> list[int]:
    where = {name: i for i, name in enumerate(have)}
    missing = [name for name in want if name not in where]
    if missing:
        raise ProtocolError(f"{len(missing)} clusters are not in these statistics, among them {missing[:3]}")
    return [where[name] for name in want]


def _unknown(name: str, known: Sequence[str]) -> ProtocolError:
    return ProtocolError(f"the kept sums do not give {name!r}", remedy=f"They give: {', '.join(known)}.")


@dataclass(frozen=True, eq=False)
class ClusterConfusion:
    """Confusion counts per cluster, for classification and segmentation.

    Args:
        clusters: C names.
        classes: K names.
        counts: (C, K, K), rows truth, columns prediction.
    """

    clusters: tuple[str, ...]
    classes: tuple[str, ...]
    counts: NDArray

    @classmethod
    def from_labels(
        cls, clusters: Sequence[str] | NDArray, y_true: NDArray, y_pred: NDArray, classes: Sequence[str], *, ignore_index: int | None = -1
    ) -> ClusterConfusion:
        """Count units (n,) by their cluster."""
        names, index = _grouped(clusters)
        truth, predicted, k = np.asarray(y_true), np.asarray(y_pred), len(classes)
        if not len(index) == len(truth) == len(predicted):
            raise DataError(f"{len(index)} clusters, {len(truth)} true and {len(predicted)} predicted labels; they must be as many")
        scored = np.ones(len(truth), bool) if ignore_index is None else truth != ignore_index
        for values in (truth[scored], predicted[scored]):
            if values.size and (values.min() < 0 or values.max() >= k):
                raise DataError(f"a label lies outside 0 to {k - 1}")
        flat = (index[scored] * k + truth[scored].astype(np.intp)) * k + predicted[scored].astype(np.intp)
        return cls(names, tuple(classes), np.bincount(flat, minlength=len(names) * k * k).reshape(-1, k, k))

    @property
    def vectors(self) -> Array:
        """(C, 3K): hits, truth and prediction of each class; all scores here need no more."""
        counts = np.asarray(self.counts, dtype=np.float64)
        return np.concatenate([np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)], axis=1)

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """See `SufficientStats.evaluate`."""
        k = len(self.classes)
        parts = totals[..., :k], totals[..., k : 2 * k], totals[..., 2 * k :]
        if name in OF_ALL_CLASSES:
            return OF_ALL_CLASSES[name](*parts)
        stem, _, label = name.partition("_")
        if stem in OF_ONE_CLASS and label in self.classes:
            return OF_ONE_CLASS[stem](*parts)[..., self.classes.index(label)]
        raise _unknown(name, [*OF_ALL_CLASSES, *(f"{stem}_<class>" for stem in OF_ONE_CLASS)])

    def gradient(self, name: str, totals: Array) -> Array:
        """See `SufficientStats.gradient`."""
        k = len(self.classes)
        closed = slopes(name, totals[..., :k], totals[..., k : 2 * k], totals[..., 2 * k :])
        return complex_step(lambda t: self.evaluate(name, t), totals) if closed is None else np.concatenate(closed, axis=-1)

    def regroup(self, groups: Sequence[str]) -> ClusterConfusion:
        """See `SufficientStats.regroup`."""
        names, index = _grouped(groups)
        counts = np.zeros((len(names), *self.counts.shape[1:]), dtype=self.counts.dtype)
        np.add.at(counts, index, self.counts)
        return replace(self, clusters=names, counts=counts)

    def select(self, clusters: Sequence[str]) -> ClusterConfusion:
        """See `SufficientStats.select`."""
        return replace(self, clusters=tuple(clusters), counts=self.counts[_positions(self.clusters, clusters)])

    def __add__(self, other: ClusterConfusion) -> ClusterConfusion:
        """See `SufficientStats`."""
        if self.classes != other.classes:
            raise ProtocolError(f"statistics of different classes cannot be added: {self.classes} and {other.classes}")
        both = replace(self, clusters=self.clusters + other.clusters, counts=np.concatenate([self.counts, other.counts]))
        return both.regroup(both.clusters)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, only the cells that hold something."""
        flat = self.counts.ravel()
        cells = np.flatnonzero(flat)
        return {
            "kind": "confusion",
            "clusters": list(self.clusters),
            "classes": list(self.classes),
            "cells": cells.tolist(),
            "counts": flat[cells].tolist(),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ClusterConfusion:
        """Inverse of `to_dict`."""
        c, k = len(record["clusters"]), len(record["classes"])
        flat = np.zeros(c * k * k, dtype=np.int64)
        flat[np.asarray(record["cells"], dtype=np.intp)] = record["counts"]
        return cls(tuple(record["clusters"]), tuple(record["classes"]), flat.reshape(c, k, k))


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
        names, index = _grouped(clusters)
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
            raise _unknown(name, self.metrics)
        return _OF_MOMENTS[name](totals)

    def gradient(self, name: str, totals: Array) -> Array:
        """See `SufficientStats.gradient`."""
        return complex_step(lambda t: self.evaluate(name, t), totals)

    def regroup(self, groups: Sequence[str]) -> ClusterMoments:
        """See `SufficientStats.regroup`."""
        names, index = _grouped(groups)
        sums = np.zeros((len(names), self.sums.shape[1]))
        np.add.at(sums, index, self.sums)
        return replace(self, clusters=names, sums=sums)

    def select(self, clusters: Sequence[str]) -> ClusterMoments:
        """See `SufficientStats.select`."""
        return replace(self, clusters=tuple(clusters), sums=self.sums[_positions(self.clusters, clusters)])

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


def _over(numerator: NDArray, denominator: NDArray, *, floor: NDArray | float = 0.0) -> NDArray:
    defined = np.real(denominator) > floor
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)


def _r2(t: NDArray) -> NDArray:
    total = t[..., 2] - _over(t[..., 1] ** 2, t[..., 0])
    # A constant truth leaves only rounding; that is no variance to explain.
    return 1 - _over(t[..., 7], total, floor=1e-12 * np.real(t[..., 2]))


def _pearson(t: NDArray) -> NDArray:
    n = t[..., 0]
    variance_y = t[..., 2] - _over(t[..., 1] ** 2, n)
    variance_p = t[..., 4] - _over(t[..., 3] ** 2, n)
    defined = (np.real(variance_y) > 1e-12 * np.real(t[..., 2])) & (np.real(variance_p) > 1e-12 * np.real(t[..., 4]))
    scale = np.sqrt(np.where(defined, variance_y * variance_p, 1))
    return np.where(defined, (t[..., 5] - _over(t[..., 1] * t[..., 3], n)) / scale, np.nan)


_OF_MOMENTS: dict[str, Callable[[NDArray], NDArray]] = {
    "r2": _r2,
    "mae": lambda t: _over(t[..., 6], t[..., 0]),
    "rmse": lambda t: np.sqrt(_over(t[..., 7], t[..., 0])),
    "bias": lambda t: _over(t[..., 3] - t[..., 1], t[..., 0]),
    "pearson": _pearson,
    "coverage90": lambda t: _over(t[..., 9], t[..., 8]),
}


@dataclass(frozen=True, eq=False)
class ClusterCalibration:
    """Calibration sums per cluster: bins of the confidence, Brier and NLL.

    Args:
        clusters: C names.
        sums: (C, 3 bins + 2): count, confidence and hits of each equal-width bin, then the sums of Brier and NLL.
    """

    clusters: tuple[str, ...]
    sums: Array
    metrics: ClassVar[tuple[str, ...]] = ("ece", "brier", "nll")

    @classmethod
    def from_probabilities(
        cls,
        clusters: Sequence[str] | NDArray,
        y_true: NDArray,
        probabilities: NDArray,
        *,
        bins: int = N_BINS,
        ignore_index: int | None = -1,
    ) -> ClusterCalibration:
        """Sum units (n,) with probabilities (n, K) by their cluster."""
        names, index = _grouped(clusters)
        scored = np.ones(len(index), bool) if ignore_index is None else np.asarray(y_true) != ignore_index
        y, p = checked_probabilities(y_true, probabilities, ignore_index=ignore_index)
        index = index[scored]
        confidence, correct = p.max(1), (p.argmax(1) == y).astype(float)
        cell = index * bins + bin_of(confidence, bins)
        binned = [
            np.bincount(cell, weights=w, minlength=len(names) * bins).reshape(-1, bins) for w in (np.ones(len(y)), confidence, correct)
        ]
        summed = [np.bincount(index, weights=w, minlength=len(names))[:, None] for w in (brier_terms(y, p), nll_terms(y, p))]
        return cls(names, np.concatenate([*binned, *summed], axis=1))

    @property
    def vectors(self) -> Array:
        """(C, 3 bins + 2)."""
        return self.sums

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """See `SufficientStats.evaluate`."""
        bins = (self.sums.shape[1] - 2) // 3
        count = totals[..., :bins].sum(-1)
        if name == "ece":
            gap = totals[..., 2 * bins : 3 * bins] - totals[..., bins : 2 * bins]
            # sign x value, not abs: it must carry complex steps.
            return _over((np.sign(np.real(gap)) * gap).sum(-1), count)
        if name in self.metrics:
            return _over(totals[..., -2 if name == "brier" else -1], count)
        raise _unknown(name, self.metrics)

    def gradient(self, name: str, totals: Array) -> Array:
        """See `SufficientStats.gradient`."""
        return complex_step(lambda t: self.evaluate(name, t), totals)

    def regroup(self, groups: Sequence[str]) -> ClusterCalibration:
        """See `SufficientStats.regroup`."""
        names, index = _grouped(groups)
        sums = np.zeros((len(names), self.sums.shape[1]))
        np.add.at(sums, index, self.sums)
        return replace(self, clusters=names, sums=sums)

    def select(self, clusters: Sequence[str]) -> ClusterCalibration:
        """See `SufficientStats.select`."""
        return replace(self, clusters=tuple(clusters), sums=self.sums[_positions(self.clusters, clusters)])

    def __add__(self, other: ClusterCalibration) -> ClusterCalibration:
        """See `SufficientStats`."""
        both = replace(self, clusters=self.clusters + other.clusters, sums=np.concatenate([self.sums, other.sums]))
        return both.regroup(both.clusters)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"kind": "calibration", "clusters": list(self.clusters), "sums": self.sums.tolist()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ClusterCalibration:
        """Inverse of `to_dict`."""
        return cls(tuple(record["clusters"]), np.asarray(record["sums"], dtype=np.float64).reshape(len(record["clusters"]), -1))


_KINDS = {"confusion": ClusterConfusion, "moments": ClusterMoments, "calibration": ClusterCalibration}


def stats_from_dict(record: dict[str, Any]) -> ClusterConfusion | ClusterMoments | ClusterCalibration:
    """Read any kept sums back by their `kind`.

    Raises:
        DataError: The record is of no known kind.
    """
    if record.get("kind") not in _KINDS:
        raise DataError(f"kept sums of kind {record.get('kind')!r}; expected one of {', '.join(_KINDS)}")
    return cast(Any, _KINDS[record["kind"]]).from_dict(record)
