"""The frozen splits of HLS Burn Scars: opened without a pixel, over the published file names, and no tile on two sides of a moved one."""

from __future__ import annotations

import pytest

import rs05bench
from rs05bench.datasets.mgrs import centre_of

SPLITS = ("leave-tile-out", "leave-state-out", "leave-climate-region-out", "leave-year-out", "until-2020", "official")
MOVED = {"leave-state-out": "state", "leave-climate-region-out": "climate_region", "leave-tile-out": "tile"}


@pytest.mark.parametrize("split", SPLITS)
def test_all_804_chips_are_in_it_under_the_names_of_their_files(split):
    manifest = rs05bench.load_manifest(f"hls-burn-scars/{split}@v1")
    assert len(manifest.units) == 804
    assert manifest.units["unit_id"].str.fullmatch(r"T\d{2}[A-Z]{3}\.20(18|19|20|21)\d{3}").all()
    assert manifest.units["tile"].nunique() == 365


@pytest.mark.parametrize("split", MOVED)
def test_a_held_out_group_is_nowhere_in_training(split):
    manifest = rs05bench.load_manifest(f"hls-burn-scars/{split}@v1")
    group = manifest.units.set_index("unit_id")[MOVED[split]]
    for fold in manifest.folds:
        rows = manifest.fold(fold)
        role = rows["role"].astype(str)
        sides = [set(group.loc[rows.loc[role.isin(roles), "unit_id"]]) for roles in (["train", "val"], ["test_ood", "reserve"])]
        assert sides[1]
        assert not sides[0] & sides[1]


@pytest.mark.parametrize("split", ["leave-state-out", "leave-climate-region-out"])
def test_chips_of_one_tile_are_never_parted(split):
    manifest = rs05bench.load_manifest(f"hls-burn-scars/{split}@v1")
    tile = manifest.units.set_index("unit_id")["tile"]
    for fold in manifest.folds:
        rows = manifest.fold(fold)
        roles = rows["role"].astype(str).groupby(tile.loc[rows["unit_id"]].to_numpy()).unique()
        trained = [set(found) for found in roles if {"train", "val"} & set(found)]
        assert not any(found & {"test_id", "test_ood"} for found in trained)


def test_194_of_264_published_validation_chips_share_a_tile_with_training():
    """As counted from the list of files by itself; the audit of the manifest says that it leaks."""
    manifest = rs05bench.load_manifest("hls-burn-scars/official@v1")
    units = manifest.units
    rows = manifest.fold(manifest.folds[0]).set_index("unit_id")["role"].astype(str)
    test = [unit for unit in units["unit_id"] if rows[unit].startswith("test")]
    tile = units.set_index("unit_id")["tile"]
    trained = {tile[unit] for unit in units["unit_id"] if unit not in set(test)}
    assert len(test) == 264
    assert sum(tile[unit] in trained for unit in test) == 194


def test_the_centre_of_a_tile_is_that_of_its_square_of_109_8_km():
    """10SEH: the square from 500,000 E, 4,200,000 N in zone 10, whose central meridian is 123 degrees west."""
    lon, lat = centre_of("T10SEH")
    assert -123 < lon < -122
    assert lat == pytest.approx(38.35, abs=0.05)
