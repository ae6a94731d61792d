"""Parcels and tracts become a table once: its numbers are those of the pixels, and it is made again when its sources change."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from pyproj import Transformer

import rs05bench as rb
from rs05bench.datamodules import CropParcelDataModule, UrbanDataModule
from rs05bench.datamodules.open_data import open_source
from rs05bench.datasets.urban_schema import INDICATORS
from rs05bench.embeddings import angle, decode, encode
from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol import TaskCard
from tests.embeddings.tiles import write_tile

WEST, NORTH, SIZE, SIDE = 500_000.0, 4_100_000.0, 240, 8
TO_DEGREES = Transformer.from_crs("EPSG:32610", "EPSG:4326", always_xy=True)
CROPS = ("Corn", "Cotton", "Rice")


def tile(year: int) -> np.ndarray:
    """Squares of one crop each, rotating from year to year."""
    generator = np.random.default_rng(0)
    kinds = generator.standard_normal((3, 64))
    row, column = np.indices((SIZE, SIZE)) // SIDE
    which = (row + column + year) % 3
    x = kinds[which] + 0.3 * np.random.default_rng(year).standard_normal((SIZE, SIZE, 64))
    return encode(np.moveaxis(x / np.linalg.norm(x, axis=2, keepdims=True), 2, 0))


def square(row: int, column: int) -> shapely.Polygon:
    """A square of SIDE x SIDE pixels, exactly on the grid."""
    west, north = WEST + 10 * SIDE * column, NORTH - 10 * SIDE * row
    return shapely.box(west, north - 10 * SIDE, west + 10 * SIDE, north)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parcels of 2022 and 2023, a row of them of 2025 too; tiles of 2022 and 2023; the table is made."""
    tmp_path = tmp_path_factory.mktemp("parcels")
    for year in (2022, 2023):
        write_tile(tmp_path / f"alphaearth/{year}/10N/a.tiff", tile(year))
    rows = [
        {
            "parcel_id": f"P{row:02d}{column:02d}", "county": "east" if column > 14 else "west",
            "crop_system": "dry" if row < 15 else "wet",
            "year": year, "crop": CROPS[(row + column + year) % 3], "geometry": square(row, column),
        }
        for row in range(0, 30, 2) for column in range(0, 30, 2) for year in ((2022, 2023) if row else (2022, 2023, 2025))
    ]  # fmt: skip
    (tmp_path / "parcels").mkdir()
    geopandas.GeoDataFrame(rows, crs="EPSG:32610").to_file(tmp_path / "parcels/parcels.gpkg")
    module(tmp_path)
    return tmp_path


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    """A copy to play with; copies keep their times, so the table in it is a valid one."""
    return shutil.copytree(template, tmp_path / "copy")


def module(root: Path, seed: int = 0, **reading) -> CropParcelDataModule:
    made = CropParcelDataModule(root, "leave-county-out", "east", "10-per-class", seed, **reading)
    made.prepare_data()
    made.setup("fit")
    return made


def test_three_lines_and_a_result(root):
    dm = module(root)
    result = rb.run(dm, "alphaearth/logistic")
    assert result.scores["test_ood"]["macro_f1"] > 0.9
    assert not result.simulated
    batch = next(iter(dm.train_dataloader()))
    assert batch["features"].shape[1] == 64
    with pytest.raises(ProtocolError):
        dm.test_dataloader()


def test_numbers_are_those_of_the_pixels(root):
    source = module(root).source
    frame = source.frame.set_index("unit_id")
    columns, values = source.features("alphaearth-change")
    position = list(frame.index).index("P0204_2023")
    rows, cols = slice(2 * SIDE, 3 * SIDE), slice(4 * SIDE, 5 * SIDE)
    pixels = {year: decode(tile(year))[:, rows, cols].reshape(64, -1) for year in (2022, 2023)}
    found = frame.loc["P0204_2023"]
    mean = {year: pixels[year].mean(axis=1) for year in pixels}
    # The polygon has gone through degrees and back: a millionth of a pixel beside it counts.
    np.testing.assert_allclose(found[[f"A{band:02d}" for band in range(64)]].astype(float), mean[2023], atol=1e-4)
    np.testing.assert_allclose(found[[f"A{band:02d}_std" for band in range(64)]].astype(float), pixels[2023].std(axis=1), atol=1e-3)
    assert (found[[f"A{band:02d}_max" for band in range(64)]].astype(float) >= pixels[2023].max(axis=1) - 1e-6).all()
    change = dict(zip(columns, values[position], strict=True))
    assert change["dA07"] == pytest.approx(mean[2023][7] - mean[2022][7], abs=1e-4)
    assert change["change_angle"] == pytest.approx(float(angle(mean[2022], mean[2023])), abs=0.1)
    assert np.isnan(frame.loc["P0204_2022", "change_dot"])  # there is no tile of 2021


def test_what_no_tile_covers_is_left_out_and_counted(root):
    dm = module(root)
    assert len(dm.source) == 450
    record = json.loads(dm.table.with_suffix(".json").read_text())
    assert record["left_out"] == {"no tile of the year": 15, "no embedding over the polygon": 0}
    assert "leave-year-out" in dm.card.splits


def test_groups_come_from_the_file_and_splits_that_need_others_go(root):
    path = root / "parcels/parcels.gpkg"
    frame = geopandas.read_file(path).drop(columns="crop_system")
    frame[frame["year"] == 2022].to_file(path)
    card = module(root).card
    assert card.groups == ["county", "state"]
    assert "leave-crop-system-out" not in card.splits
    assert "leave-year-out" not in card.splits
    assert "alphaearth-change" not in card.features


def test_tiles_are_read_once_and_again_when_a_source_changes(root, monkeypatch):
    from rs05bench.embeddings import unit_table

    reads = []
    real = unit_table.polygon_table
    monkeypatch.setattr(unit_table, "polygon_table", lambda *given, **named: reads.append(1) or real(*given, **named))
    shutil.rmtree(root / "parcels/.rs05bench", ignore_errors=True)
    first = module(root).source.digest
    assert module(root, seed=1).source.digest == first
    assert len(reads) == 1
    (root / "parcels/.rs05bench/crop-parcels.json").unlink()  # as after a cut between table and record
    module(root)
    assert len(reads) == 2
    path = root / "alphaearth/2023/10N/a.tiff"
    write_tile(path, tile(2024))
    os.utime(path, ns=(1, 1))
    assert module(root).source.digest != first
    assert len(reads) == 3
    frame = geopandas.read_file(root / "parcels/parcels.gpkg")
    frame.iloc[:-5].to_file(root / "parcels/parcels.gpkg")
    module(root)
    assert len(reads) == 4


def test_the_card_beside_the_table_is_a_task_of_its_own(root):
    dm = module(root)
    card = TaskCard.load(dm.table.with_suffix(".yaml"))
    assert open_source(card, dm.table.parent).digest == dm.source.digest
    assert card.digest == dm.card.digest


@pytest.mark.parametrize("where", [".", "parcels", "alphaearth"])
def test_simulated_files_mark_the_card(root, where):
    (root / where / "SIMULATED.json").write_text("{}")
    dm = module(root)
    assert dm.card.simulated
    assert rb.run(dm, "floor/majority").simulated


def test_what_is_missing_is_named(root, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match=r"holds no parcels\.gpkg"):
        module(empty)
    (root / "alphaearth").rename(root / "elsewhere")
    with pytest.raises(DataError, match="no tiles of alphaearth-v1"):
        module(root)
    assert len(module(root, embeddings=root / "elsewhere").source) == 450


def test_polygons_in_another_place_than_the_tiles_are_refused(root):
    frame = geopandas.read_file(root / "parcels/parcels.gpkg")
    frame.geometry = frame.translate(100_000, 0)
    frame.to_file(root / "parcels/parcels.gpkg")
    with pytest.raises(DataError, match=r"no tile of|no polygon lies"):
        module(root)


@pytest.fixture
def tracts(tmp_path: Path) -> Path:
    """Tracts of two metros in the schema of the urban task; income follows the ground."""
    write_tile(tmp_path / "alphaearth/2021/10N/a.tiff", tile(2021))
    generator = np.random.default_rng(0)
    rows = []
    for number, (row, column) in enumerate((row, column) for row in range(0, 30, 2) for column in range(0, 30, 2)):
        kind = (row + column + 2021) % 3
        rows.append(
            {
                "tract_id": f"5303{number:07d}", "metro": "Seattle" if column > 14 else "Chicago", "year": 2021, "population": 3000,
                "income_group": "high", "density_group": "low", "urban_form": "suburb",
                **{indicator.name: (indicator.low + min(indicator.high, 90)) / 4 for indicator in INDICATORS},
                "log_income": 10 + 0.5 * kind + generator.normal(0, 0.05), "geometry": square(row, column),
            }
        )  # fmt: skip
    geopandas.GeoDataFrame(rows, crs="EPSG:32610").to_file(tmp_path / "tracts.gpkg", layer="tracts")
    return tmp_path


def test_tracts_give_indicators_from_the_embedding(tracts):
    dm = UrbanDataModule(tracts, split="leave-metro-out", budget="50-units", target="log_income")
    assert dm.card.groups == ["metro", "income_group", "density_group", "urban_form"]
    assert rb.run(dm, "alphaearth/ridge").scores["test_ood"]["r2"] > 0.9
    assert "alphaearth-change" not in dm.card.features
    assert "leave-year-out" not in dm.card.splits
