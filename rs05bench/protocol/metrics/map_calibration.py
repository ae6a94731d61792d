"""Calibration of maps, chip after chip: what has been seen is kept as sums, so memory stays flat.

Temperature scaling is that of Guo et al. (2017, https://arxiv.org/abs/1706.04599): one number, fitted by the NLL of validation pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.calibration import (
    N_BINS,
    SMALLEST_PROBABILITY,
    apply_temperature,
    bin_of,
    brier_terms,
    checked_probabilities,
    fit_temperature,
    nll_terms,
)

Array = NDArray[np.float64]

MOST_FITTED = 1 << 16
"""Pixels that the temperature of a map of many classes is fitted on, at most."""
_LEVELS, _VALUES = 1 << 14, 15361  # float16 values from 0 to 1 are the bit patterns 0 to 15360


def band_counts(y_true: NDArray, probability: NDArray) -> NDArray[np.int64]:
    """How often each probability occurs beside each label in one probability band of a two-class map.

    The band is taken as float16, the type in which it is submitted: then a chip is one histogram over the 15,361 values there are
    from 0 to 1, and every calibration score follows exactly from it.

    Args:
        y_true: (n,) 0 or 1.
        probability: (n,) probability of class 1.

    Returns:
        (2, 15361), rows labels.

    Raises:
        DataError: A probability is missing or outside 0 to 1.
    """
    half = np.ascontiguousarray(probability, dtype=np.float16)
    pattern = half.view(np.uint16)
    if pattern.size and pattern.max() >= _VALUES:  # negative, above 1, infinite and NaN all have larger patterns
        half = np.where(half == 0, np.float16(0), half)  # minus zero is a zero
        pattern = half.view(np.uint16)
        if pattern.max() >= _VALUES:
            raise DataError(
                "probabilities must lie between 0 and 1, none missing", remedy="A model may not abstain: give every pixel a number."
            )
    joint = pattern + (np.asarray(y_true) == 1).astype(np.uint16) * np.uint16(_LEVELS)
    return np.bincount(joint, minlength=2 * _LEVELS).reshape(2, _LEVELS)[:, :_VALUES]


def binary_sums(counts: NDArray[np.integer], bins: int = N_BINS) -> Array:
    """Calibration sums (3 bins + 2,), as in `ClusterCalibration`, of what `band_counts` gives."""
    if not counts.any():
        return np.zeros(3 * bins + 2)
    flat = counts.ravel()
    index, confidence, correct, brier, nll = _table(bins)
    binned = [np.bincount(index, weights=flat * part, minlength=bins) for part in (1.0, confidence, correct)]
    return np.concatenate([*binned, [flat @ brier, flat @ nll]])


_TABLES: dict[int, tuple[NDArray, ...]] = {}


def _table(bins: int) -> tuple[NDArray, ...]:
    """For each (label, float16 probability): bin, confidence, whether right, part of the Brier score, part of the NLL."""
    if bins not in _TABLES:
        value = _band_values()
        confidence = np.maximum(value, 1 - value)
        says_one = value > 0.5  # a tie goes to the first class, as argmax does
        of_truth = np.concatenate([1 - value, value])
        _TABLES[bins] = (
            np.tile(bin_of(confidence, bins), 2),
            np.tile(confidence, 2),
            np.concatenate([~says_one, says_one]).astype(np.float64),
            2 * (1 - of_truth) ** 2,
            -np.log(np.clip(of_truth, SMALLEST_PROBABILITY, 1.0)),
        )
    return _TABLES[bins]


def _band_values() -> Array:
    return np.arange(_VALUES, dtype=np.uint16).view(np.float16).astype(np.float64)


def band_rows(counts: NDArray[np.integer]) -> tuple[NDArray[np.intp], Array, Array]:
    """The different rows of a two-class map: labels (m,), probabilities (m, 2) and how often each occurs (m,)."""
    label, level = np.nonzero(counts)
    value = _band_values()[level]
    return label.astype(np.intp), np.stack([1 - value, value], axis=1), counts[label, level].astype(np.float64)


@dataclass
class CalibrationTotals:
    """Sums from which ECE, class-wise ECE, Brier score and NLL follow; adds up over chips.

    Args:
        classes: K.
        bins: Bins of the calibration errors.
    """

    classes: int
    bins: int = N_BINS
    count: float = 0.0
    _gap: Array = field(init=False, repr=False)
    _of_class: Array = field(init=False, repr=False)
    _terms: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._gap = np.zeros(self.bins)
        self._of_class = np.zeros(self.classes * self.bins)
        self._terms = np.zeros(2)

    def add(self, y_true: NDArray, probabilities: NDArray, weights: Array | None = None) -> None:
        """Adds pixels.

        Args:
            y_true: (n,) class indices.
            probabilities: (n, K).
            weights: (n,) how often each row occurs; None = once.
        """
        y, p = checked_probabilities(y_true, probabilities, ignore_index=None)
        w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
        confidence, correct = p.max(1), p.argmax(1) == y
        self.count += float(w.sum())
        self._gap += np.bincount(bin_of(confidence, self.bins), weights=w * (confidence - correct), minlength=self.bins)
        gap = p.copy()
        gap[np.arange(len(y)), y] -= 1  # sum of (p - hit) in a bin = count x (confidence - accuracy)
        index = bin_of(p.ravel(), self.bins) + np.tile(np.arange(self.classes) * self.bins, len(y))
        self._of_class += np.bincount(index, weights=(gap * w[:, None]).ravel(), minlength=self.classes * self.bins)
        self._terms += w @ brier_terms(y, p), w @ nll_terms(y, p)

    def __iadd__(self, other: CalibrationTotals) -> CalibrationTotals:
        """Adds what another has seen."""
        self.count += other.count
        self._gap += other._gap
        self._of_class += other._of_class
        self._terms += other._terms
        return self

    def scores(self) -> dict[str, float]:
        """`ece`, `ece_classwise`, `brier`, `nll`; empty when nothing was added."""
        if not self.count:
            return {}
        return {
            "ece": float(np.abs(self._gap).sum() / self.count),
            "ece_classwise": float(np.abs(self._of_class).sum() / (self.count * self.classes)),
            "brier": float(self._terms[0] / self.count),
            "nll": float(self._terms[1] / self.count),
        }


@dataclass
class MapCalibration:
    """Calibration of a map, before and after scaling by a temperature.

    Args:
        classes: K.
        temperature: What probabilities are scaled by; None for none.
        bins: Bins of the calibration errors.
    """

    classes: int
    temperature: float | None = None
    bins: int = N_BINS
    _band: NDArray[np.int64] | None = field(default=None, init=False, repr=False)
    _plain: CalibrationTotals = field(init=False, repr=False)
    _scaled: CalibrationTotals = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._plain, self._scaled = (CalibrationTotals(self.classes, self.bins) for _ in range(2))

    def add_band(self, counts: NDArray[np.int64]) -> None:
        """Adds what `band_counts` gives of a two-class chip."""
        if self._band is None:
            self._band = np.zeros_like(counts)
        self._band += counts

    def add(self, y_true: NDArray, probabilities: NDArray) -> None:
        """Adds labels (n,) and probabilities (n, K) of pixels that are scored."""
        self._plain.add(y_true, probabilities)
        if self.temperature is not None:
            self._scaled.add(y_true, apply_temperature(probabilities, self.temperature))

    def merge(self, other: MapCalibration) -> None:
        """Adds what another has seen."""
        if self.temperature != other.temperature:
            raise DataError(f"maps scaled by {self.temperature} and by {other.temperature} cannot be merged")
        self._plain += other._plain
        self._scaled += other._scaled
        if other._band is not None:
            self.add_band(other._band)

    def scores(self) -> dict[str, float]:
        """`ece_classwise`, and with a temperature `temperature` and the four `<score>_scaled`; empty when nothing was added."""
        plain, scaled = (CalibrationTotals(self.classes, self.bins) for _ in range(2))
        plain += self._plain
        scaled += self._scaled
        if self._band is not None:
            y, p, times = band_rows(self._band)
            plain.add(y, p, times)
            if self.temperature is not None:
                scaled.add(y, apply_temperature(p, self.temperature), times)
        if not plain.count:
            return {}
        found = {"ece_classwise": plain.scores()["ece_classwise"]}
        if self.temperature is not None:
            found["temperature"] = self.temperature
            found |= {f"{name}_scaled": value for name, value in scaled.scores().items()}
        return found


def fit_band_temperature(counts: NDArray[np.integer]) -> float:
    """The temperature of a two-class map, from the `band_counts` of its validation pixels: exact, whatever their number."""
    y, p, times = band_rows(counts)
    return fit_temperature(y, p, weights=times)


def fit_sampled_temperature(chips: Sequence[tuple[NDArray, NDArray]]) -> float:
    """The temperature of a map of many classes, from labels (n,) and probabilities (n, K) of validation pixels, a pair a chip.

    Of each chip the first pixels are taken, equally many and no more than `MOST_FITTED` in all: samples come in hash order, so the first
    are as good as any, and the choice is the same everywhere.
    """
    most = max(1, MOST_FITTED // max(len(chips), 1))
    kept = [(y[:most], p[:most]) for y, p in chips if len(y)]
    if not kept:
        return 1.0
    return fit_temperature(np.concatenate([y for y, _ in kept]), np.concatenate([p for _, p in kept]))
