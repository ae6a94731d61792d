"""What a model may see of a task in one fold: plain NumPy, labels of the budget only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.budget import LabelBudget, draw_budget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.classes import class_values, encode_labels
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.predictions import Predictions, RolePredictions, TablePredictions
from rs05bench.protocol.scored_labels import ScoredLabels
from rs05bench.protocol.splits import Split
from rs05bench.protocol.units import UnitTable

LABEL_ROLES = ("train", "val")
PREDICT_ROLES = ("val", "test_id", "test_ood", "reserve")


@runtime_checkable
class TaskSource(Protocol):
    """A dataset that lists its units with features and labels, e.g. `EmbeddingTable`."""

    card: TaskCard

    def units(self) -> UnitTable:
        """The units, sorted by `unit_id`."""

    def features(self, name: str) -> tuple[list[str], NDArray[np.float32]]:
        """Columns and values of a feature set, aligned with `units().frame`; the array is (n, d) or (n, ...)."""

    def labels(self, target: str) -> pd.Series:
        """The labels of a target, indexed by `unit_id`: class values as text, or numbers; missing where there is none."""

    def scored(self, target: str) -> ScoredLabels:
        """What predictions of a target are scored with."""

    @property
    def digest(self) -> str:
        """SHA-256 over the data as read."""


class TaskView(Protocol):
    """What a model is handed of a task under a split and a budget, whatever the task is of; no attribute leads to a test label."""

    @property
    def card(self) -> TaskCard:
        """The task card."""

    @property
    def fold(self) -> str:
        """The fold."""

    @property
    def budget(self) -> LabelBudget:
        """The labels in use."""

    @property
    def absent(self) -> Mapping[str, int]:
        """Role -> units of the manifest that the data do not hold; empty where all are there."""

    @property
    def reusable(self) -> bool:
        """Whether one model after another may be handed it: it holds no open files, and nothing of it changes."""

    def unit_ids(self, role: str) -> Sequence[str] | NDArray[np.object_]:
        """Units of a role."""

    def show_what_is_read(self, tier: str) -> None:
        """Leaves out of batches what models of a tier do not read: reading it would be part of their cost."""

    def labelled_pixels(self) -> dict[str, int]:
        """Labelled pixels by role; empty where a unit has one label."""

    def gather(self, predict: Callable[[str], RolePredictions], roles: Sequence[str]) -> Predictions:
        """The predictions of some roles together; those of maps are written to a temporary folder one by one.

        Args:
            predict: What a model predicts of a role.
            roles: The roles.
        """


@dataclass(frozen=True, slots=True)
class TaskData:
    """One cell's view of a task.

    `train` and `val` show the labelled units of the budget; `test_id`, `test_ood` and `reserve` show features without labels.
    Build it with `TaskData.build`.

    Attributes:
        absent: Role -> units of the manifest that the data do not hold; empty where all are there.
    """

    card: TaskCard
    target: str
    split: str
    fold: str
    budget: LabelBudget
    seed: int
    classes: tuple[str, ...] | None
    units: pd.DataFrame
    _rows: Mapping[str, NDArray[np.int64]] = field(repr=False)
    _labels: Mapping[str, NDArray[Any]] = field(repr=False)
    _source: TaskSource = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, int] = field(default_factory=dict)
    reusable: ClassVar[bool] = True

    @classmethod
    def build(
        cls,
        source: TaskSource,
        manifest: SplitManifest,
        fold: str,
        budget: str | LabelBudget,
        seed: int,
        *,
        split: str | None = None,
        target: str | None = None,
    ) -> TaskData:
        """Shows a fold of a task under a budget.

        Args:
            source: The data.
            manifest: Frozen split over the same units.
            fold: Fold name.
            budget: Budget name, or labels that were chosen another way (active learning): they must be in training, validation or reserve.
            seed: Seed of the budget's draw.
            split: Full split name where it carries `+k`; default the manifest's.
            target: Which target; default the card's first.

        A manifest may hold units that the data lack, as a frozen one over more than somebody has: they are left out and counted in
        `absent`. It must hold every unit of the data.

        Raises:
            DataError: The data hold units that the manifest does not know.
            ProtocolError: Nothing to train on in this fold.
        """
        card = source.card
        target = target or card.targets[0]
        units = source.units().frame
        members = manifest.members(fold)
        rows = members.rows_in(units)
        there = rows >= 0
        if int(there.sum()) != len(units):
            raise DataError(
                f"{manifest.name} is over other units: it knows {int(there.sum())} of the {len(units)} of the data, "
                f"and {int((~there).sum())} that are not among them",
                source=card.name,
                remedy="Use the data this manifest was built from, or build a manifest over these data.",
            )
        labels = source.labels(target)
        values, classes = labels.reindex(units["unit_id"]).to_numpy(dtype=object), class_values(card, labels)
        ids, role, absent = members.unit_id, members.role, {}
        if not there.all():
            gone = role[~there]
            absent = {name: int((gone == name).sum()) for name in sorted(set(gone))}
            ids, role, rows = ids[there], role[there], rows[there]
        open_to_budget = np.isin(role, ["train", "val", "reserve"])
        visible = dict(zip(ids[open_to_budget], values[rows[open_to_budget]], strict=True))
        chosen = draw_budget(card, manifest, fold, budget, seed, visible, split=split) if isinstance(budget, str) else budget
        if hidden := sorted(set(map(str, (*chosen.train, *chosen.val))) - set(map(str, visible))):
            raise ProtocolError(f"a budget may not use the label of {hidden[0]!r}, which is in a test role of fold {fold!r}")
        row_of = dict(zip(ids, rows, strict=True))
        index = {name: np.array([row_of[unit] for unit in getattr(chosen, name)], dtype=np.int64) for name in LABEL_ROLES}
        index |= {name: rows[role == name] for name in ("test_id", "test_ood", "reserve")}
        shown = {name: encode_labels(pd.Series(values[index[name]], dtype=object), classes, card.name) for name in LABEL_ROLES}
        return cls(card, target, split or manifest.split, fold, chosen, seed, classes, units, index, shown, source, absent=absent)

    @property
    def feature_sets(self) -> list[str]:
        """Names of the feature sets of the card."""
        return list(self.card.features)

    @property
    def folder(self) -> Path | None:
        """Where the task's files lie, for weights that a card keeps beside its data; None where the source has no folder."""
        root = getattr(self._source, "root", None)
        return None if root is None else Path(root)

    @property
    def extra(self) -> int:
        """`k` of a `+k` split."""
        return Split(self.split).extra

    def unit_ids(self, role: str) -> NDArray[np.object_]:
        """Unit ids of a role, shape (n,)."""
        return self.units["unit_id"].iloc[self._at(role)].to_numpy(dtype=object)

    def show_what_is_read(self, tier: str) -> None:
        """Nothing: a feature set is read when it is asked for."""

    def labelled_pixels(self) -> dict[str, int]:
        """None: a unit has one label."""
        return {}

    def gather(self, predict: Callable[[str], RolePredictions], roles: Sequence[str]) -> Predictions:
        """See `TaskView.gather`."""
        made = [predict(role) for role in roles]
        rows = [part for part in made if isinstance(part, TablePredictions)]
        if len(rows) != len(made):
            raise ProtocolError(f"{self.card.name} is a table, and the model predicted chips", remedy="Use a model of tables.")
        return TablePredictions.concat(rows)

    def X(self, role: str, features: str) -> NDArray[np.float32]:
        """Features of a role, shape (n, d) (or (n, ...) for sequences), float32; NaN where missing."""
        _, values = self._source.features(features)
        return np.ascontiguousarray(values[self._at(role)], dtype=np.float32)

    def columns(self, features: str) -> list[str]:
        """Names of the columns of a feature set."""
        return self._source.features(features)[0]

    def y(self, role: str) -> NDArray[Any]:
        """Labels of `train` or `val`: int64 class index, or float64, shape (n,).

        Raises:
            ProtocolError: Any other role; its labels are not in here.
        """
        if role not in LABEL_ROLES:
            raise ProtocolError(
                f"the labels of role {role!r} are not shown to a model (asked for {self.card.name}, {self.split}, fold {self.fold!r})",
                remedy="Write predictions and score them: rs05bench score PREDICTIONS --manifest M --labels DIR.",
            )
        return self._labels[role]

    def labelled(self, features: str) -> NDArray[np.float32]:
        """Features of all labelled units of the budget, those of `train` first, then those of `val`; as `X`."""
        return np.concatenate([self.X(role, features) for role in LABEL_ROLES])

    def tuning_fits(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """On which labelled units each setting is fitted, and on which it is judged; rows of `labelled`.

        One pair, training and validation units, where those hold a share of the labels and most classes; several over blocks of the whole
        budget where they do not; none where nothing can be chosen with these labels (`budget.tuning` says why).
        """
        count, judged = (len(self._at(role)) for role in LABEL_ROLES)
        if self.budget.tuning.how == "blocks":
            ids = np.concatenate([self.unit_ids(role) for role in LABEL_ROLES])
            checked = [np.isin(ids, units.astype(str)) for units in self.budget.tuning.checks]
            return [(np.flatnonzero(~inside), np.flatnonzero(inside)) for inside in checked]
        if self.budget.tuning.how == "none" or not judged:
            return []
        return [(np.arange(count), np.arange(count, count + judged))]

    def coordinates(self, role: str) -> NDArray[np.float64]:
        """Longitude and latitude, shape (n, 2), degrees WGS84; NaN where unknown."""
        return self.units[["lon", "lat"]].to_numpy(dtype=np.float64)[self._at(role)]

    def places(self, role: str) -> NDArray[np.object_]:
        """Place of each unit, shape (n,)."""
        return self.units["place"].to_numpy(dtype=object)[self._at(role)]

    def years(self, role: str) -> NDArray[np.float64]:
        """Year of each unit, shape (n,); NaN where the card declares none."""
        return self.units["year"].to_numpy(dtype=np.float64, na_value=np.nan)[self._at(role)]

    def groups(self, role: str) -> pd.DataFrame:
        """Group columns of a role's units, one row a unit."""
        return self.units[list(self.card.groups)].iloc[self._at(role)].reset_index(drop=True)

    def _at(self, role: str) -> NDArray[np.int64]:
        if role not in self._rows:
            raise ProtocolError(f"no role {role!r}; a model may ask for {sorted(self._rows)}")
        return self._rows[role]
