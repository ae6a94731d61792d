"""Maps are scored with masks whose digest is frozen, where their masks lie, and at pixels nobody chose."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.transform import from_origin
from sklearn.metrics import jaccard_score

from rs05bench.protocol.labels import LabelPack
from rs05bench.protocol.submission import verify_bundle
from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.limits import LIMITS
from rs05bench.protocol.submission.verify import judge
from tests.protocol.submission.world import mask_of, write_bundle, write_sums, write_tif


@pytest.fixture(scope="module")
def classes(world, tmp_path_factory):
    """A bundle of maps of three classes."""
    return write_bundle(tmp_path_factory.mktemp("classes") / "b", world.root, world.board, "cover-simulated", slug="unet-cover")


def rewritten(chips, **profile):
    """The first map, somewhere else."""
    path = chips / "cells/1/chips/000.tif"
    with rasterio.open(path) as source:
        band = source.read(1)
    path.unlink()
    write_tif(path, band, **profile)
    write_sums(chips)


@pytest.mark.slow
def test_maps_of_three_classes_are_scored_as_scikit_learn_scores_them(world, classes, tmp_path):
    verdict = judge(classes, world.board, world.root / "truth", None, LIMITS, tmp_path)
    assert verdict.outcome == "accepted", verdict.faults + verdict.notes
    assert (verdict.simulated, verdict.rankable) == (True, [])
    assert verdict.unranked == {"cover-simulated/cover/leave-region-out": "simulated results never rank"}
    for cell in verdict.cells[::11]:
        table = pd.read_parquet(classes / cell.path / "units.parquet")
        rows = table[table["role"] == "test_ood"]
        truth = np.stack([mask_of(unit, 3) for unit in rows["unit_id"]])
        guess = np.stack([rasterio.open(classes / cell.path / file).read(1) for file in rows["file"]])
        known = truth >= 0
        expected = jaccard_score(truth[known], guess[known], average="macro")
        assert cell.scores["test_ood"]["miou"] == pytest.approx(expected, abs=2e-6)
        assert 0 < cell.scores["test_ood"]["ece"] < 1


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"crs": "EPSG:32611"}, r"its CRS is 'EPSG:32611', the mask's 'EPSG:32610'"),
        ({"transform": from_origin(5e5 + 30, 5e6, 30, 30)}, "it lies 1 pixels off"),
        ({"transform": from_origin(5e5, 5e6, 29, 29)}, "pixels off"),
    ],
)
def test_a_map_that_lies_elsewhere_than_its_mask_is_refused(chips, verify, profile, words):
    rewritten(chips, **profile)
    verdict = verify(chips)
    assert verdict.outcome == "refused"
    assert "cells/1: 1 of " in verdict.faults[0]
    assert words in verdict.faults[0]


def test_a_map_of_another_shape_is_refused(chips, verify):
    path = chips / "cells/1/chips/000.tif"
    path.unlink()
    write_tif(path, np.full((8, 16), 0.5, dtype=np.float32))
    write_sums(chips)
    assert "it has 8 x 16 pixels, the mask 16 x 16" in verify(chips).faults[0]


def test_a_transform_off_by_rounding_is_the_same_place(chips, verify):
    rewritten(chips, transform=from_origin(5e5 + 0.001, 5e6, 30, 30))
    assert verify(chips).outcome == "accepted"


def test_masks_other_than_the_frozen_ones_score_nothing(world, tmp_path):
    truth = shutil.copytree(world.root / "truth", tmp_path / "truth")
    pack = LabelPack.load(truth / "labels/tiny-chips")
    path = pack.directory / str(pack.table["file"].iloc[0])
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as mask:
        mask.write(1 - mask.read(1) % 2, 1)
    verdict = verify_bundle(world.good_chips, world.root / "board", truth=truth, isolated=False)
    assert verdict.outcome == "complete"
    assert "content digest" in " ".join(verdict.notes)


def test_the_board_freezes_the_digest_of_the_masks(world):
    board = Board.load(world.root / "board")
    assert board.task("cover-simulated").labels == {"cover": LabelPack.load(world.root / "truth/labels/cover-simulated").digest}


@pytest.mark.parametrize("chosen", ["fewer", "another role"])
def test_pixels_that_a_team_chose_itself_are_refused(classes, tmp_path, world, chosen):
    bundle = shutil.copytree(classes, tmp_path / "b")
    path = bundle / "cells/1/samples.parquet"
    table = pq.read_table(path)
    if chosen == "fewer":
        table = table.filter(pa.compute.not_equal(table["pixel"], 3))
    else:
        other = pa.array(["test_id" if role == "test_ood" else "test_ood" for role in table["role"].to_pylist()])
        table = table.set_column(1, "role", other)
    pq.write_table(table, path)
    write_sums(bundle)
    (tmp_path / "work").mkdir()
    verdict = judge(bundle, world.board, None, None, LIMITS, tmp_path / "work")
    assert [fault for fault in verdict.faults if "other pixels of chip" in fault]
