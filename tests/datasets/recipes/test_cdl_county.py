"""CDL by county: pixels drawn by their own hash, the system of a county by its rule, embedding and HLS at each."""

from __future__ import annotations

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from rs05bench.datasets.recipes import build
from rs05bench.datasets.recipes.cdl_county import crop_system
from rs05bench.errors import DataError
from tests.datasets.recipes.landscape import CRS, NORTH, SIDE, SITES, SIZE, kind, write_tiles

CODES = (1, 5, 24, 36)  # corn, soybeans, winter wheat, alfalfa
COUNTIES = ("19001", "19003", "20001")  # two of Iowa, one of Kansas
RES, WIDTH = 30.0, 2_060


def raster(path: Path, year: int, values: np.ndarray | None = None, dtype: str = "uint8") -> Path:
    """A CDL over all three landscapes; grass between them."""
    codes = np.full((SIZE * 10 // 30 + 1, WIDTH + 1), 176, np.uint8)
    for site, west in enumerate(SITES):
        side = SIZE // SIDE
        for row in range(side):
            for column in range(side):
                top, left = round(row * SIDE / 3), round((west - SITES[0]) / 30 + column * SIDE / 3)
                bottom, right = round((row + 1) * SIDE / 3), round((west - SITES[0]) / 30 + (column + 1) * SIDE / 3)
                codes[top:bottom, left:right] = CODES[kind(site, row, column, year)]
    codes[:3, :3] = 0
    profile = {
        "driver": "GTiff",
        "count": 1,
        "dtype": dtype,
        "crs": CRS,
        "transform": from_origin(SITES[0], NORTH, RES, RES),
        "compress": "lzw",
    }
    with rasterio.open(path, "w", height=codes.shape[0], width=codes.shape[1], **profile) as file:
        file.write((codes if values is None else np.broadcast_to(values, codes.shape)).astype(dtype), 1)
    return path


def granule(folder: Path, date: str, level: int, *, skip: str = "", cloudy_columns: int = 0) -> None:
    """An HLS granule over the first landscape."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, layer in enumerate(("B02", "B03", "B04", "B8A", "B11", "B12", "Fmask")):
        if layer == skip:
            continue
        dtype = "uint8" if layer == "Fmask" else "int16"
        values = np.zeros((60, 60), dtype) if layer == "Fmask" else np.full((60, 60), level + 100 * number, dtype)
        if layer == "Fmask":
            values[:, :cloudy_columns] = 1 << 1
        path = folder / f"HLS.S30.T10SEJ.{date}T184919.v2.0.{layer}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", height=60, width=60, count=1, dtype=dtype, crs=CRS, transform=from_origin(SITES[0], NORTH, 30, 30)
        ) as file:
            file.write(values, 1)


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cdl")
    write_tiles(root, (2021, 2022))
    for year in (2021, 2022):
        raster(root / f"{year}_30m_cdls.tif", year)
    shapes = [shapely.box(west, NORTH - 1_600, west + 1_600, NORTH) for west in SITES]
    gpd.GeoDataFrame({"GEOID": COUNTIES, "NAME": ["a", "b", "c"]}, geometry=shapes, crs=CRS).to_crs(4269).to_file(
        root / "tl_2022_us_county.shp"
    )
    return root


@pytest.fixture
def root(template, tmp_path) -> Path:
    return shutil.copytree(template, tmp_path / "root")


OPTIONS = {"per_class": 25, "block_m": 400}


@pytest.fixture(scope="session")
def built(template, tmp_path_factory):
    return build("cdl-county", template, tmp_path_factory.mktemp("built") / "out", options=OPTIONS)


def test_pixels_carry_the_class_county_state_and_system_of_their_place(template, built):
    frame = pd.read_parquet(built.folder / "units.parquet")
    assert set(frame["state"]) == {"IA", "KS"}
    assert frame.groupby(["county", "year", "crop"]).size().max() == 25
    code = {"Corn": 1, "Soybeans": 5, "Winter Wheat": 24, "Alfalfa": 36}
    crops = frame[frame["crop"] != "Natural Vegetation"]
    assert (crops["crop"].map(code) == crops["cdl_code"]).all()
    with rasterio.open(template / "2022_30m_cdls.tif") as src:
        of_year = frame[frame["year"] == 2022]
        points = gpd.GeoSeries.from_xy(of_year["lon"], of_year["lat"], crs=4326).to_crs(CRS)
        assert [value[0] for value in src.sample(zip(points.x, points.y, strict=True))] == of_year["cdl_code"].tolist()
    assert {"leave-county-out", "leave-state-out", "leave-year-out"} <= set(built.card.splits)


def test_where_the_class_stays_the_pixel_stays(built):
    frame = pd.read_parquet(built.folder / "units.parquet")
    years = {year: set(group["place"]) for year, group in frame.groupby("year")}
    assert len(years[2021] & years[2022]) > 0.4 * len(years[2021])


def test_the_system_is_the_group_with_half_of_what_is_grown():
    counts = np.zeros(256, np.int64)
    assert crop_system(counts) == "none"
    counts[[1, 5, 24, 141]] = 300, 200, 100, 9_000  # forest is not grown
    assert crop_system(counts) == "corn-soy"
    counts[24] = 600
    assert crop_system(counts) == "wheat"
    counts[3] = 200
    assert crop_system(counts) == "mixed"


def test_confidence_leaves_out_what_is_unsure(root, tmp_path):
    raster(root / "2021_30m_confidence_layer.tif", 2021, values=np.arange(WIDTH + 1) % 100)
    raster(root / "2022_30m_confidence_layer.tif", 2022, values=np.arange(WIDTH + 1) % 100)
    built = build("cdl-county", root, tmp_path / "out", options={**OPTIONS, "min_confidence": 40})
    assert pd.read_parquet(built.folder / "units.parquet")["cdl_confidence"].min() >= 40


def test_hls_seasons_are_means_of_clear_observations(root, tmp_path):
    shutil.rmtree(root / "alphaearth")
    granule(root / "hls", "2021170", 1000)
    granule(root / "hls", "2021200", 2000, cloudy_columns=25)
    granule(root / "hls", "2022130", 500)
    built = build("cdl-county", root, tmp_path / "out", options=OPTIONS)
    frame = pd.read_parquet(built.folder / "units.parquet").set_index("pixel_id")
    assert set(frame["county"]) == {"19001"}  # the granule shows no other
    assert {item["reason"] for item in built.dropped} == {"no clear HLS observation"}
    column = (gpd.GeoSeries.from_xy(frame["lon"], frame["lat"], crs=4326).to_crs(CRS).x.to_numpy() - SITES[0]) // 30
    summer = frame["year"].to_numpy() == 2021
    assert np.allclose(frame["B02_2"][summer & (column < 25)], 0.10)
    assert np.allclose(frame["B02_2"][summer & (column >= 25)], 0.15)
    assert np.allclose(frame["B02_1"][~summer], 0.05)
    assert frame["B02_2"][~summer].isna().all()
    assert set(built.card.features) == {"raw"}


def test_wrong_sources_are_refused(root, tmp_path):
    def refused(said: str) -> None:
        with pytest.raises(DataError, match=said):
            build("cdl-county", root, tmp_path / "out", options=OPTIONS)

    granule(root / "hls", "2021170", 1000, skip="B11")
    refused(r"granule T10SEJ 2021170 \(S30, 184919\) lacks B11")
    shutil.rmtree(root / "hls")
    raster(root / "2021_30m_confidence_layer.tif", 2021)
    with rasterio.open(root / "2021_30m_confidence_layer.tif", "r+") as file:
        file.transform = from_origin(0, 0, 30, 30)
    refused("does not lie on the grid of 2021_30m_cdls.tif")
    (root / "2021_30m_confidence_layer.tif").unlink()
    raster(root / "2021_30m_cdls.tif", 2021, dtype="float32")
    refused("2021_30m_cdls.tif: expected pixels of type uint8, found float32")
    (root / "2021_30m_cdls.tif").rename(root / "cdls.tif")
    refused("cdls.tif: its name says no year")
    (root / "cdls.tif").unlink()
    (root / "2022_30m_cdls.tif").write_bytes((root / "2022_30m_cdls.tif").read_bytes()[:2_000])
    refused("2022_30m_cdls.tif: ")
    raster(root / "2022_30m_cdls.tif", 2022)
    shutil.rmtree(root / "alphaearth")
    refused("neither tiles of an embedding .* nor HLS granules")
