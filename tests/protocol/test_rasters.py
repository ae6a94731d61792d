"""Predictions of chips: what is written is what is read, and what is scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rasterio
from sklearn.metrics import f1_score, jaccard_score

from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard, UnitTable, build_manifest
from rs05bench.protocol.map_predictions import MapPredictions, MapPredictionWriter, sample_pixels
from rs05bench.protocol.pixel_grid import Grid
from rs05bench.protocol.scored_labels import MaskLabels
from rs05bench.protocol.scoring import Scorer

GRID = Grid("EPSG:32610", 500_000, 4_000_000, 30, 30, 40, 30)


@pytest.fixture
def task():
    frame = pd.DataFrame({"unit_id": [f"c{i}" for i in range(24)], "lon": -100 + np.arange(24) * 0.2, "lat": 40.0})
    frame["state"] = [f"s{i // 4}" for i in range(24)]
    card = TaskCard.parse(
        {
            "kind": "segmentation",
            "name": "toy",
            "targets": ["mask"],
            "classes": ["no", "burn"],
            "groups": ["state"],
            "splits": ["leave-state-out"],
        }
    )
    return card, build_manifest(card, UnitTable.build(frame, groups=["state"]), "leave-state-out")


def write(directory, card, manifest, fold, classes, *, skip=(), shape=(40, 30)):
    rng = np.random.default_rng(0)
    rows = manifest.fold(fold)
    truth, given = {}, {}
    with MapPredictionWriter(directory, classes) as writer:
        for unit, role in rows[["unit_id", "role"]].astype(str).itertuples(index=False):
            if role not in ("test_id", "test_ood") or unit in skip:
                continue
            truth[unit] = rng.integers(-1, len(classes), shape).astype(np.int16)
            p = rng.dirichlet(np.ones(len(classes)), shape).transpose(2, 0, 1).astype(np.float32)
            given[unit] = p
            writer.write(unit, role, p, replace(GRID, height=shape[0], width=shape[1]))
    return truth, given


def test_scores_equal_scikit_learn(task, tmp_path):
    card, manifest = task
    fold = manifest.folds[0]
    truth, given = write(tmp_path, card, manifest, fold, ("no", "burn"))
    scored = Scorer.build(card, manifest, fold, MaskLabels.of(card, ("no", "burn"), lambda unit: (truth[unit], 30.0))).score(
        MapPredictions.read(tmp_path)
    )
    rows = manifest.fold(fold)
    for role in ("test_id", "test_ood"):
        units = rows.loc[rows["role"].astype(str) == role, "unit_id"]
        y = np.concatenate([truth[unit].ravel() for unit in units])
        p = np.concatenate([given[unit][1].astype(np.float16).astype(np.float32).ravel() for unit in units])
        keep = y >= 0
        assert scored.scores[role]["miou"] == pytest.approx(jaccard_score(y[keep], p[keep] > 0.5, average="macro"), abs=1e-12)
        assert scored.scores[role]["f1_burn"] == pytest.approx(f1_score(y[keep], p[keep] > 0.5), abs=1e-12)
        assert scored.scores[role]["brier"] > 0


def test_many_classes_keep_a_map_and_a_fixed_sample(task, tmp_path):
    card, manifest = task
    classes = ("a", "b", "c")
    card = card.model_copy(update={"classes": list(classes)})
    truth, given = write(tmp_path, card, manifest, manifest.folds[0], classes)
    loaded = MapPredictions.read(tmp_path)
    unit, _, shown, _ = next(loaded.chips(["test_ood"]))
    assert (shown == given[unit].argmax(0)).all()
    rows = loaded.samples[loaded.samples["unit_id"] == unit]
    assert list(rows["pixel"]) == list(sample_pixels(unit, 40, 30))
    scored = Scorer.build(card, manifest, manifest.folds[0], MaskLabels.of(card, classes, lambda unit: (truth[unit], 30.0))).score(loaded)
    assert scored.scores["test_ood"]["ece"] >= 0


def test_two_copies_have_one_digest_and_a_changed_pixel_another(task, tmp_path):
    card, manifest = task
    for name in ("one", "two"):
        write(tmp_path / name, card, manifest, manifest.folds[0], ("no", "burn"))
    one, two = MapPredictions.read(tmp_path / "one"), MapPredictions.read(tmp_path / "two")
    assert one.digest == two.digest
    path = tmp_path / "two" / two.table["file"][0]
    with rasterio.open(path) as source:
        profile, values = source.profile, source.read(1)
    values[0, 0] = 1 - values[0, 0]
    with rasterio.open(path, "w", **{**profile, "driver": "GTiff"}) as target:
        target.write(values, 1)
    assert two.digest != one.digest


def test_a_missing_chip_is_named(task, tmp_path):
    card, manifest = task
    fold = manifest.folds[0]
    rows = manifest.fold(fold)
    unit = rows.loc[rows["role"].astype(str) == "test_ood", "unit_id"].iloc[0]
    truth, _ = write(tmp_path, card, manifest, fold, ("no", "burn"), skip=(unit,))
    with pytest.raises(DataError, match=f"have no prediction, e.g. '{unit}'"):
        Scorer.build(card, manifest, fold, MaskLabels.of(card, ("no", "burn"), lambda unit: (truth[unit], 30.0))).score(
            MapPredictions.read(tmp_path)
        )


def test_probabilities_off_by_255_are_refused(task, tmp_path):
    card, manifest = task
    write(tmp_path, card, manifest, manifest.folds[0], ("no", "burn"))
    loaded = MapPredictions.read(tmp_path)
    path = tmp_path / loaded.table["file"][0]
    with rasterio.open(path) as source:
        profile, values = source.profile, source.read(1)
    with rasterio.open(path, "w", **{**profile, "driver": "GTiff"}) as target:
        target.write(values * 255, 1)
    with pytest.raises(DataError, match="probabilities from 0 to 1"):
        loaded.band(loaded.table["file"][0])


def test_a_band_of_exactly_one_half_is_the_first_class_as_with_argmax(tmp_path):

    p = np.array([[0.5, 0.5001], [0.51, 0.0]], dtype=np.float32)
    with MapPredictionWriter(tmp_path, ["no", "burn"]) as writer:
        writer.write("a", "test_ood", np.stack([1 - p, p]), Grid("EPSG:32610", 0, 0, 30, 30, 2, 2))
    ((_, _, said, band),) = MapPredictions.read(tmp_path).chips(["test_ood"])
    # .5001 is .5 in half precision, in which bands are kept.
    assert said.tolist() == [[0, 0], [1, 0]] == np.stack([1 - band, band]).argmax(0).tolist()
