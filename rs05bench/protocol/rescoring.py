"""Scoring files: predictions that anyone could have made, a frozen manifest and a label pack in; scores out. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.budget import LabelBudget, draw_budget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.documents import read_json
from rs05bench.protocol.labels import LabelPack
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.rasters import RasterPredictions
from rs05bench.protocol.result import Cell
from rs05bench.protocol.scoring import Scored, Scorer
from rs05bench.protocol.scoring_chips import ChipScorer
from rs05bench.protocol.splits import Split


def score_files(predictions: str | Path, manifest: SplitManifest, labels: LabelPack, *, fold: str | None = None) -> tuple[Scored, str]:
    """Scores a folder of predictions.

    Args:
        predictions: Folder with `predictions.json` and `units.parquet` (and `chips/`, for maps).
        manifest: The frozen split they were made under.
        labels: Labels of the same task.
        fold: Which fold; default the one the predictions name, or the manifest's only one.

    Returns:
        The scores, and the fold.

    Raises:
        DataError: The predictions name another task, split or manifest; units are missing; files are not what they should be.
    """
    root = Path(predictions)
    if not root.is_dir():
        raise DataError("no such folder", source=root, remedy="Predictions are a folder with predictions.json and units.parquet.")
    maps = _kind(root) == "segmentation"
    if maps != labels.chips:
        raise DataError(
            f"holds predictions of {'maps' if maps else 'a table'}, and the labels are of a {labels.card.kind}",
            source=root,
            remedy="Give the label pack of the same task.",
        )
    found: Predictions | RasterPredictions = RasterPredictions.load(root) if maps else Predictions.load(root)
    cell = found.info.get("cell")
    cell = cell if isinstance(cell, dict) else {}
    chosen = fold or cell.get("fold") or (manifest.folds[0] if len(manifest.folds) == 1 else None)
    if chosen is None:
        raise DataError("do not say which fold they are of", source=root, remedy=f"Give --fold (one of {', '.join(manifest.folds)}).")
    _agree(root, found.info, cell, manifest, labels)
    target = str(cell.get("target") or labels.card.targets[0])
    drawn = {"budget", "seed", "split"} <= cell.keys()
    budget = (
        draw_again(manifest, chosen, labels, str(cell["budget"]), int(cell["seed"]), Split(str(cell["split"])), target) if drawn else None
    )
    return _scored(found, manifest, chosen, labels, target, budget), chosen


def rescore(
    predictions: Predictions | RasterPredictions, cell: Cell, manifest: SplitManifest, labels: LabelPack | TableLabels
) -> tuple[Scored, LabelBudget]:
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
    budget = draw_again(manifest, cell.fold, labels, cell.budget, cell.seed, cell.split, cell.target)
    return _scored(predictions, manifest, cell.fold, labels, cell.target, budget), budget


@dataclass(frozen=True, slots=True)
class TableLabels:
    """Labels of a table that come without a pack.

    Attributes:
        card: The task card.
        table: A column a target, indexed by `unit_id`.
    """

    card: TaskCard
    table: pd.DataFrame = field(repr=False)
    chips: ClassVar[Literal[False]] = False

    def series(self, target: str | None = None) -> pd.Series:
        """Labels of a target."""
        name = target or self.card.targets[0]
        if name not in self.table.columns:
            raise DataError(f"the labels hold no target {name!r} (there are {list(self.table.columns)})")
        return self.table[name]


def _scored(
    found: Predictions | RasterPredictions,
    manifest: SplitManifest,
    fold: str,
    labels: LabelPack | TableLabels,
    target: str,
    budget: LabelBudget | None,
) -> Scored:
    if isinstance(found, RasterPredictions):
        if not isinstance(labels, LabelPack):
            raise DataError("maps are scored with the masks of a label pack", remedy="Give one: --labels PACK.")
        chips = ChipScorer.build(labels.card, manifest, fold, tuple(labels.card.classes or ()), labels.read)
        return chips.score(found, validation=budget)
    scorer = Scorer.build(labels.card, manifest, fold, labels.series(target))
    return scorer.score(found, validation=None if budget is None else [str(unit) for unit in budget.val])


def _kind(root: Path) -> str:
    try:
        record = read_json(root / "predictions.json")
    except FileNotFoundError as error:
        raise DataError("predictions.json is missing", source=root) from error
    except (OSError, ValueError) as error:
        raise DataError(f"predictions.json cannot be read: {error}", source=root) from error
    return str(record.get("kind")) if isinstance(record, dict) else ""


def _agree(root: Path, info: dict[str, Any], cell: dict[str, Any], manifest: SplitManifest, labels: LabelPack) -> None:
    said = (info.get("digests") or {}).get("manifest")
    if said is not None and said != manifest.digest:
        raise DataError(
            f"were made under the manifest {str(said)[:16]}…, and {manifest.name} is {manifest.digest[:16]}…",
            source=root,
            remedy="Give the manifest they were made under; other roles give other scores.",
        )
    if "split" in cell and Split(str(cell["split"])).base != manifest.split:
        raise DataError(f"are of the split {cell['split']!r}, and the manifest is {manifest.name}", source=root)
    if "task" in cell and cell["task"] != labels.card.name:
        raise DataError(f"are of the task {cell['task']!r}, and the labels of {labels.card.name!r}", source=root)


def draw_again(
    manifest: SplitManifest, fold: str, labels: LabelPack | TableLabels, budget: str, seed: int, split: Split, target: str
) -> LabelBudget:
    """The labels of a budget, drawn again; a temperature is fitted on its validation labels alone."""
    rows = manifest.fold(fold)
    shown = rows.loc[rows["role"].astype(str).isin(["train", "val", "reserve"]), "unit_id"]
    # Of chips it is only asked whether there is a mask at all.
    visible = pd.Series(1.0, index=labels.table.index).reindex(shown) if labels.chips else labels.series(target).reindex(shown)
    return draw_budget(labels.card, manifest, fold, budget, seed, dict(visible.items()), split=split)
