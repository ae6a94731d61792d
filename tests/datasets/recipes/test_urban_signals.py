"""Urban signals of counties: joins by five digits, a density for every county that has residents and an outline, and no silent loss."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from pyproj import Geod
from shapely.geometry import box

from rs05bench.datasets.recipes import build
from rs05bench.embeddings.products import product
from rs05bench.errors import DataError

EMBEDDING = product().bands

COUNTIES = [f"{state:02d}{county:03d}" for state in (1, 2) for county in range(1, 41)]
"""Two states of forty counties, an eighth of a degree wide, three degrees apart."""


def outline(number: int):
    state, county = divmod(number, 40)
    west, south = -90 + 0.5 * (county % 8), 35 + 3 * state + 0.5 * (county // 8)
    return box(west, south, west + 0.5, south + 0.5)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((160, 64))
    table = pd.DataFrame(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), columns=list(EMBEDDING))
    table.insert(0, "year", np.repeat([2017, 2018], 80))
    table.insert(0, "GEOID", COUNTIES * 2)
    table.to_parquet(folder / "embeddings.parquet", index=False)
    indicators = pd.DataFrame({"GEOID": COUNTIES, "State": ["AL"] * 40 + ["AK"] * 40, "MedHHInc": 50_000.0, "PovertyAllAgesPct": 12.0})
    indicators = indicators.assign(UnempRate2018=rng.uniform(3, 6, 80), RuralUrbanContinuumCode2013=4.0, PopDensity=100.0)
    indicators.loc[[0, 1], "PopDensity"] = np.nan
    indicators.to_csv(folder / "indicators.csv", index=False)
    signals = pd.DataFrame({"GEOID": COUNTIES, "violent_crime_per_100k": rng.uniform(0, 500, 80)})
    signals.assign(property_crime_per_100k=1000.0, transit_score=[1.0] * 20 + [None] * 60).to_csv(folder / "urban_signals.csv", index=False)
    # As published: semicolons, and FIPS as numbers without their zeros.
    (folder / "crime_data.csv").write_text("county;geog_id;COUNTY POPULATION-AGENCIES REPORT CRIMES\nA;1001;30000\nB;1002;0\n")
    outlines = gpd.GeoDataFrame({"id": COUNTIES[:-1]}, geometry=[outline(number) for number in range(79)], crs=4326)
    outlines.to_file(folder / "counties.geojson", driver="GeoJSON")
    return folder


def test_counties_are_joined_and_what_is_lost_is_counted(root, tmp_path):
    built = build("urban-signals", root, tmp_path / "out")
    table = pd.read_parquet(built.folder / "units.parquet").set_index("county")
    assert {item["reason"]: item["count"] for item in built.dropped} == {"no outline of the county": 1, "no population density": 1}
    assert set(table.index) == set(COUNTIES) - {"01002", "02040"}
    # A transit score is known in a quarter of the counties: no target.
    assert built.card.targets == ["violent_crime", "property_crime", "log_income", "poverty_pct", "unemployment_pct"]
    assert built.card.covariates == ["log_density", "rural_urban_code"]
    area_km2 = abs(Geod(ellps="WGS84").geometry_area_perimeter(outline(0))[0]) / 1e6
    assert table.loc["01001", "log_density"] == pytest.approx(np.log10(30_000 / area_km2), abs=1e-4)
    assert table.loc["01003", "log_density"] == pytest.approx(np.log10(100 / 1.609344**2))
    assert table.loc["01003", "log_income"] == pytest.approx(np.log(50_000))
    wanted = pd.read_parquet(root / "embeddings.parquet").query("year == 2018").set_index("GEOID").loc["01003", "A07"]
    assert table.loc["01003", "A07"] == pytest.approx(wanted)


def test_wrong_tables_are_refused(root, tmp_path):
    with pytest.raises(DataError, match="holds no embedding of 2020"):
        build("urban-signals", root, tmp_path / "out", options={"year": 2020})
    again = pd.read_csv(root / "urban_signals.csv", dtype={"GEOID": str})
    pd.concat([again, again.iloc[[3]]]).to_csv(root / "urban_signals.csv", index=False)
    with pytest.raises(DataError, match="holds county 01004 twice"):
        build("urban-signals", root, tmp_path / "out")
    again.drop(columns="transit_score").to_csv(root / "urban_signals.csv", index=False)
    with pytest.raises(DataError, match="column transit_score missing"):
        build("urban-signals", root, tmp_path / "out")
