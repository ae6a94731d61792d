"""Sums of maps, a chip at a time: memory holds one chip, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.boundary import Boundary, boundary_counts
from rs05bench.protocol.metrics.calibration import (
    N_BINS,
    Calibration,
    ClassCalibration,
    ProbabilityRows,
    bin_of,
    checked_probabilities,
)
from rs05bench.protocol.metrics.confusion import Confusion
from rs05bench.protocol.metrics.sums import Clusters, Sums, Tally
from rs05bench.protocol.metrics.temperature import apply_temperature, fit_temperature

Array = NDArray[np.float64]

MOST_FITTED = 1 << 16
"""Pixels that the temperature of a map of many classes is fitted on, at most."""
_LEVELS, _VALUES = 1 << 14, 15361  # float16 values from 0 to 1 are the bit patterns 0 to 15360


@dataclass(frozen=True)
class MapRules:
    """How maps are scored.

    Attributes:
        classes: K names.
        tolerance_m: Tolerance of the boundary F1 in metres.
        background: Class whose boundary and area are not of interest; None when all are.
        ignore_index: Value of the truth that is not scored.
    """

    classes: tuple[str, ...]
    tolerance_m: float
    background: int | None = 0
    ignore_index: int = -1

    def chip(
        self, truth: NDArray[np.integer], predicted: NDArray[np.integer], *, pixel_size_m: float | tuple[float, float], name: str = "all"
    ) -> Tally:
        """Confusion and boundary of one chip, as one cluster.

        Args:
            truth: (H, W) class indices.
            predicted: (H, W) class indices.
            pixel_size_m: Width of a pixel in metres, or (width, height).
            name: Name of the cluster.

        Raises:
            DataError: The maps differ in shape, or hold values that are not class indices.
        """
        if truth.shape != predicted.shape or truth.ndim != 2:
            raise DataError(f"expected two maps (H, W), found {truth.shape} and {predicted.shape}")
        counts = Confusion.of(truth, predicted, self.classes, ignore_index=self.ignore_index, background=self.background)
        valid = truth != self.ignore_index
        of_interest = [k for k in range(len(self.classes)) if k != self.background]
        edges = [
            boundary_counts(
                truth == k,
                predicted == k,
                tolerance_m=self.tolerance_m,
                pixel_size_m=pixel_size_m,
                valid=None if valid.all() else valid,
            )
            for k in of_interest
        ]
        names = tuple(self.classes[k] for k in of_interest)
        return _named(name, counts, Boundary(("all",), np.array(edges, dtype=np.int64).reshape(1, -1, 4), names))

    def band(self, truth: NDArray[np.integer], probability: NDArray[Any], table: BandTable, *, name: str = "all") -> Tally:
        """Calibration sums of a two-class chip, from the probability (H, W) of its second class."""
        scored = truth != self.ignore_index
        labels, p = (truth.ravel(), probability.ravel()) if scored.all() else (truth[scored], probability[scored])
        return _named(name, *table.sums(band_counts(labels, p)))

    def sample(
        self, truth: NDArray[np.integer], probabilities: NDArray[Any], *, temperature: float | None = None, name: str = "all"
    ) -> Tally:
        """Calibration sums of a chip from sampled pixels: labels (n,) and probabilities (n, K)."""
        y, p = checked_probabilities(truth, probabilities, ignore_index=self.ignore_index)
        p = p if temperature is None or not len(p) else apply_temperature(p, temperature)
        calibration = Calibration.of_rows(ProbabilityRows.of(y, p), Clusters.one(len(y)))
        return _named(name, calibration, ClassCalibration.of(y, p))


def stack(tallies: Sequence[Tally]) -> Tally:
    """Tallies of chips, one after the other; those of one name stay apart."""
    kinds = zip(*(tally.kinds for tally in tallies), strict=True)
    return Tally(tuple(_stacked(kind) for kind in kinds))


def _stacked(parts: Sequence[Sums]) -> Sums:
    names = tuple(name for part in parts for name in part.clusters)
    return replace(parts[0], clusters=names, values=np.concatenate([part.values for part in parts]))


def _named(name: str, *kinds: Sums) -> Tally:
    return Tally(tuple(replace(sums, clusters=(name,)) for sums in kinds))


def band_counts(y_true: NDArray, probability: NDArray) -> NDArray[np.int64]:
    """How often each probability occurs with each label in one probability band of a two-class map.

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


class BandTable:
    """What every (label, half-precision probability) of a two-class map adds to calibration sums, before or after scaling.

    Args:
        temperature: Scales the probabilities; None for none.
    """

    def __init__(self, temperature: float | None = None) -> None:
        self.temperature = temperature
        value = _band_values()
        p = np.stack([1 - value, value], axis=1)
        if temperature is not None:
            p = apply_temperature(p, temperature)
        y, p = np.repeat([0, 1], _VALUES), np.tile(p, (2, 1))
        self._rows = ProbabilityRows.of(y, p)
        self._class_bin = np.stack([bin_of(p[:, 0]), bin_of(p[:, 1]) + N_BINS])
        self._gap = np.stack([p[:, 0] - (y == 0), p[:, 1] - (y == 1)])

    def sums(self, counts: NDArray[np.integer]) -> tuple[Calibration, ClassCalibration]:
        """Calibration sums of what `band_counts` gives, one cluster."""
        times = counts.ravel().astype(np.float64)
        gaps = np.bincount(self._class_bin.ravel(), weights=(self._gap * times).ravel(), minlength=2 * N_BINS)
        of_classes = ClassCalibration(("all",), np.append(gaps, times.sum())[None], 2)
        return Calibration.of_rows(self._rows, Clusters.one(len(times)), weights=times), of_classes


def _band_values() -> Array:
    return np.arange(_VALUES, dtype=np.uint16).view(np.float16).astype(np.float64)


def fit_band_temperature(counts: NDArray[np.integer]) -> float:
    """The temperature of a two-class map, from the `band_counts` of its validation pixels: exact, whatever their number."""
    label, level = np.nonzero(counts)
    value = _band_values()[level]
    p = np.stack([1 - value, value], axis=1)
    return fit_temperature(label.astype(np.intp), p, weights=counts[label, level].astype(np.float64))


def fit_sampled_temperature(chips: Sequence[tuple[NDArray, NDArray]]) -> float:
    """The temperature of a map of many classes, from labels (n,) and probabilities (n, K) of validation pixels, a pair per chip.

    Of each chip the first pixels are taken, equally many and no more than `MOST_FITTED` in all: samples come in hash order, so the first
    are as good as any, and the choice is the same everywhere.
    """
    most = max(1, MOST_FITTED // max(len(chips), 1))
    kept = [(y[:most], p[:most]) for y, p in chips if len(y)]
    if not kept:
        return 1.0
    return fit_temperature(np.concatenate([y for y, _ in kept]), np.concatenate([p for _, p in kept]))
