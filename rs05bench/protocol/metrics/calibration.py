"""Is a stated confidence worth its name? Calibration of class probabilities.

ECE is taken on the confidence of the predicted class, bins closed on the right, as Guo et al. (2017) define it
(https://arxiv.org/abs/1706.04599).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.declaration import LABELLED, metric, variant
from rs05bench.protocol.metrics.sums import Clusters, Sums, dense, magnitude, ratio

Array = NDArray[np.float64]

# Predictions are stored as float32: a probability below its resolution is taken as that resolution, so that one certain mistake
# (a forest without a single vote for the true class) costs 15.9 nats and not infinity.
SMALLEST_PROBABILITY = 2.0**-23
N_BINS = 15


class CalibrationParts(NamedTuple):
    """What the formulas take: (..., bins) units, confidence and hits of each bin, (...,) the sums of Brier and NLL."""

    n: NDArray[Any]
    confidence: NDArray[Any]
    hits: NDArray[Any]
    brier: NDArray[Any]
    nll: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Calibration(Sums):
    """Calibration sums per cluster: bins of the confidence, Brier and NLL.

    Attributes:
        values: (C, 3 bins + 2): count, confidence and hits of each equal-width bin, then the sums of Brier and NLL.
    """

    kind = "calibration"

    @classmethod
    def of(
        cls,
        truth: NDArray[np.integer],
        probabilities: NDArray[Any],
        *,
        clusters: Clusters | None = None,
        ignore_index: int | None = -1,
        bins: int = N_BINS,
    ) -> Calibration:
        """Sums units with labels (n,) and probabilities (n, K) by their cluster; default one cluster.

        Raises:
            DataError: See `checked_probabilities`.
        """
        where = Clusters.one(len(truth)) if clusters is None else clusters
        scored = np.ones(len(where.code), bool) if ignore_index is None else np.asarray(truth) != ignore_index
        y, p = checked_probabilities(truth, probabilities, ignore_index=ignore_index)
        return cls.of_rows(ProbabilityRows.of(y, p, bins), Clusters(where.names, where.code[scored]), bins=bins)

    @classmethod
    def of_rows(cls, rows: ProbabilityRows, clusters: Clusters, *, weights: Array | None = None, bins: int = N_BINS) -> Calibration:
        """Adds `ProbabilityRows` up by cluster, each as often as its weight."""
        n = len(clusters.names)
        cell = clusters.code * bins + rows.bin

        def summed(index: NDArray[np.intp], length: int, column: Array | None) -> Array:
            if column is None:
                return np.bincount(index, weights=weights, minlength=length).astype(np.float64)
            return np.bincount(index, weights=column if weights is None else column * weights, minlength=length)

        binned = [summed(cell, n * bins, column).reshape(n, bins) for column in (None, rows.confidence, rows.correct)]
        terms = [summed(clusters.code, n, column)[:, None] for column in (rows.brier, rows.nll)]
        return cls(clusters.names, np.concatenate([*binned, *terms], axis=1))

    @property
    def bins(self) -> int:
        """Number of bins."""
        return (self.values.shape[1] - 2) // 3

    def parts(self, totals: NDArray[Any]) -> CalibrationParts:
        """Bins and terms."""
        bins = self.bins
        binned = totals[..., : 3 * bins].reshape(*totals.shape[:-1], 3, bins)
        return CalibrationParts(binned[..., 0, :], binned[..., 1, :], binned[..., 2, :], totals[..., -2], totals[..., -1])

    @property
    def units(self) -> Array:
        """(C,) units with a probability."""
        return np.asarray(self.values[:, : self.bins], dtype=np.float64).sum(1)

    def curve(self) -> Reliability:
        """The reliability curve of all clusters together."""
        parts = self.parts(self.vectors.sum(0))
        return Reliability.of_sums(parts.n, parts.confidence, parts.hits)

    def header(self) -> dict[str, Any]:
        """How many numbers a row has."""
        return {"width": self.values.shape[1]}

    @classmethod
    def unpack(cls, record: Mapping[str, Any], clusters: tuple[str, ...]) -> Calibration:
        """Inverse of `pack`."""
        return cls(clusters, dense(record, (len(clusters), int(record["width"]))))


class ClassBins(NamedTuple):
    """What the formulas take: (..., K, bins) sums of probability minus hit, and (...,) units."""

    gap: NDArray[Any]
    n: NDArray[Any]


@dataclass(frozen=True, eq=False)
class ClassCalibration(Sums):
    """Calibration sums of every class's probability; too many numbers to be kept with results.

    Attributes:
        values: (C, K bins + 1): sum of (probability - hit) in each class's bins, then the units.
        n_classes: K.
    """

    n_classes: int = 1
    kind = "class calibration"

    @classmethod
    def of(
        cls, truth: NDArray[np.integer], probabilities: NDArray[Any], *, weights: Array | None = None, bins: int = N_BINS
    ) -> ClassCalibration:
        """Sums labels (n,) and probabilities (n, K) that `checked_probabilities` gave, each as often as its weight; one cluster."""
        n, k = probabilities.shape
        index = bin_of(probabilities.ravel(), bins) + np.tile(np.arange(k) * bins, n)
        gap = probabilities.copy()
        gap[np.arange(n), truth] -= 1  # sum of (p - hit) in a bin = count x (confidence - accuracy)
        times = np.ones(n) if weights is None else weights
        sums = np.bincount(index, weights=(gap * times[:, None]).ravel(), minlength=k * bins)
        return cls(("all",), np.append(sums, times.sum())[None], k)

    def parts(self, totals: NDArray[Any]) -> ClassBins:
        """Bins of each class."""
        return ClassBins(totals[..., :-1].reshape(*totals.shape[:-1], self.n_classes, -1), totals[..., -1])

    @property
    def units(self) -> Array:
        """(C,) units with probabilities."""
        return np.asarray(self.values[:, -1], dtype=np.float64)


class ProbabilityRows(NamedTuple):
    """What each unit with checked probabilities adds to calibration sums, (n,) each."""

    bin: NDArray[np.intp]
    confidence: Array
    correct: Array
    brier: Array
    nll: Array

    @classmethod
    def of(cls, y: NDArray[np.intp], p: Array, bins: int = N_BINS) -> ProbabilityRows:
        """From labels (n,) and probabilities (n, K) that `checked_probabilities` gave."""
        confidence, hit = p.max(1), p[np.arange(len(y)), y]
        correct = (p.argmax(1) == y).astype(np.float64)
        surprise = -np.log(np.clip(hit, SMALLEST_PROBABILITY, 1.0))
        return cls(bin_of(confidence, bins), confidence, correct, (p * p).sum(1) - 2 * hit + 1, surprise)


def checked_probabilities(y_true: NDArray, probabilities: NDArray, *, ignore_index: int | None = -1) -> tuple[NDArray[np.intp], Array]:
    """Labels (n,) and float64 probabilities (n, K), without the ignored rows.

    Raises:
        DataError: Shapes that do not fit, a probability that is missing or outside 0-1, rows that do not sum to 1, a label that
            is no class.
    """
    labels, p = np.asarray(y_true), np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or labels.ndim != 1 or len(labels) != len(p):
        raise DataError(f"expected labels (n,) and probabilities (n, K), found {labels.shape} and {p.shape}")
    if ignore_index is not None and (labels == ignore_index).any():
        keep = labels != ignore_index
        labels, p = labels[keep], p[keep]
    if not len(labels):
        return labels.astype(np.intp), p
    # NaN fails every comparison, so this catches a missing probability too.
    if not (p.min() >= 0 and p.max() <= 1 + 1e-3):
        raise DataError("probabilities must lie between 0 and 1, none missing", remedy="A model may not abstain: give every unit a row.")
    # float16 rounding of K bands moves a sum by at most 2^-11.
    if np.abs(p.sum(1) - 1).max() > 2e-3:
        row = int(np.abs(p.sum(1) - 1).argmax())
        raise DataError(f"probabilities of a unit must sum to 1; row {row} sums to {p[row].sum():.4f}")
    if labels.min() < 0 or labels.max() >= p.shape[1]:
        raise DataError(f"a label lies outside 0 to {p.shape[1] - 1}")
    return labels.astype(np.intp), p


@dataclass(frozen=True)
class Reliability:
    """A reliability curve: for each bin that holds something, how many, how confident, how right."""

    count: Array
    confidence: Array
    accuracy: Array

    @classmethod
    def of(cls, confidence: Array, correct: NDArray[Any], bins: int = N_BINS) -> Reliability:
        """From the confidence (n,) of each unit and whether it was right, in bins of equal width."""
        index = bin_of(confidence, bins)
        sums = [np.bincount(index, weights=column, minlength=bins) for column in (np.ones(len(index)), confidence, correct)]
        return cls.of_sums(*sums)

    @classmethod
    def of_sums(cls, count: Array, confidence: Array, hits: Array) -> Reliability:
        """From the sums of each bin."""
        held = count > 0
        return cls(count[held], confidence[held] / count[held], hits[held] / count[held])

    def record(self) -> dict[str, list[float]]:
        """`confidence`, `accuracy` and `units` of each bin, as results hold them."""
        return {
            "confidence": [round(float(value), 6) for value in self.confidence],
            "accuracy": [round(float(value), 6) for value in self.accuracy],
            "units": [float(value) for value in self.count],
        }


def bin_of(confidence: Array, bins: int = N_BINS) -> NDArray[np.intp]:
    """Bin of equal width of each confidence; a bin is (lower, upper], the first also holds 0."""
    return np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")


def calibration_error(confidence: Array, correct: Array, index: NDArray[np.intp]) -> float:
    """Mean |accuracy - confidence| over bins, weighted by count (Guo et al. 2017), of bins given by index. NaN when empty."""
    gap = np.bincount(index, weights=confidence - correct)
    return float(np.abs(gap).sum() / len(confidence)) if len(confidence) else float("nan")


@metric(
    "ece",
    sums=Calibration,
    tasks=LABELLED,
    range=(0, 1),
    better="lower",
    words="mean |accuracy - confidence| of the predicted class over 15 bins of equal width, weighted by count",
    source="Guo et al. 2017, arXiv:1706.04599",
)
def _ece(parts: CalibrationParts) -> NDArray:
    return ratio(magnitude(parts.hits - parts.confidence).sum(-1), parts.n.sum(-1))


@metric(
    "ece_debiased",
    sums=Calibration,
    tasks=LABELLED,
    range=(-1, 1),
    better="lower",
    words="`ece` minus what a perfectly calibrated model of the same confidences has on average with as many units",
    source="Bröcker 2012, https://doi.org/10.1007/s00382-011-1191-1; Roelofs et al. 2022, arXiv:2012.08668",
)
def _ece_debiased(parts: CalibrationParts) -> NDArray:
    # Of n units of confidence c the share that is right is off by sqrt(2 c (1 - c) / (pi n)) on average (normal approximation).
    variance = parts.confidence * (parts.n - parts.confidence)
    there = np.real(variance) > 0
    expected = np.where(there, np.sqrt(2 / np.pi * ratio(np.where(there, variance, 1.0), np.where(there, parts.n, 1.0))), 0.0)
    return _ece(parts) - ratio(expected.sum(-1), parts.n.sum(-1))


@metric(
    "ece_classwise",
    sums=ClassCalibration,
    tasks=LABELLED,
    range=(0, 1),
    better="lower",
    words="mean over classes, those that never occur included, of the calibration error of that class's probability",
    source="Kull et al. 2019, arXiv:1910.12656",
)
def _ece_classwise(parts: ClassBins) -> NDArray:
    return ratio(magnitude(parts.gap).sum((-2, -1)), parts.n * parts.gap.shape[-2])


@metric(
    "brier",
    sums=Calibration,
    tasks=LABELLED,
    range=(0, 2),
    better="lower",
    words="squared error of the probabilities, summed over all classes (for two classes twice the one-column form)",
    source="Brier 1950",
)
def _brier(parts: CalibrationParts) -> NDArray:
    return ratio(parts.brier, parts.n.sum(-1))


@metric(
    "nll",
    sums=Calibration,
    tasks=LABELLED,
    range=(0, -math.log(SMALLEST_PROBABILITY)),
    better="lower",
    words="mean -log probability of the truth, in nats, probabilities floored at 2^-23",
    source="Good 1952",
)
def _nll(parts: CalibrationParts) -> NDArray:
    return ratio(parts.nll, parts.n.sum(-1))


SCALED = ("ece", "ece_classwise", "brier", "nll")
"""Scores that are also given after temperature scaling, as `<score>_scaled`."""
for _name in SCALED:
    variant(f"{_name}_scaled", of=_name, words=f"`{_name}` after temperature scaling", source="Guo et al. 2017, arXiv:1706.04599")
