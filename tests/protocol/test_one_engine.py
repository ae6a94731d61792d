"""A table whose units are the pixels of chips is scored as the chips are: one engine, whatever predictions are of."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rs05bench
from rs05bench.protocol import Cell, ModelCard, Predictions, Result, compare
from rs05bench.protocol.predictions import TablePredictions
from rs05bench.protocol.scored_labels import UnitLabels
from rs05bench.protocol.scoring import Scored, Scorer
from tests.protocol.chip_world import SIDE, TWO, ChipWorld
from tests.protocol.toy import make_card

pytest.importorskip("rasterio")
SPLIT = "leave-state-out"
SHARED = ("n", "macro_f1", "balanced_accuracy", "overall_accuracy", "kappa", "f1_burnt", "precision_land", "recall_burnt")
CALIBRATION = ("ece", "ece_classwise", "brier", "nll")


def ids_of(unit: str) -> list[str]:
    return [f"{unit}-{at:03d}" for at in range(SIDE * SIDE)]


def pixels_of(manifest):
    """The same split over pixels: each has its chip's role, shift, region, block, place and groups."""

    def spread(frame: pd.DataFrame) -> pd.DataFrame:
        many = frame.loc[frame.index.repeat(SIDE * SIDE)].reset_index(drop=True)
        return many.assign(unit_id=[name for unit in frame["unit_id"] for name in ids_of(unit)])

    return dataclasses.replace(manifest, table=spread(manifest.table), units=spread(manifest.units))


def as_table(maps) -> TablePredictions:
    parts = []
    for unit, role, file in maps.table[["unit_id", "role", "file"]].itertuples(index=False):
        band = maps.band(file).astype(np.float64).ravel()
        parts.append(Predictions.of_classes(np.array(ids_of(unit), dtype=object), role, np.stack([1 - band, band], axis=1), TWO))
    return TablePredictions.concat(parts)


def as_result(scored: Scored, kind: str, model: str) -> Result:
    cell = Cell(task="toy", target="y", split=SPLIT, fold=scored.fold, model=model, budget="10-units", seed=0)
    return Result(
        cell=cell,
        digest=cell.digest(kind=kind),
        kind=kind,
        main_metric="macro_f1",
        higher_is_better=True,
        simulated=False,
        model=ModelCard(name=model, tier="embedding", inputs="a", learner="b"),
        scores=scored.scores,
        per_group=scored.per_group,
        strata=scored.strata,
        calibration=scored.calibration,
        sums=scored.packed(),
        group_sums=scored.packed_groups(),
        budget={"labels_used": 10},
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> dict[str, list[Result]]:
    """Results of two models over all folds, as chips and as a table of their pixels."""
    world, root = ChipWorld(), tmp_path_factory.mktemp("maps")
    world.card = world.card.model_copy(update={"main_metric": "macro_f1"})
    manifest = world.manifest(SPLIT)
    masks = {name: code for unit, mask in world.masks.items() for name, code in zip(ids_of(unit), mask.ravel(), strict=True)}
    labels = pd.Series({name: TWO[code] for name, code in masks.items() if code >= 0}, dtype=object)
    card = make_card(classes=list(TWO), splits=[SPLIT])
    found: dict[str, list[Result]] = {"chips": [], "table": []}
    for number, fold in enumerate(manifest.folds):
        table = Scorer.build(card, pixels_of(manifest), fold, UnitLabels.of(card, labels))
        for model, skill in (("a/good", 0.95), ("a/bad", 0.7)):
            maps = world.guess(root / f"{number}-{skill}", fold, skill=skill, seed=number)
            found["chips"].append(as_result(world.scorer(fold).score(maps), "segmentation", model))
            found["table"].append(as_result(table.score(as_table(maps)), "classification", model))
    return found


@pytest.mark.parametrize("name", [*SHARED, *CALIBRATION])
def test_scores_are_the_same(both, name):
    for chips, table in zip(both["chips"], both["table"], strict=True):
        for role in ("test_id", "test_ood"):
            assert chips.scores[role][name] == pytest.approx(table.scores[role][name], abs=1e-6), role


def test_reliability_curves_are_the_same(both):
    for chips, table in zip(both["chips"], both["table"], strict=True):
        assert chips.calibration.keys() == table.calibration.keys()
        for role, curve in chips.calibration.items():
            for column, values in curve.items():
                assert values == pytest.approx(table.calibration[role][column], abs=2e-6)


@pytest.mark.parametrize("metric", ["macro_f1", "f1_burnt", "ece", "brier"])
def test_kept_sums_are_the_same_row_by_row(both, metric):
    for chips, table in zip(both["chips"], both["table"], strict=True):
        for role in ("test_id", "test_ood"):
            one, other = chips.kept(role), table.kept(role)
            assert one.keys.keys() == other.keys.keys()
            assert all((one.keys[name] == other.keys[name]).all() for name in one.keys)
            np.testing.assert_allclose(one.of(metric).vectors, other.of(metric).vectors, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("metric", ["macro_f1", "brier"])
def test_intervals_differences_and_drops_are_the_same(both, metric):
    one, other = (compare(both[kind], metric=metric) for kind in ("chips", "table"))
    assert one.scores
    assert one.drops
    assert one.differences
    pairs = [(chips.estimate, table.estimate) for chips, table in zip(one.scores, other.scores, strict=True)]
    pairs += [(chips.drop, table.drop) for chips, table in zip(one.drops, other.drops, strict=True)]
    pairs += [(chips.effect, table.effect) for chips, table in zip(one.differences, other.differences, strict=True)]
    for chips, table in pairs:
        assert [chips.value, chips.low, chips.high] == pytest.approx([table.value, table.low, table.high], abs=1e-5, nan_ok=True)


def test_declared_groups_are_the_same(both):
    for chips, table in zip(both["chips"], both["table"], strict=True):
        for role in ("test_id", "test_ood"):
            for group, scores in chips.per_group[role]["biome"].items():
                assert scores["macro_f1"] == pytest.approx(table.per_group[role]["biome"][group]["macro_f1"], abs=1e-6)


READ_OR_WRITE = {
    "protocol/labels.py",
    "protocol/map_predictions.py",
    "protocol/stored_predictions.py",
    "protocol/submission/cells.py",
    "protocol/submission/make.py",
    "protocol/submission/shelf.py",
    "protocol/submission/truth.py",
    "report/errormaps.py",  # points or rasters
}
ELSEWHERE = {
    "experiment/advise.py",  # advice on chips is refused
    "experiment/map_run.py",  # scenes are read in windows, or pixel by pixel
    "protocol/budget.py",  # a chip has no one label to tune blocks with
    "report/answer.py",  # one warning that only networks on pixels can get
}


def test_nothing_else_asks_whether_a_task_is_of_tables_or_of_chips():
    package = Path(rs05bench.__file__).parent
    asked = set()
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            compared = isinstance(node, ast.Compare) and "'segmentation'" in ast.unparse(node)
            if compared or (isinstance(node, ast.Attribute) and node.attr == "pixel_labels"):
                asked.add(name)
    assert {name for name in asked if not name.startswith(("datasets/", "models/"))} == READ_OR_WRITE | ELSEWHERE
