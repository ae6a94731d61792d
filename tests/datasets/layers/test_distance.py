"""Distances against brute force over geodesics."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod, Transformer

from rs05bench.datasets.layers import DistanceSampler, find_source
from rs05bench.datasets.layers.vector_layers import Features
from rs05bench.embeddings import Grid
from rs05bench.errors import DataError
from tests.datasets.layers.files import write_vector

GEOD = Geod(ellps="WGS84")


def distance(features: Features, name: str = "road", **options: float) -> DistanceSampler:
    """The layer of a record, with options of its sampler."""
    return DistanceSampler(find_source(name).with_options(options), features)


def brute(shapes, lon, lat, spacing=2e-5):
    """Smallest geodesic distance to closely spaced points on the lines, metres: at most half a spacing too long."""
    dots = np.concatenate([shapely.get_coordinates(shapely.segmentize(shape, spacing)) for shape in shapes])
    far = np.empty(len(lon))
    for row, (x, y) in enumerate(zip(lon, lat, strict=True)):
        far[row] = GEOD.inv(np.full(len(dots), x), np.full(len(dots), y), dots[:, 0], dots[:, 1])[2].min()
    return far


def streets(lon, lat, rng, count=12):
    starts = np.column_stack([lon + rng.uniform(-0.03, 0.03, count), lat + rng.uniform(-0.03, 0.03, count)])
    return [shapely.LineString([start, start + rng.normal(0, 0.006, 2), start + rng.normal(0, 0.006, 2)]) for start in starts]


@pytest.mark.parametrize(("lon", "lat"), [(-84.4, 33.8), (24.0, 65.0), (18.4, -33.9), (179.999, -17.0)])
def test_a_distance_is_the_shortest_geodesic(tmp_path, lon, lat):
    rng = np.random.default_rng(3)
    lines = streets(lon - 0.07 if lon > 179 else lon, lat, rng)
    features = Features(
        [write_vector(tmp_path / "road.gpkg", lines)], coverage=write_vector(tmp_path / "all.gpkg", [shapely.box(-180, -80, 180, 80)])
    )
    x, y = lon + rng.uniform(-0.05, 0.05, 25), lat + rng.uniform(-0.05, 0.05, 25)
    found = distance(features, "road").at_points(x, y)["dist_road_m"].to_numpy()
    expected = brute(lines, x, y)
    assert (found <= expected + 0.02).all()
    assert (expected - found).max() < 1.2


def test_across_the_antimeridian_and_far_away(tmp_path):
    coverage = write_vector(tmp_path / "all.gpkg", [shapely.box(-180, -80, 180, 80)])
    features = Features([write_vector(tmp_path / "road.gpkg", [shapely.LineString([(-179.99, -17), (-179.99, -16.9)])])], coverage=coverage)
    lon, lat = np.array([179.99, 179.6]), np.array([-16.95, -16.95])
    found = distance(features, "road").at_points(lon, lat)["dist_road_m"].to_numpy()
    expected = [GEOD.inv(x, y, -179.99, y)[2] for x, y in zip(lon, lat, strict=True)]
    assert found == pytest.approx(expected, rel=1e-4)


def test_inside_a_polygon_it_is_nothing(tmp_path):
    lake = shapely.box(8.0, 47.0, 8.1, 47.1)
    features = Features(
        [write_vector(tmp_path / "water.parquet", [lake], "EPSG:4326")], coverage=write_vector(tmp_path / "c.gpkg", [lake.buffer(1)])
    )
    found = distance(features, "water").at_points([8.05, 8.11], [47.05, 47.05])["dist_water_m"]
    assert found[0] == 0
    assert found[1] == pytest.approx(GEOD.inv(8.1, 47.05, 8.11, 47.05)[2], abs=0.1)


def test_the_file_may_be_in_metres(tmp_path):
    lines = [shapely.LineString([(500_000, 4_000_000), (503_000, 4_002_000)])]
    features = Features([write_vector(tmp_path / "road.gpkg", lines, "EPSG:32613")])
    x, y = Transformer.from_crs(32613, 4326, always_xy=True).transform([501_000, 502_000], [4_001_500, 4_000_300])
    # On its central meridian UTM is 0.9996 of the ground.
    expected = shapely.distance(lines[0], shapely.points([501_000, 502_000], [4_001_500, 4_000_300])) / 0.9996
    assert distance(features, "road").at_points(x, y)["dist_road_m"].to_numpy() == pytest.approx(expected, rel=1e-4)


def test_a_long_edge_is_straight_in_its_own_file(tmp_path):
    # The 49th parallel as one segment of 5 degrees: a great circle between its ends would run 4.6 km north of it.
    features = Features(
        [write_vector(tmp_path / "road.gpkg", [shapely.LineString([(-105, 49), (-100, 49)])])],
        coverage=write_vector(tmp_path / "c.gpkg", [shapely.box(-106, 48, -99, 50)]),
    )
    found = distance(features, "road").at_points([-102.5], [48.9])["dist_road_m"][0]
    assert found == pytest.approx(GEOD.inv(-102.5, 48.9, -102.5, 49.0)[2], rel=1e-4)


def test_where_nothing_is_known_there_is_no_number(tmp_path):
    road = write_vector(tmp_path / "road.gpkg", [shapely.LineString([(8, 47), (8, 47.01)])])
    covered = write_vector(tmp_path / "covered.gpkg", [shapely.box(7.9, 46.9, 8.3, 47.1)])
    layer = distance(Features([road], coverage=covered), "road", max_m=10_000)
    table = layer.at_points([8.001, 8.29, 9.0, np.nan, 7.905], [47.005, 47.0, 47.0, 47.0, 47.0])
    assert table["dist_road_m"].isna().tolist() == [False, True, True, True, False]
    notes = " ".join(table.attrs["notes"])
    assert "2 of 5 units have no value (no position, or outside of the area" in notes
    assert "1 of 5 units have no value (nothing within 10,000 m)" in notes
    assert "1 units lie nearer to the edge of the files" in notes


def test_without_a_coverage_file_the_box_of_the_features_is_covered(tmp_path):
    road = write_vector(tmp_path / "road.gpkg", [shapely.LineString([(8, 47), (8.1, 47.1)])])
    found = distance(Features([road]), "road").at_points([8.05, 8.2], [47.06, 47.05])["dist_road_m"]
    assert found.isna().tolist() == [False, True]


def test_classes_are_chosen(tmp_path):
    lines = [shapely.LineString([(8, 47), (8, 47.1)]), shapely.LineString([(8.1, 47), (8.1, 47.1)])]
    path = write_vector(tmp_path / "road.gpkg", lines, fclass=["track", "motorway"])
    covered = write_vector(tmp_path / "c.gpkg", [shapely.box(7, 46, 9, 48)])
    every = distance(Features([path], coverage=covered), "road").at_points([8.01], [47.05])["dist_road_m"][0]
    chosen = distance(Features([path], {"fclass": ["motorway"]}, coverage=covered), "road").at_points([8.01], [47.05])["dist_road_m"][0]
    assert every == pytest.approx(GEOD.inv(8, 47.05, 8.01, 47.05)[2], abs=0.1)
    assert chosen == pytest.approx(GEOD.inv(8.1, 47.05, 8.01, 47.05)[2], abs=0.1)
    with pytest.raises(DataError, match=r"no feature with fclass in .'rail'."):
        distance(Features([path], {"fclass": ["rail"]}), "road").at_points([8], [47])
    with pytest.raises(DataError, match="no column 'highway'; there are: fclass"):
        distance(Features([path], {"highway": ["x"]}), "road").at_points([8], [47])


@pytest.mark.parametrize("crs", ["EPSG:32616", "EPSG:5070", "EPSG:4326"])
def test_a_window_agrees_with_its_pixel_centres(tmp_path, crs):
    rng = np.random.default_rng(5)
    shapes = [*streets(-84.4, 33.8, rng, 8), shapely.box(-84.42, 33.79, -84.41, 33.795)]
    covered = write_vector(tmp_path / "c.gpkg", [shapely.box(-85, 33, -84.405, 34.5)])
    layer = distance(Features([write_vector(tmp_path / "x.parquet", shapes)], coverage=covered), "road", max_m=3000)
    step = 60.0 if crs != "EPSG:4326" else 6e-4
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(-84.46, 33.86)
    grid = Grid(crs, x, y, step, step, 110, 90)
    found = layer.on_window(grid)
    exact = layer.at_points(*grid.centres())["dist_road_m"].to_numpy().reshape(110, 90)
    assert found.shape == (1, 110, 90)
    assert np.isnan(exact).any()
    assert np.isfinite(exact).any()
    # Right at the farthest distance rounding may fall to either side.
    near = np.isfinite(exact) & np.isfinite(found[0])
    assert ((np.isnan(exact) == np.isnan(found[0])) | (np.nan_to_num(exact, nan=found[0]) > 2900)).all()
    tolerance = 45.0 if crs == "EPSG:32616" else 0.01
    assert np.abs(found[0] - exact)[near].max() <= tolerance


def test_a_polygon_gets_the_mean_distance_over_it(tmp_path):
    road = write_vector(tmp_path / "road.gpkg", [shapely.LineString([(500_000, 3_900_000), (500_000, 4_100_000)])], "EPSG:32613")
    layer = distance(Features([road], coverage=write_vector(tmp_path / "c.gpkg", [shapely.box(-107, 35, -103, 38)])), "road")
    fields = gpd.GeoDataFrame(
        geometry=[shapely.box(501_000, 4_000_000, 501_600, 4_000_400), shapely.box(499_800, 4_000_000, 500_200, 4_000_100)], crs=32613
    )
    # The mean over a field beside a straight road is that of its middle; across the road it is a quarter of its width.
    assert layer.on_polygons(fields)["dist_road_m"].tolist() == pytest.approx([1300, 100], rel=0.03)


def test_refusals(tmp_path):
    line = [shapely.LineString([(8, 47), (8, 47.1)])]
    with pytest.raises(DataError, match="no coordinate reference system"):
        distance(Features([write_vector(tmp_path / "a.gpkg", line, None)]), "road").at_points([8], [47])
    with pytest.raises(DataError, match="do not fit its coordinate reference system"):
        distance(Features([write_vector(tmp_path / "b.parquet", [shapely.Point(500_000, 4_000_000)])]), "road").at_points([8], [47])
    (tmp_path / "c.gpkg").write_bytes(b"not a database")
    with pytest.raises(DataError, match="cannot be read as a vector layer") as caught:
        distance(Features([tmp_path / "c.gpkg"]), "road").at_points([8], [47])
    assert "c.gpkg" in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        distance(Features([tmp_path / "d.gpkg"]), "road").at_points([8], [47])
    write_vector(tmp_path / "two.gpkg", line, layer="one")
    gpd.GeoDataFrame(geometry=line, crs=4326).to_file(tmp_path / "two.gpkg", layer="two")
    with pytest.raises(DataError, match=r"holds 2 layers .one, two."):
        distance(Features([tmp_path / "two.gpkg"]), "road").at_points([8], [47])
    with pytest.raises(DataError, match=r"road.max_m: Input should be greater than 0"):
        distance(Features([tmp_path / "two.gpkg"]), "road", max_m=0)
