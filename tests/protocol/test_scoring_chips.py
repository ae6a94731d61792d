"""The scorer of chips keeps sums from which its own scores follow."""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.protocol import build_manifest
from rs05bench.protocol.kept import KeptSums
from rs05bench.protocol.metrics import metric_from_stats
from rs05bench.protocol.rasters import RasterPredictions, RasterWriter
from rs05bench.protocol.scoring_chips import ChipScorer
from tests.protocol.toy import make_card, make_units

CLASSES = ("land", "burnt")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    rasterio = pytest.importorskip("rasterio")
    card = make_card("segmentation", classes=None, splits=["leave-state-out"])
    units = make_units(card, n=40, states=3)
    manifest = build_manifest(card, units, "leave-state-out")
    fold = manifest.folds[0]
    rng = np.random.default_rng(0)
    masks, folder = {}, tmp_path_factory.mktemp("chips") / "predictions"
    with RasterWriter(folder, CLASSES) as writer:
        for unit, role in manifest.fold(fold)[["unit_id", "role"]].astype(str).itertuples(index=False):
            if role not in ("test_id", "test_ood"):
                continue
            mask = np.zeros((24, 24), dtype=np.int16)
            mask[rng.integers(2, 8) : rng.integers(12, 22), 4:18] = 1
            masks[unit] = mask
            p = np.clip(np.roll(mask, rng.integers(0, 3), axis=1) * 0.7 + rng.random((24, 24)) * 0.4 - 0.05, 0, 1).astype(np.float32)
            writer.write(unit, role, np.stack([1 - p, p]), crs="EPSG:32610", transform=rasterio.transform.from_origin(0, 0, 30, 30))
    predictions = RasterPredictions.load(folder)
    scorer = ChipScorer.build(card, manifest, fold, CLASSES, lambda unit: (masks[unit], 30.0))
    return manifest, fold, scorer.score(predictions, validation=["anything"])


@pytest.mark.parametrize("metric", ["miou", "macro_f1", "iou_burnt", "boundary_f1", "area_error", "ece", "brier"])
def test_scores_follow_from_what_is_kept(scored, metric):
    _, _, found = scored
    assert set(found.sums) == {"test_id", "test_ood"}
    for role, kept in found.sums.items():
        again = KeptSums.unpack(kept.pack())
        assert metric_from_stats(again.of(metric), metric) == pytest.approx(found.scores[role][metric], abs=1e-9)


def test_rows_are_the_blocks_of_the_chips(scored):
    manifest, fold, found = scored
    rows = manifest.fold(fold).merge(manifest.units[["unit_id", "biome"]], on="unit_id")
    for role, kept in found.sums.items():
        here = rows[rows["role"].astype(str) == role]
        pixels = here.groupby([here["block"].astype(str), here["biome"].astype(str)]).size() * 24 * 24
        got = dict(zip(zip(kept.keys["block"], kept.keys["biome"], strict=True), kept.units.tolist(), strict=True))
        assert got == pixels.to_dict()


def test_declared_groups_are_scored_with_intervals(scored):
    _, _, found = scored
    for role, columns in found.fairness.items():
        for name, entry in columns["biome"]["groups"].items():
            assert entry["value"] == pytest.approx(found.per_group[role]["biome"][name]["miou"])
            assert entry["units"] == entry["clusters"] == found.per_group[role]["biome"][name]["units"]
