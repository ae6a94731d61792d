"""The few-shot curve of a frozen tier: 5 budgets x 5 seeds x 4 folds, with the feature cache against encoding again in every cell.

Both sides run the same code; the rival's cells start with an empty cache (each unit of a cell is still encoded once, not once a step), and
it runs one cell a budget, which stands for the twenty of that budget. Scores of the shared cells must agree to 1e-6.
RS05BENCH_BENCH_BACKBONE chooses the encoder.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rs05bench.models.deep import create

BACKBONE = os.environ.get("RS05BENCH_BENCH_BACKBONE", "prithvi-300")
BUDGETS, SEEDS, FOLDS = (1, 2, 4, 8, 16), range(5), range(4)
SIZE, UNITS, TEST, STEPS = 224, 40, 10, 20
SCORES: dict[tuple[int, int, int], float] = {}


class Fold:
    """Chips in memory: a fold tests its own ten of forty, trains on a budget of the others and validates on as many, four at most."""

    kind, classes, bands, scale, num_frames, card, batch_size, resolution_m = (
        "segmentation",
        ("unburnt", "burnt"),
        ["B02", "B03", "B04", "B8A", "B11", "B12"],
        1.0,
        1,
        None,
        None,
        None,
    )
    steps = STEPS
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(UNITS, 6, SIZE, SIZE, generator=generator) * 0.4
    masks = (torch.nn.functional.avg_pool2d(images[:, 3], 33, 1, 16) > 0.2).long()

    def __init__(self, fold: int, budget: int, seed: int) -> None:
        units = np.arange(UNITS)
        self.test = units[fold * TEST : (fold + 1) * TEST]
        pool = np.random.default_rng([seed, fold]).permutation(np.setdiff1d(units, self.test))
        self.train, self.val = pool[:budget], pool[16 : 16 + min(budget, 4)]

    def _batches(self, rows: np.ndarray, *, labels: bool = True) -> list[dict[str, Any]]:
        batches = []
        for start in range(0, len(rows), 4):
            chosen = rows[start : start + 4]
            batch: dict[str, Any] = {"image": self.images[chosen], "unit_id": [str(row) for row in chosen]}
            batches.append(batch | ({"mask": self.masks[chosen]} if labels else {}))
        return batches

    def train_dataloader(self) -> list[dict[str, Any]]:
        return self._batches(self.train)

    def val_dataloader(self) -> list[dict[str, Any]]:
        return self._batches(self.val)

    def predict_dataloader(self, role: str) -> list[dict[str, Any]]:
        return self._batches(self.test, labels=False)


def score(budget: int, seed: int, fold: int, cache: Path) -> float:
    """Mean probability of the true class on the test chips: moves with every weight, unlike an accuracy."""
    data: Any = Fold(fold, budget, seed)
    options = {"cache": cache, "accelerator": "cpu", "learning_rates": [1e-3], "val_every": 10, "patience": 0}
    model = create(f"{BACKBONE}/frozen@random", seed=seed, **options).fit(data)
    chips = model.predict_chips(data, "test_id")
    return float(np.mean([np.take_along_axis(values, Fold.masks[int(unit)][None].numpy(), axis=0).mean() for unit, values in chips]))


@pytest.fixture(autouse=True)
def built() -> None:
    """Importing and building the encoder is nobody's: both sides build it once a process."""
    create(f"{BACKBONE}/frozen@random").build(Fold(0, 1, 0))


@pytest.mark.benchmark(group="few-shot curve of a frozen tier, 100 cells")
def test_cached(benchmark: Any) -> None:
    benchmark.extra_info["side"] = "ours"

    def curve() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for budget in BUDGETS:
                for seed in SEEDS:
                    for fold in FOLDS:
                        SCORES[budget, seed, fold] = score(budget, seed, fold, Path(folder))

    benchmark.pedantic(curve, rounds=1)
    assert len(SCORES) == 100


@pytest.mark.benchmark(group="few-shot curve of a frozen tier, 100 cells")
def test_encoding_anew(benchmark: Any) -> None:
    benchmark.extra_info["side"] = "encoding again in every cell"
    benchmark.extra_info["times"] = len(SEEDS) * len(FOLDS)
    again: dict[tuple[int, int, int], float] = {}

    def cells() -> None:
        for index, budget in enumerate(BUDGETS):
            with tempfile.TemporaryDirectory() as folder:
                cell = budget, index, index % len(FOLDS)
                again[cell] = score(*cell, Path(folder))

    benchmark.pedantic(cells, rounds=1)
    for cell, value in again.items():
        assert value == pytest.approx(SCORES[cell], abs=1e-6)
