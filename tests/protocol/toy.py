"""A small world with made-up predictions: cells are scored without fitting anything, so that every number can be checked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rs05bench.protocol import Cell, ModelCard, Predictions, Result, TaskCard, UnitTable, build_manifest
from rs05bench.protocol.predictions import TablePredictions
from rs05bench.protocol.scored_labels import UnitLabels
from rs05bench.protocol.scoring import Scorer

CLASSES = ("corn", "rice", "wheat")


CONTENT = {"raw": ["optical"], "alphaearth": ["embedding"], "hybrid": ["embedding", "optical"]}


def make_card(kind: str = "classification", **changes) -> TaskCard:
    fields = {
        "kind": kind,
        "name": "toy",
        "targets": ["y"],
        "classes": list(CLASSES) if kind == "classification" else None,
        "groups": ["state", "biome"],
        "fairness_groups": ["biome"],
        "splits": ["leave-state-out", "leave-state-out+2", "within-state", "random"],
        "split_options": {"block_size_m": 4000, "buffer_m": 0, "test_fraction": 0.4},
    }
    return TaskCard.parse(fields | changes)


def make_units(card: TaskCard, n: int = 240, states: int = 4, years: int = 1, seed: int = 0) -> UnitTable:
    rng = np.random.default_rng(seed)
    state = rng.integers(0, states, n)
    frame = pd.DataFrame(
        {
            "place": [f"p{i:04d}" for i in range(n)],
            "lon": -100 + state * 0.6 + rng.random(n) * 0.3,
            "lat": 40 + rng.random(n) * 0.3,
            "state": [f"s{value}" for value in state],
            "biome": np.where(rng.random(n) < 0.5, "forest", "steppe"),
        }
    )
    if years > 1:
        frame = pd.concat([frame.assign(year=2018 + year) for year in range(years)], ignore_index=True)
        frame["unit_id"] = frame["place"] + "_" + frame["year"].astype(str)
    else:
        frame["unit_id"] = frame["place"]
    return UnitTable.build(frame, groups=card.groups)


def make_labels(card: TaskCard, units: UnitTable, seed: int = 1) -> pd.Series:
    rng = np.random.default_rng(seed)
    ids = units.frame["unit_id"]
    if card.kind == "regression":
        return pd.Series(50 + 10 * rng.standard_normal(len(ids)), index=ids)
    return pd.Series(np.asarray(CLASSES, dtype=object)[rng.integers(0, len(CLASSES), len(ids))], index=ids)


def guess(card: TaskCard, manifest, fold: str, labels: pd.Series, seed: int, at_home: float, elsewhere: float) -> Predictions:
    """Predictions that know the truth to some degree, more at home than elsewhere; validation units as at home."""
    rng = np.random.default_rng(seed)
    parts = []
    for role, skill in (("val", at_home), ("test_id", at_home), ("test_ood", elsewhere)):
        rows = manifest.fold(fold)
        ids = rows.loc[rows["role"].astype(str) == role, "unit_id"].to_numpy(dtype=object)
        if not len(ids):
            continue
        truth = labels.reindex(ids)
        if card.kind == "regression":
            y = truth.to_numpy() + rng.normal(0, 10 * (1 - skill) + 1e-3, len(ids))
            parts.append(Predictions.of_values(ids, role, y, np.stack([y - 8, y + 8], axis=1)))
            continue
        scores = rng.random((len(ids), len(CLASSES)))
        scores[np.arange(len(ids)), [CLASSES.index(value) for value in truth]] += skill
        p = np.exp(4 * scores)
        parts.append(Predictions.of_classes(ids, role, (p / p.sum(1, keepdims=True)).astype(np.float32), CLASSES))
    return TablePredictions.concat(parts)


def make_result(
    card, manifest, fold, labels, predictions, *, model="alphaearth/rf", tier="embedding", budget="20-units", seed=0, split=None, extra=0
):
    scored = Scorer.build(card, manifest, fold, UnitLabels.of(card, labels)).score(predictions)
    content = CONTENT.get(model.split("/")[0], [])
    cell = Cell(task=card.name, target="y", split=split or manifest.split, fold=fold, model=model, budget=budget, seed=seed)
    return Result(
        cell=cell,
        digest=cell.digest(),
        kind=card.kind,
        main_metric=card.main_metric,
        higher_is_better=True,
        simulated=False,
        model=ModelCard(name=model, tier=tier, inputs=model.split("/")[0], learner=model.split("/")[1], content=content),
        scores=scored.scores,
        per_group=scored.per_group,
        strata=scored.strata,
        calibration=scored.calibration,
        sums=scored.packed(),
        group_sums=scored.packed_groups(),
        budget={"labels_used": 20 + extra, "extra": extra},
        main=manifest.split != "random",
    )


class World:
    """A task with units, labels and manifests."""

    def __init__(self, kind: str = "classification", n: int = 240, states: int = 4, years: int = 1, **changes) -> None:
        if years > 1:
            changes |= {"year": "year"}
        self.card = make_card(kind, **changes)
        self.units = make_units(self.card, n, states, years)
        self.labels = make_labels(self.card, self.units)
        self._manifests: dict[str, object] = {}

    def manifest(self, split: str):
        base = split.split("+")[0]
        if base not in self._manifests:
            self._manifests[base] = build_manifest(self.card, self.units, base)
        return self._manifests[base]

    def results(
        self,
        split="leave-state-out",
        *,
        model="alphaearth/rf",
        tier="embedding",
        budget="20-units",
        seeds=(0, 1),
        at_home=0.6,
        elsewhere=0.3,
        extra=0,
    ) -> tuple[list[Result], dict[tuple[str, int], Predictions]]:
        """Cells of every fold and seed, and the predictions behind them."""
        manifest = self.manifest(split)
        found, behind = [], {}
        for number, fold in enumerate(manifest.folds):
            for seed in seeds:
                salt = sum(map(ord, model + budget + split))
                made = guess(self.card, manifest, fold, self.labels, 1000 * seed + number + 17 * salt, at_home, elsewhere)
                found.append(
                    make_result(
                        self.card,
                        manifest,
                        fold,
                        self.labels,
                        made,
                        model=model,
                        tier=tier,
                        budget=budget,
                        seed=seed,
                        split=split,
                        extra=extra,
                    )
                )
                behind[fold, seed] = made
        return found, behind
