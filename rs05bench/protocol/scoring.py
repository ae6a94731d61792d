"""The one scorer of table tasks: predictions, a manifest and labels in; scores out.

Models never compute their own scores. Everything here can be recomputed from the stored predictions, without torch.

Sums per test block are counted once; the scores of grounds and groups, and later every interval, follow from them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.group_report import group_report
from rs05bench.protocol.kept import KeptSums, Stats, gives
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics import METRICS, ClusterConfusion, ClusterMoments, classification_scores, find_metric, regression_scores
from rs05bench.protocol.metrics.calibration import (
    N_BINS,
    apply_temperature,
    bin_of,
    brier_terms,
    checked_probabilities,
    fit_temperature,
    nll_terms,
    reliability_curve,
    width_scores,
)
from rs05bench.protocol.metrics.classification import scores_of_checked
from rs05bench.protocol.metrics.cluster_calibration import ClusterCalibration
from rs05bench.protocol.metrics.regression import covered, paired_values, spearman
from rs05bench.protocol.metrics.spatial import morans_i
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.result import Stratum
from rs05bench.protocol.scoring_parts import MOST_GROUPS, TEST_ROLES, Part, lay_out
from rs05bench.protocol.splits import Split
from rs05bench.protocol.taskdata import class_values, encode_labels

STRATUM_METRICS = {
    "classification": ("macro_f1", "balanced_accuracy", "overall_accuracy", "ece", "brier"),
    "regression": ("r2", "mae", "rmse", "spearman", "coverage90"),
}
MORAN_PERMUTATIONS = 99
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of one fold's predictions; the fields are those of `Result`."""

    scores: dict[str, dict[str, float]]
    strata: list[Stratum]
    per_group: dict[str, dict[str, dict[str, dict[str, float]]]]
    calibration: dict[str, dict[str, list[float]]]
    sums: dict[str, KeptSums] = field(default_factory=dict)
    fairness: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def packed(self) -> dict[str, str]:
        """The sums as a result stores them."""
        return {role: kept.pack() for role, kept in self.sums.items()}


@dataclass(frozen=True, slots=True)
class _Answer:
    """Predictions of one role beside the truth, with what every sum needs, computed once."""

    truth: NDArray[Any]
    predicted: NDArray[Any]
    error: Array
    columns: tuple[Array, ...]
    bins: NDArray[np.intp] | None = None
    p: Array | None = None


@dataclass(frozen=True, slots=True)
class Scorer:
    """A fold of a task made ready to score many models.

    Build it with `Scorer.build`; then `scorer.score(predictions)`.
    """

    card: TaskCard
    classes: tuple[str, ...] | None
    unit_id: NDArray[np.object_]
    role: NDArray[np.object_]
    truth: NDArray[Any]
    source: str
    parts: tuple[Part, ...]
    origin: float
    main: bool
    _labels: NDArray[Any] = field(repr=False)
    _labelled: pd.Index = field(repr=False)
    _row: pd.Index = field(repr=False)

    @classmethod
    def build(cls, card: TaskCard, manifest: SplitManifest, fold: str, labels: pd.Series) -> Scorer:
        """Lines up the test units of a fold with their labels.

        Args:
            card: The task.
            manifest: Its frozen split.
            fold: Fold name.
            labels: Labels of the target, indexed by `unit_id`; units without a label are not scored.

        Raises:
            DataError: No test unit has a label.
        """
        rows = manifest.fold(fold)
        rows = rows[rows["role"].astype(str).isin(TEST_ROLES)]
        known = labels.dropna()
        rows = rows[rows["unit_id"].isin(known.index)]
        if rows.empty:
            raise DataError(f"{manifest.name}, fold {fold!r}: no test unit has a label", source=card.name)
        ids = rows["unit_id"].to_numpy(dtype=object)
        classes = class_values(card, labels) if card.kind != "regression" else None
        # The same origin in every fold, so that sums of folds add up without moving them.
        origin = 0.0 if classes is not None else float(known.astype(np.float64).median())
        return cls(
            card,
            classes,
            ids,
            rows["role"].astype(str).to_numpy(dtype=object),
            encode_labels(labels.reindex(ids), classes, card.name),
            f"{manifest.name}, fold {fold}",
            lay_out(card, manifest, rows, known.index),
            origin,
            bool(manifest.card.get("can_be_main", Split(manifest.split).rule.may_be_main)),
            known.to_numpy(dtype=object),
            pd.Index(known.index.to_numpy(dtype=object), dtype=object),
            pd.Index(ids, dtype=object),
        )

    def score(self, predictions: Predictions, *, validation: Collection[str] | None = None) -> Scored:
        """Scores predictions that cover every test unit with a label.

        Args:
            predictions: Of the test roles, and of the role `val` where a temperature is to be fitted.
            validation: The validation units whose labels the budget holds: a temperature is fitted on these and on no other.

        Raises:
            DataError: Units are missing, unknown, or predicted under another role; the classes differ.
        """
        picked = self._align(predictions)
        temperature = self._temperature(predictions, validation)
        scores: dict[str, dict[str, float]] = {}
        per_group: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
        calibration: dict[str, dict[str, list[float]]] = {}
        sums: dict[str, KeptSums] = {}
        fairness: dict[str, dict[str, dict[str, Any]]] = {}
        strata: list[Stratum] = []
        for part in self.parts:
            here = picked.take(part.units)
            answer = self._answer(here, part)
            kept = KeptSums(part.keys, self._sums(answer, part.row_of, part.rows))
            sums[part.role] = kept
            scores[part.role] = self._whole(here, answer, part) | self._scaled(answer, temperature) | self._moran(answer, part)
            per_group[part.role] = self._per_group(here, answer, part)
            found = self._fairness(answer, part)
            if found:
                fairness[part.role] = found
            if self.classes is not None:
                calibration[part.role] = self._reliability(answer)
            shifts = sorted({shift for shift, _, _ in part.strata})
            for shift in shifts:
                if len(shifts) > 1:
                    inside = np.isin(part.stratum_of, [i for i, (of, _, _) in enumerate(part.strata) if of == shift])
                    scores[f"{part.role}:{shift}"] = self._scores(here.take(np.flatnonzero(inside)), part.units[inside])
            strata += self._strata(here, answer, part)
        return Scored(scores, strata, per_group, calibration, sums, fairness)

    def _align(self, predictions: Predictions) -> Predictions:
        if self.classes is not None and predictions.classes != self.classes:
            raise DataError(f"predictions are over the classes {predictions.classes}, and the task has {self.classes}", source=self.source)
        if self.classes is None and predictions.y is None:
            raise DataError("the task is a regression, and the predictions hold no column 'y'", source=self.source)
        # Plain comparisons: on objects they are a hundred times faster than np.isin.
        tested = predictions.take(np.flatnonzero(np.logical_or.reduce([predictions.role == role for role in TEST_ROLES])))
        order = np.full(len(self.unit_id), -1, dtype=np.int64)
        row = self._row.get_indexer(pd.Index(tested.unit_id, dtype=object))
        known = np.flatnonzero(row >= 0)
        odd = known[tested.role[known] != self.role[row[known]]]
        if len(odd):
            unit, said, role = tested.unit_id[odd[0]], tested.role[odd[0]], self.role[row[odd[0]]]
            raise DataError(f"unit {unit!r} is predicted as {said}, and its role here is {role}", source=self.source)
        order[row[known]] = known
        missing = order < 0
        if missing.any():
            raise DataError(
                f"{int(missing.sum())} of {len(order)} test units have no prediction, e.g. {self.unit_id[missing][0]!r}",
                source=self.source,
                remedy="Predict every unit of the roles test_id and test_ood.",
            )
        return tested.take(order)

    def _scores(self, picked: Predictions, at: NDArray[np.intp]) -> dict[str, float]:
        """Every score of some units; `picked` and `at` name the same ones."""
        if self.classes is not None:
            values = classification_scores(self.truth[at], picked.probabilities, self.classes)  # type: ignore[arg-type]
        else:
            values = regression_scores(self.truth[at], picked.y, picked.interval)  # type: ignore[arg-type]
        return {name: float(value) for name, value in values.items() if np.isfinite(value)}

    def _whole(self, here: Predictions, answer: _Answer, part: Part) -> dict[str, float]:
        """Every score of a role."""
        if answer.p is None or self.classes is None:
            return self._scores(here, part.units)
        return {name: float(value) for name, value in scores_of_checked(answer.truth, answer.p, self.classes).items() if np.isfinite(value)}

    def _answer(self, here: Predictions, part: Part) -> _Answer:
        truth = self.truth[part.units]
        if self.classes is not None:
            y, p = checked_probabilities(truth, here.probabilities)  # type: ignore[arg-type]
            confidence, predicted = p.max(1), p.argmax(1)
            columns: tuple[Array, ...] = (confidence, (predicted == y).astype(float), brier_terms(y, p), nll_terms(y, p))
            return _Answer(y, predicted, 1.0 - p[np.arange(len(y)), y], columns, bin_of(confidence), p)
        known, value, _ = paired_values(truth, here.y)  # type: ignore[arg-type]
        error, a, b, one = value - known, known - self.origin, value - self.origin, np.ones(len(known))
        inside = np.zeros(len(known)) if here.interval is None else covered(known, here.interval).astype(float)
        columns = (one, a, a * a, b, b * b, a * b, np.abs(error), error * error, one * (here.interval is not None), inside)
        return _Answer(known, value, error, columns)

    def _sums(self, answer: _Answer, code: NDArray[np.intp], n: int) -> tuple[Stats, ...]:
        """Sums of units by an integer code from 0 to n - 1."""
        names = tuple(map(str, range(n)))
        if self.classes is None:
            moments = np.stack([np.bincount(code, weights=column, minlength=n) for column in answer.columns], axis=1)
            return (ClusterMoments(names, self.origin, moments),)
        k = len(self.classes)
        counts = np.bincount((code * k + answer.truth) * k + answer.predicted, minlength=n * k * k).reshape(n, k, k)
        assert answer.bins is not None
        confidence, correct, brier, surprise = answer.columns
        cell = code * N_BINS + answer.bins
        binned = [np.bincount(cell, weights=w, minlength=n * N_BINS).reshape(n, N_BINS) for w in (None, confidence, correct)]
        summed = [np.bincount(code, weights=w, minlength=n)[:, None] for w in (brier, surprise)]
        return (
            ClusterConfusion(names, self.classes, counts),
            ClusterCalibration(names, np.concatenate([*binned, *summed], axis=1)),
        )

    def _by_code(
        self, here: Predictions, answer: _Answer, part: Part, code: NDArray[np.intp], n: int, metrics: Collection[str]
    ) -> dict[str, Array]:
        """Each metric for each code; those that sums do not give (ranks) are computed code by code."""
        stats = self._sums(answer, code, n)
        found: dict[str, Array] = {}
        for metric in metrics:
            kind = next((kind for kind in stats if gives(kind, metric)), None)
            if kind is not None:
                found[metric] = np.asarray(kind.evaluate(metric, kind.vectors), dtype=np.float64)
                continue
            rows = (np.flatnonzero(code == index) for index in range(n))
            if metric == "spearman":
                found[metric] = np.array([spearman(answer.truth[inside], answer.predicted[inside]) for inside in rows])
                continue
            found[metric] = np.array([self._scores(here.take(inside), part.units[inside]).get(metric, np.nan) for inside in rows])
        return found

    def _strata(self, here: Predictions, answer: _Answer, part: Part) -> list[Stratum]:
        metrics = list(dict.fromkeys([*STRATUM_METRICS[self.card.kind], self.card.main_metric]))
        values = self._by_code(here, answer, part, part.stratum_of, len(part.strata), metrics)
        units = np.bincount(part.stratum_of, minlength=len(part.strata))
        return [
            Stratum(
                role=part.role,
                shift=shift,
                ground=ground,
                group=group,
                units=int(units[index]),
                scores={metric: float(found[index]) for metric, found in values.items() if np.isfinite(found[index])},
            )
            for index, (shift, ground, group) in enumerate(part.strata)
        ]

    def _per_group(self, here: Predictions, answer: _Answer, part: Part) -> dict[str, dict[str, dict[str, float]]]:
        metrics = dict.fromkeys([self.card.main_metric, "overall_accuracy" if self.classes is not None else "mae"])
        found: dict[str, dict[str, dict[str, float]]] = {}
        for column, (names, code) in part.groups.items():
            if len(names) > MOST_GROUPS:
                continue
            values = self._by_code(here, answer, part, code, len(names), list(metrics))
            units = np.bincount(code, minlength=len(names))
            found[column] = {
                name: {"units": float(units[i]), **{metric: float(of[i]) for metric, of in values.items() if np.isfinite(of[i])}}
                for i, name in enumerate(names)
            }
        return found

    def _fairness(self, answer: _Answer, part: Part) -> dict[str, dict[str, Any]]:
        """Scores of the declared groups with intervals, the worst, and the gap; resampled by test block."""
        found: dict[str, dict[str, Any]] = {}
        metric = self.card.main_metric
        for column in self.card.fairness_groups:
            names, code = part.groups[column]
            blocks = int(part.block_of.max()) + 1
            stats = next(
                (kind for kind in self._sums(answer, code * blocks + part.block_of, len(names) * blocks) if gives(kind, metric)), None
            )
            if stats is None or len(names) > MOST_GROUPS:
                continue
            of_group = [stats.select(stats.clusters[i * blocks : (i + 1) * blocks]) for i in range(len(names))]
            units = np.bincount(code, minlength=len(names))
            found[column] = group_report(metric, names, of_group, units)
        return found

    def _moran(self, answer: _Answer, part: Part) -> dict[str, float]:
        weights = part.weights if self.main else None
        if weights is None:
            return {}
        found = morans_i(answer.error, weights, permutations=MORAN_PERMUTATIONS)
        return {"morans_i": float(found.value), "morans_p": float(found.p)} if np.isfinite(found.value) else {}

    def _temperature(self, predictions: Predictions, validation: Collection[str] | None) -> float | None:
        """The temperature of the budget's validation labels; None without any, or for a regression."""
        if self.classes is None or validation is None or not len(validation):
            return None
        held = set(validation)
        mine = np.flatnonzero(predictions.role == "val")
        mine = mine[[unit in held for unit in predictions.unit_id[mine]]]
        at = self._labelled.get_indexer(pd.Index(predictions.unit_id[mine], dtype=object))
        mine, at = mine[at >= 0], at[at >= 0]
        if not len(mine):
            return None
        return fit_temperature(encode_labels(self._labels[at], self.classes, self.card.name), np.asarray(predictions.probabilities)[mine])

    def _scaled(self, answer: _Answer, temperature: float | None) -> dict[str, float]:
        if temperature is None or answer.p is None:
            return {}
        found = width_scores(answer.truth, apply_temperature(answer.p, temperature))
        return {f"{name}_scaled": value for name, value in found.items()} | {"temperature": temperature}

    def _reliability(self, answer: _Answer) -> dict[str, list[float]]:
        curve = reliability_curve(answer.columns[0], answer.columns[1])
        filled = np.asarray(curve.count) > 0
        return {
            "confidence": [round(float(value), 6) for value in np.asarray(curve.confidence)[filled]],
            "accuracy": [round(float(value), 6) for value in np.asarray(curve.accuracy)[filled]],
            "units": [float(value) for value in np.asarray(curve.count)[filled]],
        }


def score(card: TaskCard, manifest: SplitManifest, fold: str, labels: pd.Series, predictions: Predictions) -> Scored:
    """Scores one fold's predictions against labels; see `Scorer` to score many."""
    return Scorer.build(card, manifest, fold, labels).score(predictions)


def higher_is_better(metric: str) -> bool:
    """Direction of a metric.

    Raises:
        ProtocolError: No such metric.
    """
    return bool(find_metric(metric, METRICS).higher_is_better)
