"""What a reader of a map should know: the accuracy to expect of it, and what to read before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.metrics import Confusion
from rs05bench.protocol.pooling import Pool
from rs05bench.protocol.result import Result
from rs05bench.protocol.splits import Split

CONFIDENCE = "Confidence is the largest class probability of the model, not a calibrated chance of being right."


def expected_accuracy(runs: str | Path, card: TaskCard, target: str, model: str, labels: int) -> dict[str, Any]:
    """What accuracy the results in a store promise a map: at home, and elsewhere.

    Only cells of this model on this card count, under splits that may be a main result, with the budget whose number of labels is nearest.

    Args:
        runs: Folder of results, or of one.
        card: The task card.
        target: Which target.
        model: The model's name.
        labels: Labels the map's model was trained on.

    Returns:
        `known`: whether there are any; then `metric`, `labels`, `cells`, `home` and `elsewhere` (mean, least and largest over folds and
        seeds; None where no cell says), `splits`, and of a classification of a table `sample`: in-domain test units of the first seed by
        true and answered class, each unit once.
    """
    found = [
        result
        for result in _results(Path(runs))
        if result.cell.task == card.name
        and result.cell.target == target
        and result.cell.model == model
        and result.main
        and result.digests.get("card") == card.digest
    ]
    if not found:
        return {"known": False}
    used = {result.cell.budget: result.budget.labels_used or 0 for result in found}
    budget = min(used, key=lambda name: (abs(used[name] - labels), name))
    cells = [result for result in found if result.cell.budget == budget]
    metric = card.main_metric
    home = [result.scores["test_id"][metric] for result in cells if metric in result.scores.get("test_id", {})]
    moved = [result for result in cells if result.cell.split.rule.name in ("leave-group", "leave-group-year")]
    away = [result.scores["test_ood"][metric] for result in moved if metric in result.scores.get("test_ood", {})]
    return {
        "known": True,
        "metric": metric,
        "budget": budget,
        "labels": used[budget],
        "cells": len(cells),
        "home": _range(home),
        "elsewhere": _range(away),
        "splits": sorted({result.cell.split for result in cells}),
        "simulated": any(result.simulated for result in cells),
        "sample": _sample(cells),
    }


def _sample(cells: Sequence[Result]) -> list[list[float]] | None:
    """Test units of regions that train, rows truth, columns answer; None for regressions, and for masks, whose pixels are no sample."""
    cells = [result for result in cells if result.kind == "classification"]
    if not cells:
        return None
    seed, split = min(result.cell.seed for result in cells), min(result.cell.split for result in cells)
    pool = Pool.of(result for result in cells if result.cell.seed == seed and result.cell.split == split)
    totals = [
        fit.vectors.sum(axis=0).reshape(len(fit.classes), len(fit.classes)).real.tolist()
        for point in pool.points
        for fit in pool.fits(point, "overall_accuracy", "test_id").values()
        if isinstance(fit, Confusion)
    ]
    return totals[0] if totals else None


def _results(folder: Path) -> Iterable[Result]:
    from rs05bench.experiment.store import ResultStore

    alone = folder / "result.json"
    return [Result.model_validate_json(alone.read_bytes())] if alone.is_file() else ResultStore(folder).results()


def _range(values: list[float]) -> dict[str, float] | None:
    return {"mean": float(np.mean(values)), "least": min(values), "largest": max(values)} if values else None


def notes_of(card: TaskCard, of_model: Sequence[str], *, split: str | None) -> list[str]:
    """What a reader should know before the map is used.

    Args:
        card: The task card.
        of_model: What is to be known of the model (`Predictor.notes`).
        split: The split; None where every label trained.
    """
    notes = []
    if split is None:
        notes.append(
            "Trained on every label, so none is left to test this very map: the expected accuracy is that of its sisters under protocol."
        )
    elif Split(split).rule.name == "random":
        notes.append("Trained under a random split, which is a sanity check only.")
    notes += of_model
    if card.notes:
        notes.append(" ".join(card.notes.split()))
    if card.overlap:
        notes.append(f"Overlap with pretraining: {card.overlap}")
    return notes


def notes_of_years(known: set[int], years: Sequence[int]) -> list[str]:
    """A sentence where a map is of a year that no label is of; none else."""
    outside = sorted(set(years) - known)
    if not known or not outside:
        return []
    return [f"No label is of {', '.join(map(str, outside))}: the model carries {', '.join(map(str, sorted(known)))} over."]
