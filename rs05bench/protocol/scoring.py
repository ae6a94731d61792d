"""The one scorer: predictions of any kind, a manifest and labels in; scores out.

Models never compute their own scores. Everything here can be recomputed from the stored predictions, without torch.

Predictions give sums of their units; the scores of roles, grounds and groups, and later every interval, follow from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.kept import KeptSums
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics import Clusters, UnitSums, find_metric
from rs05bench.protocol.metrics.calibration import SCALED
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.result import Stratum
from rs05bench.protocol.scored_labels import ScoredLabels
from rs05bench.protocol.scoring_parts import MOST_GROUPS, TEST_ROLES, Part, lay_out

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of one fold's predictions; the fields are those of `Result`."""

    fold: str
    scores: dict[str, dict[str, float]]
    strata: list[Stratum]
    per_group: dict[str, dict[str, dict[str, dict[str, float]]]]
    calibration: dict[str, dict[str, list[float]]]
    sums: dict[str, KeptSums] = field(default_factory=dict)
    group_sums: dict[str, dict[str, KeptSums]] = field(default_factory=dict)

    def packed(self) -> dict[str, str]:
        """The sums as a result stores them."""
        return {role: kept.pack() for role, kept in self.sums.items()}

    def packed_groups(self) -> dict[str, dict[str, str]]:
        """The sums by declared group as a result stores them, where `packed` is not split by it."""
        return {role: {column: kept.pack() for column, kept in columns.items()} for role, columns in self.group_sums.items()}


@dataclass(frozen=True, slots=True)
class Scorer:
    """A fold of a task made ready to score many models; build it with `Scorer.build`.

    Attributes:
        card: The task.
        fold: Fold name.
        labels: What is scored against.
        unit_id: Units of the test roles that are scored.
        parts: The roles.
        main: Whether the split can be a main result.
    """

    card: TaskCard
    fold: str
    labels: ScoredLabels
    unit_id: NDArray[np.object_]
    parts: tuple[Part, ...]
    main: bool

    @classmethod
    def build(cls, card: TaskCard, manifest: SplitManifest, fold: str, labels: ScoredLabels) -> Scorer:
        """Lines up the test units of a fold with their labels; units without a label are not scored.

        Raises:
            DataError: No test unit has a label.
        """
        rows = manifest.fold(fold)
        rows = rows[rows["role"].astype(str).isin(TEST_ROLES)]
        rows = rows[labels.scored(rows["unit_id"].to_numpy(dtype=object))]
        if rows.empty:
            raise DataError(f"{manifest.name}, fold {fold!r}: no test unit has a label", source=card.name)
        main = bool(manifest.card.get("can_be_main", manifest.split.rule.may_be_main))
        return cls(card, fold, labels, rows["unit_id"].to_numpy(dtype=object), lay_out(card, manifest, rows, labels), main)

    def score(self, predictions: Predictions, *, validation: LabelBudget | None = None) -> Scored:
        """Scores predictions that cover every test unit with a label.

        Args:
            predictions: Of the test roles, and of the role `val` where a temperature is to be fitted.
            validation: The budget: a temperature is fitted on the labels it shows of its validation units, and on no other.

        Raises:
            DataError: See `Predictions.sums`.
        """
        temperature = predictions.temperature(self.labels, validation)
        scored = Scored(self.fold, {}, [], {}, {})
        for part in self.parts:
            role = part.role
            sums = predictions.sums(role, self.labels, self.unit_id[part.units], temperature)
            found = sums.beside(part.weights if self.main else None).scores(self.card.kind, part.regions)
            if temperature is not None and sums.scaled is not None:
                after = sums.scaled.scores(self.card.kind)
                found |= {f"{name}_scaled": after[name] for name in SCALED if name in after} | {"temperature": temperature}
            scored.scores[role] = _defined(found)
            for shift in part.shifts if len(part.shifts) > 1 else ():
                scored.scores[f"{role}:{shift}"] = _defined(sums.take(part.under(shift)).scores(self.card.kind))
            scored.strata.extend(self._strata(sums, part))
            scored.per_group[role] = self._per_group(sums, part)
            scored.sums[role] = KeptSums(part.keys, sums.sums(Clusters.numbered(part.row_of, part.rows)).kinds)
            if apart := self._apart(sums, part):
                scored.group_sums[role] = apart
            if curve := sums.curve():
                scored.calibration[role] = curve
        return scored

    def _strata(self, sums: UnitSums, part: Part) -> list[Stratum]:
        metrics = list(dict.fromkeys([*self.card.about.strata, self.card.main_metric]))
        values = _by_code(sums, part.stratum_of, len(part.strata), metrics)
        units = np.bincount(part.stratum_of, minlength=len(part.strata))
        return [
            Stratum(role=part.role, shift=shift, ground=ground, group=group, units=int(units[index]), scores=_finite(values, index))
            for index, (shift, ground, group) in enumerate(part.strata)
        ]

    def _per_group(self, sums: UnitSums, part: Part) -> dict[str, dict[str, dict[str, float]]]:
        metrics = list(dict.fromkeys([self.card.main_metric, self.card.about.group_metric]))
        found: dict[str, dict[str, dict[str, float]]] = {}
        for column, (names, code) in part.groups.items():
            if len(names) > MOST_GROUPS:
                continue
            values = _by_code(sums, code, len(names), metrics)
            units = np.bincount(code, minlength=len(names))
            found[column] = {name: {"units": float(units[i]), **_finite(values, i)} for i, name in enumerate(names)}
        return found

    def _apart(self, sums: UnitSums, part: Part) -> dict[str, KeptSums]:
        """Sums of the main metric by block and declared group, for those groups that the kept sums are not split by."""
        found: dict[str, KeptSums] = {}
        for column, rows in part.apart.items():
            stats = sums.sums(Clusters.numbered(rows.row_of, len(rows))).find(self.card.main_metric)
            if stats is not None:
                found[column] = KeptSums(rows.keys, (stats,))
        return found


def _by_code(sums: UnitSums, code: NDArray[np.intp], n: int, metrics: Sequence[str]) -> dict[str, Array]:
    """Each metric for each code; those that do not follow from sums (ranks) are computed code by code."""
    tally = sums.sums(Clusters.numbered(code, n))
    found: dict[str, Array] = {}
    for metric in metrics:
        kind = tally.find(metric)
        if kind is not None:
            found[metric] = np.asarray(kind.evaluate(metric, kind.vectors), dtype=np.float64)
        else:
            found[metric] = np.array([sums.take(np.flatnonzero(code == index)).value(metric) for index in range(n)])
    return found


def _defined(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if np.isfinite(value)}


def _finite(values: dict[str, Array], index: int) -> dict[str, float]:
    return {metric: float(of[index]) for metric, of in values.items() if np.isfinite(of[index])}


def higher_is_better(metric: str) -> bool:
    """Direction of a metric.

    Raises:
        ProtocolError: No such metric.
    """
    return bool(find_metric(metric).higher_is_better)
