"""The six-metro indicators: what the surveys' own files hold, and every file that is not what it should be."""

from __future__ import annotations

import json
import shutil

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from rs05bench.datasets.card_check import check_card
from rs05bench.datasets.recipes import build
from rs05bench.datasets.recipes.census_files import read_acs, read_places, refuse_overlap
from rs05bench.errors import DataError
from tests.datasets.recipes.landscape import CRS, square, write_tiles

COUNTIES = ("06037", "17031", "53033")  # Los Angeles, Chicago, Seattle; on three sites of the test landscape
LABELS = {
    "B01003_001E": "Estimate!!Total",
    "B19013_001E": "Estimate!!Median household income in the past 12 months (in 2022 inflation-adjusted dollars)",
    "S1701_C03_001E": "Estimate!!Percent below poverty level!!Population for whom poverty status is determined",
    "S2301_C04_001E": "Estimate!!Unemployment rate!!Population 16 years and over",
}
TABLES = {
    "B01003": ["B01003_001E"],
    "B19013": ["B19013_001E"],
    "S1701": ["S1701_C03_001E"],
    "S2301": ["S2301_C04_001E"],
    "B08301": ["B08301_001E", "B08301_003E", "B08301_010E", "B08301_018E", "B08301_019E"],
}
OPTIONS = {"block_m": 500, "buffer_m": 50}


def tract_ids():
    return [f"{county}{number:06d}" for county in COUNTIES for number in range(100, 6500, 100)]


def survey(year):
    """Estimates of 192 tracts."""
    rng = np.random.default_rng(year)
    ids = tract_ids()
    n = len(ids)
    workers = rng.integers(200, 2000, n)
    drive, transit = rng.integers(20, 100, n), rng.integers(5, 40, n)
    return pd.DataFrame(
        {
            "B01003_001E": rng.integers(500, 6000, n),
            "B19013_001E": rng.integers(20_000, 200_000, n),
            "S1701_C03_001E": rng.uniform(1, 50, n).round(1),
            "S2301_C04_001E": rng.uniform(1, 20, n).round(1),
            "B08301_001E": workers,
            "B08301_003E": drive,
            "B08301_010E": transit,
            "B08301_018E": rng.integers(0, 15, n),
            "B08301_019E": rng.integers(0, 30, n),
        },
        index=pd.Index(ids, name="tract_id"),
    )


def write_acs(folder, table, year, values, prefix="1400000US", kind=None):
    """A table as data.census.gov gives it: codes, labels, margins of error, a trailing comma."""
    columns = TABLES[table]
    head = ["GEO_ID", "NAME", *[name for code in columns for name in (code, code[:-1] + "M")]]
    labels = [
        "Geography",
        "Geographic Area Name",
        *[text for code in columns for text in (LABELS.get(code, "Estimate!!Total"), "Margin of Error")],
    ]
    lines = [",".join(f'"{part}"' for part in row) + "," for row in (head, labels)]
    for tract, row in values.iterrows():
        parts = [prefix + tract, f"Census Tract {int(tract[5:]) / 100:g}; Some County; Some State"]
        parts += [text for code in columns for text in (str(row[code]), "12")]
        lines.append(",".join(f'"{part}"' for part in parts) + ",")
    family = kind or ("ACSST5Y" if table.startswith("S") else "ACSDT5Y")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{family}{year}.{table}-Data.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def write_vintage(root, year):
    values = survey(year).astype(object)
    for table in TABLES:
        write_acs(root / f"acs{year}", table, year, values)
    return values


def health(seed=0):
    rng = np.random.default_rng(seed)
    ids = tract_ids()
    return pd.DataFrame({name: rng.uniform(8, 35, len(ids)).round(1) for name in ("OBESITY", "DIABETES", "CASTHMA", "MHLTH")}, index=ids)


def write_places(root, values, release=2024):
    wide = pd.DataFrame(
        {
            "StateAbbr": "US",
            "CountyName": "Some",
            "CountyFIPS": [t[:5] for t in values.index],
            "TractFIPS": values.index,
            "TotalPopulation": "1,234",
        }
    )
    for name in values.columns:
        wide[f"{name}_CrudePrev"] = values[name].to_numpy()
        wide[f"{name}_Crude95CI"] = "( 9.0, 11.0)"
    path = root / f"PLACES__Census_Tract_Data__GIS_Friendly_Format___{release}_release.csv"
    wide.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("indicators")
    write_tiles(root, (2022,))
    # 64 of the 100 fields of each site stand for tracts.
    shapes = [square(site, row, column) for site in range(3) for row in range(8) for column in range(8)]
    gpd.GeoDataFrame({"GEOID": tract_ids(), "ALAND": 1}, geometry=shapes, crs=CRS).to_crs(4269).to_file(root / "tl_2022_us_tract.shp")
    write_vintage(root, 2022)
    write_places(root, health())
    return root


@pytest.fixture
def root(template, tmp_path):
    return shutil.copytree(template, tmp_path / "source")


@pytest.fixture(scope="module")
def built(template, tmp_path_factory):
    return build("urban-indicators", template, tmp_path_factory.mktemp("built") / "out", options=OPTIONS)


def test_every_indicator_is_what_the_surveys_say(built):
    frame = pd.read_parquet(built.folder / "units.parquet").set_index("tract_id")
    acs, places = survey(2022), health()
    assert sorted(frame.index) == sorted(acs.index)
    acs, places = acs.loc[frame.index], places.loc[frame.index]
    expected = {
        "log_income": np.log(acs["B19013_001E"]),
        "poverty_pct": acs["S1701_C03_001E"],
        "unemployment_pct": acs["S2301_C04_001E"],
        "drive_alone_pct": 100 * acs["B08301_003E"] / acs["B08301_001E"],
        "transit_pct": 100 * acs["B08301_010E"] / acs["B08301_001E"],
        "bike_pct": 100 * acs["B08301_018E"] / acs["B08301_001E"],
        "walk_pct": 100 * acs["B08301_019E"] / acs["B08301_001E"],
        "obesity_pct": places["OBESITY"],
        "diabetes_pct": places["DIABETES"],
        "asthma_pct": places["CASTHMA"],
        "mental_health_pct": places["MHLTH"],
    }
    for name, values in expected.items():
        assert frame[name].to_numpy() == pytest.approx(values.to_numpy()), name
    assert set(built.card.targets) == set(expected)
    assert built.card.targets[0] == "log_income"
    assert frame.loc["06037000100", ["city", "county"]].tolist() == ["Los Angeles", "06037"]
    assert frame["crime_rate"].isna().all()


def test_the_card_works_and_groups_are_thirds(built):
    assert check_card(built.card, built.folder).right
    assert {"leave-city-out", "leave-county-out", "within-city"} <= set(built.card.splits)
    assert "leave-year-out" in built.splits_left_out
    frame = pd.read_parquet(built.folder / "units.parquet")
    for _, rows in frame.groupby("city"):
        counts = rows["income_group"].value_counts()
        assert counts.min() >= 21
        order = rows.groupby("income_group")["log_income"].agg(["min", "max"])
        assert order.loc["low", "max"] <= order.loc["middle", "min"] <= order.loc["middle", "max"] <= order.loc["high", "min"]
    record = json.loads((built.folder / "build.json").read_text())
    assert any("No tract of Atlanta, Houston, New York" in note for note in record["notes"])
    assert any("health from the survey of 2022" in note for note in record["notes"])


def test_the_data_set_of_tracts_reads_what_was_built(built):
    from rs05bench.datasets import UrbanIndicators

    ds = UrbanIndicators(built.folder / "tracts.parquet")
    assert len(ds.units()) == 192
    frame = pd.read_parquet(built.folder / "units.parquet").set_index("tract_id")
    labels = ds.labels().set_axis(ds.units()["tract_id"].to_numpy())
    assert labels.loc[frame.index, "log_income"].to_numpy() == pytest.approx(frame["log_income"].to_numpy())


@pytest.mark.parametrize(("first", "second", "shared"), [(2021, 2022, 4), (2018, 2022, 1), (2022, 2020, 3)])
def test_overlapping_vintages_are_refused(tmp_path, first, second, shared):
    with pytest.raises(DataError, match=f"share {shared} year") as caught:
        refuse_overlap([first, second], tmp_path)
    assert "the same households would train and test" in str(caught.value)
    assert f"--set year={max(first, second)}" in str(caught.value)


def test_vintages_five_years_apart_share_nothing(tmp_path):
    refuse_overlap([2018, 2023], tmp_path)
    refuse_overlap([2022, 2022], tmp_path)


def test_the_build_refuses_overlap_and_takes_the_one_that_is_named(root, tmp_path):
    write_vintage(root, 2020)
    with pytest.raises(DataError, match=r"2020 .2016-2020. and 2022 .2018-2022. share 3 years"):
        build("urban-indicators", root, tmp_path / "out", options=OPTIONS)
    assert not (tmp_path / "out").exists()
    one = build("urban-indicators", root, tmp_path / "one", options={**OPTIONS, "year": 2022})
    assert one.counts["by year"] == {"2022": 192}
    with pytest.raises(DataError, match="no table is of 2019; there are vintages of 2020, 2022"):
        build("urban-indicators", root, tmp_path / "two", options={**OPTIONS, "year": 2019})


def test_missing_values_and_published_bounds(tmp_path):
    values = survey(2022).head(6).astype(object)
    values["B19013_001E"] = ["250,000+", "2,500-", "-", "-666666666", "(X)", "81,234"]
    table, bounded = read_acs(write_acs(tmp_path, "B19013", 2022, values))
    assert table["B19013_001E"].tolist() == pytest.approx([250_000, 2_500, np.nan, np.nan, np.nan, 81_234], nan_ok=True)
    assert bounded == {"B19013 at a published bound": 2}
    assert table.index[0] == "06037000100"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("B19013_001E", "B19013_001X"), "column B19013_001E missing; it has GEO_ID, NAME"),
        (lambda text: text.replace("1400000US06037000100", "0500000US06037"), "expected tracts .* found '0500000US06037'"),
        (lambda text: "\n".join(text.split("\n")[:2]), "holds no tract"),
        (lambda text: text + text.split("\n")[3], "occurs twice"),
        (lambda text: text.replace('Some State","', 'Some State","x', 1), "which is no number"),
        (lambda text: "", "the file is empty"),
    ],
)
def test_acs_tables_that_are_wrong_or_partial(tmp_path, change, words):
    path = write_acs(tmp_path, "B19013", 2022, survey(2022).head(5).astype(object))
    path.write_text(change(path.read_text(encoding="utf-8-sig")))
    with pytest.raises(DataError, match=words) as caught:
        read_acs(path)
    assert path.name in str(caught.value)


def test_other_tables_and_one_year_estimates(tmp_path):
    path = write_acs(tmp_path, "B19013", 2022, survey(2022).head(5).astype(object), kind="ACSDT1Y")
    with pytest.raises(DataError, match="holds 1-year estimates, which know no tracts"):
        read_acs(path)
    with pytest.raises(DataError, match="the table B25077, which is not asked for"):
        read_acs(path.rename(tmp_path / "ACSDT5Y2022.B25077-Data.csv"))
    with pytest.raises(DataError, match=r"is not named as data\.census\.gov names"):
        read_acs((tmp_path / "ACSDT5Y2022.B25077-Data.csv").rename(tmp_path / "income.csv"))


def test_the_long_form_of_places_says_the_same(tmp_path):
    values = health()
    wide, survey_year = read_places(write_places(tmp_path, values, release=2024))
    assert survey_year == 2022
    rows = [
        {
            "Year": "2022", "StateAbbr": "CA", "LocationName": tract.lstrip("0"), "Data_Value_Type": kind, "Data_Value": value + shift,
            "LocationID": tract.lstrip("0"), "MeasureId": measure, "DataValueTypeID": code,
        }
        for tract, row in values.head(20).iterrows() for measure, value in row.items()
        for kind, code, shift in (("Crude prevalence", "CrdPrv", 0.0), ("Age-adjusted prevalence", "AgeAdjPrv", 5.0))
    ]  # fmt: skip
    path = tmp_path / "PLACES__Local_Data_for_Better_Health__Census_Tract_Data_2024_release.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    long, year = read_places(path)
    assert year == 2022
    pd.testing.assert_frame_equal(long.sort_index()[wide.columns], wide.head(20).sort_index(), check_names=False)
    pd.DataFrame(rows).assign(LocationName="Los Angeles", LocationID="06037").to_csv(path, index=False)
    with pytest.raises(DataError, match="holds no tracts"):
        read_places(path)
    pd.DataFrame([row for row in rows if row["MeasureId"] != "MHLTH"]).to_csv(path, index=False)
    with pytest.raises(DataError, match="measure MHLTH has no crude prevalence"):
        read_places(path)


def test_places_of_counties_or_without_a_release(tmp_path):
    path = write_places(tmp_path, health())
    with pytest.raises(DataError, match="its name says no release"):
        read_places(path.rename(tmp_path / "PLACES_tracts.csv"))
    pd.DataFrame({"StateAbbr": ["CA"], "CountyFIPS": ["06037"], "OBESITY_CrudePrev": [20]}).to_csv(path, index=False)
    with pytest.raises(DataError, match="is not the tract table of PLACES"):
        read_places(path)
    frame = pd.read_csv(tmp_path / "PLACES_tracts.csv", dtype=str)
    frame.drop(columns="MHLTH_CrudePrev").to_csv(path, index=False)
    with pytest.raises(DataError, match="column MHLTH_CrudePrev missing"):
        read_places(path)


def test_a_table_that_lacks_is_named(root, tmp_path):
    (root / "acs2022/ACSDT5Y2022.B08301-Data.csv").unlink()
    with pytest.raises(DataError, match="the vintage 2022 lacks the table B08301"):
        build("urban-indicators", root, tmp_path / "out", options=OPTIONS)
    write_acs(root / "acs2022", "B08301", 2022, survey(2022).head(40).astype(object))
    with pytest.raises(DataError, match=r"hold different tracts .they share 40 of 192."):
        build("urban-indicators", root, tmp_path / "out", options=OPTIONS)


def test_other_places_and_other_boundaries(root, tmp_path):
    frame = gpd.read_file(root / "tl_2022_us_tract.shp")
    frame.assign(GEOID=[f"{number:011d}" for number in range(192)]).to_file(root / "tl_2022_us_tract.shp")
    with pytest.raises(DataError, match="holds a polygon of 0% of the tracts of 2022"):
        build("urban-indicators", root, tmp_path / "out", options=OPTIONS)
    frame.assign(GEOID=frame["GEOID"].str.slice(stop=5)).to_file(root / "tl_2022_us_tract.shp")
    with pytest.raises(DataError, match="GEOID of 11 digits"):
        build("urban-indicators", root, tmp_path / "out", options=OPTIONS)
    values = survey(2022).astype(object)
    values.index = [
        "48113" + tract[5:] if number < 64 else f"4811{number % 10}{tract[5:]}{number:06d}"[:11]
        for number, tract in enumerate(values.index)
    ]
    values = values[~values.index.duplicated()]
    for table in TABLES:
        write_acs(root / "acs2022", table, 2022, values)
    with pytest.raises(DataError, match="no tract lies in the six metros"):
        build("urban-indicators", root, tmp_path / "out", options=OPTIONS)


def test_health_on_other_tracts_is_refused_and_crime_is_joined(root, tmp_path):
    values = health()
    values.index = [tract[:5] + "9" + tract[6:] for tract in values.index]
    path = write_places(root, values)
    with pytest.raises(DataError, match="holds 0% of the 192 tracts of 2022"):
        build("urban-indicators", root, tmp_path / "out", options=OPTIONS)
    path.unlink()
    ids = tract_ids()
    crime = pd.DataFrame(
        {
            "tract_id": ids,
            "year": 2022,
            "crime_rate": np.arange(192.0),
            "violent_crime_rate": 1.0 + np.arange(192),
            "property_crime_rate": 2.0,
        }
    )
    crime.to_csv(root / "crime.csv", index=False)
    built = build("urban-indicators", root, tmp_path / "out", options=OPTIONS)
    frame = pd.read_parquet(built.folder / "units.parquet").set_index("tract_id")
    assert frame.loc[ids, "crime_rate"].tolist() == list(range(192))
    assert "obesity_pct" not in built.card.targets
    assert any("no PLACES release within two years" in note for note in built.notes)
    crime.assign(crime_rate=-5).to_csv(root / "crime.csv", index=False)
    with pytest.raises(DataError, match=r"crime_rate of tract .* is -5, expected 0 to 10000"):
        build("urban-indicators", root, tmp_path / "bad", options=OPTIONS)
