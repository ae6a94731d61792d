"""Slope and aspect of planes whose answer is known, on grids in metres, in degrees and in a stretched projection."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import CRS, Transformer
from rasterio.transform import from_origin

from rs05bench.datasets.layers import RasterSampler, find_source
from rs05bench.embeddings import Grid
from rs05bench.errors import DataError
from tests.datasets.layers.files import centres, write_raster

SIDE = 24
DEM = find_source("dem")


def grid_at(lon, lat, crs, step):
    """A grid of SIDE pixels around a place."""
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    return from_origin(x - SIDE / 2 * step, y + SIDE / 2 * step, step, step)


def plane(lon, lat, at, east, north, base=500.0):
    """Heights of a plane through `at` that rises by `east` and `north` metres a metre, on the ground around it."""
    ground = Transformer.from_crs(4326, f"+proj=aeqd +lon_0={at[0]} +lat_0={at[1]} +datum=WGS84", always_xy=True)
    x, y = ground.transform(lon, lat)
    return base + east * np.asarray(x) + north * np.asarray(y)


GRIDS = [
    pytest.param(-105.0, 40.0, "EPSG:32613", 30.0, id="utm"),
    pytest.param(-107.6, 40.0, "EPSG:32613", 30.0, id="utm far from its meridian, grid north is not north"),
    pytest.param(-105.0, 40.0, "EPSG:4326", 1 / 3600, id="arc seconds at 40 N"),
    pytest.param(24.0, 65.0, "EPSG:4326", 1 / 3600, id="arc seconds at 65 N"),
    pytest.param(24.0, 65.0, "EPSG:3857", 60.0, id="web mercator, stretched 2.4 times"),
    pytest.param(-70.0, -50.0, "EPSG:4326", 1 / 1200, id="southern hemisphere"),
]
RISES = [(0.0, 0.3), (0.25, 0.0), (-0.2, 0.1), (0.05, -0.4), (1.2, 0.9)]


@pytest.mark.parametrize(("lon", "lat", "crs", "step"), GRIDS)
@pytest.mark.parametrize(("east", "north"), RISES)
def test_slope_and_aspect_of_a_plane_are_those_of_the_plane(tmp_path, lon, lat, crs, step, east, north):
    transform = grid_at(lon, lat, crs, step)
    heights = plane(*centres(transform, (SIDE, SIDE), crs), (lon, lat), east, north)
    path = write_raster(tmp_path / "dem.tif", heights.astype(np.float64), transform, crs)
    row = RasterSampler(DEM, [path]).at_points([lon + 1e-7], [lat + 1e-7]).iloc[0]
    rise = np.hypot(east, north)
    assert row["dem_slope_deg"] == pytest.approx(np.degrees(np.arctan(rise)), abs=0.02)
    assert [row["dem_aspect_sin"], row["dem_aspect_cos"]] == pytest.approx([-east / rise, -north / rise], abs=2e-3)


def test_flat_ground_has_no_direction(tmp_path):
    path = write_raster(tmp_path / "dem.tif", np.full((9, 9), 12.5, np.float32), from_origin(10, 50, 0.001, 0.001))
    row = RasterSampler(DEM, [path]).at_points([10.0045], [49.9955]).iloc[0]
    assert row.tolist() == [12.5, 0.0, 0.0, 0.0]


def test_the_weights_are_those_of_horn(tmp_path):
    # One raised corner counts 1/8 of a pixel's step in both directions, a raised edge neighbour 2/8.
    heights = np.zeros((3, 3))
    heights[0, 2] = 80.0
    corner = write_raster(tmp_path / "corner.tif", heights, from_origin(500_000, 4_000_000, 10, 10), "EPSG:32613")
    lon, lat = (v[1, 1] for v in centres(from_origin(500_000, 4_000_000, 10, 10), (3, 3), "EPSG:32613"))
    slope = RasterSampler(DEM, [corner]).at_points([lon], [lat])["dem_slope_deg"][0]
    assert slope == pytest.approx(np.degrees(np.arctan(np.hypot(1, 1))), abs=0.03)
    heights = np.zeros((3, 3))
    heights[1, 2] = 80.0
    edge = write_raster(tmp_path / "edge.tif", heights, from_origin(500_000, 4_000_000, 10, 10), "EPSG:32613")
    assert RasterSampler(DEM, [edge]).at_points([lon], [lat])["dem_slope_deg"][0] == pytest.approx(np.degrees(np.arctan(2.0)), abs=0.03)


def test_two_tiles_answer_like_the_one_they_were_cut_from(tmp_path):
    rng = np.random.default_rng(0)
    heights = rng.uniform(0, 500, (20, 30)).astype(np.float32)
    transform = from_origin(8, 47, 1 / 3600, 1 / 3600)
    whole = write_raster(tmp_path / "whole.tif", heights, transform)
    parts = [
        write_raster(tmp_path / f"part{i}.tif", heights[r, c], transform @ transform.translation(c.start, r.start))
        for i, (r, c) in enumerate((r, c) for r in (slice(0, 11), slice(11, 20)) for c in (slice(0, 13), slice(13, 30)))
    ]
    lon, lat = (v[1:-1, 1:-1].ravel() for v in centres(transform, (20, 30)))
    one, four = RasterSampler(DEM, [whole]).at_points(lon, lat), RasterSampler(DEM, parts).at_points(lon, lat)
    assert one.notna().all().all()
    assert np.allclose(one, four, atol=1e-9)


def test_where_tiles_overlap_the_one_with_a_value_answers(tmp_path):
    empty = np.full((9, 9), -32767.0, np.float32)
    transform = from_origin(10, 50, 0.001, 0.001)
    paths = [
        write_raster(tmp_path / "a.tif", empty, transform),
        write_raster(tmp_path / "b.tif", np.full((9, 9), 7, np.float32), transform),
    ]
    assert RasterSampler(DEM, paths).at_points([10.0045], [49.9955]).iloc[0].tolist() == [7.0, 0.0, 0.0, 0.0]


def test_missing_ground_is_missing_and_told(tmp_path):
    heights = np.full((9, 9), 100.0, np.float32)
    heights[4, 4] = -1234.0
    path = write_raster(tmp_path / "dem.tif", heights, from_origin(10, 50, 0.001, 0.001), nodata=-1234.0)
    # On the hole, beside it, at the file's edge, outside, and nowhere.
    table = RasterSampler(DEM, [path]).at_points([10.0045, 10.0055, 10.0005, 11.0, np.nan], [49.9955, 49.9955, 49.9995, 50.0, 50.0])
    assert table["dem_elevation_m"].isna().tolist() == [True, False, False, True, True]
    assert table.drop(columns="dem_elevation_m").isna().all().all()
    notes = " ".join(table.attrs["notes"])
    assert "2 of 5 units have no value (outside of every tile" in notes
    assert "1 of 5 units have no value (the tile has no data there)" in notes
    assert "2 of 5 units have no slope" in notes


def test_a_tile_across_the_antimeridian_answers_on_both_sides(tmp_path):
    transform = from_origin(179.95, 0, 0.01, 0.01)
    lon, _ = centres(transform, (10, 10))
    path = write_raster(tmp_path / "dem.tif", lon * 10, transform)
    found = RasterSampler(DEM, [path]).at_points([179.985, -179.985, 180.015], [-0.055, -0.055, -0.055])["dem_elevation_m"]
    assert found.tolist() == pytest.approx([1799.85, 1800.15, 1800.15])


def test_a_polygon_gets_the_mean_of_its_ground(tmp_path):
    transform = grid_at(-105, 40, "EPSG:32613", 30)
    heights = plane(*centres(transform, (SIDE, SIDE), "EPSG:32613"), (-105, 40), 0.2, 0.1)
    layer = RasterSampler(DEM, [write_raster(tmp_path / "dem.tif", heights, transform, "EPSG:32613")])
    x, y = transform @ (12, 12)
    shapes = [shapely.box(x - 200, y - 150, x + 100, y + 250), shapely.Point(x, y).buffer(120), shapely.box(x - 1, y - 200, x, y + 200)]
    frame = gpd.GeoDataFrame(geometry=shapes, crs="EPSG:32613")
    found = layer.on_polygons(frame)
    middles = gpd.GeoSeries([shape.centroid for shape in shapes], crs=32613).to_crs(4326)
    # The mean of a plane over a polygon is its height at the centroid; the sliver lies within one column of pixels.
    assert found["dem_elevation_m"].to_numpy() == pytest.approx(plane(middles.x, middles.y, (-105, 40), 0.2, 0.1), abs=3.2)
    assert found["dem_elevation_m"][0] == pytest.approx(plane(middles.x, middles.y, (-105, 40), 0.2, 0.1)[0], abs=1.0)
    assert found["dem_slope_deg"].to_numpy() == pytest.approx(np.degrees(np.arctan(np.hypot(0.2, 0.1))), abs=0.01)
    outside = layer.on_polygons(gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=4326))
    assert outside.isna().all().all()
    assert "1 of 1 units" in outside.attrs["notes"][0]


def test_a_window_on_the_own_grid_is_the_raster(tmp_path):
    heights = np.random.default_rng(1).uniform(0, 100, (12, 17)).astype(np.float32)
    transform = from_origin(500_000, 4_000_000, 30, 30)
    layer = RasterSampler(DEM, [write_raster(tmp_path / "dem.tif", heights, transform, "EPSG:32613")])
    found = layer.on_window(Grid("EPSG:32613", 500_000, 4_000_000, 30, 30, 12, 17))
    assert found.shape == (4, 12, 17)
    assert layer.window_columns()[0] == "dem_elevation_m"
    assert np.array_equal(found[0], heights)
    assert np.isnan(found[1, 0]).all()
    assert np.isfinite(found[1, 1:-1, 1:-1]).all()


def test_refusals_name_the_file_and_the_fault(tmp_path):
    transform, flat = from_origin(10, 50, 0.001, 0.001), np.zeros((9, 9), np.float32)
    for name, values, options, words in [
        ("bands.tif", np.zeros((2, 9, 9), np.float32), {}, "expected 1 band, found 2"),
        ("crs.tif", flat, {"crs": None}, "no coordinate reference system"),
        ("text.tif", flat.astype(np.complex64), {}, "expected pixels of type"),
    ]:
        path = write_raster(tmp_path / name, values, transform, **options)
        with pytest.raises(DataError, match=words) as caught:
            RasterSampler(DEM, [path])
        assert name in str(caught.value)
    with pytest.raises(DataError, match="does not exist"):
        RasterSampler(DEM, [tmp_path / "none.tif"])
    with pytest.raises(DataError, match="at least one GeoTIFF"):
        RasterSampler(DEM, [])


@pytest.mark.parametrize("void", [-9999.0, -32768.0])
def test_a_void_that_the_file_does_not_declare_is_missing(tmp_path, void):
    heights = np.full((9, 9), 100.0, np.float32)
    heights[4, 4] = void
    path = write_raster(tmp_path / "dem.tif", heights, from_origin(10, 50, 0.001, 0.001))
    assert np.isnan(RasterSampler(DEM, [path]).at_points([10.0045], [49.9955])["dem_elevation_m"][0])


@pytest.mark.parametrize(("value", "words"), [(-700.0, "-700"), (29_000.0, "29000")])
def test_a_height_no_land_has_is_refused(tmp_path, value, words):
    heights = np.full((9, 9), 100.0, np.float32)
    heights[4, 4] = value
    path = write_raster(tmp_path / "dem.tif", heights, from_origin(10, 50, 0.001, 0.001))
    with pytest.raises(DataError, match=f"found {words}") as caught:
        RasterSampler(DEM, [path]).at_points([10.0045], [49.9955])
    assert "dem.tif" in str(caught.value)
    assert "--nodata" in str(caught.value)


def test_heights_in_feet_are_metres_where_the_file_states_its_unit(tmp_path):
    import rasterio

    path = write_raster(tmp_path / "dem.tif", np.full((9, 9), 1000.0, np.float32), from_origin(10, 50, 0.001, 0.001))
    with rasterio.open(path, "r+") as file:
        file.units = ("ft",)
    assert RasterSampler(DEM, [path]).at_points([10.0045], [49.9955])["dem_elevation_m"][0] == pytest.approx(304.8)


def test_positions_that_are_no_degrees_are_refused(tmp_path):
    path = write_raster(tmp_path / "dem.tif", np.zeros((9, 9), np.float32), from_origin(10, 50, 0.001, 0.001))
    with pytest.raises(DataError, match="WGS84 degrees"):
        RasterSampler(DEM, [path]).at_points([500_000.0], [4_000_000.0])


def test_heights_above_the_geoid_in_a_compound_crs_are_read(tmp_path):
    path = write_raster(
        tmp_path / "dem.tif", np.full((9, 9), 3, np.float32), from_origin(10, 50, 0.001, 0.001), CRS("EPSG:4326+3855").to_wkt()
    )
    assert RasterSampler(DEM, [path]).at_points([10.0045], [49.9955])["dem_elevation_m"].tolist() == [3.0]
