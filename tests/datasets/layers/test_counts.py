"""Counts against brute force."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import Geod

from rs05bench.datasets.layers import CountSampler, find_source
from rs05bench.datasets.layers.vector_layers import Features
from rs05bench.embeddings import Grid
from rs05bench.errors import DataError
from tests.datasets.layers.files import write_vector

GEOD = Geod(ellps="WGS84")


@pytest.fixture
def places():
    rng = np.random.default_rng(2)
    return rng.uniform(-84.45, -84.35, 400), rng.uniform(33.75, 33.85, 400)


@pytest.fixture
def layer(tmp_path, places):
    features = Features([write_vector(tmp_path / "places.parquet", shapely.points(*places))])
    return CountSampler(find_source("poi").with_options({"radius_m": 1500}), features)


def within(places, x, y, radius):
    n = len(places[0])
    return int((GEOD.inv(np.full(n, x), np.full(n, y), *places)[2] <= radius).sum())


def test_a_circle_holds_what_is_within_its_radius(layer, places):
    rng = np.random.default_rng(4)
    lon, lat = rng.uniform(-84.44, -84.36, 60), rng.uniform(33.76, 33.84, 60)
    table = layer.at_points(lon, lat)
    assert list(table.columns) == ["poi_count_1500m"]
    assert table["poi_count_1500m"].tolist() == [within(places, x, y, 1500) for x, y in zip(lon, lat, strict=True)]
    assert "circles of" in table.attrs["notes"][0]


def test_outside_of_the_files_there_is_no_number_and_no_zero(layer):
    table = layer.at_points([-84.4, -84.2], [33.8, 33.8])
    assert table["poi_count_1500m"].isna().tolist() == [False, True]


def test_across_the_antimeridian(tmp_path):
    path = write_vector(tmp_path / "p.gpkg", shapely.points([179.999, -179.999, -179.9], [0, 0, 0]))
    coverage = write_vector(tmp_path / "c.gpkg", [shapely.box(-180, -1, 180, 1)])
    layer = CountSampler(find_source("poi"), Features([path], coverage=coverage))
    assert layer.at_points([179.9995, -179.9995], [0, 0])["poi_count_500m"].tolist() == [2, 2]


def test_a_polygon_holds_what_lies_in_it(layer, places):
    shapes = [shapely.box(-84.43, 33.76, -84.38, 33.80), shapely.Point(-84.4, 33.8).buffer(0.02), shapely.box(10, 10, 11, 11)]
    table = layer.on_polygons(gpd.GeoDataFrame(geometry=shapes, crs=4326))
    inside = [int(shapely.contains_xy(shape, *places).sum()) for shape in shapes[:2]]
    area = [abs(GEOD.geometry_area_perimeter(shape)[0]) / 1e6 for shape in shapes[:2]]
    assert table["poi_count"].tolist()[:2] == inside
    assert table["poi_per_km2"].tolist()[:2] == pytest.approx(np.divide(inside, area))
    assert table.iloc[2].isna().all()
    assert "poi_cover" not in table.columns


def test_polygons_in_metres_count_the_same(layer):
    shape = gpd.GeoDataFrame(geometry=[shapely.box(-84.43, 33.76, -84.38, 33.80).segmentize(0.0005)], crs=4326)
    there = layer.on_polygons(shape.to_crs(32616))["poi_count"].tolist()
    assert there == layer.on_polygons(shape)["poi_count"].tolist()


def test_footprints_count_once_and_cover_their_share(tmp_path):
    # Four roofs of 20 x 20 m in a block of 100 x 100 m, one of them across its border with the next block, centred in the first.
    x, y = 740_000.0, 3_740_000.0
    roofs = [shapely.box(x + a, y + b, x + a + 20, y + b + 20) for a, b in ((10, 10), (40, 40), (40, 45), (85, 70))]
    blocks = gpd.GeoDataFrame(geometry=[shapely.box(x, y, x + 100, y + 100), shapely.box(x + 100, y, x + 200, y + 100)], crs=32616)
    coverage = write_vector(tmp_path / "c.gpkg", [shapely.box(-85, 33, -84, 34.5)])
    layer = CountSampler(find_source("buildings"), Features([write_vector(tmp_path / "b.gpkg", roofs, "EPSG:32616")], coverage=coverage))
    table = layer.on_polygons(blocks)
    assert table["buildings_count"].tolist() == [4, 0]
    assert table["buildings_per_km2"].to_numpy() == pytest.approx([400, 0], rel=2e-3)
    # Two roofs overlap by 20 x 15 m, which is covered once; a quarter of the last lies next door.
    assert table["buildings_cover"].to_numpy() == pytest.approx([(4 * 400 - 300 - 100) / 1e4, 100 / 1e4], abs=1e-4)


def test_a_window_counts_around_its_pixel_centres(layer, places):
    found = layer.on_window(Grid("EPSG:4326", -84.41, 33.81, 0.01, 0.01, 2, 3))
    assert found.shape == (1, 2, 3)
    assert found[0, 1, 2] == within(places, -84.385, 33.795, 1500)


def test_refusals(layer, tmp_path):
    with pytest.raises(DataError, match=r"poi.radius_m: Input should be greater than 0"):
        find_source("poi").with_options({"radius_m": -1})
    with pytest.raises(DataError, match="no coordinate reference system"):
        layer.on_polygons(gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]))
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(DataError, match="without geometry"):
        CountSampler(find_source("poi"), Features([tmp_path / "plain.parquet"])).at_points([0], [0])
