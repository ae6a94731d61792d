"""NLCD, Chesapeake and Dynamic World over cells: the label is what the raster holds, and what is no such raster is refused."""

from __future__ import annotations

import shutil

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from rs05bench.datasets.card_check import check_card
from rs05bench.datasets.recipes import build, find_recipe
from rs05bench.datasets.recipes.job import BuildJob
from rs05bench.datasets.recipes.urban_cells import cells
from rs05bench.errors import DataError
from tests.datasets.recipes.landscape import CRS, NORTH, SITES
from tests.datasets.recipes.urban_files import SMALL, TOWNS, town_raster, write_all, write_towns


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    return write_towns(tmp_path_factory.mktemp("towns"), (2020, 2021))


@pytest.fixture
def root(towns, tmp_path):
    return shutil.copytree(towns, tmp_path / "source")


def pixels(grid):
    """A value for each 200 m cell as pixels of 100 m."""
    return grid.repeat(2, axis=-2).repeat(2, axis=-1)


def percents(seed=0):
    rng = np.random.default_rng(seed)
    return [pixels(rng.integers(0, 101, (8, 8)).astype(np.uint8)) for _ in SITES]


def cell_of(frame):
    """Row and column of each unit's cell in its town, and the town's number."""
    points = gpd.GeoSeries(gpd.points_from_xy(frame["lon"], frame["lat"]), crs=4326).to_crs(CRS)
    site = frame["city"].map({name: i for i, name in enumerate(TOWNS)}).to_numpy()
    return ((NORTH - points.y) // 200).astype(int).to_numpy(), ((points.x - np.array(SITES)[site]) // 200).astype(int).to_numpy(), site


def test_impervious_is_the_raster_and_two_years_give_a_year_split(root, tmp_path):
    values = {year: percents(year) for year in (2020, 2021)}
    for year, grids in values.items():
        write_all(root / f"Annual_NLCD_FctImp_{year}_CU_C1V1.tif", grids, fill=250)
    built = build("nlcd-impervious", root, tmp_path / "out", options=SMALL)
    frame = pd.read_parquet(built.folder / "units.parquet")
    assert len(frame) == 2 * 3 * 64
    row, column, site = cell_of(frame)
    expected = [values[y][s][2 * r, 2 * c] for y, s, r, c in zip(frame["year"], site, row, column, strict=True)]
    assert frame["impervious_pct"].to_numpy() == pytest.approx(expected)
    assert {"leave-city-out", "leave-year-out", "leave-city-year-out", "within-city"} <= set(built.card.splits)
    assert check_card(built.card, built.folder).right
    assert "AlphaEarth was trained towards NLCD" in built.card.notes
    assert "A00_std" in frame.columns


def test_a_cell_takes_the_mean_of_its_pixels(root, tmp_path):
    rng = np.random.default_rng(1)
    for site in range(3):
        town_raster(root / f"Annual_NLCD_FctImp_2021_{TOWNS[site]}.tif", site, rng.integers(0, 101, (80, 80)).astype(np.uint8))
    built = build("nlcd-impervious", root, tmp_path / "out", options=SMALL)
    frame = pd.read_parquet(built.folder / "units.parquet")
    rng = np.random.default_rng(1)
    whole = {name: rng.integers(0, 101, (80, 80)).astype(float).reshape(8, 10, 8, 10).mean(axis=(1, 3)) for name in TOWNS}
    row, column, _ = cell_of(frame)
    expected = [whole[city][r, c] for city, r, c in zip(frame["city"], row, column, strict=True)]
    assert frame["impervious_pct"].to_numpy() == pytest.approx(expected, abs=0.01)


def test_127_and_250_are_missing(root, tmp_path):
    grids = percents()
    grids[0][:, :8] = 127
    grids[1][:, 8:] = 250
    write_all(root / "nlcd_2021_impervious_l48_20230630.tif", grids, fill=127)
    built = build("nlcd-impervious", root, tmp_path / "out", options=SMALL)
    counts = built.counts["by city"]
    assert counts == {"Ash": 32, "Birch": 32, "Cedar": 64}
    assert any("label known on less than" in item["reason"] and item["count"] == 64 for item in built.dropped)
    assert built.splits_left_out.keys() >= {"leave-year-out"}


def test_what_is_no_percentage_is_refused(root, tmp_path):
    covers = [np.random.default_rng(i).choice([11, 21, 22, 41, 82], (16, 16)).astype(np.uint8) for i in range(3)]
    path = write_all(root / "Annual_NLCD_FctImp_2021_CU_C1V1.tif", covers, fill=250)
    with pytest.raises(DataError, match="holds only land cover codes") as caught:
        build("nlcd-impervious", root, tmp_path / "out")
    assert "FctImp_2021" in str(caught.value)
    path.unlink()
    path = write_all(root / "NLCD_2021_Land_Cover_Impervious.tif", percents())
    with pytest.raises(DataError, match="is land cover by its name"):
        build("nlcd-impervious", root, tmp_path / "out")
    path.unlink()
    path = write_all(root / "Annual_NLCD_FctImp_2021_CU_C1V1.tif", [grid + np.uint8(90) for grid in percents()], fill=250)
    with pytest.raises(DataError, match="between 0 and 100, found 1"):
        build("nlcd-impervious", root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_years_before_the_embedding_and_names_without_one(root, tmp_path):
    path = write_all(root / "Annual_NLCD_FctImp_2016_CU_C1V1.tif", percents())
    with pytest.raises(DataError, match="are of 2016, and the embedding begins in 2017"):
        build("nlcd-impervious", root, tmp_path / "out")
    path.rename(root / "impervious.tif")
    with pytest.raises(DataError, match="its name says no single year"):
        build("nlcd-impervious", root, tmp_path / "out")


def test_files_that_do_not_overlap_or_are_cut(root, tmp_path):
    grid = np.full((16, 16), 5, np.uint8)
    import rasterio
    from rasterio.transform import from_origin

    path = root / "Annual_NLCD_FctImp_2021_CU_C1V1.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=16, width=16, count=1, dtype="uint8", crs=CRS, transform=from_origin(0, 0, 30, 30)
    ) as dst:
        dst.write(grid, 1)
    with pytest.raises(DataError, match="no cell of Ash, Birch, Cedar lies on"):
        build("nlcd-impervious", root, tmp_path / "out")
    write_all(path, percents())
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"cannot be read|cannot be opened|shorter than"):
        build("nlcd-impervious", root, tmp_path / "out")
    path.unlink()
    with pytest.raises(DataError, match="sources of nlcd-impervious is missing") as caught:
        build("nlcd-impervious", root, tmp_path / "out")
    assert "mrlc.gov" in str(caught.value)


def test_areas_are_refused_without_a_name_or_a_cell(root, tmp_path):
    write_all(root / "Annual_NLCD_FctImp_2021_CU_C1V1.tif", percents())
    towns = gpd.read_file(root / "areas.gpkg")
    (root / "areas.gpkg").unlink()
    towns.drop(columns="name").to_file(root / "areas.gpkg")
    with pytest.raises(DataError, match="column city or name"):
        build("nlcd-impervious", root, tmp_path / "out")
    towns.assign(name=["Ash", None, "Cedar"]).to_file(root / "areas.gpkg")
    with pytest.raises(DataError, match="a city has no name"):
        build("nlcd-impervious", root, tmp_path / "out")
    towns.to_file(root / "areas.gpkg")
    for options, words in [({"cell_m": 5}, "at least 20 m"), ({"cell_m": 3000}, "no whole cell of 3000 m")]:
        with pytest.raises(DataError, match=words):
            build("nlcd-impervious", root, tmp_path / "out", options=options)


def test_cells_are_drawn_by_their_place_alone(root, tmp_path):
    recipe = find_recipe("nlcd-impervious")
    taken = {}
    for name, options in {
        "few": {"per_city": 30},
        "more": {"per_city": 50},
        "other": {"per_city": 30, "seed": 1},
        "all": {"per_city": 0},
    }.items():
        job = BuildJob(recipe, root, tmp_path, recipe.values({**SMALL, **options}))
        taken[name] = set(cells(job)["cell_id"])
        assert sum(item["count"] for item in job.dropped) == 192 - len(taken[name])
    assert [len(names) for names in taken.values()] == [90, 150, 90, 192]
    assert taken["few"] < taken["more"] < taken["all"]
    assert taken["few"] != taken["other"]


def test_layers_under_the_root_give_a_hybrid_set(root, tmp_path):
    write_all(root / "Annual_NLCD_FctImp_2021_CU_C1V1.tif", percents())
    town_raster(root / "layers/dem/a.tif", 0, np.full((16, 16), 50, np.float32))
    for site in (1, 2):
        town_raster(root / f"layers/dem/{site}.tif", site, np.full((16, 16), 80, np.float32))
    (root / "layers/urban").mkdir()
    gpd.GeoDataFrame(geometry=[shapely.box(SITES[0], NORTH - 100, SITES[2] + 1600, NORTH)], crs=CRS).to_file(root / "layers/urban/u.gpkg")
    built = build("nlcd-impervious", root, tmp_path / "out", options=SMALL)
    frame = pd.read_parquet(built.folder / "units.parquet")
    assert frame.groupby("city")["dem_elevation_m"].unique().map(list).tolist() == [[50], [80], [80]]
    assert built.card.features["hybrid"].columns == ["alphaearth", "layers"]
    assert "dist_urban_m" not in frame.columns
    assert any("urban is left out" in note for note in built.notes)


LULC = np.array([22, 25, 21, 28, 41, 82, 11, 91], np.uint8)


def test_chesapeake_share_and_class(root, tmp_path):
    rng = np.random.default_rng(2)
    for site in range(3):
        # Eight blocks of 200 m, each of one class but for a fifth of roads.
        codes = LULC[rng.integers(0, 8, (8, 8))].repeat(40, axis=0).repeat(40, axis=1)
        codes[::5] = 21
        town_raster(root / f"{('dc', 'md', 'va')[site]}_lulc_2021_2022-Edition.tif", site, codes, compress="deflate")
    share = build("chesapeake-cover", root, tmp_path / "share", options=SMALL)
    frame = pd.read_parquet(share.folder / "units.parquet")
    assert set(frame["impervious_pct"].round(3)) == {20.0, 100.0}
    assert share.card.targets == ["impervious_pct"]
    classes = build("chesapeake-cover", root, tmp_path / "class", options={**SMALL, "target": "class"})
    frame = pd.read_parquet(classes.folder / "units.parquet")
    assert set(classes.card.classes) == {"impervious", "turf", "forest", "farmland", "water", "wetland"}
    assert set(frame.loc[frame["cover"] != "impervious", "cover_share"].round(3)) == {0.8}
    assert set(frame.loc[frame["cover"] == "impervious", "impervious_pct"]) == {100.0}
    assert "impervious_pct" in classes.card.never_features
    assert check_card(classes.card, classes.folder).right


def test_chesapeake_refuses_other_legends(root, tmp_path):
    for site in range(3):
        town_raster(root / f"md_lc_2021_2022-Edition_{site}.tif", site, np.full((160, 160), 6 + site, np.uint8))
    for path in sorted(root.glob("md_lc_*")):
        path.rename(root / f"{('dc', 'md', 'va')[int(path.stem[-1])]}_lc_2021_2022-Edition.tif")
    built = build("chesapeake-cover", root, tmp_path / "lc", options=SMALL)
    assert set(pd.read_parquet(built.folder / "units.parquet")["impervious_pct"]) == {0.0, 100.0}
    town_raster(root / "dc_lc_2021_2022-Edition.tif", 0, np.full((160, 160), 41, np.uint8))
    with pytest.raises(DataError, match="codes that are not in its legend: 41"):
        build("chesapeake-cover", root, tmp_path / "a", options=SMALL)
    town_raster(root / "dc_lulc_2021_2022-Edition.tif", 0, np.full((160, 160), 41, np.uint8))
    with pytest.raises(DataError, match="their legends differ"):
        build("chesapeake-cover", root, tmp_path / "b", options=SMALL)
    (root / "dc_lulc_2021_2022-Edition.tif").rename(root / "Maryland_lulc_2021_2022-Edition.tif")
    with pytest.raises(DataError, match="is not named as published"):
        build("chesapeake-cover", root, tmp_path / "c", options=SMALL)


BANDS = ("water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built", "bare", "snow_and_ice", "label")


def composite(rng, side=8):
    """An Earth Engine export: nine probabilities and the label, float32, one masked corner written as 0."""
    logits = rng.normal(size=(9, side, side))
    logits[6] += 1
    chances = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=0)
    stack = np.vstack([chances, chances.argmax(axis=0)[None]]).astype(np.float32)
    stack[:, :2, :2] = 0
    return pixels(stack)


def test_dynamic_world_share_and_class_know_masked_pixels(root, tmp_path):
    rng = np.random.default_rng(3)
    stacks = [composite(rng) for _ in SITES]
    for site, stack in enumerate(stacks):
        town_raster(root / f"dynamic_world_2021_{TOWNS[site]}.tif", site, stack, names=BANDS)
    built = build("dynamic-world", root, tmp_path / "share", options=SMALL)
    frame = pd.read_parquet(built.folder / "units.parquet")
    assert len(frame) == 3 * (64 - 4)
    row, column, site = cell_of(frame)
    expected = [100 * stacks[s][6, 2 * r, 2 * c] for s, r, c in zip(site, row, column, strict=True)]
    assert frame["built_pct"].to_numpy() == pytest.approx(expected, rel=1e-5)
    classes = build("dynamic-world", root, tmp_path / "class", options={**SMALL, "target": "class"})
    frame = pd.read_parquet(classes.folder / "units.parquet")
    row, column, site = cell_of(frame)
    names = [BANDS[int(stacks[s][9, 2 * r, 2 * c])].replace("_", " ") for s, r, c in zip(site, row, column, strict=True)]
    assert frame["cover"].tolist() == names
    assert "model's product" in classes.card.notes


def test_dynamic_world_of_one_band_and_its_refusals(root, tmp_path):
    rng = np.random.default_rng(4)
    for site in range(3):
        town_raster(root / f"DW_2021_{site}.tif", site, pixels(rng.integers(0, 9, (8, 8)).astype(np.uint8)))
    built = build("dynamic-world", root, tmp_path / "out", options={**SMALL, "target": "class"})
    assert any("which means water" in note for note in built.notes)
    with pytest.raises(DataError, match="has no band 'built'; its bands are nameless"):
        build("dynamic-world", root, tmp_path / "a", options=SMALL)
    town_raster(root / "DW_2021_0.tif", 0, np.full((16, 16), 12, np.uint8))
    with pytest.raises(DataError, match="not in its legend: 12"):
        build("dynamic-world", root, tmp_path / "b", options={**SMALL, "target": "class"})
    town_raster(root / "DW_2021_0.tif", 0, np.full((16, 16), 40, np.float32), names=["built"])
    town_raster(root / "DW_2021_1.tif", 1, np.full((16, 16), 40, np.float32), names=["built"])
    town_raster(root / "DW_2021_2.tif", 2, np.full((16, 16), 40, np.float32), names=["built"])
    with pytest.raises(DataError, match="expected built between 0 and 1, found 40"):
        build("dynamic-world", root, tmp_path / "c", options=SMALL)
    (root / "DW_2021_0.tif").rename(root / "DW_x.tif")
    with pytest.raises(DataError, match="--set year=YYYY"):
        build("dynamic-world", root, tmp_path / "d", options=SMALL)
