"""Made-up maps of a small world: what a chip model would have written, so that every number can be checked pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rs05bench.protocol import Cell, ModelCard, Result
from rs05bench.protocol.map_predictions import MapPredictions, MapPredictionWriter
from rs05bench.protocol.pixel_grid import Grid
from rs05bench.protocol.scored_labels import MaskLabels
from rs05bench.protocol.scoring import Scorer
from tests.protocol.toy import World

TWO = ("land", "burnt")
THREE = ("land", "corn", "rice")
SIDE, PIXEL = 24, 30.0


class ChipWorld(World):
    """Chips with masks, a block each or several, in three states."""

    def __init__(self, classes: tuple[str, ...] = TWO, n: int = 40) -> None:
        super().__init__("segmentation", n=n, states=3, classes=list(classes), splits=["leave-state-out"])
        self.names = classes
        rng = np.random.default_rng(1)
        self.masks = {}
        for unit in self.units.frame["unit_id"]:
            mask = np.zeros((SIDE, SIDE), dtype=np.int16)
            for code in range(1, len(classes)):
                row, column = rng.integers(0, 12, 2)
                mask[row : row + rng.integers(4, 12), column : column + 10] = code
            mask[:, -1] = -1
            self.masks[unit] = mask

    def guess(self, folder: Path, fold: str, *, skill: float, seed: int = 0) -> MapPredictions:
        """Maps of the fold's validation and test chips, too sure of themselves; worse where the state was held out."""

        rng = np.random.default_rng(seed)
        k = len(self.names)
        with MapPredictionWriter(folder, self.names) as writer:
            for unit, role in self.manifest("leave-state-out").fold(fold)[["unit_id", "role"]].astype(str).itertuples(index=False):
                if role not in ("val", "test_id", "test_ood"):
                    continue
                mask = np.roll(np.clip(self.masks[unit], 0, None), rng.integers(0, 3), axis=1)
                right = rng.random(mask.shape) < skill - 0.15 * (role == "test_ood")
                said = np.where(right, mask, rng.integers(0, k, mask.shape))
                logits = rng.normal(0, 1, (k, SIDE, SIDE)) + 5 * (said == np.arange(k)[:, None, None])
                p = np.exp(logits)
                writer.write(unit, role, p / p.sum(0), Grid("EPSG:32610", 0, 0, PIXEL, PIXEL, SIDE, SIDE))
        return MapPredictions.read(folder)

    def scorer(self, fold: str, mask: Callable[[str], np.ndarray] | None = None) -> Scorer:
        read = mask or self.masks.__getitem__
        labels = MaskLabels.of(self.card, self.names, lambda unit: (read(unit), PIXEL))
        return Scorer.build(self.card, self.manifest("leave-state-out"), fold, labels)

    def chip_results(self, root: Path, *, model: str, tier: str, skill: float, seeds: tuple[int, ...] = (0, 1)) -> list[Result]:
        """Cells of every fold and seed of a model."""
        found = []
        for number, fold in enumerate(self.manifest("leave-state-out").folds):
            scorer = self.scorer(fold)
            for seed in seeds:
                folder = root / f"{model.replace('/', '-')}-{number}-{seed}"
                salt = sum(map(ord, model))
                scored = scorer.score(self.guess(folder, fold, skill=skill, seed=1000 * seed + number + 17 * salt))
                cell = Cell(task="toy", target="y", split="leave-state-out", fold=fold, model=model, budget="10-units", seed=seed)
                found.append(
                    Result(
                        cell=cell,
                        digest=cell.digest(),
                        kind="segmentation",
                        main_metric="miou",
                        higher_is_better=True,
                        simulated=False,
                        model=ModelCard(name=model, tier=tier, inputs=model.split("/")[0], learner=model.split("/")[1]),
                        scores=scored.scores,
                        per_group=scored.per_group,
                        strata=scored.strata,
                        calibration=scored.calibration,
                        sums=scored.packed(),
                        group_sums=scored.packed_groups(),
                        budget={"labels_used": 10},
                    )
                )
        return found
