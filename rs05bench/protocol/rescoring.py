"""Scoring what anyone could have made: predictions, a frozen manifest and labels in; scores out. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.budget import LabelBudget, draw_budget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.labels import LabelPack
from rs05bench.protocol.manifest import SplitManifest, open_manifest
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.result import Cell
from rs05bench.protocol.scored_labels import ScoredLabels, UnitLabels
from rs05bench.protocol.scoring import Scored, Scorer
from rs05bench.protocol.splits import Split
from rs05bench.protocol.stored_predictions import read_predictions


class TaskLabels(Protocol):
    """Labels of a task, as a pack or as a table."""

    @property
    def card(self) -> TaskCard:
        """The task card."""

    def scored(self, target: str | None = None) -> ScoredLabels:
        """What predictions of a target (default the first) are scored with."""

    def visible(self, target: str | None = None) -> pd.Series:
        """What a budget is drawn from, indexed by `unit_id`."""


@dataclass(frozen=True, slots=True)
class TableLabels:
    """Labels of a table that come without a pack.

    Attributes:
        card: The task card.
        table: A column per target, indexed by `unit_id`.
    """

    card: TaskCard
    table: pd.DataFrame = field(repr=False)

    def scored(self, target: str | None = None) -> ScoredLabels:
        """What predictions of a target (default the first) are scored with."""
        return UnitLabels.of(self.card, self.visible(target))

    def visible(self, target: str | None = None) -> pd.Series:
        """Labels of a target."""
        name = target or self.card.targets[0]
        if name not in self.table.columns:
            raise DataError(f"the labels hold no target {name!r} (there are {list(self.table.columns)})")
        return self.table[name]


def score(
    predictions: Predictions | str | Path,
    manifest: SplitManifest | str | Path,
    labels: TaskLabels | pd.Series | str | Path,
    *,
    card: TaskCard | None = None,
    fold: str | None = None,
) -> Scored:
    """Scores predictions of one fold.

    Args:
        predictions: Predictions, or a folder with `predictions.json` and `units.parquet` (and `chips/`, for maps).
        manifest: The frozen split they were made under: itself, its file or folder, or a name such as `crop/leave-state-out@v1`.
        labels: Labels of the same task: a label pack, its folder, or for tables the labels of one target indexed by `unit_id`.
        card: The task card, where the labels are not a pack (which holds it).
        fold: Which fold; default the one the predictions name, or the manifest's only one.

    Raises:
        DataError: The predictions name another task, split or manifest; units are missing; files are not what they should be.
    """
    found = predictions if isinstance(predictions, Predictions) else read_predictions(predictions)
    frozen = manifest if isinstance(manifest, SplitManifest) else open_manifest(manifest)
    source = "predictions" if isinstance(predictions, Predictions) else predictions
    cell = found.info.get("cell")
    cell = cell if isinstance(cell, dict) else {}
    chosen = fold or cell.get("fold") or (frozen.folds[0] if len(frozen.folds) == 1 else None)
    if chosen is None:
        raise DataError("do not say which fold they are of", source=source, remedy=f"Give the fold (one of {', '.join(frozen.folds)}).")
    given = _opened(labels, card, str(cell["target"]) if cell.get("target") else None)
    _agree(source, found.info, cell, frozen, given.card)
    target = str(cell.get("target") or given.card.targets[0])
    budget = None
    if {"budget", "seed", "split"} <= cell.keys():
        budget = draw_again(frozen, chosen, given, target, cell)
    return Scorer.build(given.card, frozen, chosen, given.scored(target)).score(found, validation=budget)


def rescore(predictions: Predictions, cell: Cell, manifest: SplitManifest, labels: TaskLabels) -> tuple[Scored, LabelBudget]:
    """Scores the predictions of a cell that somebody else ran.

    Args:
        predictions: Of the cell.
        cell: Which.
        manifest: The frozen split of the cell.
        labels: Labels of its task.

    Returns:
        The scores, and the budget drawn again.

    Raises:
        DataError: Units are missing, or the cell's names are not those of manifest and labels.
    """
    if cell.fold not in manifest.folds:
        raise DataError(f"the manifest {manifest.name} has no fold {cell.fold!r}")
    budget = draw_again(manifest, cell.fold, labels, cell.target, {"budget": cell.budget, "seed": cell.seed, "split": cell.split})
    return Scorer.build(labels.card, manifest, cell.fold, labels.scored(cell.target)).score(predictions, validation=budget), budget


def draw_again(manifest: SplitManifest, fold: str, labels: TaskLabels, target: str, named: Mapping[str, Any]) -> LabelBudget:
    """The labels of a budget, drawn again from its name, seed and split; a temperature is fitted on its validation labels alone."""
    rows = manifest.fold(fold)
    shown = rows.loc[rows["role"].astype(str).isin(["train", "val", "reserve"]), "unit_id"]
    visible = dict(labels.visible(target).reindex(shown).items())
    return draw_budget(labels.card, manifest, fold, str(named["budget"]), int(named["seed"]), visible, split=Split(str(named["split"])))


def _opened(labels: TaskLabels | pd.Series | str | Path, card: TaskCard | None, target: str | None) -> TaskLabels:
    if isinstance(labels, pd.Series):
        if card is None:
            raise DataError("no task card given", source="labels", remedy="Give card=, or a label pack.")
        return TableLabels(card, labels.to_frame(target or card.targets[0]))
    return LabelPack.load(labels, verify=True) if isinstance(labels, str | Path) else labels


def _agree(root: str | Path, info: dict[str, Any], cell: dict[str, Any], manifest: SplitManifest, card: TaskCard) -> None:
    said = (info.get("digests") or {}).get("manifest")
    if said is not None and said != manifest.digest:
        raise DataError(
            f"were made under the manifest {str(said)[:16]}…, and {manifest.name} is {manifest.digest[:16]}…",
            source=root,
            remedy="Give the manifest they were made under; other roles give other scores.",
        )
    if "split" in cell and Split(str(cell["split"])).base != manifest.split:
        raise DataError(f"are of the split {cell['split']!r}, and the manifest is {manifest.name}", source=root)
    if "task" in cell and cell["task"] != card.name:
        raise DataError(f"are of the task {cell['task']!r}, and the labels of {card.name!r}", source=root)
