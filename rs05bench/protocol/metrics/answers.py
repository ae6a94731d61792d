"""Predictions of units beside their truth: the sums of any grouping of them, and the scores that do not follow from sums."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.calibration import (
    Calibration,
    ClassCalibration,
    ProbabilityRows,
    calibration_error,
    checked_probabilities,
)
from rs05bench.protocol.metrics.confusion import Confusion
from rs05bench.protocol.metrics.declaration import METRICS, find_metric, metric
from rs05bench.protocol.metrics.moments import Moments, moment_columns, paired_values
from rs05bench.protocol.metrics.spatial import MoransI, SpatialWeights, morans_i
from rs05bench.protocol.metrics.sums import Clusters, Tally
from rs05bench.protocol.metrics.temperature import apply_temperature

Array = NDArray[np.float64]
MORAN_PERMUTATIONS = 99


@dataclass(frozen=True, eq=False, kw_only=True)
class UnitAnswers(ABC):
    """Checked answers for n units with a label; build them with `of_classes` or `of_values`.

    Attributes:
        truth: (n,) class indices or numbers.
        predicted: (n,) the same.
        error: (n,) prediction minus truth; for classes 1 minus the probability of the truth.
        neighbours: Who is whose neighbour among the units; None where it is not known.
        scaled: Calibration of all of them after scaling by a temperature; None without one.
    """

    truth: NDArray[Any]
    predicted: NDArray[Any]
    error: Array
    neighbours: SpatialWeights | None = None
    scaled: Tally | None = None

    @abstractmethod
    def sums(self, clusters: Clusters) -> Tally:
        """The sums that results keep, by cluster."""

    def whole(self) -> Tally:
        """All sums of all units together, those that are not kept included."""
        return self.sums(Clusters.one(len(self.truth)))

    @abstractmethod
    def take(self, rows: NDArray[Any]) -> UnitAnswers:
        """The answers for some units; their neighbours are left out."""

    def scores(self, task: str, regions: Clusters | None = None) -> dict[str, float]:
        """Every score that applies to a kind of task, and `n`, the units; see `UnitSums.scores`."""
        found = self.whole().scores(task)
        for declared in METRICS.values():
            if declared.sums is None and not declared.variant_of and task in declared.tasks:
                found[declared.name] = float(declared.function(self))
        return found

    def value(self, metric: str) -> float:
        """See `UnitSums.value`."""
        declared = find_metric(metric)
        return float(declared.function(self)) if declared.sums is None and not declared.variant_of else math.nan

    def curve(self) -> dict[str, list[float]] | None:
        """See `UnitSums.curve`."""
        return None

    def beside(self, neighbours: SpatialWeights | None) -> UnitAnswers:
        """See `UnitSums.beside`."""
        return replace(self, neighbours=neighbours)

    @cached_property
    def moran(self) -> MoransI | None:
        """Moran's I of the errors with its permutation test; None without neighbours."""
        return None if self.neighbours is None else morans_i(self.error, self.neighbours, permutations=MORAN_PERMUTATIONS)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassAnswers(UnitAnswers):
    """Class probabilities beside the true class.

    Attributes:
        probabilities: (n, K), rows sum to 1. The predicted class is the most probable, the first of equals.
        classes: K class names.
        rows: What each unit adds to the calibration sums.
    """

    probabilities: Array
    classes: tuple[str, ...]
    rows: ProbabilityRows

    @classmethod
    def of(cls, truth: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str], *, ignore_index: int | None = -1) -> ClassAnswers:
        """Checks labels (n,) and probabilities (n, K); units of `ignore_index` are left out.

        Raises:
            DataError: See `checked_probabilities`.
        """
        y, p = checked_probabilities(truth, probabilities, ignore_index=ignore_index)
        if p.shape[1] != len(classes):
            raise DataError(f"{p.shape[1]} probability columns for {len(classes)} classes")
        error = 1.0 - p[np.arange(len(y)), y]
        return cls(truth=y, predicted=p.argmax(1), error=error, probabilities=p, classes=tuple(classes), rows=ProbabilityRows.of(y, p))

    def sums(self, clusters: Clusters) -> Tally:
        """Confusion and calibration by cluster."""
        confusion = Confusion.of(self.truth, self.predicted, self.classes, clusters=clusters, ignore_index=None)
        return Tally((confusion, Calibration.of_rows(self.rows, clusters)))

    def whole(self) -> Tally:
        """Also the calibration of every class."""
        kept = super().whole()
        return Tally((*kept.kinds, ClassCalibration.of(self.truth, self.probabilities)))

    def take(self, rows: NDArray[Any]) -> ClassAnswers:
        """The answers for some units."""
        return ClassAnswers(
            truth=self.truth[rows],
            predicted=self.predicted[rows],
            error=self.error[rows],
            probabilities=self.probabilities[rows],
            classes=self.classes,
            rows=ProbabilityRows(*(column[rows] for column in self.rows)),
        )

    def curve(self) -> dict[str, list[float]] | None:
        """See `UnitSums.curve`."""
        return Calibration.of_rows(self.rows, Clusters.one(len(self.truth))).curve().record()

    def scaled_by(self, temperature: float) -> ClassAnswers:
        """The same with the calibration after scaling."""
        scaled = ClassAnswers.of(self.truth, apply_temperature(self.probabilities, temperature), self.classes, ignore_index=None)
        return replace(self, scaled=scaled.whole())


@dataclass(frozen=True, eq=False, kw_only=True)
class ValueAnswers(UnitAnswers):
    """Predicted numbers beside the true ones.

    Attributes:
        interval: (n, 2) predicted 90 % intervals, or None.
        origins: What truth and prediction are counted from.
        columns: What each unit adds to the moments.
    """

    interval: Array | None
    origins: tuple[float, float]
    columns: tuple[Array, ...]

    @classmethod
    def of(
        cls, truth: NDArray[Any], predicted: NDArray[Any], interval: NDArray[Any] | None = None, *, origin: float | None = None
    ) -> ValueAnswers:
        """Checks truth and prediction (n,); units of unknown truth (NaN) are left out.

        Args:
            truth: (n,), NaN = no label.
            predicted: (n,), finite wherever the truth is known.
            interval: (n, 2) predicted 90 % intervals, or None.
            origin: What moments are counted from, the same for all folds whose sums will be added; default the medians of these.

        Raises:
            DataError: See `paired_values` and `covered`.
        """
        y, p, known = paired_values(truth, predicted)
        ends = None if interval is None else np.asarray(interval, dtype=np.float64)[known]
        middles = (float(np.median(y)), float(np.median(p))) if origin is None and len(y) else (origin or 0.0, origin or 0.0)
        columns = moment_columns(y, p, ends, middles)
        return cls(truth=y, predicted=p, error=p - y, interval=ends, origins=middles, columns=columns)

    def sums(self, clusters: Clusters) -> Tally:
        """Moments by cluster."""
        return Tally((Moments.of_columns(self.columns, clusters, self.origins),))

    def take(self, rows: NDArray[Any]) -> ValueAnswers:
        """The answers for some units."""
        return ValueAnswers(
            truth=self.truth[rows],
            predicted=self.predicted[rows],
            error=self.error[rows],
            interval=None if self.interval is None else self.interval[rows],
            origins=self.origins,
            columns=tuple(column[rows] for column in self.columns),
        )


def classification_scores(y_true: NDArray, probabilities: NDArray, classes: Sequence[str]) -> dict[str, float]:
    """Every score of a classification.

    Args:
        y_true: Class indices (n,); -1 marks a unit without a label.
        probabilities: (n, K), rows sum to 1. The predicted class is the most probable, the first of equals.
        classes: K class names.

    Returns:
        `n` and every declared score of a classification; NaN over all classes, and left out for a class, where undefined.

    Raises:
        DataError: See `checked_probabilities`.
    """
    return ClassAnswers.of(y_true, probabilities, classes).scores("classification")


def regression_scores(y_true: NDArray, y_pred: NDArray, interval: NDArray | None = None) -> dict[str, float]:
    """Every score of a regression.

    Args:
        y_true: (n,), NaN = no label (a suppressed value), left out.
        y_pred: (n,), finite wherever the truth is known.
        interval: (n, 2) predicted 90 % intervals, or None.

    Returns:
        `n` and every declared score of a regression; NaN where undefined.

    Raises:
        DataError: See `paired_values` and `covered`.
    """
    return ValueAnswers.of(y_true, y_pred, interval).scores("regression")


@metric(
    "ece_mass",
    tasks=("classification",),
    range=(0, 1),
    better="lower",
    words="`ece` over bins of equal mass; equal confidences share a bin, so that the order of the units changes nothing",
    source="Nixon et al. 2019, arXiv:1904.01685",
)
def _ece_mass(answers: ClassAnswers) -> float:
    confidence = answers.rows.confidence
    if not len(confidence):
        return math.nan
    inner = np.unique(np.quantile(confidence, np.arange(1, 15) / 15, method="inverted_cdf"))
    return calibration_error(confidence, answers.rows.correct, np.searchsorted(inner, confidence, side="left"))


@metric(
    "spearman",
    tasks=("regression",),
    range=(-1, 1),
    better="higher",
    words="correlation of ranks, equal values sharing their mean rank; NaN when either side is constant",
    source="Spearman 1904",
)
def _spearman(answers: UnitAnswers) -> float:
    from scipy.stats import rankdata

    if len(answers.truth) < 2:
        return math.nan
    return Moments.of(rankdata(answers.truth), rankdata(answers.predicted)).evaluate("pearson")


@metric(
    "width90",
    tasks=("regression",),
    range=(0, math.inf),
    better="lower",
    words="mean width of the 90 % intervals; read with `coverage90`",
)
def _width90(answers: ValueAnswers) -> float:
    if answers.interval is None or not len(answers.interval):
        return math.nan
    return float((answers.interval[:, 1] - answers.interval[:, 0]).mean())


@metric(
    "morans_i",
    tasks=("classification", "regression"),
    range=(-math.inf, math.inf),
    better=0.0,
    words="spatial autocorrelation of the errors with the 8 nearest units (great circle)",
    source="Moran 1950; permutation test Cliff & Ord 1981",
)
def _morans_i(answers: UnitAnswers) -> float:
    return math.nan if answers.moran is None else answers.moran.value


@metric(
    "morans_p",
    tasks=("classification", "regression"),
    range=(0, 1),
    better="higher",
    words="one-sided p of `morans_i` by permutation: small where errors of neighbours are alike",
    source="Cliff & Ord 1981",
)
def _morans_p(answers: UnitAnswers) -> float:
    return math.nan if answers.moran is None or not np.isfinite(answers.moran.value) else answers.moran.p
