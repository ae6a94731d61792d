"""The frozen splits of HLS Burn Scars on a user's copy: chips of 16 pixels under the names of all 804 published ones."""

from __future__ import annotations

import shutil
import struct
from functools import cache

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

import rs05bench
from rs05bench.datamodules import BurnScarDataModule
from rs05bench.datamodules.chipsource import ChipSource, chip_card
from rs05bench.datasets.mgrs import parse_tile
from rs05bench.errors import DataError
from rs05bench.experiment.store import ResultStore
from tests.datasets.data import ODD_UTM, write_raster

SHIPPED = "hls-burn-scars/leave-state-out@v1"
SPLITS = ("leave-tile-out", "leave-state-out", "leave-climate-region-out", "leave-year-out", "until-2020", "official")
SIDE = 16


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """`hls_burn_scars/` as the publisher's archive unpacks: 540 chips for training, 264 for validation.

    Files of one zone differ in their corner alone: two numbers of eight bytes in the one that GDAL wrote.
    """
    root = tmp_path_factory.mktemp("published") / "hls_burn_scars"
    manifest = rs05bench.load_manifest("hls-burn-scars/official@v1")
    role = manifest.fold(manifest.folds[0]).set_index("unit_id")["role"].astype(str)
    image = np.full((6, SIDE, SIDE), 0.2, dtype=np.float32)
    image[:, 0, 0] = -9999
    mask = np.zeros((1, SIDE, SIDE), dtype=np.int16)
    mask[0, :8] = 1
    corner = (123_456.0, 6_543_210.0)

    @cache
    def written(zone):
        crs, place = ODD_UTM.format(zone=zone, meridian=-183 + 6 * zone), from_origin(*corner, 30, 30)
        files = {
            "_merged.tif": write_raster(root.parent / "image.tif", image, crs, place),
            ".mask.tif": write_raster(root.parent / "mask.tif", mask, crs, place, nodata=-1),
        }
        return {end: path.read_bytes() for end, path in files.items()}

    for unit in manifest.units["unit_id"]:
        tile = parse_tile(unit.split(".")[0][1:])
        folder = root / ("validation" if role[unit].startswith("test") else "training")
        folder.mkdir(parents=True, exist_ok=True)
        moved = struct.pack("<2d", tile.corner[0] + 30_000, tile.corner[1] + 60_000)
        for end, data in written(tile.zone).items():
            assert data.count(struct.pack("<2d", *corner)) == 1
            (folder / f"subsetted_{SIDE}x{SIDE}_HLS.S30.{unit}.v1.4{end}").write_bytes(data.replace(struct.pack("<2d", *corner), moved))
    return root


def test_the_copy_lies_in_the_tiles_of_its_names(copy):
    path = next(copy.glob("*/*T10SEH*_merged.tif"))
    with rasterio.open(path) as chip:
        corner = parse_tile("10SEH").corner
        assert (chip.transform.c, chip.transform.f) == (corner[0] + 30_000, corner[1] + 60_000)
        assert "UTM Zone 10" in chip.crs.to_wkt()


@pytest.fixture(scope="module")
def source(copy):
    return ChipSource(copy, chip_card("burn-scars", copy))


def test_the_lines_of_the_readme_show_the_chips_of_the_shipped_manifest(copy):
    dm = BurnScarDataModule(copy, split="leave-state-out", budget="10-fires", seed=0, manifest=SHIPPED, fill=0.0)
    batch = next(iter(dm.train_dataloader()))
    frozen = rs05bench.load_manifest(SHIPPED)
    assert dm.manifest.digest == frozen.card["digest"]
    role = frozen.fold(frozen.folds[0]).set_index("unit_id")["role"].astype(str)
    fire = frozen.units.set_index("unit_id")["fire"]
    shown = [*dm.unit_ids("train"), *dm.unit_ids("val")]
    assert set(role[dm.unit_ids("train")]) == {"train"}
    assert set(role[dm.unit_ids("val")]) == {"val"}
    assert fire[shown].nunique() == 10
    assert set(dm.unit_ids("test_ood")) == set(role.index[role == "test_ood"])
    assert torch.isfinite(batch["image"]).all()
    assert dm.hparams["manifest"] == SHIPPED


@pytest.mark.parametrize("split", SPLITS)
def test_every_shipped_split_opens_on_a_copy_of_the_data(source, split):
    dm = BurnScarDataModule(source, split=split, budget="5-fires", manifest=f"hls-burn-scars/{split}@v1")
    assert dm.unit_ids("train")
    assert dm.unit_ids("test_ood") or dm.unit_ids("test_id")


@pytest.mark.slow
def test_a_sweep_takes_the_shipped_manifest_and_its_results_are_main_ones(copy, run_command, tmp_path):
    card = tmp_path / "card.yaml"
    made = chip_card("burn-scars", copy)
    made.model_copy(update={"training": made.training.model_copy(update={"steps": 2, "val_every": 1})}).save(card)
    options = ["--models", "floor/majority", "--splits", "leave-state-out", "--folds", "fold-02", "--budgets", "5-fires", "--seeds", "0"]
    command = ["sweep", card, "--data", copy, "--manifest", SHIPPED, *options, "--jobs", "1", "--no-costs", "--out", tmp_path / "runs"]
    run_command(*command)
    (result,) = ResultStore(tmp_path / "runs").results()
    assert result.digests["manifest"] == rs05bench.load_manifest(SHIPPED).card["digest"]
    assert result.main
    assert not result.simulated


@pytest.mark.parametrize(
    ("split", "manifest", "message"),
    [
        ("leave-year-out", SHIPPED, "is of the split 'leave-state-out'"),
        ("leave-state-out", "burn-scar/leave-state-out@v1", "is of the task 'burn-scar'"),
        ("leave-state-out", "hls-burn-scars/leave-state-out@v9", "no manifest"),
    ],
)
def test_a_manifest_of_something_else_is_refused(source, split, manifest, message):
    with pytest.raises(DataError, match=message):
        BurnScarDataModule(source, split=split, manifest=manifest).setup("fit")


def test_a_copy_without_all_chips_is_refused_under_a_frozen_split(copy, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(copy / "validation", part / "validation")
    with pytest.raises(DataError, match=r"of its 804 chips 264 are in .*part"):
        BurnScarDataModule(part, split="leave-state-out", manifest=SHIPPED).setup("fit")


def test_a_published_split_of_two_parts_is_tested_on_the_second(source):
    """As the shipped manifest of the same files has it: `validation/` is what is tested."""
    frozen = rs05bench.load_manifest("hls-burn-scars/official@v1")
    tested = frozen.fold("official").query("role in ('test_id', 'test_ood')")["unit_id"]
    dm = BurnScarDataModule(source, split="official")
    assert set(dm.unit_ids("test_id")) | set(dm.unit_ids("test_ood")) == set(tested)
