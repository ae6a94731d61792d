"""What the studies of Presto share: the fuel-moisture task, and scores of variants that differ in their options only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rs05bench.experiment.gridfile import GridFile
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Result
from rs05bench.studies.setting import Setting, example_card, needed

FOLDER = "lfmc_presto"
PLACES = {
    ("official", "test_ood"): "official site split",
    ("leave-region-out", "test_id"): "regions that train",
    ("leave-region-out", "test_ood"): "a region held out",
}


@dataclass(frozen=True)
class Variant:
    """A model with options.

    Attributes:
        title: What is said of it.
        model: Its name.
        options: Its options.
    """

    title: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)

    def point(self, task: str, target: str, split: str, budget: str) -> Point:
        """Its point of a curve."""
        return Point(task, target, split, self.model, budget, str(sorted(self.options.items())))


def moisture_card(setting: Setting, study: str) -> tuple[Path, Path]:
    """Card and data of live fuel moisture; a quick run trains a few steps only, under another name.

    Raises:
        DataError: The data are not at hand.
    """
    data = needed(setting, FOLDER, study)
    path = example_card("fuel_moisture")
    if setting.quick:
        card = TaskCard.load(path)
        path = setting.card(card, name="fuel-moisture.quick", training=card.training.model_dump() | {"steps": 4, "val_every": 2})
    return path, data


def run_variants(
    setting: Setting,
    card: Path,
    data: Path,
    variants: Sequence[Variant],
    splits: Sequence[str],
    budgets: Sequence[str],
    seeds: Sequence[int],
) -> list[Result]:
    """Runs every variant; those that share options share a grid entry."""
    entries: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for variant in variants:
        entries.setdefault(json.dumps(variant.options, sort_keys=True), (variant.options, []))[1].append(variant.model)
    tasks = [
        {"card": str(card), "data": str(data), "models": list(dict.fromkeys(models)), **({"options": options} if options else {})}
        for options, models in entries.values()
    ]
    grid = {"kind": "grid", "tasks": tasks, "splits": list(splits), "budgets": list(budgets), "seeds": list(seeds)}
    return setting.sweep(GridFile.model_validate(grid))


def places(pool: Pool) -> list[tuple[str, str, str]]:
    """Split, role and words of every place that results test, in the order of `PLACES`."""
    there = {(point.split, role) for point, cells in pool.points.items() for cell in cells for role in cell.scores}
    return [(split, role, words) for (split, role), words in PLACES.items() if (split, role) in there]
