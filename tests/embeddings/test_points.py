from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from rs05bench.embeddings import cog_reader
from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.tile_index import TileIndex
from rs05bench.embeddings.vectors import decode
from rs05bench.errors import DataError
from tests.embeddings.tiles import vectors, write_tile


def random_pixels(count, seed=0, size=160):
    generator = np.random.default_rng(seed)
    return generator.integers(0, size, count), generator.integers(0, size, count)


def test_points_are_the_pixels_that_hold_them(archive, west, east):
    row, column = random_pixels(500)
    inside = np.random.default_rng(1).uniform(0.05, 0.95, (2, 500))
    for tile in (west, east):
        lon, lat = tile.lonlat(row + inside[0], column + inside[1])
        np.testing.assert_array_equal(read_points(archive, lon, lat, 2024, decoded=False), tile.values[:, row, column].T)
        np.testing.assert_array_equal(read_points(archive, lon, lat, 2024), decode(tile.values[:, row, column].T.copy()))


@pytest.mark.parametrize("bottom_up", [True, False])
def test_orientation_of_the_file_does_not_matter(tmp_path, bottom_up):
    values = vectors(100, 70)
    path = write_tile(tmp_path / "2024" / "x.tif", values, bottom_up=bottom_up)
    x, y = 500_000 + 10 * 3.5, 4_100_000 - 10 * 95.5
    with rasterio.open(path) as file:
        expected = next(file.sample([(x, y)]))
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(32610, 4326, always_xy=True).transform(x, y)
    np.testing.assert_array_equal(read_points(path, [lon], [lat], 2024, decoded=False)[0], expected)
    np.testing.assert_array_equal(expected, values[:, 95, 3])


def test_each_point_may_have_its_own_year(archive, west):
    lon, lat = west.lonlat([5.5, 5.5], [6.5, 6.5])
    both = read_points(archive, lon, lat, [2023, 2024], decoded=False)
    np.testing.assert_array_equal(both[1], west.values[:, 5, 6])
    assert (both[0] != both[1]).any()


def test_masked_pixels_and_places_without_a_tile_are_nan(archive, west):
    lon, lat = west.lonlat([25.5, -50], [45.5, 5])
    assert np.isnan(read_points(archive, lon, lat, 2024)).all()
    assert (read_points(archive, lon, lat, 2024, decoded=False) == -128).all()


def test_a_point_belongs_to_the_tile_of_its_own_zone(border):
    root = border["10N"].path.parents[2]
    lat = np.full(4, 38.0)
    lon = np.array([-120.001, -120.0001, -119.9999, -119.999])
    found = read_points(root, lon, lat, 2024, decoded=False)
    for value, one, zone in zip(found, lon, ("10N", "10N", "11N", "11N"), strict=True):
        tile = border[zone]
        from pyproj import Transformer

        x, y = Transformer.from_crs(4326, tile.crs, always_xy=True).transform(one, 38.0)
        np.testing.assert_array_equal(value, tile.values[:, int((tile.north - y) // 10), int((x - tile.west) // 10)])


def test_where_its_own_zone_is_masked_the_neighbour_answers(border):
    ten, eleven = border["10N"], border["11N"]
    row, column = 105.5, 70.5
    assert (ten.values[:, 105, 70] == -128).all()
    lon, lat = ten.lonlat(row, column)
    assert lon < -120
    from pyproj import Transformer

    x, y = Transformer.from_crs(4326, eleven.crs, always_xy=True).transform(lon, lat)
    expected = eleven.values[:, int((eleven.north - y) // 10), int((x - eleven.west) // 10)]
    np.testing.assert_array_equal(read_points(ten.path.parents[2], [lon], [lat], 2024, decoded=False)[0], expected)


@settings(max_examples=15)
@given(st.permutations(range(40)))
def test_the_order_of_points_does_not_matter(archive, west, order):
    row, column = random_pixels(40)
    lon, lat = west.lonlat(row + 0.5, column + 0.5)
    index, order = TileIndex.scan(west.path), list(order)
    plain = read_points(index, lon, lat, 2024, decoded=False)
    np.testing.assert_array_equal(read_points(index, lon[order], lat[order], 2024, decoded=False), plain[order])


def test_each_block_is_decompressed_once(archive, west, monkeypatch):
    row, column = random_pixels(3000)
    lon, lat = west.lonlat(row + 0.5, column + 0.5)
    counted = []
    original = cog_reader.CogRaster._decompress
    monkeypatch.setattr(cog_reader.CogRaster, "_decompress", lambda self, piece, out: (counted.append(1), original(self, piece, out)))
    read_points(archive, lon, lat, 2024)
    assert len(counted) == 9 * 64


@pytest.mark.parametrize("size", [256, 1024])
def test_memory_grows_with_the_points_and_not_with_the_file(tmp_path, size):
    values = np.tile(vectors(128, 128), (1, size // 128, size // 128))
    path = write_tile(tmp_path / "2024" / "x.tif", values, block=128)
    row, column = random_pixels(2000, size=size)
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(32610, 4326, always_xy=True).transform(500_005 + 10.0 * column, 4_099_995 - 10.0 * row)
    index = TileIndex.scan(path)
    read_points(index, lon, lat, 2024)
    tracemalloc.start()
    read_points(index, lon, lat, 2024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6  # the larger file holds 67 MB of decoded bytes


def test_float_exports_keep_their_own_floats(tmp_path):
    values = decode(vectors(30, 30)) * np.float32(0.999)  # not on the byte grid
    values[:, 4, 4] = np.nan
    values[:, 5, 5] = 0  # how Earth Engine writes a masked pixel
    path = write_tile(tmp_path / "2024" / "x.tif", values, nodata=None, crs="EPSG:4326", west=-120.0, north=38.0, res=1e-4, bottom_up=False)
    lon, lat = -120 + 1e-4 * (np.array([3, 4, 5]) + 0.5), 38 - 1e-4 * (np.array([3, 4, 5]) + 0.5)
    found = read_points(path, lon, lat, 2024)
    np.testing.assert_array_equal(found[0], values[:, 3, 3])
    assert np.isnan(found[1:]).all()


def test_coordinates_that_are_no_degrees_are_refused(archive):
    with pytest.raises(DataError, match="WGS84 degrees"):
        read_points(archive, [500_000.0], [4_100_000.0], 2024)
    with pytest.raises(DataError, match="no coordinates"):
        read_points(archive, [np.nan], [0.0], 2024)
    with pytest.raises(DataError, match="2 longitudes, but 1"):
        read_points(archive, [1.0, 2.0], [0.0], 2024)


@pytest.mark.real
def test_golden_points_of_the_real_chip(real):
    path = real("aef_chip") / "aef_wisconsin_2024_64band.tif"
    with rasterio.open(path) as file:
        values, affine = file.read(), file.transform
    row, column = np.arange(0, 100, 9), np.arange(0, 99, 9)[:11].repeat(2)[:12]
    lon, lat = affine.c + affine.a * (column + 0.5), affine.f + affine.e * (row + 0.5)
    np.testing.assert_array_equal(read_points(path, lon, lat, 2024), values[:, row, column].T)
    np.testing.assert_allclose(decode(read_points(path, lon, lat, 2024, decoded=False)), values[:, row, column].T, atol=3e-8)


def test_longitudes_may_count_from_zero_to_360(west):
    lon, lat = west.lonlat([20.5], [10.5])
    np.testing.assert_array_equal(read_points(west.path, lon + 360, lat, 2024), read_points(west.path, lon, lat, 2024))
    assert np.isfinite(read_points(west.path, lon + 360, lat, 2024)).all()
