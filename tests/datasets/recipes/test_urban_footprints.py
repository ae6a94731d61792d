"""Building density and land use of cells, against what was drawn."""

from __future__ import annotations

import shutil

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from rs05bench.datasets.card_check import check_card
from rs05bench.datasets.recipes import build
from rs05bench.errors import DataError
from tests.datasets.recipes.landscape import CRS, NORTH, SITES
from tests.datasets.recipes.urban_files import SMALL, TOWNS, write_towns

OPTIONS = {**SMALL, "year": 2021}


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    return write_towns(tmp_path_factory.mktemp("towns"))


@pytest.fixture
def root(towns, tmp_path):
    return shutil.copytree(towns, tmp_path / "source")


def square(site, row, column, side=200.0, shrink=0.0):
    west, north = SITES[site] + column * 200, NORTH - row * 200
    return shapely.box(west + shrink, north - side + shrink, west + side - shrink, north - shrink)


def where(frame):
    points = gpd.GeoSeries(gpd.points_from_xy(frame["lon"], frame["lat"]), crs=4326).to_crs(CRS)
    site = frame["city"].map({name: i for i, name in enumerate(TOWNS)}).to_numpy()
    return site, ((NORTH - points.y) // 200).astype(int).to_numpy(), ((points.x - np.array(SITES)[site]) // 200).astype(int).to_numpy()


def test_cover_and_count_are_those_of_the_roofs(root, tmp_path):
    rng = np.random.default_rng(0)
    number = rng.integers(0, 6, (3, 8, 8))
    roofs = [
        shapely.transform(square(s, r, c, 20), lambda xy, k=k: xy + [10 + 30 * k, -90])
        for s in range(3) for r in range(8) for c in range(8) for k in range(number[s, r, c])
    ]  # fmt: skip
    gpd.GeoDataFrame(geometry=roofs, crs=CRS).to_crs(4326).to_parquet(root / "buildings.parquet")
    areas = gpd.read_file(root / "areas.gpkg")
    areas.to_file(root / "coverage.gpkg")
    built = build("building-density", root, tmp_path / "cover", options=OPTIONS)
    frame = pd.read_parquet(built.folder / "units.parquet")
    assert len(frame) == 192
    expected = number[where(frame)]
    assert frame["building_cover_pct"].to_numpy() == pytest.approx(expected, abs=0.02)
    assert built.card.targets == ["building_cover_pct"]
    assert check_card(built.card, built.folder).right
    # Where the footprints end there is no number, not none.
    areas.iloc[:2].to_file(root / "coverage.gpkg")
    counted = build("building-density", root, tmp_path / "count", options={**OPTIONS, "target": "count"})
    frame = pd.read_parquet(counted.folder / "units.parquet")
    assert frame["buildings_per_km2"].to_numpy() == pytest.approx(25 * number[where(frame)], rel=5e-3)
    assert counted.counts["by city"] == {"Ash": 64, "Birch": 64}
    assert any("outside of the area that the footprints cover" in item["reason"] for item in counted.dropped)


def test_footprints_are_refused_where_they_are_none(root, tmp_path):
    gpd.GeoDataFrame(geometry=[square(0, 0, 0).centroid, square(2, 7, 7).centroid], crs=CRS).to_file(root / "buildings.gpkg")
    with pytest.raises(DataError, match="holds points, expected footprints"):
        build("building-density", root, tmp_path / "out", options=OPTIONS)
    gpd.GeoDataFrame(geometry=[square(0, -9, 0)], crs=CRS).to_file(root / "buildings.gpkg")
    gpd.read_file(root / "areas.gpkg").to_file(root / "coverage.gpkg")
    with pytest.raises(DataError, match="no building lies in any cell"):
        build("building-density", root, tmp_path / "out", options=OPTIONS)
    with pytest.raises(DataError, match="must be 2017 or later"):
        build("building-density", root, tmp_path / "out", options={**OPTIONS, "year": 2015})


KINDS = ("residential", "retail", "industrial", "farmland")


def test_use_is_that_of_most_of_the_cell_and_of_the_smaller_polygon(root, tmp_path):
    rng = np.random.default_rng(1)
    which = rng.integers(0, 4, (3, 8, 8))
    shapes = [square(s, r, c) for s in range(3) for r in range(8) for c in range(8)]
    kinds = [KINDS[k] for k in which.ravel()]
    # A park fills most of the first cell of every town; the second holds a scrub that is no use; half of the third is unmapped.
    shapes += [square(s, 0, 0, shrink=10) for s in range(3)]
    kinds += ["park"] * 3
    for s in range(3):
        kinds[64 * s + 1] = "scrub"
        west, south, _, north = shapes[64 * s + 2].bounds
        shapes[64 * s + 2] = shapely.box(west, south, west + 60, north)
    gpd.GeoDataFrame({"osm_id": range(len(shapes)), "fclass": kinds}, geometry=shapes, crs=CRS).to_crs(4326).to_file(
        root / "gis_osm_landuse_a_free_1.shp"
    )
    built = build("land-use", root, tmp_path / "out", options=OPTIONS)
    frame = pd.read_parquet(built.folder / "units.parquet")
    site, row, column = where(frame)
    names = np.array(["residential", "commercial", "industrial", "farmland"])
    expected = names[which[site, row, column]]
    expected[(row == 0) & (column == 0)] = "green"
    assert frame["use"].tolist() == expected.tolist()
    assert len(frame) == 192 - 6
    assert any("mapped on less than" in item["reason"] and item["count"] == 6 for item in built.dropped)
    assert "leave-city-out+5" in built.card.splits
    assert check_card(built.card, built.folder).right


def test_a_layer_of_other_classes_is_refused(root, tmp_path):
    frame = gpd.GeoDataFrame({"fclass": ["motorway", "track"]}, geometry=[square(0, 0, 0), square(0, 1, 1)], crs=CRS)
    frame.to_file(root / "landuse.gpkg")
    with pytest.raises(DataError, match=r"none of its classes is a known use, e.g. motorway, track"):
        build("land-use", root, tmp_path / "out", options=OPTIONS)
    frame.rename(columns={"fclass": "type"}).to_file(root / "landuse.gpkg")
    with pytest.raises(DataError, match="column fclass or landuse missing; it has type"):
        build("land-use", root, tmp_path / "out", options=OPTIONS)
    frame.assign(fclass="residential", geometry=[square(0, -20, 0), square(0, -30, 0)]).to_file(root / "landuse.gpkg")
    with pytest.raises(DataError, match="no mapped use lies in any cell"):
        build("land-use", root, tmp_path / "out", options=OPTIONS)
