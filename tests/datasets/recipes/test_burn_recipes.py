"""Burn scars from perimeters: masks on the chips' own pixels, granules cut, old scars and clouds without a label; the Himalaya held out."""

from __future__ import annotations

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
import shapely
from rasterio.transform import from_origin

from rs05bench.datamodules.open_data import open_source
from rs05bench.datasets.burn_scars import HLSBurnScars
from rs05bench.datasets.mgrs import parse_tile
from rs05bench.datasets.recipes import build
from rs05bench.datasets.recipes.himalaya import slope_degrees
from rs05bench.errors import DataError
from tests.chip_files import SIDE
from tests.datasets.data import write_raster

LAYERS = ("B02", "B03", "B04", "B8A", "B11", "B12", "Fmask")


def perimeters(masks: list[Path], **more: object) -> gpd.GeoDataFrame:
    """Outlines of the burnt squares, as MTBS writes its boundaries: 40 days before each image."""
    rows = []
    for number, path in enumerate(sorted(masks)):
        tile, date = path.name.split(".")[2].removeprefix("T"), pd.to_datetime(path.name.split(".")[3], format="%Y%j")
        with rasterio.open(path) as src:
            mask = src.read(1)
            shapes = [shape for shape, value in rasterio.features.shapes(mask, mask == 1, transform=src.transform)]
        geometry = gpd.GeoSeries([shapely.geometry.shape(shape) for shape in shapes], crs=parse_tile(tile).crs).union_all()
        rows.append(
            {
                "Event_ID": f"CA{number:03d}{tile}",
                "Incid_Name": "UNNAMED",
                "Incid_Type": "Wildfire",
                "BurnBndAc": 355,
                "Ig_Date": (date - pd.Timedelta(days=40)).strftime("%Y-%m-%d"),
                "geometry": gpd.GeoSeries([geometry], crs=parse_tile(tile).crs).to_crs(4269).iloc[0],
            }
        )
    return gpd.GeoDataFrame(rows, crs=4269).assign(**more)


@pytest.fixture(scope="session")
def template(chip_folder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("mtbs")
    (root / "chips").mkdir(parents=True)
    source = chip_folder / "hls_burn_scars"
    for path in source.rglob("*_merged.tif"):
        shutil.copy(path, root / "chips" / path.name)
    perimeters(list(source.rglob("*.mask.tif"))).to_file(root / "mtbs_perims_DD.shp")
    return root


@pytest.fixture
def root(template, tmp_path) -> Path:
    return shutil.copytree(template, tmp_path / "root")


@pytest.fixture(scope="session")
def built(template, tmp_path_factory):
    return build("mtbs-hls", template, tmp_path_factory.mktemp("built") / "out")


def granule(folder: Path, tile: str, date: str, east: float, north: float, *, clouds: int = 0) -> None:
    """An HLS granule of 120 x 120 pixels."""
    for number, layer in enumerate(LAYERS):
        values = np.full((120, 120), 300 + 100 * number, np.int16)
        if layer == "Fmask":
            values = np.zeros((120, 120), np.uint8)
            values[:clouds] = 1 << 1
            values[clouds : clouds + 6] = 1 << 4
        path = folder / f"HLS.S30.T{tile}.{date}T184919.v2.0.{layer}.tif"
        write_raster(path, values[None], parse_tile(tile).crs, from_origin(east, north, 30, 30))


# MTBS -----------------------------------------------------------------------------------------------------------------------------------


def test_masks_are_the_perimeters_on_the_pixels_of_each_chip(built, chip_folder):
    made, published = HLSBurnScars(built.folder / "chips"), HLSBurnScars(chip_folder / "hls_burn_scars")
    assert made.unit_ids == published.unit_ids
    for unit_id in made.unit_ids:
        ours, theirs = made.chip(unit_id)["mask"].numpy(), published.chip(unit_id)["mask"].numpy()
        assert ((ours == 1) == (theirs == 1)).all(), unit_id
    # The scar of 2018 may still be seen in 2020: no label there, unless it burned again.
    first, second = published.chip("T12TTS.2018190")["mask"].numpy(), published.chip("T12TTS.2020200")["mask"].numpy()
    assert (made.chip("T12TTS.2020200")["mask"].numpy()[(first == 1) & (second == 0)] == -1).all()
    assert {"leave-state-out", "leave-year-out"} <= set(built.card.splits)
    assert any(split.startswith("until-") for split in built.card.splits)


def test_the_built_folder_opens_as_a_task(built):
    source = open_source(built.card, built.folder)
    assert len(source.units().frame) == built.counts["units"] == 19
    assert source.units().frame["fire"].nunique() == 18  # the pair in 10SEH shows one


def test_biomes_come_from_a_layer(root, tmp_path):
    halves = [shapely.box(-130, 20, -100, 50), shapely.box(-100, 20, -60, 50)]
    gpd.GeoDataFrame({"BIOME_NAME": ["dry", "wet"]}, geometry=halves, crs=4326).to_file(root / "Ecoregions2017.gpkg")
    built = build("mtbs-hls", root, tmp_path / "out")
    assert "leave-biome-out" in built.card.splits
    assert set(open_source(built.card, built.folder).units().frame["biome"]) == {"dry", "wet"}


def test_chips_are_cut_from_the_first_granule_that_is_clear(root, tmp_path):
    east, north = parse_tile("11SKB").corner[0] + 60_000, parse_tile("11SKB").corner[1] + 60_000
    for date, clouds in (("2021205", 0), ("2021215", 100), ("2021225", 10), ("2021330", 0)):
        granule(root / "hls", "11SKB", date, east, north, clouds=clouds)
    burnt = shapely.box(east + 900, north - 2_400, east + 2_400, north - 900)
    table = gpd.read_file(root / "mtbs_perims_DD.shp")
    shape = gpd.GeoSeries([burnt], crs=parse_tile("11SKB").crs).to_crs(4269).iloc[0]
    new = {"Event_ID": "NV2", "Incid_Type": "Wildfire", "Ig_Date": "2021-07-20", "geometry": shape}
    lost = {"Event_ID": "NV3", "Incid_Type": "Wildfire", "Ig_Date": "2017-07-20", "geometry": shape}
    burned = {"Event_ID": "NV4", "Incid_Type": "Prescribed Fire", "Ig_Date": "2021-07-20", "geometry": shape}
    pd.concat([table, gpd.GeoDataFrame([new, lost, burned], crs=4269)]).to_file(root / "mtbs_perims_DD.shp")
    built = build("mtbs-hls", root, tmp_path / "out")
    chip = HLSBurnScars(built.folder / "chips").chip("T11SKB.2021225")  # 205 is 4 days after, 215 under clouds
    assert chip["image"].shape[-2:] == (120, 120)
    assert np.allclose(chip["image"][:, 60, 60].numpy(), [0.03, 0.04, 0.05, 0.06, 0.07, 0.08])
    mask = chip["mask"].numpy()
    assert (mask[:10] == -1).all()
    assert (mask[30:80, 30:80] == 1).all()
    assert (mask == 1).sum() == 2_500
    dropped = {item["reason"].split(",")[0]: item["count"] for item in built.dropped}
    assert dropped["prescribed fires"] == 1
    assert dropped["fires without a clear granule of their own"] == 20


def test_severity_takes_labels_away(root, tmp_path):
    path = next(iter((root / "chips").glob("*T12TTS.2018190*_merged.tif")))
    table = gpd.read_file(root / "mtbs_perims_DD.shp")
    event = next(name for name in table["Event_ID"] if name.endswith("12TTS"))
    with rasterio.open(path) as src:
        classes = np.full((1, SIDE, SIDE), 3, np.uint8)
        classes[:, :, : SIDE // 2], classes[:, : SIDE // 2] = 1, 6
        write_raster(root / f"severity/{event.lower()}_20180601_20180709_dnbr6.tif", classes, parse_tile("12TTS").crs, src.transform)
    soft = build("mtbs-hls", root, tmp_path / "a")
    whole = HLSBurnScars(soft.folder / "chips").chip("T12TTS.2018190")["mask"].numpy()
    hard = build("mtbs-hls", root, tmp_path / "b", options={"min_severity": 2})
    least = HLSBurnScars(hard.folder / "chips").chip("T12TTS.2018190")["mask"].numpy()
    half = SIDE // 2
    assert not (whole[:half] == 1).any()
    assert (whole[half:] == 1).any()
    assert (least[half:, :half][whole[half:, :half] == 1] == 0).all()
    assert ((least[half:, half:] == 1) == (whole[half:, half:] == 1)).all()


@pytest.mark.parametrize("written", ["20180530", "2018-05-30", 1527638400000.0])
def test_days_of_ignition_are_read_as_they_are_written(tmp_path, written):
    from rs05bench.datasets.recipes.burn_chips import _days

    assert _days(pd.Series([written])).iloc[0] == pd.Timestamp("2018-05-30")


def test_wrong_sources_are_refused(root, tmp_path):
    def refused(said: str) -> None:
        with pytest.raises(DataError, match=said):
            build("mtbs-hls", root, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    table = gpd.read_file(root / "mtbs_perims_DD.shp")
    table.drop(columns="Ig_Date").to_file(root / "mtbs_perims_DD.shp")
    refused("mtbs_perims_DD.shp: column Ig_Date or IDate .* missing; it has Event_ID")
    table.assign(Ig_Date="summer").to_file(root / "mtbs_perims_DD.shp")
    refused("no date of ignition can be read, e.g. 'summer'")
    table.assign(Ig_Date="1999-01-01").to_file(root / "mtbs_perims_DD.shp")
    refused("none of 19 chips shows a fire of the 120 days before it")
    table.to_file(root / "mtbs_perims_DD.shp")
    path = next((root / "chips").glob("*T12TTS.2018190*"))
    path.write_bytes(path.read_bytes()[:300])
    refused("T12TTS.2018190")
    shutil.rmtree(root / "chips")
    refused(r"neither HLS granules \(hls/\) nor chips")
    granule(root / "hls", "11SKB", "2021205", 500_000, 4_000_000)
    next((root / "hls").glob("*B8A*")).unlink()
    refused(r"granule T11SKB 2021205 \(S30, 184919\) lacks B8A")


def test_tiles_beside_the_sources_become_the_embedding_of_the_chips(root, chip_folder, tmp_path):
    shutil.copytree(chip_folder / "alphaearth", root / "alphaearth")
    built = build("mtbs-hls", root, tmp_path / "out")
    values = open_source(built.card, built.folder).pixels.embedding("T12TTS.2018190", 2018)
    assert values.shape == (64, SIDE, SIDE)
    assert (values[0] != -128).mean() > 0.5


# Himalaya -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mountains(chip_folder, tmp_path) -> Path:
    """Home chips as published; four chips in Uttarakhand; elevation under two of them that rises one metre in two."""
    root = tmp_path / "mountains"
    shutil.copytree(chip_folder / "hls_burn_scars", root / "home")
    source = sorted((chip_folder / "hls_burn_scars").rglob("*_merged.tif"))[:4]
    masks = []
    for path, (tile, date) in zip(
        source, [("44RLT", "2019130"), ("44RLT", "2021120"), ("43RGP", "2020125"), ("44RMU", "2022140")], strict=True
    ):
        east, north = parse_tile(tile).corner[0] + 40_000, parse_tile(tile).corner[1] + 60_000
        stem = f"subsetted_{SIDE}x{SIDE}_HLS.S30.T{tile}.{date}.v2.0"
        with rasterio.open(path) as image, rasterio.open(path.with_name(path.name.replace("_merged", ".mask"))) as mask:
            place = from_origin(east, north, 30, 30)
            write_raster(root / f"chips/{stem}_merged.tif", image.read(), parse_tile(tile).crs, place)
            masks.append(write_raster(tmp_path / f"masks/{stem}.mask.tif", mask.read(), parse_tile(tile).crs, place, nodata=-1))
    found = perimeters([tmp_path / "masks" / path.name for path in (tmp_path / "masks").iterdir()])
    found.rename(columns={"Ig_Date": "IDate", "Event_ID": "Id"}).to_file(root / "perimeters.gpkg")
    step, west, north = 0.001, 77.0, 33.0
    rise = np.arange(5_000) * step * 111_320 * np.cos(np.radians(31)) * 0.5
    rise = np.abs(rise % 16_000 - 8_000)  # ridges and valleys of one slope, because no land is higher than 9,000 m
    elevation = np.broadcast_to(rise.astype(np.float32), (1, 4_000, 5_000)).copy()
    write_raster(root / "dem/Copernicus_DSM_COG_10_N30_00_E078_00_DEM.tif", elevation, "EPSG:4326", from_origin(west, north, step, step))
    return root


def test_the_himalaya_is_held_out_with_its_terrain(mountains, tmp_path):
    built = build("himalaya", mountains, tmp_path / "out")
    frame = open_source(built.card, built.folder).units().frame
    assert frame["region"].value_counts().to_dict() == {"home": 19, "himalaya": 4}
    assert set(frame.loc[frame["region"] == "himalaya", "terrain"]) == {"steep"}
    assert set(frame.loc[frame["region"] == "home", "terrain"]) == {"unknown"}
    assert "leave-region-out" in built.card.splits
    terrain = gpd.read_file(built.folder / "terrain.gpkg")
    steep = terrain[terrain["terrain"] == "steep"]
    assert np.allclose(steep["slope_deg"], np.degrees(np.arctan(0.5)), atol=1.5)
    assert any("no elevation" in note for note in built.notes)


def test_slope_of_a_plane():
    rows, columns = np.indices((20, 30))
    assert np.allclose(slope_degrees(30.0 * (0.3 * columns + 0.4 * rows), 30.0), np.degrees(np.arctan(0.5)))


def test_chips_in_the_wrong_folder_are_refused(mountains, tmp_path):
    path = next((mountains / "chips").glob("*.tif"))
    shutil.copy(path, mountains / "home" / path.name)
    shutil.copy(next((mountains / "home").rglob("*.mask.tif")), mountains / "home" / path.name.replace("_merged", ".mask"))
    with pytest.raises(DataError, match="in the Hindu Kush Himalaya"):
        build("himalaya", mountains, tmp_path / "out")
    next((mountains / "home").rglob("*T12TTS*.mask.tif")).unlink()
    with pytest.raises(DataError, match=r"1 of 20 chips of the home region have no mask, e.g. .*12TTS"):
        build("himalaya", mountains, tmp_path / "out")


def test_two_passes_of_a_day_are_two_granules(tmp_path: Path):
    from rs05bench.datasets.recipes.hls import find_granules

    granule(tmp_path, "10SEJ", "2020190", 500_000, 4_000_000)
    for path in sorted(tmp_path.glob("*.tif")):
        path.with_name(path.name.replace("T184919", "T183000")).write_bytes(path.read_bytes())
    assert len(find_granules(sorted(tmp_path.glob("*.tif")))) == 2
    next(tmp_path.glob("*T183000*.B04.tif")).unlink()
    with pytest.raises(DataError, match=r"granule T10SEJ 2020190 \(S30, 183000\) lacks B04"):
        find_granules(sorted(tmp_path.glob("*.tif")))
