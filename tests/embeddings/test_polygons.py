from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource

from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.polygons import read_polygons
from rs05bench.embeddings.vectors import decode
from rs05bench.errors import DataError
from tests.embeddings.tiles import BANDS

MEAN, MAX, STD = list(BANDS), [f"{band}_max" for band in BANDS], [f"{band}_std" for band in BANDS]


def parcels(tile, count, seed=0, spread=1500.0):
    generator = np.random.default_rng(seed)
    x = tile.west + generator.uniform(50, spread, count)
    y = tile.north - generator.uniform(50, 1500, count)
    shapes = [
        shapely.affinity.rotate(shapely.box(a - 40, b - 25, a + 40, b + 25), turn) for a, b, turn in zip(x, y, range(count), strict=True)
    ]
    return gpd.GeoDataFrame({"name": range(100, 100 + count)}, geometry=shapes, crs=tile.crs).set_index("name")


def reference(values, west, north, frame):
    """exactextract itself, band by band, on decoded values."""
    height, width = values.shape[1:]
    sources = [
        NumPyRasterSource(
            band, xmin=west, ymin=north - 10 * height, xmax=west + 10 * width, ymax=north, srs_wkt=frame.crs.to_wkt(), nodata=np.nan
        )
        for band in decode(values)
    ]
    out = [exact_extract(source, frame.reset_index(), ["mean", "max", "stdev"], output="pandas").to_numpy() for source in sources]
    return np.stack(out, axis=2)  # polygon, statistic, band


def test_statistics_are_those_of_exactextract(archive, west):
    frame = parcels(west, 60)
    found = read_polygons(archive, frame, 2024)
    both = np.concatenate([west.values, _east(archive)], axis=2)
    expected = reference(both, west.west, west.north, frame)
    assert list(found.index) == list(frame.index)
    for number, columns in enumerate((MEAN, MAX, STD)):
        np.testing.assert_allclose(found[columns].to_numpy(), expected[:, number], atol=2e-7)


def _east(archive):
    import rasterio

    with rasterio.open(next(archive.glob("2024/10N/east*"))) as file:
        return file.read()[:, ::-1]


def test_a_polygon_over_two_tiles_is_one_polygon(archive, west):
    seam = west.west + 1600
    frame = gpd.GeoDataFrame(geometry=[shapely.box(seam - 333, west.north - 777, seam + 221, west.north - 700)], crs=west.crs)
    tiles = []
    found = read_polygons(archive, frame, 2024, on_tile=lambda tile, _: tiles.append(tile))
    expected = reference(np.concatenate([west.values, _east(archive)], axis=2), west.west, west.north, frame)
    np.testing.assert_allclose(found[MEAN].to_numpy(), expected[:, 0], atol=3e-6)
    np.testing.assert_allclose(found["pixels"], 554 * 77 / 100, rtol=1e-5)
    np.testing.assert_allclose(found["covered"], 1, atol=1e-4)
    assert len(tiles) == 2


def test_a_polygon_over_a_zone_border_is_read_from_both_zones_once(border):
    root = border["10N"].path.parents[2]
    frame = gpd.GeoDataFrame(geometry=[shapely.box(-120.003, 38.001, -119.997, 38.003)], crs=4326)
    found = read_polygons(root, frame, 2024, stats=["mean"])
    area = frame.to_crs(32610).area.iloc[0] / 100
    np.testing.assert_allclose(found["pixels"], area, rtol=2e-3)
    # Every pixel's centre, read as a point, says the same within what pixels on the edge make.
    lon, lat = (v.ravel() for v in np.meshgrid(np.linspace(-120.003, -119.997, 400), np.linspace(38.001, 38.003, 300)))
    np.testing.assert_allclose(found[MEAN].to_numpy()[0], read_points(root, lon, lat, 2024).mean(axis=0), atol=4e-3)


def test_a_polygon_of_one_pixel_is_that_pixel(archive, west):
    shape = shapely.box(west.west + 70, west.north - 60, west.west + 80, west.north - 50)
    found = read_polygons(archive, gpd.GeoSeries([shape], crs=west.crs), 2024)
    np.testing.assert_allclose(found[MEAN].to_numpy()[0], decode(west.values[:, 5, 7]), atol=1e-6)
    np.testing.assert_allclose(found[STD].to_numpy()[0], 0, atol=1e-3)


def test_masked_pixels_count_for_nothing(archive, west):
    half = shapely.box(west.west + 300, west.north - 300, west.west + 500, west.north - 200)  # columns 30-49, rows 20-29; 40.. are masked
    masked = shapely.box(west.west + 420, west.north - 290, west.west + 480, west.north - 210)
    found = read_polygons(archive, gpd.GeoSeries([half, masked], crs=west.crs), 2024)
    np.testing.assert_allclose(found[MEAN].to_numpy()[0], decode(west.values[:, 20:30, 30:40]).mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(found["covered"], [0.5, 0], atol=1e-4)
    np.testing.assert_allclose(found["pixels"], [100, 0], atol=1e-2)
    assert found.iloc[1][[*MEAN, *MAX, *STD]].isna().all()


def test_what_lies_outside_every_tile_lowers_the_covered_share(archive, west):
    half_out = shapely.box(west.west - 100, west.north - 400, west.west + 100, west.north - 300)
    outside = shapely.box(west.west - 1000, west.north - 400, west.west - 900, west.north - 300)
    found = read_polygons(archive, gpd.GeoSeries([half_out, outside], crs=west.crs), 2024)
    np.testing.assert_allclose(found["covered"], [0.5, 0], atol=2e-3)
    assert found[MEAN].iloc[1].isna().all()


def test_the_mean_can_be_scaled_to_unit_length(archive, west):
    frame = parcels(west, 3)
    plain, unit = (read_polygons(archive, frame, 2024, stats=["mean"], unit_length=flag)[MEAN].to_numpy() for flag in (False, True))
    assert (np.linalg.norm(plain, axis=1) < 0.6).all()
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(plain / np.linalg.norm(plain, axis=1, keepdims=True), unit, atol=1e-6)


def test_any_crs_and_multipolygons_with_holes(archive, west):
    hole = shapely.box(west.west + 100, west.north - 500, west.west + 500, west.north - 100) - shapely.box(
        west.west + 200, west.north - 400, west.west + 400, west.north - 200
    )
    both = shapely.MultiPolygon([hole, shapely.box(west.west + 700, west.north - 200, west.west + 800, west.north - 100)])
    frame = gpd.GeoSeries([both], crs=west.crs)
    plain = read_polygons(archive, frame, 2024)
    np.testing.assert_allclose(plain["pixels"], 1600 - 400 + 100 - 100, rtol=1e-6)  # less the masked part
    np.testing.assert_allclose(read_polygons(archive, frame.to_crs(4326), 2024)[MEAN], plain[MEAN], atol=1e-5)


def test_wrong_geometries_are_refused(archive, west):
    with pytest.raises(DataError, match="no coordinate reference system"):
        read_polygons(archive, gpd.GeoSeries([shapely.box(0, 0, 1, 1)]), 2024)
    with pytest.raises(DataError, match="expected polygons, found Point"):
        read_polygons(archive, gpd.GeoSeries([shapely.Point(0, 0)], crs=4326), 2024)
    with pytest.raises(DataError, match=r"missing or empty \(first: row b\)"):
        read_polygons(archive, gpd.GeoSeries([shapely.box(0, 0, 1, 1), None], index=["a", "b"], crs=4326), 2024)
    with pytest.raises(DataError, match="no statistic median"):
        read_polygons(archive, parcels(west, 1), 2024, stats=["median"])


def test_a_bow_tie_is_mended_instead_of_counted_twice(archive, west):
    x, y = west.west + 100, west.north - 300
    tie = shapely.Polygon([(x, y), (x + 100, y + 100), (x + 100, y), (x, y + 100)])
    found = read_polygons(archive, gpd.GeoSeries([tie], crs=west.crs), 2024)
    np.testing.assert_allclose(found["pixels"], 50, rtol=1e-5)


@pytest.mark.real
def test_real_counties_take_the_place_of_any_polygon(real, archive):
    counties = gpd.read_file(real("aef_counties") / "counties.geojson", rows=300)
    found = read_polygons(archive, counties, 2024, stats=["mean"])
    assert len(found) == 300
    touched = found["pixels"] > 0
    assert touched.sum() <= 2
    assert (found.loc[touched, "covered"] < 0.01).all()
