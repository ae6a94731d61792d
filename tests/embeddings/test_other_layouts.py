"""Patches in (Geo)Parquet, float stacks and codes of several levels."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from rs05bench.datasets import EmbeddingRasters
from rs05bench.embeddings import open_source
from rs05bench.embeddings.extraction import extract_table, read_units
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import Grid


def patches(columns: int, size: int, seed: int = 0) -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """A row of square patches of a hundredth of a degree from (10, 50) eastwards, shuffled, and their vectors in order."""
    vectors = np.random.default_rng(seed).standard_normal((columns, size)).astype(np.float32)
    boxes = [shapely.box(10 + i / 100, 50, 10 + (i + 1) / 100, 50.01) for i in range(columns)]
    order = np.random.default_rng(1).permutation(columns)
    frame = gpd.GeoDataFrame({"embeddings": [vectors[i].tolist() for i in order], "date": "2023-05-06"}, geometry=[boxes[i] for i in order])
    return frame.set_crs(4326), vectors


def test_patches_with_a_list_column(tmp_path):
    frame, vectors = patches(6, 1024)
    frame["embeddings"] = [[0.0] * 1024 if row == 2 else vector for row, vector in enumerate(frame["embeddings"])]
    gone = int((frame.geometry.iloc[2].bounds[0] - 10) * 100 + 0.5)
    frame.to_crs(3857).to_parquet(tmp_path / "clay.parquet")
    reader = open_source(tmp_path / "clay.parquet", of="clay-v1.5")
    assert (reader.years, reader.missing) == ([2023], 1)
    found = reader.points([10 + (i + 0.3) / 100 for i in range(6)] + [11], [50.004] * 7, 2023)
    expected = np.concatenate([vectors, np.full((1, 1024), np.nan, np.float32)])
    expected[gone] = np.nan
    np.testing.assert_array_equal(found, expected)
    assert len(reader.tiles((10.001, 50.001, 10.015, 50.002), 2023)) == 2
    image = reader.read(Grid("EPSG:4326", 10.0, 50.01, 0.0025, 0.005, 2, 24), 2023)
    np.testing.assert_array_equal(image[:, 1, ::4].T, expected[:6])
    with pytest.raises(DataError, match="no patch of 2020; there are 2023"):
        reader.points([10], [50], 2020)


def test_polygons_weigh_patches_by_the_area_they_share(tmp_path):
    frame, vectors = patches(4, 384)
    frame.to_parquet(tmp_path / "index.parquet")
    reader = open_source(tmp_path, of="earth-index")
    shape = gpd.GeoSeries([shapely.box(10.005, 50.0, 10.0125, 50.01)], crs=4326)  # half of the first, a quarter of the second
    found = reader.polygons(shape, 2023, stats=("mean", "min", "max", "std"))
    mean = (vectors[0] * 2 + vectors[1]) / 3
    spread = np.sqrt((vectors[0] ** 2 * 2 + vectors[1] ** 2) / 3 - mean**2)
    bands = list(reader.product.bands)
    np.testing.assert_allclose(found[bands].to_numpy()[0], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[[f"{band}_std" for band in bands]].to_numpy()[0], spread, atol=1e-4)
    np.testing.assert_array_equal(found[[f"{band}_min" for band in bands]].to_numpy()[0], np.minimum(vectors[0], vectors[1]))
    np.testing.assert_array_equal(found[[f"{band}_max" for band in bands]].to_numpy()[0], np.maximum(vectors[0], vectors[1]))
    assert found["pixels"].iloc[0] == 2
    assert found["covered"].iloc[0] == pytest.approx(1)


def test_centres_need_the_size_of_a_patch(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((3, 768)).astype(np.float32)
    table = pd.DataFrame(
        {
            "embedding": list(vectors),
            "centre_lat": [50.0, 50.1, 50.2],
            "centre_lon": [10.0, 10.0, 10.0],
            "timestamp": pd.to_datetime(["2022-03-01", "2023-03-01", "2023-04-01"]),
            "grid_cell": ["1U_1R", "1U_2R", "1U_3R"],
        }
    )
    table.to_parquet(tmp_path / "mt.parquet")
    with pytest.raises(DataError, match="the record of major-tom does not state how large"):
        open_source(tmp_path / "mt.parquet", of="major-tom")
    record = tmp_path / "mine.yaml"
    record.write_text(
        "name: mine\ntitle: Mine\nfamily: mine\nversion: v1\ncolumns: ['m{}']\npixel_m: 2000\nunit: patch\ndtype: float32\n"
        "scale: {kind: none}\nlayouts: [geoparquet]\nlicence: MIT\ncitation: me\n"
    )
    reader = open_source(tmp_path / "mt.parquet", of=record)
    assert (reader.product.size, reader.years) == (768, [2022, 2023])
    np.testing.assert_array_equal(reader.points([10.005, 10.02], [50.105, 50.1], 2023)[0], vectors[1])
    assert np.isnan(reader.points([10.02], [50.1], 2023)).all()  # 1.4 km to the east
    pd.DataFrame({"lon": [10.0], "lat": [50.2]}).to_csv(tmp_path / "u.csv", index=False)
    made = extract_table(read_units(tmp_path / "u.csv"), reader, [2023], tmp_path / "out.parquet")
    np.testing.assert_array_equal(gpd.read_parquet(made.out)[[f"m{i}" for i in range(768)]].to_numpy()[0], vectors[2])


def test_a_stack_of_floats(tmp_path):
    values = np.random.default_rng(0).standard_normal((192, 30, 40)).astype(np.float32)
    values[:, 4, 5] = -9999
    values[:, 6, 7] = 0
    path = tmp_path / "2024" / "window.tif"
    path.parent.mkdir()
    profile = {"driver": "GTiff", "height": 30, "width": 40, "count": 192, "dtype": "float32", "nodata": -9999, "crs": 32632}
    with rasterio.open(path, "w", transform=Affine(10, 0, 500_000, 0, -10, 5_500_000), **profile) as file:
        file.write(values)
    ds = EmbeddingRasters(tmp_path, of="olmoearth-v1-tiny")
    values[:, [4, 6], [5, 7]] = np.nan
    np.testing.assert_array_equal(ds.chip(ds.units((30, 40))["unit_id"][0])["image"].numpy(), values)
    with pytest.raises(DataError, match="expected 768 bands of olmoearth-v1-base, found 192"):
        EmbeddingRasters(tmp_path, of="olmoearth-v1-base")


def test_codes_of_several_levels(tmp_path):
    levels, rng = (8, 8, 8, 5, 5, 5), np.random.default_rng(0)
    codes = np.stack([rng.integers(0, level, (3, 20, 20)) for level in levels], axis=1)  # (integers, levels, rows, columns)
    stored, basis = np.zeros((3, 20, 20), dtype=np.int64), 1
    for number, level in enumerate(levels):
        stored += codes[:, number] * basis
        basis *= level
    stored[:, 9, 9] = 65_535
    path = tmp_path / "2010" / "esd.tif"
    path.parent.mkdir()
    profile = {"driver": "GTiff", "height": 20, "width": 20, "count": 3, "dtype": "uint16", "nodata": 65_535, "crs": 32650}
    with rasterio.open(path, "w", transform=Affine(30, 0, 500_000, 0, -30, 4_000_000), **profile) as file:
        file.write(stored.astype(np.uint16))
    reader = open_source(tmp_path, of="esd")
    assert reader.product.size == 18
    half = np.array([level // 2 for level in levels])[None, :, None, None]
    expected = ((codes - half) / half).astype(np.float32).reshape(18, 20, 20)
    expected[:, 9, 9] = np.nan
    np.testing.assert_array_equal(reader.read(Grid("EPSG:32650", 500_000, 4_000_000, 30, 30, 20, 20), 2010), expected)
    lon, lat = Transformer.from_crs(32650, 4326, always_xy=True).transform([500_015 + 30 * 4], [4_000_000 - 15 - 30 * 7])
    np.testing.assert_array_equal(reader.points(lon, lat, 2010)[0], expected[:, 7, 4])


def test_a_geobox_of_another_library_is_a_grid(tmp_path):
    geobox = pytest.importorskip("odc.geo.geobox").GeoBox((20, 30), Affine(10, 0, 500_000, 0, -10, 4_000_000), "EPSG:32632")
    assert Grid.of(geobox) == Grid("EPSG:32632", 500_000, 4_000_000, 10, 10, 20, 30)


def test_several_patches_of_one_place_and_year_are_reported(tmp_path):
    frame, vectors = patches(1, 384)
    pd.concat([frame, frame.assign(embeddings=[vectors[0] + 1])]).to_parquet(tmp_path / "season.parquet")
    with pytest.warns(UserWarning, match="1 patches have the footprint and year of another; the first of each is read"):
        reader = open_source(tmp_path / "season.parquet", of="earth-index")
    np.testing.assert_array_equal(reader.points([10.005], [50.005], 2023), vectors)


def test_floats_that_are_no_components_are_missing_and_a_file_of_them_is_refused(tmp_path):
    """Of a product with unit vectors, as Earth Engine exports it: a fill value, zeros, a band that is missing, a value of seven."""
    values = np.random.default_rng(0).standard_normal((64, 20, 20)).astype(np.float32)
    values /= np.linalg.norm(values, axis=0)
    expected = values.copy()
    values[:, 1, 1], values[:, 2, 2], values[5, 3, 3], values[9, 4, 4] = -9999, 0, np.nan, 7
    expected[:, [1, 2, 3, 4], [1, 2, 3, 4]] = np.nan
    profile = {"driver": "GTiff", "height": 20, "width": 20, "count": 64, "dtype": "float32", "crs": 32633}
    for name, data in (("some", values), ("all", values * 100)):
        (tmp_path / name / "2023").mkdir(parents=True)
        with rasterio.open(tmp_path / name / "2023" / "a.tif", "w", transform=Affine(10, 0, 500_000, 0, -10, 5_500_000), **profile) as file:
            file.write(data)
    grid = Grid("EPSG:32633", 500_000, 5_500_000, 10, 10, 20, 20)
    np.testing.assert_array_equal(open_source(tmp_path / "some").read(grid, 2023), expected)
    with pytest.raises(DataError, match="expected decoded components in"):
        open_source(tmp_path / "all").read(grid, 2023)
