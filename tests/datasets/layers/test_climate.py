"""Climate zones as columns of 0 and 1."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from rasterio.transform import from_origin

from rs05bench.datasets.layers import RasterSampler, find_source
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import grid_from_affine
from tests.datasets.layers.files import centres, write_raster

GRID = from_origin(-3, 52, 0.1, 0.1)
CLIMATE = find_source("climate")
ZONES = tuple(CLIMATE.sampler.classes.values())


@pytest.fixture
def codes():
    """Every code once in the first three rows, then sea."""
    values = np.zeros((10, 10), np.uint8)
    values[:3] = np.arange(1, 31).reshape(3, 10)
    return values


@pytest.fixture
def layer(tmp_path, codes):
    return RasterSampler(CLIMATE, [write_raster(tmp_path / "koppen_geiger_0p1.tif", codes, GRID)])


def test_every_code_is_its_zone(layer):
    lon, lat = (v[:3].ravel() for v in centres(GRID, (10, 10)))
    table = layer.at_points(lon, lat)
    assert table["koppen"].tolist() == list(ZONES)
    assert np.array_equal(table.drop(columns="koppen").to_numpy(), np.eye(30))
    assert list(table.columns[:3]) == ["climate_Af", "climate_Am", "climate_Aw"]


def test_the_legend_is_that_of_the_publisher():
    # Beck et al. 2023, legend.txt: a sample of its lines.
    assert {1: "Af", 4: "BWh", 7: "BSk", 8: "Csa", 14: "Cfa", 15: "Cfb", 20: "Dsd", 25: "Dfa", 29: "ET", 30: "EF"}.items() <= dict(
        enumerate(ZONES, 1)
    ).items()
    assert len(set(ZONES)) == 30


def test_a_waterfront_takes_the_nearest_land_and_the_open_sea_nothing(layer):
    lon, lat = centres(GRID, (10, 10))
    table = layer.at_points(lon[3:7, 4], lat[3:7, 4])
    assert table["koppen"].fillna("").tolist() == [ZONES[24], ZONES[24], "", ""]
    assert table["climate_Dfa"].isna().tolist() == [False, False, True, True]
    notes = " ".join(table.attrs["notes"])
    assert "2 of 4 units take the nearest pixel with data" in notes
    assert "2 of 4 units have no value (no data within 2 pixels)" in notes


def test_main_groups_are_five_columns(tmp_path, codes):
    layer = RasterSampler(CLIMATE.with_options({"level": "main"}), [write_raster(tmp_path / "koppen.tif", codes, GRID)])
    lon, lat = (v[:3].ravel() for v in centres(GRID, (10, 10)))
    table = layer.at_points(lon, lat)
    assert layer.window_columns() == ["climate_A", "climate_B", "climate_C", "climate_D", "climate_E"]
    assert table[layer.window_columns()].to_numpy().sum(axis=0).tolist() == [3, 4, 9, 12, 2]
    with pytest.raises(DataError, match=r"zone .30 columns. and main"):
        CLIMATE.with_options({"level": "half"})


def test_a_polygon_gets_shares(layer):
    # Three quarters in Af, a quarter in Am; then one wholly outside.
    west, north = -3.0, 52.0
    shapes = [shapely.box(west + 0.01, north - 0.09, west + 0.1 + 0.03, north - 0.01), shapely.box(20, 20, 20.1, 20.1)]
    table = layer.on_polygons(gpd.GeoDataFrame(geometry=shapes, crs=4326))
    assert table[["climate_Af", "climate_Am"]].iloc[0].tolist() == pytest.approx([0.75, 0.25], abs=0.06)
    assert table.drop(columns="koppen").iloc[0].sum() == pytest.approx(1)
    assert table["koppen"].fillna("").tolist() == ["Af", ""]
    assert table.drop(columns="koppen").iloc[1].isna().all()


def test_a_window_holds_one_band_a_zone(layer, codes):
    found = layer.on_window(grid_from_affine("EPSG:4326", tuple(GRID), 3, 10, "here"))
    assert found.shape == (30, 3, 10)
    assert np.array_equal(found.argmax(axis=0) + 1, codes[:3])


@pytest.mark.parametrize("code", [31, 62, 255])
def test_another_map_is_refused(tmp_path, codes, code):
    codes[0, 0] = code
    layer = RasterSampler(CLIMATE, [write_raster(tmp_path / "other.tif", codes, GRID)])
    with pytest.raises(DataError, match=f"codes 1 to 30, found {code}") as caught:
        layer.at_points([-2.95], [51.95])
    assert "other.tif" in str(caught.value)


def test_a_float_raster_is_refused(tmp_path, codes):
    with pytest.raises(DataError, match="expected pixels of type"):
        RasterSampler(CLIMATE, [write_raster(tmp_path / "map.tif", codes.astype(np.float32), GRID)])
