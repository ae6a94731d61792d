"""California fields: the schema of the state's crop maps, its codes and pads, and three targets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from rs05bench.datasets.recipes import build
from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard
from tests.datasets.recipes.landscape import CRS, SIDE, SIZE, kind, square, write_tiles

COUNTIES = ("Yolo", "Fresno", "Kern")
CODES = ("T15", "G2", "D12", "P1")  # processing tomatoes, wheat, almonds, alfalfa


def edition(year: int, column: str) -> gpd.GeoDataFrame:
    """A year's map as DWR writes it: pads of asterisks, several crops a year, an urban mask, native vegetation."""
    rows = []
    for site, county in enumerate(COUNTIES):
        for row in range(SIZE // SIDE):
            for col in range(SIZE // SIDE):
                number = len(rows)
                code = CODES[kind(site, row, col, year)]
                if number % 50 == 7:
                    code = ("T26", "U", "NR", "****")[number // 50 % 4]
                rows.append(
                    {
                        "UniqueID": f"{site}{row:03d}{col:03d}",
                        "SYMB_CLASS": code[0],
                        "MULTIUSE": "D" if number % 40 == 3 else "S",
                        "CLASS2": code[0],
                        "IRR_TYP2PA": "n" if code == "G2" else ("i" if year == 2018 else "*"),
                        column: code,
                        "COUNTY": county,
                        "geometry": square(site, row, col),
                    }
                )
    return gpd.GeoDataFrame(rows, crs=CRS)


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("california")
    write_tiles(root, (2018, 2020))
    edition(2018, "CROPTYP2").to_file(root / "i15_Crop_Mapping_2018.shp")
    edition(2020, "MAIN_CROP").to_crs(4269).to_file(root / "i15_Crop_Mapping_2020.shp")
    return root


@pytest.fixture
def root(template, tmp_path) -> Path:
    return shutil.copytree(template, tmp_path / "root")


@pytest.fixture(scope="session")
def built(template, tmp_path_factory):
    return build("california-crops", template, tmp_path_factory.mktemp("built") / "out", options={"block_m": 400})


def test_both_editions_become_fields_with_crop_county_valley_and_year(built):
    frame = pd.read_parquet(built.folder / "units.parquet")
    assert set(frame["year"]) == {2018, 2020}
    assert dict(frame.groupby("county")["region"].first()) == {
        "Yolo": "Sacramento Valley",
        "Fresno": "San Joaquin Valley",
        "Kern": "San Joaquin Valley",
    }
    assert set(frame["crop"]) == {"tomato", "grain and hay", "deciduous fruits and nuts", "pasture and alfalfa"}
    assert set(frame.loc[frame["dwr_code"].isin(["T15", "T26"]), "crop"]) == {"tomato"}
    by_field = frame.groupby(frame["field_id"].str[5:])["place"]
    assert (by_field.first() == by_field.last()).all()  # the same ground in both editions
    assert np.allclose(frame["area_ha"], (SIDE - 2) ** 2 * 0.01, rtol=0.01)


def test_the_embedding_is_that_of_the_field_and_its_year(built, template):
    from rs05bench.embeddings import read_polygons

    frame = pd.read_parquet(built.folder / "units.parquet").set_index("field_id")
    shape = gpd.GeoSeries([square(1, 4, 6)], crs=CRS)
    expected = read_polygons(template / "alphaearth", shape, 2020)[["A00", "A63"]].to_numpy()
    assert np.allclose(frame.loc["2020-1004006", ["A00", "A63"]].to_numpy(float), expected, atol=1e-5)


def test_what_is_no_single_crop_is_dropped_and_counted(built):
    reasons = {(row["reason"], row["count"]) for row in built.dropped}
    assert ("no crop: urban, native or not mapped", 8) in reasons  # U and NR, **** in each edition
    assert any(reason == "several crops a year" for reason, _ in reasons)


def test_splits_hold_out_county_valley_and_year(built):
    assert {"leave-county-out", "leave-region-out", "leave-year-out", "leave-county-year-out"} <= set(built.card.splits)
    assert built.splits_left_out == {}


def test_regions_too_small_for_the_blocks_are_said(template, tmp_path):
    built = build("california-crops", template, tmp_path / "out")  # blocks of 5 km in landscapes of 1.6 km
    assert "too small for these blocks" in built.splits_left_out["leave-county-out"]
    assert [note for note in built.notes if note.startswith("leave-region-out:") and "San Joaquin Valley" in note]


@pytest.mark.parametrize(("target", "classes"), [("tomato", ["other", "tomato"]), ("irrigated", ["irrigated", "not irrigated"])])
def test_other_targets(template, tmp_path, target, classes):
    built = build("california-crops", template, tmp_path / "out", options={"target": target, "per_class": 20, "block_m": 400})
    assert built.card.classes == classes
    frame = pd.read_parquet(built.folder / "units.parquet")
    assert frame.groupby(["county", "year", "crop"]).size().max() <= 20
    expected = frame["dwr_code"].isin(["T15", "T26"]) if target == "tomato" else frame["dwr_code"] == "G2"
    assert (expected == (frame["crop"] == classes[1])).all()


def test_a_sweep_runs_over_what_was_built(built, tmp_path):
    command = [sys.executable, "-m", "rs05bench.cli", "sweep", str(built.folder / "card.yaml"), "--data", str(built.folder)]
    command += ["--out", str(tmp_path / "runs"), "--models", "floor/majority,alphaearth/logistic", "--splits", "leave-county-out"]
    command += ["--budgets", "10-per-class", "--seeds", "0", "--folds", "Fresno", "--jobs", "1", "--no-costs", "--quiet"]
    subprocess.run(command, check=True, capture_output=True)
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("result.json")]
    assert {result["cell"]["model"] for result in results} == {"floor/majority", "alphaearth/logistic"}
    score = {result["cell"]["model"]: result["scores"]["test_ood"]["macro_f1"] for result in results}
    assert score["alphaearth/logistic"] > score["floor/majority"]


def test_partial_and_wrong_sources_are_refused(root, tmp_path):
    def refused(said: str) -> None:
        with pytest.raises(DataError, match=said):
            build("california-crops", root, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    (root / "i15_Crop_Mapping_2018.dbf").rename(root / "kept.dbf")
    refused(r"2018.shp: its parts .dbf are missing")
    (root / "kept.dbf").rename(root / "i15_Crop_Mapping_2018.dbf")
    whole = (root / "i15_Crop_Mapping_2020.shp").read_bytes()
    (root / "i15_Crop_Mapping_2020.shp").write_bytes(whole[:60])
    refused(r"2020.shp: ")
    (root / "i15_Crop_Mapping_2020.shp").write_bytes(whole)
    edition(2020, "CROP").to_file(root / "i15_Crop_Mapping_2020.shp")
    refused(r"2020.shp: column MAIN_CROP or CROPTYP2 missing; it has UniqueID, SYMB_CLASS")
    edition(2020, "MAIN_CROP").assign(MAIN_CROP="Almonds").to_file(root / "i15_Crop_Mapping_2020.shp")
    refused(r"its crop codes are not DWR's, e.g. 'Almonds'")
    for path in root.glob("i15_Crop_Mapping_2020.*"):
        path.rename(path.with_name(f"i15_Crop_Mapping{path.suffix}"))
    refused(r"i15_Crop_Mapping.shp: its name says no year")


def test_missing_tiles_are_said(root, tmp_path):
    shutil.rmtree(root / "alphaearth")
    with pytest.raises(DataError, match="no tiles of alphaearth-v1 are below alphaearth/") as caught:
        build("california-crops", root, tmp_path / "out")
    assert "--set embeddings=mirror" in str(caught.value)


def test_the_card_is_valid_on_its_own(built):
    assert TaskCard.load(built.folder / "card.yaml").faults() == []
