from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from rs05bench.embeddings.block_cache import BlockCache
from rs05bench.embeddings.cog_reader import CogRaster
from rs05bench.embeddings.gdal_raster import GdalRaster
from rs05bench.embeddings.products import product
from rs05bench.embeddings.raster_files import open_raster
from rs05bench.embeddings.window import read_window, read_windows
from rs05bench.errors import DataError
from tests.embeddings.tiles import BANDS, vectors, write_tile


def whole(path, **options):
    raster = open_raster(path, **options)
    return read_window(raster, BlockCache(), 0, 0, raster.grid.height, raster.grid.width)


@pytest.mark.parametrize("bottom_up", [True, False])
@pytest.mark.parametrize("options", [{}, {"compress": "deflate"}, {"compress": None}, {"predictor": 2}, {"block": 256}], ids=str)
def test_published_layouts_are_read_north_up_by_the_range_reader(tmp_path, bottom_up, options):
    values = vectors(100, 90)
    path = write_tile(tmp_path / "x.tif", values, bottom_up=bottom_up, **options)
    assert isinstance(open_raster(path), CogRaster)
    np.testing.assert_array_equal(whole(path), values)


@pytest.mark.parametrize(
    "options", [{"interleave": "pixel"}, {"tiled": False, "blockxsize": None, "blockysize": 1}, {"compress": "lzw"}], ids=str
)
def test_other_layouts_are_read_through_gdal(tmp_path, options):
    values = vectors(50, 40)
    options = {key: value for key, value in options.items() if value is not None}
    path = write_tile(tmp_path / "x.tif", values, **options)
    if not options.get("tiled", True):
        assert isinstance(open_raster(path), GdalRaster)
    np.testing.assert_array_equal(whole(path), values)


def test_both_readers_agree(west):
    ours, theirs = open_raster(west.path), GdalRaster(str(west.path), product())
    assert ours.grid == theirs.grid
    for bands in (tuple(range(64)), (5, 2)):
        values = [read_window(raster, BlockCache(), 10, -3, 120, 170, bands=bands) for raster in (ours, theirs)]
        np.testing.assert_array_equal(*values)


def test_a_block_that_was_never_written_is_masked(tmp_path):
    values = np.full((64, 128, 128), -128, np.int8)
    values[:, :64, :64] = vectors(64, 64)
    path = write_tile(tmp_path / "x.tif", values, sparse_ok=True)
    assert path.stat().st_size < write_tile(tmp_path / "dense.tif", values).stat().st_size
    np.testing.assert_array_equal(whole(path), values)


def test_without_the_optional_readers_gdal_reads_the_same(west, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert isinstance(open_raster(west.path), GdalRaster)
    np.testing.assert_array_equal(whole(west.path), west.values)


@given(row=st.integers(-30, 170), column=st.integers(-30, 170), height=st.integers(1, 130), width=st.integers(1, 130))
def test_any_window_is_the_slice_of_the_padded_raster(west, row, column, height, width):
    padded = np.full((64, 460, 460), -128, np.int8)
    padded[:, 100:260, 100:260] = west.values
    out = read_window(open_raster(west.path), BlockCache(), row, column, height, width)
    np.testing.assert_array_equal(out, padded[:, row + 100 : row + 100 + height, column + 100 : column + 100 + width])


@pytest.mark.parametrize("size", [16, 140])
def test_batches_are_the_single_windows(west, size):
    raster, corners = open_raster(west.path), [(0, 0), (-5, 30), (90, 90)]
    batch = read_windows(raster, BlockCache(), corners, size, size, bands=(1, 63))
    for values, (row, column) in zip(batch, corners, strict=True):
        np.testing.assert_array_equal(values, read_window(raster, BlockCache(), row, column, size, size, bands=(1, 63)))


def test_each_block_is_decompressed_once_and_memory_is_bounded(west):
    raster, cache = open_raster(west.path), BlockCache()
    for _ in range(3):
        read_windows(raster, cache, [(0, 0), (10, 10), (90, 90)], 60, 60)
    assert cache.decompressed == 7  # of nine; the third window meets the first two in one
    small = BlockCache(limit=64 * 64 * 64 * 2)
    read_windows(raster, small, [(0, 0), (90, 90)], 60, 60)
    assert small.size <= small.limit


def test_blocks_on_disk_are_shared_and_forgotten_when_the_file_changes(tmp_path):
    path = write_tile(tmp_path / "x.tif", vectors(64, 64, 1))
    first, second = BlockCache(folder=tmp_path / "cache"), BlockCache(folder=tmp_path / "cache")
    np.testing.assert_array_equal(first.block(open_raster(path), 0, 0)[:, ::-1], vectors(64, 64, 1))
    second.block(open_raster(path), 0, 0)
    assert (first.decompressed, second.decompressed) == (1, 0)
    write_tile(path, vectors(64, 64, 2), compress=None)
    third = BlockCache(folder=tmp_path / "cache")
    np.testing.assert_array_equal(third.block(open_raster(path), 0, 0)[:, ::-1], vectors(64, 64, 2))


WRONG = {
    "band count": (lambda v: v[:63], {}, "expected 64 bands of alphaearth-v1, found 63"),
    "axes swapped (bands last)": (lambda v: v.transpose(1, 2, 0).copy(), {}, "expected 64 bands"),
    "unsigned bytes": (lambda v: v.view(np.uint8), {"nodata": None}, "uint8"),
    "16 bit": (lambda v: v.astype(np.int16), {}, "int16"),
    "quantised floats": (lambda v: v.astype(np.float32), {}, "decoded components"),
    "no crs": (lambda v: v, {"crs": None}, "coordinate reference system"),
    "nodata 0": (lambda v: v, {"nodata": 0}, "expected nodata -128, found 0"),
    "x and y swapped": (lambda v: v, {"west": 4_100_000.0, "north": 500_000.0}, "cannot belong to"),
    "transposed transform": (lambda v: v, {"transform": Affine(0, 10, 500_000, 10, 0, 4_000_000)}, "swapped"),
    "rotated": (lambda v: v, {"transform": Affine(9, 1, 500_000, 1, -9, 4_000_000)}, "rotated"),
    "east to west": (lambda v: v, {"transform": Affine(-10, 0, 500_000, 0, -10, 4_000_000)}, "west to east"),
    "no georeferencing": (lambda v: v, {"transform": Affine.identity()}, "georeferencing|identity"),
    "degrees that are none": (lambda v: v, {"crs": "EPSG:4326"}, "cannot belong to"),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_file_is_refused_with_its_name_and_never_gives_numbers(tmp_path, fault):
    change, options, message = WRONG[fault]
    path = write_tile(tmp_path / "wrong.tif", change(vectors(70, 70)), **options)
    with pytest.raises(DataError, match=message) as caught:
        whole(path)
    assert "wrong.tif" in str(caught.value)


def test_text_and_nothing_are_refused(tmp_path):
    (tmp_path / "x.tif").write_text("not a raster")
    with pytest.raises(DataError, match=r"x\.tif"):
        open_raster(tmp_path / "x.tif")
    (tmp_path / "empty.tif").touch()
    with pytest.raises(DataError, match=r"empty\.tif"):
        open_raster(tmp_path / "empty.tif")
    with pytest.raises(DataError, match="No such file"):
        open_raster(tmp_path / "absent.tif")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "whole.tif"
    write_tile(path, vectors(32, 32), block=16)
    return path.read_bytes(), path


@settings(max_examples=60)
@given(data=st.data())
def test_a_truncated_file_is_refused_wherever_it_is_cut(small, data):
    content, path = small
    cut = path.with_name("cut.tif")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError):
        whole(cut)


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_header_is_refused_or_harmless(small, data):
    content, path = small
    damaged = bytearray(content)
    place = data.draw(st.integers(0, 400))
    damaged[place] ^= data.draw(st.integers(1, 255))
    bad = path.with_name("bad.tif")
    bad.write_bytes(bytes(damaged))
    try:
        values = whole(bad)
    except DataError:
        return
    assert values.shape[0] == 64  # whatever was read, it still was an embedding of 64 bands


def test_a_damaged_block_is_refused(small):
    content, path = small
    start = content.index(b"\x28\xb5\x2f\xfd", len(content) // 2)  # how a compressed block begins
    path.with_name("rot.tif").write_bytes(content[:start] + bytes(8) + content[start + 8 :])
    with pytest.raises(DataError, match="decompressed"):
        whole(path.with_name("rot.tif"))


@pytest.mark.real
def test_the_real_chip_is_read_as_floats(real):
    import rasterio

    path = real("aef_chip") / "aef_wisconsin_2024_64band.tif"
    with rasterio.open(path) as file:
        expected = file.read()
    np.testing.assert_array_equal(whole(path), expected)


@pytest.mark.parametrize("spelled", ["{}", "embedding_{}", "{}_mean", "2020 {}"])
@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_bands_are_taken_by_the_names_they_carry(tmp_path, interleave, spelled):
    import rasterio

    values, order = vectors(128, 128), np.random.default_rng(5).permutation(64)
    path = write_tile(tmp_path / "x.tif", values[order], interleave=interleave)
    with rasterio.open(path, "r+") as file:
        file.descriptions = [spelled.format(BANDS[i] if spelled == "{}" else BANDS[i].lower()) for i in order]
    np.testing.assert_array_equal(read_window(open_raster(path), BlockCache(), 0, 0, 128, 128), values)
    with rasterio.open(path, "r+") as file:
        file.descriptions = [BANDS[i] if i != 7 else "A08" for i in order]
    with pytest.raises(DataError, match="63 of 64 bands are named as components of alphaearth-v1, and none is 'A07'"):
        open_raster(path)


def test_the_scale_and_offset_of_a_file_of_floats_are_applied(tmp_path):
    import rasterio

    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(64, 40, 40)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=0)
    with rasterio.open(tmp_path / "x.tif", "w", driver="GTiff", height=40, width=40, count=64, dtype="float32", crs=32610) as file:
        file.transform = rasterio.transform.from_origin(600_000, 4_000_000, 10, 10)
        file.write((vectors - np.float32(0.25)) / 2)
        file.scales, file.offsets = [2.0] * 64, [0.25] * 64
    np.testing.assert_allclose(GdalRaster(str(tmp_path / "x.tif"), product()).read_block(0, 0), vectors, atol=1e-6)
    np.testing.assert_allclose(GdalRaster(str(tmp_path / "x.tif"), product()).read_block(0, 0, [5, 2]), vectors[[5, 2]], atol=1e-6)


def test_what_an_internal_mask_hides_is_missing(tmp_path):
    import rasterio

    values, mask = vectors(128, 128), np.full((128, 128), 255, np.uint8)
    mask[:64] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write_tile(tmp_path / "x.tif", np.where(mask == 0, 0, values).astype(np.int8), nodata=None)
        with rasterio.open(path, "r+") as file:
            file.write_mask(mask[::-1])
    read = read_window(open_raster(path), BlockCache(), 0, 0, 128, 128)
    assert (read[:, :64] == -128).all()
    np.testing.assert_array_equal(read[:, 64:], values[:, 64:])


def test_a_platform_without_positioned_reads_reads_the_same(west, monkeypatch):
    import os

    expected = read_window(open_raster(west.path), BlockCache(), 0, 0, 160, 160)
    monkeypatch.delattr(os, "pread")
    np.testing.assert_array_equal(read_window(open_raster(west.path), BlockCache(), 0, 0, 160, 160), expected)
