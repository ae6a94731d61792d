"""The files: names, bands, types, nodata and grids of the published data sets, and the same content as the tables."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from rio_cogeo import cog_validate

from rs05bench.datasets.simulated import simulate, write_files
from rs05bench.datasets.simulated.chip_files import burn_chips, burn_mask, write_burn_chips
from rs05bench.datasets.simulated.city import INDICATORS
from rs05bench.datasets.simulated.embedding import PRODUCT, at_pixels
from rs05bench.datasets.simulated.embedding_tiles import write_landscape
from rs05bench.datasets.simulated.landscape import zone_of
from rs05bench.datasets.simulated.places import FARM_PLACES
from rs05bench.embeddings import decode
from rs05bench.errors import DataError

BURN_NAME = re.compile(r"subsetted_512x512_HLS\.S30\.T\d{2}[C-X][A-Z]{2}\.(?P<date>\d{7})\.v1\.4(_merged|\.mask)\.tif")
TILE_NAME = re.compile(r"(?P<year>\d{4})/(?P<zone>\d{1,2}N)/[0-9a-z]+-\d{10}-\d{10}\.tiff")


def tiles(written: dict[str, Path]) -> list[Path]:
    return sorted(written["alphaearth"].glob("*/*/*.tiff"))


def test_the_same_seed_writes_the_same_bytes(written, tmp_path):
    again = write_files(tmp_path, "tiny", seed=0)
    assert _digests(written["alphaearth"].parent) == _digests(again["alphaearth"].parent)


def test_burn_chips_are_as_published(written):
    images = sorted(written["hls_burn_scars"].glob("*/*_merged.tif"))
    assert {path.parent.name for path in images} == {"training", "validation"}
    for path in images:
        assert BURN_NAME.fullmatch(path.name)
        with rasterio.open(path) as image, rasterio.open(str(path).replace("_merged.tif", ".mask.tif")) as mask:
            assert (image.count, image.dtypes[0], image.shape, image.nodata) == (6, "float32", (512, 512), -9999)
            assert (mask.count, mask.dtypes[0], mask.nodata) == (1, "int16", -1)
            assert image.transform == mask.transform
            assert "unknown datum" in image.crs.to_wkt().lower()
            pixels, labels = image.read(), mask.read(1)
            assert set(np.unique(labels)) <= {-1, 0, 1}
            assert (labels == 1).any()
            assert ((pixels == -9999).all(axis=0) == (labels == -1)).all()
            seen = pixels[:, labels != -1]
            assert 0 < seen.min() < seen.max() <= 1
            assert image.tags()["SIMULATED"] == "YES"


@pytest.mark.parametrize("nodata", [9999.0, 0.0, float("nan")])
def test_the_other_layout_and_the_other_nodata_conventions(tiny, tmp_path, nodata):
    chips = burn_chips(tiny.wildlands[:1], 1)
    write_burn_chips(tmp_path, chips, layout="splits", nodata=nodata)
    listed = [name for part in ("train", "val", "test") for name in (tmp_path / "splits" / f"{part}.txt").read_text().split()]
    assert listed == [chips[0].name]
    with rasterio.open(tmp_path / "data" / f"{chips[0].name}_merged.tif") as image:
        gone = burn_mask(chips[0]) == -1
        assert np.array_equal(image.read()[0][gone], np.full(gone.sum(), nodata, dtype=np.float32), equal_nan=True)


def test_wrong_layout_and_nodata_are_refused(tmp_path):
    with pytest.raises(DataError, match="no layout 'flat'"):
        write_burn_chips(tmp_path, [], layout="flat")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no published copy"):
        write_burn_chips(tmp_path, [], nodata=-1.0)


def test_crop_chips_are_as_published(written):
    root = written["crop_chips"]
    table = pd.read_csv(root / "chips_df.csv", parse_dates=["first_img_date", "middle_img_date", "last_img_date"])
    names = sorted(path.name.removesuffix("_merged.tif") for path in root.glob("*/*_merged.tif"))
    assert names == sorted(table["chip_id"])
    assert ((table["first_img_date"] < table["middle_img_date"]) & (table["middle_img_date"] < table["last_img_date"])).all()
    for path in root.glob("*/*_merged.tif"):
        assert re.fullmatch(r"chip_\d{3}_\d{3}_merged\.tif", path.name)
        with rasterio.open(path) as image, rasterio.open(str(path).replace("_merged.tif", ".mask.tif")) as mask:
            assert (image.count, image.dtypes[0], image.shape, image.crs.to_epsg(), image.res) == (18, "int16", (224, 224), 5070, (30, 30))
            labels, pixels = mask.read(1), image.read()
            assert labels.min() >= 0
            assert labels.max() <= 13
            # Corn stands green between the middle and the last image: red falls, near infrared rises.
            corn = (labels == 3) & (pixels[8] > 0) & (pixels[15] > 0)
            if corn.sum() > 200:
                assert np.median(pixels[15][corn]) > np.median(pixels[3][corn])


def test_tiles_are_cogs_of_the_published_kind(written):
    assert tiles(written)
    for path in tiles(written):
        assert TILE_NAME.fullmatch(path.relative_to(written["alphaearth"]).as_posix())
        valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
        assert valid, (errors, warnings)
        with rasterio.open(path) as tile:
            assert (tile.count, tile.dtypes[0], tile.nodata) == (64, "int8", -128)
            assert tile.descriptions == PRODUCT.bands
            assert tile.transform.a == 10
            assert tile.transform.e == 10  # bottom-up
            assert (tile.compression.value, tile.interleaving.value) == ("ZSTD", "BAND")
            assert tile.overviews(1)[0] == 2
            assert tile.crs.to_epsg() == 32600 + int(path.parent.name[:-1])


def test_overviews_are_the_renormalised_mean_of_decoded_pixels(written):
    path = max(tiles(written), key=lambda path: path.stat().st_size)
    with rasterio.open(path) as tile:
        full = decode(tile.read())
    with rasterio.open(path, overview_level=0) as tile:
        half = decode(tile.read())
    rows, cols = half.shape[1:]
    mean = np.nanmean(full[:, : 2 * rows, : 2 * cols].reshape(64, rows, 2, cols, 2), axis=(2, 4))
    mean /= np.linalg.norm(mean, axis=0)
    known = ~np.isnan(half[0])
    assert known.mean() > 0.8
    assert np.abs(half - mean)[:, known].max() < 0.009  # half a step of the code at its coarsest
    assert np.linalg.norm(half[:, known], axis=0) == pytest.approx(1, abs=0.01)


def test_a_tile_holds_the_embedding_of_its_landscape(tiny, tmp_path):
    city = tiny.cities[0]
    (tile,) = write_landscape(tmp_path, city, 2022)
    rows, cols = np.array([0, 10, 50, 95]), np.array([0, 70, 3, 95])
    x, y = city.grid.xy(rows, cols)
    with rasterio.open(tmp_path / tile.path) as file:
        found = decode(np.array(list(file.sample(zip(x, y, strict=True)))))
    assert np.array_equal(found, at_pixels(city, 2022, rows, cols), equal_nan=True)


def test_a_county_across_a_zone_border_lies_in_both_zones_and_nowhere_twice(written):
    index = gpd.read_parquet(written["alphaearth"] / "aef_index.parquet")
    assert FARM_PLACES[0].county == "Madera"
    near = index.cx[-120.1:-119.9, 36.9:37.1]
    assert sorted(near.loc[near["year"] == 2021, "utm_zone"]) == ["10N", "11N"]
    for row in near.itertuples():
        path = written["alphaearth"] / "/".join(row.path.split("/")[-3:])
        with rasterio.open(path) as tile:
            known = np.argwhere(tile.read(1) != -128)
            x, y = tile.xy(known[:, 0], known[:, 1])
            lon, _ = rasterio.warp.transform(tile.crs, "EPSG:4326", x, y)
        beyond = np.array(lon) > -120 if row.utm_zone == "10N" else np.array(lon) < -120
        assert beyond.mean() < 0.02  # a cell of 60 m may reach over the border


def test_the_index_lists_every_tile(written):
    index = gpd.read_parquet(written["alphaearth"] / "aef_index.parquet")
    expected = ["fid", "crs", "year", "utm_zone", "utm_west", "utm_south", "utm_east", "utm_north"]
    assert list(index.columns[:8]) == expected
    listed = {"/".join(path.split("/")[-3:]) for path in index["path"]}
    assert listed == {path.relative_to(written["alphaearth"]).as_posix() for path in tiles(written)}


def test_parcels_are_those_of_the_table(written, tiny):
    parcels = gpd.read_file(written["parcels"] / "parcels.gpkg", layer="parcels")
    table = tiny.table("crop")
    both = table.merge(parcels, on=["parcel_id", "year"], suffixes=("", "_file"))
    assert len(both) == len(table)
    assert (both["crop"] == both["crop_file"]).all()
    inside = gpd.points_from_xy(both["longitude"], both["latitude"]).within(gpd.GeoSeries(both["geometry"]).values)
    assert inside.all()


def test_tracts_have_the_schema_and_keep_missing_values_missing(written):
    tracts = gpd.read_file(written["urban"] / "tracts.gpkg", layer="tracts")
    assert {"tract_id", "metro", "year", "population", "income_group", "density_group", "urban_form", *INDICATORS} <= set(tracts.columns)
    assert len(INDICATORS) == 14
    assert tracts["tract_id"].str.fullmatch(r"\d{11}").all()
    assert not tracts.duplicated(["tract_id", "year"]).any()
    assert tracts.geometry.is_valid.all()
    assert 0 < tracts["bike_pct"].isna().mean() < 0.1
    assert not tracts["log_income"].isna().any()


def test_the_record_says_simulated(written):
    assert '"simulated": true' in (written["alphaearth"].parent / "SIMULATED.json").read_text()


@pytest.mark.slow
def test_the_small_world_lies_in_several_zones():
    world = simulate("small")
    zones = {zone_of(place.grid) for place in (*world.wildlands, *world.farmlands, *world.cities)}
    assert len(zones) >= 8


def _digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
