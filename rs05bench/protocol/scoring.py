"""The one scorer of table tasks: predictions, a manifest and labels in; scores out.

Models never compute their own scores. Everything here can be recomputed from the stored predictions, without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics import METRICS, classification_scores, find_metric, regression_scores
from rs05bench.protocol.metrics.calibration import reliability_curve
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.result import Stratum
from rs05bench.protocol.taskdata import class_values, encode_labels

TEST_ROLES = ("test_id", "test_ood")
STRATUM_METRICS = {
    "classification": ("macro_f1", "balanced_accuracy", "overall_accuracy", "ece", "brier"),
    "regression": ("r2", "mae", "rmse", "spearman", "coverage90"),
}
MOST_GROUPS = 200
"""Group columns with more values than this are not scored value by value."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of one fold's predictions; the fields are those of `Result`."""

    scores: dict[str, dict[str, float]]
    strata: list[Stratum]
    per_group: dict[str, dict[str, dict[str, dict[str, float]]]]
    calibration: dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Scorer:
    """A fold of a task made ready to score many models.

    Build it with `Scorer.build`; then `scorer.score(predictions)`.
    """

    card: TaskCard
    classes: tuple[str, ...] | None
    unit_id: NDArray[np.object_]
    role: NDArray[np.object_]
    shift: NDArray[np.object_]
    ground: NDArray[np.object_]
    truth: NDArray[Any]
    groups: Mapping[str, NDArray[np.object_]]
    source: str
    _row: Mapping[str, int] = field(repr=False)

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
        known = labels.reindex(rows["unit_id"].to_numpy()).notna().to_numpy()
        rows = rows[known]
        if rows.empty:
            raise DataError(f"{manifest.name}, fold {fold!r}: no test unit has a label", source=card.name)
        ids = rows["unit_id"].to_numpy(dtype=object)
        classes = class_values(card, labels) if card.kind != "regression" else None
        placed = manifest.units.set_index("unit_id").loc[ids]
        groups = {column: placed[column].astype(str).to_numpy(dtype=object) for column in card.groups}
        if card.year is not None:
            groups["year"] = placed["year"].astype(str).to_numpy(dtype=object)
        return cls(
            card,
            classes,
            ids,
            rows["role"].astype(str).to_numpy(dtype=object),
            rows["shift"].astype(str).to_numpy(dtype=object),
            manifest.grounds().reindex(ids).fillna("").to_numpy(dtype=object),
            encode_labels(labels.reindex(ids), classes, card.name),
            groups,
            f"{manifest.name}, fold {fold}",
            {unit: position for position, unit in enumerate(ids)},
        )

    def score(self, predictions: Predictions) -> Scored:
        """Scores predictions that cover every test unit with a label.

        Raises:
            DataError: Units are missing, unknown, or predicted under another role; the classes differ.
        """
        picked = self._align(predictions)
        scores: dict[str, dict[str, float]] = {}
        per_group: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
        calibration: dict[str, dict[str, list[float]]] = {}
        strata: list[Stratum] = []
        for role in TEST_ROLES:
            here = self.role == role
            if not here.any():
                continue
            scores[role] = self._scores(picked, here)
            per_group[role] = self._per_group(picked, here)
            if self.classes is not None:
                calibration[role] = self._reliability(picked, here)
            shifts = sorted(set(self.shift[here]))
            for shift in shifts:
                if len(shifts) > 1:
                    scores[f"{role}:{shift}"] = self._scores(picked, here & (self.shift == shift))
                strata += self._strata(picked, here & (self.shift == shift), role, shift)
        return Scored(scores, strata, per_group, calibration)

    def _align(self, predictions: Predictions) -> Predictions:
        if self.classes is not None and predictions.classes != self.classes:
            raise DataError(f"predictions are over the classes {predictions.classes}, and the task has {self.classes}", source=self.source)
        if self.classes is None and predictions.y is None:
            raise DataError("the task is a regression, and the predictions hold no column 'y'", source=self.source)
        tested = predictions.take(np.flatnonzero(np.isin(predictions.role, TEST_ROLES)))
        order = np.full(len(self.unit_id), -1, dtype=np.int64)
        for position, unit in enumerate(tested.unit_id):
            row = self._row.get(unit)
            if row is None:
                continue
            if tested.role[position] != self.role[row]:
                raise DataError(
                    f"unit {unit!r} is predicted as {tested.role[position]}, and its role here is {self.role[row]}", source=self.source
                )
            order[row] = position
        missing = order < 0
        if missing.any():
            raise DataError(
                f"{int(missing.sum())} of {len(order)} test units have no prediction, e.g. {self.unit_id[missing][0]!r}",
                source=self.source,
                remedy="Predict every unit of the roles test_id and test_ood.",
            )
        return tested.take(order)

    def _scores(self, picked: Predictions, here: NDArray[np.bool_]) -> dict[str, float]:
        if self.classes is not None:
            values = classification_scores(self.truth[here], picked.probabilities[here], self.classes)  # type: ignore[index]
        else:
            interval = None if picked.interval is None else picked.interval[here]
            values = regression_scores(self.truth[here], picked.y[here], interval)  # type: ignore[index]
        return {name: float(value) for name, value in values.items() if np.isfinite(value)}

    def _strata(self, picked: Predictions, here: NDArray[np.bool_], role: str, shift: str) -> list[Stratum]:
        found: list[Stratum] = []
        for ground in sorted(set(self.ground[here])):
            there = here & (self.ground == ground)
            values = self._scores(picked, there)
            kept = {name: values[name] for name in STRATUM_METRICS[self.card.kind] if name in values}
            found.append(Stratum(role=role, shift=shift, ground=ground, units=int(there.sum()), scores=kept))
        return found

    def _per_group(self, picked: Predictions, here: NDArray[np.bool_]) -> dict[str, dict[str, dict[str, float]]]:
        found: dict[str, dict[str, dict[str, float]]] = {}
        for column, values in self.groups.items():
            names = sorted(set(values[here]))
            if len(names) > MOST_GROUPS:
                continue
            found[column] = {}
            for name in names:
                there = here & (values == name)
                scores = self._scores(picked, there)
                kept = {metric: scores[metric] for metric in (self.card.main_metric, "mae", "overall_accuracy") if metric in scores}
                found[column][name] = {"units": float(there.sum()), **kept}
        return found

    def _reliability(self, picked: Predictions, here: NDArray[np.bool_]) -> dict[str, list[float]]:
        probabilities = np.asarray(picked.probabilities)[here].astype(np.float64)
        curve = reliability_curve(probabilities.max(axis=1), probabilities.argmax(axis=1) == self.truth[here])
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
