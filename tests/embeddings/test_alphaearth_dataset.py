from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchgeo.datasets import GoogleSatelliteEmbedding, RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler, RandomGeoSampler

from rs05bench.datasets import AlphaEarthEmbedding
from rs05bench.embeddings import DecodeEmbedding, TileIndex
from rs05bench.embeddings.vectors import decode, encode, pool
from rs05bench.errors import DataError
from tests.embeddings.tiles import vectors, write_tile


@pytest.fixture(scope="module")
def native(archive):
    return AlphaEarthEmbedding(archive / "2024", crs="native", decoded=False)


def window(tile, row, column, size):
    west, north = tile.west + 10 * column, tile.north - 10 * row
    return slice(west, west + 10 * size, 10), slice(north - 10 * size, north, 10)


def test_it_is_torchgeos_dataset(native):
    assert isinstance(native, GoogleSatelliteEmbedding)
    assert native.bands == GoogleSatelliteEmbedding.all_bands
    assert len(native) == 2
    assert native.res == (10, 10)
    assert "AlphaEarthEmbedding" in str(native)
    assert native.index.index.closed == "both"


def test_the_index_is_in_the_crs_that_all_tiles_share(archive, west):
    ds = AlphaEarthEmbedding(archive)
    assert ds.crs.to_epsg() == 32610
    x, y, t = ds.bounds
    assert (x.start, x.stop, y.start, y.stop) == (500_000, 503_200, 4_098_400, 4_100_000)
    assert (t.start.year, t.stop.year) == (2023, 2024)
    image = AlphaEarthEmbedding(archive / "2024", decoded=False)[x.start : x.start + 160 : 10, y.stop - 160 : y.stop : 10]["image"]
    np.testing.assert_array_equal(image.numpy(), west.values[:, :16, :16])


def test_tiles_of_several_zones_are_indexed_in_wgs84_and_slices_say_that_they_warp(border):
    ds = AlphaEarthEmbedding(border["10N"].path.parents[2])
    assert ds.crs.to_epsg() == 4326
    x, y, t = ds.bounds
    with pytest.warns(UserWarning, match="several CRSs, so slices are in EPSG:4326"):
        image = ds[x.start : x.stop, y.start : y.stop, t.start : t.stop]["image"]
    length = np.linalg.norm(image.numpy(), axis=0)
    assert np.isfinite(length).any()
    assert (np.abs(length[np.isfinite(length)] - 1) < 0.05).all()  # pixels, not mixtures


def test_a_crs_as_a_number(archive):
    assert AlphaEarthEmbedding(archive, crs=32614).crs.to_epsg() == 32614


def test_bytes_say_that_they_are_bytes(archive):
    assert AlphaEarthEmbedding(archive).dtype == torch.float32
    assert AlphaEarthEmbedding(archive, decoded=False).dtype == torch.int8


def test_combining_moves_the_index_and_keeps_the_split(archive):
    from torchgeo.datasets import random_bbox_assignment

    ds = AlphaEarthEmbedding(archive / "2024")
    one, two = random_bbox_assignment(ds, [0.5, 0.5], generator=torch.Generator().manual_seed(0))
    before = one.index.copy()
    one.crs = "EPSG:5070"
    assert list(one.index["filepath"]) == list(before["filepath"])
    assert len(one) == 1
    one.crs = "EPSG:32610"
    assert one.index.geometry.iloc[0].equals(before.geometry.iloc[0])
    assert set(one.index["filepath"]).isdisjoint(two.index["filepath"])


def test_half_a_tile_stays_half_a_tile_in_another_crs(west):
    from torchgeo.datasets import random_bbox_splitting

    ds = AlphaEarthEmbedding(west.path)
    assert ds.bounds[0].stop == 501_600
    one, _ = random_bbox_splitting(ds, [0.5, 0.5], generator=torch.Generator().manual_seed(0))
    area = float(one.index.geometry.area.sum())
    x, y, _ = one.bounds
    assert (x.stop - x.start) * (y.stop - y.start) == pytest.approx(1600 * 800)
    one.crs = "EPSG:5070"
    assert float(one.index.geometry.area.sum()) == pytest.approx(area, rel=0.01)


def test_a_year_that_begins_where_the_slice_ends_is_not_in_it(archive):
    import pandas as pd

    ds = AlphaEarthEmbedding(archive)
    x, y, _ = ds.bounds
    image = ds[x.start : x.start + 160, y.stop - 160 : y.stop, pd.Timestamp("2023-01-01") : pd.Timestamp("2024-01-01")]["image"]
    assert image.shape == (64, 16, 16)


def test_nothing_there_is_torchgeos_error(tmp_path):
    from torchgeo.datasets import DatasetNotFoundError

    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DatasetNotFoundError):
            AlphaEarthEmbedding(path)
    with pytest.raises(AssertionError, match="no band B2"):
        AlphaEarthEmbedding(write_tile(tmp_path / "2024" / "x.tif", vectors(64, 64)), bands=["B2"])


def test_files_of_two_folders_with_one_name_are_two_tiles(tmp_path):
    for year, seed in ((2023, 1), (2024, 2)):
        write_tile(tmp_path / f"{year}/U/1/L/7/471U_587L.tif", vectors(64, 64, seed))
    ds = AlphaEarthEmbedding(tmp_path)
    assert list(ds.units(64)["unit_id"]) == ["2023/U/1/L/7/471U_587L@0-0-64x64", "2024/U/1/L/7/471U_587L@0-0-64x64"]
    for folder in "ab":
        write_tile(tmp_path / f"more/{folder}/x_2020.tif", vectors(64, 64))
    assert list(AlphaEarthEmbedding(tmp_path / "more").tiles["tile_id"]) == ["a/x_2020", "b/x_2020"]


@pytest.mark.parametrize("bottom_up", [True, False])
@pytest.mark.parametrize(("row", "column", "size"), [(0, 0, 16), (31, 50, 100), (128, 140, 20), (150, 150, 30), (-5, -5, 20)])
def test_slices_are_the_native_pixels_north_up(tmp_path, bottom_up, row, column, size):
    values = vectors(160, 160)
    write_tile(tmp_path / "2024" / "x.tif", values, bottom_up=bottom_up)
    ds = AlphaEarthEmbedding(tmp_path, crs="EPSG:32610", decoded=False)
    padded = np.full((64, 260, 260), -128, np.int8)
    padded[:, 50:210, 50:210] = values
    west, north = 500_000 + 10 * column, 4_100_000 - 10 * row
    sample = ds[west : west + 10 * size, north - 10 * size : north]
    np.testing.assert_array_equal(sample["image"].numpy(), padded[:, row + 50 : row + 50 + size, column + 50 : column + 50 + size])
    np.testing.assert_array_equal(sample["transform"].numpy(), [10, 0, west, 0, -10, north, 0, 0, 1])


def test_decoded_values_and_masks(archive, west):
    ds = AlphaEarthEmbedding(archive / "2024", crs="native")
    image = ds[window(west, 15, 35, 30)]["image"].numpy()
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, decode(west.values[:, 15:45, 35:65].copy()))
    assert np.isnan(image[:, 5:15, 5:25]).all()
    zero = AlphaEarthEmbedding(archive / "2024", crs="native", masked=0.0)[window(west, 15, 35, 30)]["image"].numpy()
    np.testing.assert_array_equal(zero, np.nan_to_num(image))


def test_same_pixels_as_torchgeo_on_a_file_it_need_not_warp(tmp_path):
    values = vectors(96, 96)
    write_tile(tmp_path / "2024" / "10N" / "x.tif", values, bottom_up=False)
    theirs, ours = GoogleSatelliteEmbedding(tmp_path), AlphaEarthEmbedding(tmp_path, crs="native")
    for query in RandomGeoSampler(theirs, 20, length=5, generator=torch.Generator().manual_seed(0)):
        expected = theirs[query]
        found = ours[query]
        np.testing.assert_array_equal(found["image"].numpy(), decode(expected["image"].numpy().astype(np.int8)))
        for key in ("bounds", "transform"):
            torch.testing.assert_close(found[key], expected[key])


@pytest.mark.parametrize("workers", [0, 2])
def test_samplers_and_loader_workers(native, workers):
    sampler = RandomGeoSampler(native, size=32, length=6)
    loader = DataLoader(native, sampler=sampler, batch_size=3, collate_fn=stack_samples, num_workers=workers)
    batches = list(loader)
    assert [tuple(batch["image"].shape) for batch in batches] == [(3, 64, 32, 32)] * 2
    assert batches[0]["image"].dtype == torch.int8
    assert DecodeEmbedding()(batches[0])["image"].dtype == torch.float32


def test_decoding_in_forked_workers_after_decoding_in_the_parent(archive, west):
    ds = AlphaEarthEmbedding(archive / "2024", crs="native")
    expected = ds[window(west, 0, 0, 128)]["image"]
    queries = [(*window(west, 0, 0, 128), ds.bounds[2])] * 2
    for sample in DataLoader(ds, sampler=queries, batch_size=None, num_workers=1):
        torch.testing.assert_close(sample["image"], expected, equal_nan=True)


def test_a_grid_sampler_sees_every_pixel_once(native, west, east):
    total = sum(int((native[query]["image"][0] != -128).sum()) for query in GridGeoSampler(native, size=32, stride=32))
    assert total == 2 * (160 * 160 - 200)


def test_a_slice_over_two_tiles_is_their_mosaic(native, west, east):
    image = native[window(west, 40, 140, 40)]["image"].numpy()
    np.testing.assert_array_equal(image, np.concatenate([west.values[:, 40:80, 140:], east.values[:, 40:80, :20]], axis=2))


def test_years_are_never_merged(archive, west):
    ds = AlphaEarthEmbedding(archive, crs="native", decoded=False)
    with pytest.raises(DataError, match=r"2 years lie in this slice \(2023, 2024\)"):
        ds[window(west, 0, 0, 16)]
    series = AlphaEarthEmbedding(archive, crs="native", decoded=False, time_series=True)
    both = series[window(west, 0, 0, 16)]["image"]
    assert both.shape == (2, 64, 16, 16)
    np.testing.assert_array_equal(both[1].numpy(), west.values[:, :16, :16])
    for query in RandomGeoSampler(ds, 16, length=8):
        assert ds[query]["image"].shape == (64, 16, 16)


def test_outside_is_an_index_error(native):
    with pytest.raises(IndexError):
        native[0:100, 0:100]


def test_larger_pixels_are_normalised_means(native, west):
    x, y = window(west, 4, 8, 40)
    image = native[x.start : x.stop : 20, y.start : y.stop : 20]["image"].numpy()
    np.testing.assert_array_equal(image, encode(pool(west.values[:, 4:44, 8:48], 2), axis=0))
    x, y = window(west, 4, 60, 40)  # nothing is masked here
    odd = AlphaEarthEmbedding(west.path, crs="native")[x.start : x.stop : 25, y.start : y.stop : 25]["image"].numpy()
    assert odd.shape == (64, 16, 16)
    np.testing.assert_allclose(np.linalg.norm(odd, axis=0), 1, atol=1e-5)
    means = decode(west.values[:, 4:44, 60:100].copy()).repeat(2, 1).repeat(2, 2).reshape(64, 16, 5, 16, 5).mean(axis=(2, 4))
    np.testing.assert_allclose(odd, means / np.linalg.norm(means, axis=0), atol=2e-2)


def test_smaller_pixels_are_copies(native, west):
    x, y = window(west, 4, 8, 4)
    image = native[x.start : x.stop : 5, y.start : y.stop : 5]["image"].numpy()
    np.testing.assert_array_equal(image, west.values[:, 4:8, 8:12].repeat(2, 1).repeat(2, 2))


def test_another_crs_is_resampled_because_it_was_named(border):
    root = border["10N"].path.parents[2]
    ds = AlphaEarthEmbedding(root, crs="EPSG:32610", decoded=False)
    ten = border["10N"]
    image = ds[window(ten, 90, 60, 30)]["image"].numpy()
    assert (image != -128).all()  # masked rows of zone 10 are filled from zone 11
    np.testing.assert_array_equal(image[:, :10], ten.values[:, 90:100, 60:90])
    known = {tuple(v) for v in border["11N"].values.reshape(64, -1).T}
    assert all(tuple(v) in known for v in image[:, 10:20].reshape(64, -1).T)  # pixels, not mixtures
    with pytest.raises(DataError, match="2 CRSs"):
        AlphaEarthEmbedding(root, crs="native")


def test_native_chips_by_unit(archive, west, east):
    ds = AlphaEarthEmbedding(archive, decoded=False)  # several years, WGS84 index: no CRS needed for units
    units = ds.units(64)
    assert len(units) == 4 * 4
    assert units["unit_id"].is_unique
    assert units.crs == "EPSG:4326"
    mine = units[(units["tile_id"] == ds.tiles["tile_id"].iloc[3]) & (units["row"] == 64) & (units["column"] == 0)].iloc[0]
    sample = ds.chip(mine["unit_id"])
    np.testing.assert_array_equal(sample["image"].numpy(), west.values[:, 64:128, :64])
    assert sample["crs"] == "EPSG:32610"
    lon, lat = west.lonlat(96, 32)
    assert (mine["lon"], mine["lat"]) == pytest.approx((lon, lat), abs=1e-9)
    batch = ds.chips(list(units["unit_id"]))
    for values, unit in zip(batch, units["unit_id"], strict=True):
        np.testing.assert_array_equal(values, ds.chip(unit)["image"].numpy())


def test_units_by_area_year_and_stride(archive, west):
    ds = AlphaEarthEmbedding(archive)
    lon, lat = west.lonlat(10, 10)
    assert len(ds.units(64, area=(lon, lat, lon + 1e-5, lat + 1e-5), years=[2024])) == 1
    assert len(ds.units((160, 80), stride=40, years=[2023])) == 2 * 3


def test_an_unknown_unit_is_refused(native):
    with pytest.raises(DataError, match="not a unit"):
        native.chip("chip 7")
    with pytest.raises(DataError, match="no tile"):
        native.chip("2024/10N/absent@0-0-64x64")


def test_a_chip_around_a_place_reaches_into_the_next_tile(native, west, east):
    lon, lat = west.lonlat(80.5, 155.5)
    image = native.around(lon, lat, 32, 2024)["image"].numpy()
    np.testing.assert_array_equal(image, np.concatenate([west.values, east.values], axis=2)[:, 64:96, 139:171])
    with pytest.raises(DataError, match="no tile of 2024 holds"):
        native.around(0.0, 0.0, 32, 2024)


def test_bands_can_be_chosen(archive, west):
    ds = AlphaEarthEmbedding(archive / "2024", crs="native", bands=["A63", "A02"], decoded=False)
    np.testing.assert_array_equal(ds[window(west, 0, 0, 20)]["image"].numpy(), west.values[[63, 2], :20, :20])
    with pytest.raises(DataError, match="no band B8"):
        AlphaEarthEmbedding(archive, bands=["B8"])


class Labels(RasterDataset):
    is_image = False


@pytest.fixture
def labels(tmp_path, west):
    import rasterio

    path = tmp_path / "labels" / "x.tif"
    path.parent.mkdir()
    values = (np.arange(160 * 160).reshape(1, 160, 160) % 7 + 1).astype(np.uint8)
    profile = {"driver": "GTiff", "width": 160, "height": 160, "count": 1, "dtype": "uint8", "crs": west.crs}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(10, 0, west.west, 0, -10, west.north)) as file:
        file.write(values)
    return Labels(path.parent), values[0]


def test_intersection_with_labels(native, labels, west):
    dataset, values = labels
    for both in (native & dataset, dataset & native):
        sample = both[(*window(west, 10, 20, 24), native.bounds[2])]
        np.testing.assert_array_equal(sample["image"].numpy(), west.values[:, 10:34, 20:44])
        np.testing.assert_array_equal(sample["mask"].numpy(), values[10:34, 20:44])
        batch = next(iter(DataLoader(both, sampler=RandomGeoSampler(both, 16, length=2), batch_size=2, collate_fn=stack_samples)))
        assert batch["image"].shape == (2, 64, 16, 16)


@pytest.mark.parametrize("decoded", [True, False])
def test_a_union_fills_by_mask_and_not_by_zero(archive, west, east, decoded):
    one, two = (AlphaEarthEmbedding(tile.path, crs="native", decoded=decoded) for tile in (west, east))
    image = (one | two)[(*window(west, 40, 140, 40), one.bounds[2])]["image"].numpy()
    expected = np.concatenate([west.values[:, 40:80, 140:], east.values[:, 40:80, :20]], axis=2)
    assert (expected == 0).any()
    np.testing.assert_array_equal(image, decode(expected) if decoded else expected)


def test_it_can_be_split_copied_and_sent_to_workers(native, west):
    from torchgeo.datasets import random_bbox_assignment

    native[window(west, 0, 0, 16)]
    again = pickle.loads(pickle.dumps(native))
    np.testing.assert_array_equal(again[window(west, 0, 0, 16)]["image"].numpy(), west.values[:, :16, :16])
    copied = copy.deepcopy(native)
    copied.index = copied.index.iloc[:1]
    assert len(copied) == 1
    assert copied.bounds[0].start == pytest.approx(501_600)
    first, second = random_bbox_assignment(native, [0.5, 0.5])
    assert len(first) + len(second) == 2


def test_blocks_kept_on_disk_give_the_same(archive, west, tmp_path):
    ds = AlphaEarthEmbedding(archive / "2024", crs="native", decoded=False, cache_dir=tmp_path / "blocks")
    for _ in range(2):
        np.testing.assert_array_equal(ds[window(west, 30, 30, 90)]["image"].numpy(), west.values[:, 30:120, 30:120])
    assert list((tmp_path / "blocks").rglob("*.npy"))


def test_float_exports_stand_beside_published_tiles(tmp_path):
    values = vectors(64, 64)
    write_tile(tmp_path / "2024" / "left.tif", values)
    write_tile(tmp_path / "2024" / "right.tif", decode(values), west=500_640.0, nodata=None, bottom_up=False, tiled=False)
    ds = AlphaEarthEmbedding(tmp_path, crs="native", decoded=False)
    image = ds[500_000:501_280:10, 4_099_360:4_100_000:10]["image"].numpy()
    np.testing.assert_array_equal(image, np.concatenate([values, values], axis=2))
    assert AlphaEarthEmbedding(tmp_path, crs="native")[500_000:501_280:10, 4_099_360:4_100_000:10]["image"].dtype == torch.float32


def test_a_transform_sees_the_sample(archive, west):
    ds = AlphaEarthEmbedding(archive / "2024", crs="native", decoded=False, transforms=DecodeEmbedding())
    assert ds[window(west, 0, 0, 16)]["image"].dtype == torch.float32


def test_points_through_the_dataset(native, west):
    lon, lat = west.lonlat([3.5], [4.5])
    np.testing.assert_array_equal(native.points(lon, lat, 2024, decoded=False)[0], west.values[:, 3, 4])


def test_an_empty_selection_is_refused(archive):
    with pytest.raises(DataError, match="no tile is left"):
        AlphaEarthEmbedding(TileIndex.scan(archive).search(years=[2018]))


def test_plot(native, archive, west):
    from matplotlib import pyplot as plt

    sample = native[window(west, 0, 30, 40)]
    figure = native.plot(sample, suptitle="Wisconsin")
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (40, 40, 4)
    assert (np.asarray(image)[20:30, 10:30, 3] == 0).all()  # masked: transparent over hatched grey
    assert (np.asarray(image)[:20, :, 3] == 1).all()
    assert figure.get_suptitle() == "Wisconsin"
    np.testing.assert_array_equal(native.plot(sample).axes[0].images[0].get_array(), image)
    untitled = native.plot(sample | {"mask": torch.zeros(40, 40), "prediction": torch.ones(40, 40)}, show_titles=False)
    assert [axis.get_title() for axis in untitled.axes] == ["", "", ""]
    series = AlphaEarthEmbedding(archive, crs="native", time_series=True)
    assert len(series.plot(series[window(west, 0, 0, 16)]).axes) == 2
    plt.close("all")


@pytest.mark.real
def test_the_real_chip_as_a_dataset(real):
    import rasterio

    path = real("aef_chip") / "aef_wisconsin_2024_64band.tif"
    with rasterio.open(path) as file:
        values = file.read()
    ds = AlphaEarthEmbedding(path)
    assert ds.tile_index.years == [2024]
    sample = ds[ds.bounds]
    np.testing.assert_array_equal(sample["image"].numpy(), values)
    unit = ds.units((100, 99))["unit_id"].iloc[0]
    np.testing.assert_array_equal(ds.chip(unit)["image"].numpy(), values)
    np.testing.assert_allclose(decode(ds.chips([unit])[0]), values, atol=3e-8)
