"""Scoring files: predictions that anyone could have made, a frozen manifest and a label pack in; scores out. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.budget import LabelBudget, draw_budget
from rs05bench.protocol.documents import read_json
from rs05bench.protocol.labels import LabelPack
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.predictions import Predictions
from rs05bench.protocol.rasters import RasterPredictions
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
    if isinstance(found, RasterPredictions):
        chips = ChipScorer.build(labels.card, manifest, chosen, tuple(labels.card.classes or ()), labels.read)
        return chips.score(found, validation=_budget(cell, manifest, chosen, labels, None)), chosen
    scorer = Scorer.build(labels.card, manifest, chosen, labels.series(target))
    budget = _budget(cell, manifest, chosen, labels, target)
    return scorer.score(found, validation=None if budget is None else [str(unit) for unit in budget.val]), chosen


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


def _budget(cell: dict[str, Any], manifest: SplitManifest, fold: str, labels: LabelPack, target: str | None) -> LabelBudget | None:
    """The labels of the budget the predictions name, drawn again; the temperature is fitted on its validation labels alone."""
    if not {"budget", "seed", "split"} <= cell.keys():
        return None
    rows = manifest.fold(fold)
    shown = rows.loc[rows["role"].astype(str).isin(["train", "val", "reserve"]), "unit_id"]
    # Of chips it is only asked whether there is a mask at all.
    visible = pd.Series(1.0, index=labels.table.index).reindex(shown) if target is None else labels.series(target).reindex(shown)
    return draw_budget(labels.card, manifest, fold, str(cell["budget"]), int(cell["seed"]), dict(visible.items()), split=str(cell["split"]))
