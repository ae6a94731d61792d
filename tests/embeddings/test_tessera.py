"""Stores of the geoemb convention, NumPy grids with land masks and the GeoTIFFs of geotessera, against arithmetic done by hand."""

from __future__ import annotations

import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import zarr
from affine import Affine
from pyproj import Transformer

from rs05bench.datasets import TesseraEmbedding
from rs05bench.datasets.table_facts import look
from rs05bench.embeddings import open_source, product
from rs05bench.embeddings.extraction import extract_table
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import Grid
from tests.embeddings.server import FileServer

DIMENSIONS, YEARS = 128, (2021, 2022)
BORDER = -120.0  # zones 10 and 11 meet there
SIZE = 96


def integers(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes `(128, ...)` and their scales."""
    rng = np.random.default_rng(seed)
    return rng.integers(-127, 128, (DIMENSIONS, *shape)).astype(np.int8), rng.uniform(0.01, 0.2, shape).astype(np.float32)


def decoded(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    out = values.astype(np.float32) * np.where(np.isfinite(scales), scales, np.nan).astype(np.float32)
    out[:, np.abs(scales) > 100] = np.nan
    return out


def corner(zone: int, lon: float, lat: float) -> tuple[float, float]:
    """West and north of a grid of SIZE pixels of 10 m whose centre is near a place, on the 10 m raster."""
    x, y = Transformer.from_crs(4326, 32600 + zone, always_xy=True).transform(lon, lat)
    return round(x, -1) - 5 * SIZE, round(y, -1) + 5 * SIZE


def zone_group(root, zone, lon, lat, seed, complete=None):
    """A group written by hand, as the convention describes it."""
    west, north = corner(zone, lon, lat)
    held = [integers(seed + number, SIZE, SIZE) for number in range(len(YEARS))]
    held[0][1][0, :] = np.nan
    held[0][1][1, :] = np.inf
    held[0][1][2, 5] = 1_300.0  # a tile gone wild
    group = root.create_group(f"utm{zone:02d}")
    group.create_array("embeddings", data=np.stack([v for v, _ in held]), chunks=(1, DIMENSIONS, 32, 32))
    group.create_array("scales", data=np.stack([s for _, s in held]), chunks=(1, 32, 32))
    for name, base in (("s1_asc_obs_count", 0), ("s1_desc_obs_count", 7), ("s2_obs_count", 40)):
        group.create_array(name, data=np.stack([np.full((SIZE, SIZE), base + n, np.uint16) for n in range(len(YEARS))]), chunks=(1, 32, 32))
    group.create_array("time", data=np.array(YEARS, dtype=np.int32))
    group.create_array("x", data=west + 5 + 10.0 * np.arange(SIZE))
    group.create_array("y", data=north - 5 - 10.0 * np.arange(SIZE))
    group.create_array("band", data=np.arange(DIMENSIONS, dtype=np.int32))
    group.attrs["proj:code"] = f"EPSG:{32600 + zone}"
    group.attrs["spatial:transform"] = [10.0, 0.0, west, 0.0, -10.0, north]
    if complete is not None:
        group.attrs["years_complete"] = complete
    return west, north, held


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("tessera") / "v1.1-dclimate"
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    root.attrs.update(
        {
            "geoemb:dimensions": DIMENSIONS,
            "geoemb:data_type": "int8",
            "geoemb:spatial_layout": "utm_zones",
            "geoemb:quantization": {"method": "per_pixel_scale", "scale": {"type": "array", "array_name": "scales", "nodata": "+inf"}},
        }
    )
    zones = {10: zone_group(root, 10, BORDER, 40.0, 1), 11: zone_group(root, 11, BORDER, 40.0, 11, complete=[2021])}
    zones[21] = zone_group(root, 21, -57.0, -20.0, 21)  # the southern half of the world in a northern CRS
    return path, zones


@pytest.fixture(scope="module")
def reader(store):
    with pytest.warns(UserWarning, match="1 zone-years are not filled yet: utm11 2022"):
        return open_source(store[0], of="tessera-v1.1-dclimate")


def lonlat(zones, zone, row, column):
    west, north, _ = zones[zone]
    change = Transformer.from_crs(32600 + zone, 4326, always_xy=True)
    return change.transform(west + 10 * np.asarray(column) + 5, north - 10 * np.asarray(row) - 5)


def test_a_window_of_a_zone_is_bytes_times_scales_to_the_last_bit(store, reader):
    west, north, held = store[1][21]
    grid = Grid("EPSG:32621", west, north, 10, 10, SIZE, SIZE)
    np.testing.assert_array_equal(reader.read(grid, 2021), decoded(*held[0]))
    assert north < 0


def test_points_in_the_south_and_over_the_years(store, reader):
    rows, columns = np.array([0, 1, 2, 50, 95]), np.array([5, 5, 5, 60, 95])
    lon, lat = lonlat(store[1], 21, rows, columns)
    for number, year in enumerate(YEARS):
        expected = decoded(*store[1][21][2][number])[:, rows, columns].T
        np.testing.assert_array_equal(reader.points(lon, lat, year), expected)


def test_where_zones_overlap_the_zone_of_the_place_counts(store, reader):
    _, zones = store
    for zone, column in ((10, 20), (11, 70)):  # west and east of the border
        lon, lat = lonlat(zones, zone, np.array([40, 0]), np.array([column, column]))
        assert ((lon < BORDER) == (zone == 10)).all()
        expected = decoded(*zones[zone][2][0])[:, [40, 0], [column, column]].T
        # The second pixel has no scale in its own zone, and the neighbour's vector is no substitute.
        np.testing.assert_array_equal(reader.points(lon, lat, 2021), expected)
        assert np.isnan(expected[1]).all()


def test_a_zone_year_that_is_not_filled_is_refused_by_name_where_asked(store):
    with pytest.raises(DataError, match="1 zone-years are not filled yet: utm11 2022"):
        open_source(store[0], of="tessera-v1.1-dclimate", unfilled="refuse")


def test_no_zone_stands_in_for_one_that_is_not_filled(store, reader):
    row, column = np.array([40, 40]), np.array([20, 70])  # west and east of the border of zones 10 and 11, seen from zone 10
    lon, lat = lonlat(store[1], 10, row, column)
    assert list(lon < BORDER) == [True, False]
    np.testing.assert_array_equal(np.isnan(reader.points(lon, lat, 2022)[:, 0]), [False, True])
    west, north, _ = store[1][10]
    image = reader.read(Grid("EPSG:32610", west, north, 10, 10, SIZE, SIZE), 2022)
    east = lonlat(store[1], 10, *np.mgrid[:SIZE, :SIZE])[0] >= BORDER
    assert np.isnan(image[0][east]).all()
    assert np.isfinite(image[0][~east]).any()
    corners = [lonlat(store[1], 10, np.array(r) - 0.5, np.array(c) - 0.5) for r, c in (([30, 30], [10, 80]), ([40, 40], [80, 10]))]
    square = shapely.Polygon(np.concatenate([np.column_stack(found) for found in corners]))
    share = square.intersection(shapely.box(BORDER - 6, 0, BORDER, 90)).area / square.area
    found = reader.polygons(gpd.GeoSeries([square], crs="EPSG:4326"), 2022, stats=["mean"])
    assert 0.2 < share < 0.8
    assert found["covered"].iloc[0] == pytest.approx(share, abs=0.02)
    with pytest.warns(UserWarning, match="not filled"):
        ds = TesseraEmbedding(store[0], crs="EPSG:32610")
    t = next(slice(when.left, when.right) for when in ds.index.index if when.left.year == 2022)
    sliced = ds[west : west + 10 * SIZE : 10, north - 10 * SIZE : north : 10, t]["image"].numpy()
    np.testing.assert_array_equal(sliced, image)
    with pytest.raises(DataError, match="utm11 2022"):
        TesseraEmbedding(store[0], unfilled="refuse")


def test_a_slice_over_the_border_takes_each_pixel_from_its_zone(store):
    west, north, held = store[1][10]
    with pytest.warns(UserWarning, match="not filled"):
        ds = TesseraEmbedding(store[0], crs="EPSG:32610")
    image = ds[west : west + 10 * SIZE : 10, north - 10 * SIZE : north : 10, ds.bounds[2].start : ds.bounds[2].start]["image"].numpy()
    lon, _ = lonlat(store[1], 10, *np.mgrid[:SIZE, :SIZE])
    home = lon < BORDER
    np.testing.assert_array_equal(image[:, home], decoded(*held[0])[:, home])
    there = {tuple(v) for v in decoded(*store[1][11][2][0]).reshape(DIMENSIONS, -1).T if np.isfinite(v).all()}
    away = image[:, ~home].T
    away = away[np.isfinite(away).all(axis=1)]
    assert len(away) > 1000
    assert all(tuple(v) in there for v in away[::97])


def test_units_chips_and_points_of_the_dataset(store):
    with pytest.warns(UserWarning, match="not filled"):
        ds = TesseraEmbedding(store[0])
    units = ds.units(32, years=[2021])
    assert len(units) == 3 * 9
    row = units[units["tile_id"] == "2021/utm21"].iloc[4]
    np.testing.assert_array_equal(
        ds.chip(row["unit_id"])["image"].numpy(),
        decoded(*store[1][21][2][0])[:, row["row"] : row["row"] + 32, row["column"] : row["column"] + 32],
    )
    area = units[units["tile_id"] == "2021/utm21"].iloc[4].geometry.centroid.buffer(1e-5)
    assert list(ds.units(32, area=area, years=[2021])["unit_id"]) == [row["unit_id"]]
    lon, lat = lonlat(store[1], 10, [40], [20])
    assert {name: int(values[0]) for name, values in ds.observation_counts(lon, lat, 2022).items()} == {
        "s1_asc_obs_count": 1, "s1_desc_obs_count": 8, "s2_obs_count": 41,
    }  # fmt: skip
    assert len(pickle.loads(pickle.dumps(ds))) == len(ds)


def test_counts_of_observations_come_along_and_are_no_features(store, reader, tmp_path):
    lon, lat = lonlat(store[1], 10, np.arange(40, 60), np.arange(20, 40) // 2)
    places = gpd.GeoDataFrame(
        {"unit_id": [f"p{n:02d}" for n in range(20)], "crop": ["maize", "wheat"] * 10}, geometry=gpd.points_from_xy(lon, lat, crs=4326)
    )
    extract_table(places, reader, [2021, 2022], tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv").sort_values(["year", "unit_id"], ignore_index=True)
    for year, rows in table.groupby("year"):
        for name, values in reader.observation_counts(lon, lat, year).items():
            np.testing.assert_array_equal(rows[name], values)
    facts = look(tmp_path / "table.csv")
    assert [(family.product, len(family.columns)) for family in facts.families] == [("tessera-v1.1-dclimate", DIMENSIONS)]
    assert {"s1_asc_obs_count", "s1_desc_obs_count", "s2_obs_count"} <= set(facts.aside)


def test_over_a_web_server(store):
    path, zones = store
    with FileServer(path.parent) as server:
        with pytest.warns(UserWarning, match="not filled"):
            reader = open_source(f"{server.url}/{path.name}", of="tessera-v1.1-dclimate")
        lon, lat = lonlat(zones, 21, [50], [60])
        np.testing.assert_array_equal(reader.points(lon, lat, 2021)[0], decoded(*zones[21][2][0])[:, 50, 60])


def test_a_store_of_another_convention_is_refused(tmp_path):
    root = zarr.open_group(str(tmp_path / "other"), mode="w", zarr_format=3)
    root.attrs.update({"geoemb:dimensions": 64, "geoemb:spatial_layout": "utm_zones"})
    with pytest.raises(DataError, match=r"the store states 64 dimensions, tessera-v1\.1-dclimate has 128"):
        open_source(tmp_path / "other", of="tessera-v1.1-dclimate")


@pytest.fixture
def grids(tmp_path):
    """Two NumPy grids with land masks, as the older layout keeps them."""
    held = {}
    for lon, west in ((0.15, 303_000.0), (0.25, 303_600.0)):
        name, (values, scales) = f"grid_{lon:.2f}_52.05", integers(int(100 * lon), 50, 60)
        scales[3] = np.nan
        folder = tmp_path / "v1" / "2024" / name
        folder.mkdir(parents=True)
        np.save(folder / f"{name}.npy", np.moveaxis(values, 0, 2))
        np.save(folder / f"{name}_scales.npy", scales)
        mask = tmp_path / "landmasks" / "v1" / f"{name}.tiff"
        mask.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            mask,
            "w",
            driver="GTiff",
            height=50,
            width=60,
            count=1,
            dtype="uint8",
            crs=32631,
            transform=Affine(10, 0, west, 0, -10, 5_770_000),
        ) as file:
            file.write(np.ones((1, 50, 60), np.uint8))
        held[name] = values, scales, west
    return tmp_path, held


def test_numpy_grids_get_their_place_from_the_land_mask(grids):
    folder, held = grids
    reader = open_source(folder, of="tessera-v1")
    for name, (values, scales, west) in held.items():
        x, y = west + 10 * 17 + 5, 5_770_000 - 10 * np.array([3, 30]) - 5
        lon, lat = Transformer.from_crs(32631, 4326, always_xy=True).transform([x, x], y)
        np.testing.assert_array_equal(reader.points(lon, lat, 2024), decoded(values, scales)[:, [3, 30], 17].T)
        assert f"2024/{name}" in set(reader.tiles(None, 2024)["tile_id"])
    grid = Grid("EPSG:32631", 303_000, 5_770_000, 10, 10, 50, 120)
    np.testing.assert_array_equal(reader.read(grid, 2024), np.concatenate([decoded(v, s) for v, s, _ in held.values()], axis=2))
    assert len(TesseraEmbedding(folder, of="tessera-v1").units(25)) == 8


def test_a_grid_without_its_land_mask_or_scales_is_refused(grids):
    folder, held = grids
    name = next(iter(held))
    scales = next(folder.rglob(f"{name}_scales.npy"))
    scales.rename(scales.with_suffix(".kept"))
    with pytest.raises(DataError, match="its scales are missing"):
        open_source(folder, of="tessera-v1").index.open(0)
    next(folder.rglob(f"{name}.tiff")).unlink()
    with pytest.raises(DataError, match="no land mask of this name"):
        open_source(folder, of="tessera-v1")


def test_geotiffs_carry_year_and_variant(tmp_path):
    values, scales = integers(3, 40, 40)
    path = tmp_path / "utm31.tif"
    profile = {"driver": "GTiff", "height": 40, "width": 40, "count": DIMENSIONS, "dtype": "float32", "nodata": np.nan, "crs": 32631}
    with rasterio.open(path, "w", transform=Affine(10, 0, 303_000, 0, -10, 5_770_000), **profile) as file:
        file.write(decoded(values, scales))
        file.descriptions = [f"Tessera_Band_{number}" for number in range(DIMENSIONS)]
        file.update_tags(TESSERA_YEAR="2024", TESSERA_DATASET_VERSION_PATH="v1.1", TESSERA_DATASET_VARIANT="dclimate")
    ds = TesseraEmbedding(path)
    assert ds.tile_index.years == [2024]
    np.testing.assert_array_equal(ds.chip(ds.units(40)["unit_id"][0])["image"].numpy(), decoded(values, scales))
    with pytest.raises(DataError, match=r"states variant dclimate, expected cam of tessera-v1\.1-cam"):
        TesseraEmbedding(path, of="tessera-v1.1-cam")


def test_two_variants_never_fill_each_other(store, grids):
    with pytest.warns(UserWarning, match="not filled"):
        one = TesseraEmbedding(store[0])
    with pytest.raises(DataError, match=r"tessera-v1.1-dclimate \| tessera-v1"):
        one | TesseraEmbedding(grids[0], of="tessera-v1")
    with pytest.raises(DataError, match="'tessera' has 3 versions or variants"):
        product("tessera")


def test_scales_may_be_one_per_component(tmp_path, grids):
    folder, held = grids
    name, (values, _, west) = next(iter(held.items()))
    scales = np.random.default_rng(9).uniform(0.01, 0.2, (50, 60, DIMENSIONS)).astype(np.float32)
    scales[4, 5, 6] = np.inf
    np.save(next(folder.rglob(f"{name}_scales.npy")), scales)
    expected = values * np.moveaxis(scales, 2, 0)
    expected[:, 4, 5] = np.nan
    found = open_source(folder, of="tessera-v1").read(Grid("EPSG:32631", west, 5_770_000, 10, 10, 50, 60), 2024)
    np.testing.assert_array_equal(found, expected)


def test_grids_in_the_folder_of_another_variant_are_refused(grids):
    folder, _ = grids
    with pytest.raises(DataError, match=r"lies in a folder of tessera-v1, expected tessera-v1\.1-cam"):
        open_source(folder, of="tessera-v1.1-cam")


@pytest.mark.parametrize("order", ["tyxb", "yxbt"])
def test_axes_are_found_by_their_names_and_rows_may_run_north(tmp_path, order):
    """A store without attributes of its own, whose only statement on order is the names of the dimensions."""
    rng, years = np.random.default_rng(3), [2019, 2020]
    values, scales = rng.integers(-9, 9, (2, DIMENSIONS, 6, 8)).astype(np.int8), rng.uniform(0.1, 1, (2, 6, 8)).astype(np.float32)
    group = zarr.open_group(str(tmp_path / "store"), mode="w", zarr_format=3).create_group("utm20")
    names = {"t": "time", "b": "band", "y": "y", "x": "x"}
    for name, data, axes, own in (("embeddings", values, "tbyx", order), ("scales", scales, "tyx", order.replace("b", ""))):
        turned = data[..., ::-1, :].transpose([axes.index(axis) for axis in own])  # the southernmost row first
        group.create_array(name, data=np.ascontiguousarray(turned), dimension_names=[names[axis] for axis in own])
    for name, data in (("time", np.array(years)), ("x", 800_005 + 10.0 * np.arange(8)), ("y", -1_100_055 + 10.0 * np.arange(6))):
        group.create_array(name, data=data)
    group.attrs["proj:code"] = "EPSG:32620"
    reader = open_source(tmp_path / "store", of="tessera-v1.1-dclimate")
    grid = Grid("EPSG:32620", 800_000, -1_100_000, 10, 10, 6, 8)
    np.testing.assert_array_equal(reader.read(grid, 2020), decoded(values[1], scales[1]))


def test_a_store_of_another_model_version_is_refused(tmp_path):
    root = zarr.open_group(str(tmp_path / "other"), mode="w", zarr_format=3)
    root.attrs.update({"geoemb:model": "https://example.org/model/1.0", "geoemb:spatial_layout": "utm_zones"})
    with pytest.raises(DataError, match=r"states the model https://example\.org/model/1\.0, expected v1\.1"):
        open_source(tmp_path / "other", of="tessera-v1.1-dclimate")
