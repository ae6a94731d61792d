"""What `EmbeddingTable` promises: every format reads the same, nothing is dropped silently, a wrong table is refused with its reason."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from rs05bench.datasets.embedding_table import EmbeddingTable
from rs05bench.datasets.tables.leaks import named_after
from rs05bench.errors import DataError, ProtocolError
from rs05bench.models.features import derive
from rs05bench.protocol import TaskCard
from tests.datasets.table_files import BANDS, card, export, regression_card, write_regions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_regions(tmp_path_factory.mktemp("points"))


def changed(tmp_path, change):
    """The three files with the first one changed in place."""
    write_regions(tmp_path)
    path = tmp_path / "points_north.csv"
    frame = pd.read_csv(path)
    result = change(frame)
    (frame if result is None else result).to_csv(path, index=False)
    return tmp_path


# What it reads


def test_units_features_and_labels_are_aligned_and_sorted(folder):
    table = EmbeddingTable(card(), folder)
    units = table.units().frame
    columns, values = table.features("alphaearth")
    assert columns == BANDS
    assert values.dtype == np.float32
    assert list(units["unit_id"]) == sorted(units["unit_id"])
    assert list(table.labels().index) == list(units["unit_id"])
    source = export("south").iloc[7]
    row = list(units["unit_id"]).index("points_south_7")
    assert_allclose(values[row], source[BANDS].to_numpy(np.float32), rtol=1e-6)
    assert table.labels().iloc[row] == str(source["lc_label"])
    assert (units["lon"][row], units["lat"][row]) == pytest.approx((source["longitude"], source["latitude"]))
    assert units["region"][row] == "south"


def test_never_features_stay_out_of_a_glob_that_matches_them(folder):
    table = EmbeddingTable(card(features={"raw": ["[St]*"]}, never_features=["trees", "system:index"]), folder)
    assert table.features("raw")[0] == ["S1_VV", "S1_VH"]
    with pytest.raises(DataError, match="holds no column that may be a feature"):
        EmbeddingTable(card(features={"raw": ["t*"]}, never_features=["trees"]), folder)


@pytest.mark.parametrize("ending", ["parquet", "geoparquet", "gpkg", "geojson", "shp"])
def test_every_format_gives_the_same_units_and_features(tmp_path, folder, ending):
    frame = pd.concat([export(region) for region in ("north", "south", "west")], ignore_index=True)
    frame["key"] = [f"{number:04d}" for number in range(len(frame))]
    frame = frame.drop(columns=["system:index", ".geo"])
    geometry = geopandas.points_from_xy(frame["longitude"], frame["latitude"], crs="EPSG:4326").to_crs("EPSG:3857")
    spatial = geopandas.GeoDataFrame(frame, geometry=geometry)
    path = tmp_path / f"points.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "geoparquet":
        spatial.to_parquet(path)
    elif ending == "geojson":
        spatial.to_crs("EPSG:4326").to_file(path)
    else:
        spatial.to_file(path)
    where = {"x": "longitude", "y": "latitude"} if ending == "parquet" else {"geometry": True}
    table = EmbeddingTable(card(files=[path.name], unit=["key"], coordinates=where), tmp_path)
    assert list(table.units().frame["unit_id"]) == list(frame["key"])
    assert_allclose(table.features("hybrid")[1], frame[[*BANDS, "S1_VV", "S1_VH"]].to_numpy(np.float32), rtol=1e-5)
    assert_allclose(table.units().frame[["lon", "lat"]], frame[["longitude", "latitude"]], atol=1e-6)
    assert list(table.labels()) == [str(value) for value in frame["lc_label"]]


def test_wide_columns_become_a_row_a_year_and_leave_others_alone(tmp_path):
    wide = pd.DataFrame({"GEOID": ["01", "02", "03"], "Metro2013": [1, 0, 1], "State": ["A", "B", "B"]})
    for year in (2018, 2019):
        for band in ("A00", "A01"):
            wide[f"{band}_{year}"] = np.arange(3) + (year - 2000) + (band == "A01") / 2
        wide[f"rate{year}"] = [1.0, 2.5, 4.0] if year == 2018 else [2.0, 3.0, np.nan]
    wide.to_csv(tmp_path / "wide.csv", index=False)
    table = EmbeddingTable(
        card(
            kind="regression",
            classes=None,
            targets=["rate"],
            unit=["GEOID", "year"],
            year="year",
            groups=["State"],
            coordinates=None,
            files=["wide.csv"],
            features={"alphaearth": ["A??"]},
            splits=["random"],
            budgets=["20-units"],
        ),
        tmp_path,
    )
    assert list(table.units().frame["unit_id"]) == ["01_2018", "01_2019", "02_2018", "02_2019", "03_2018"]
    assert list(table.units().frame["place"]) == ["01", "01", "02", "02", "03"]
    assert_array_equal(table.features("alphaearth")[1], [[18, 18.5], [19, 19.5], [19, 19.5], [20, 20.5], [20, 20.5]])
    assert list(table.labels()) == [1.0, 2.0, 2.5, 3.0, 4.0]
    assert set(table.frame["Metro2013"]) == {0, 1}
    assert table.dropped.set_index("reason")["count"].to_dict() == {"no label": 1}


def test_joins_bring_labels_and_geometry_by_key_and_count_the_unmatched(tmp_path):
    frame = pd.DataFrame({"GEOID": ["01001", "01003", "02001", "09110"], "A00": [0.1, 0.2, 0.3, 0.4]})
    frame.to_parquet(tmp_path / "embeddings.parquet")
    pd.DataFrame({"GEOID": ["02001", "01003", "01001"], "State": ["AK", "AL", "AL"], "income": [3.0, 2.0, 1.0]}).to_csv(
        tmp_path / "labels.csv"
    )
    squares = geopandas.GeoDataFrame(
        {"fips": ["01001", "01003", "02001"]}, geometry=[shapely.box(x, 40, x + 2, 42) for x in (-90, -80, -70)], crs=4326
    )
    squares.to_file(tmp_path / "counties.geojson")
    joins = [
        {"file": "labels.csv", "on": "GEOID", "columns": ["State", "income"]},
        {"file": "counties.geojson", "on": {"left": "GEOID", "right": "fips"}, "columns": ["geometry"]},
    ]
    table = EmbeddingTable(
        card(
            kind="regression",
            classes=None,
            targets=["income"],
            unit=["GEOID"],
            groups=["State"],
            coordinates={"geometry": True},
            files=["embeddings.parquet"],
            joins=joins,
            features={"alphaearth": ["A??"]},
            splits=["random"],
            budgets=["20-units"],
        ),
        tmp_path,
    )
    assert table.labels().to_dict() == {"01001": 1.0, "01003": 2.0, "02001": 3.0}
    assert_allclose(table.units().frame["lon"], [-89, -79, -69])
    assert table.dropped.to_dict("records") == [{"reason": "no partner in labels.csv", "count": 1, "example": ""}]


def test_lost_leading_zeros_are_named_when_no_key_matches(tmp_path):
    pd.DataFrame({"GEOID": ["01001", "01003"], "A00": [0.1, 0.2]}).to_parquet(tmp_path / "embeddings.parquet")
    pd.DataFrame({"GEOID": [1001, 1003], "y": [1.0, 2.0]}).to_csv(tmp_path / "labels.csv")
    fields = {
        "kind": "regression",
        "classes": None,
        "targets": ["y"],
        "unit": ["GEOID"],
        "groups": None,
        "coordinates": None,
        "files": ["embeddings.parquet"],
        "joins": [{"file": "labels.csv", "on": "GEOID", "columns": ["y"]}],
        "features": {"alphaearth": ["A??"]},
        "splits": ["random"],
        "budgets": ["20-units"],
    }
    with pytest.raises(DataError, match=r"GEOID like '01001', the file GEOID like '1001'[\s\S]*leading zeros"):
        EmbeddingTable(card(**fields), tmp_path)


def test_where_of_the_preprocessing_keeps_only_those_rows_and_says_so(folder):
    table = EmbeddingTable(card(preprocessing={"where": {"region": ["north", "south"]}}), folder)
    assert set(table.units().frame["region"]) == {"north", "south"}
    assert table.dropped["count"].tolist() == [60]
    with pytest.raises(DataError, match="no row has '1999'"):
        EmbeddingTable(card(preprocessing={"where": {"year": 1999}}), folder)


def test_derived_features_need_somebody_who_can_derive(folder):
    asked = card(
        preprocessing={"derive": [{"builder": "indices", "names": ["DVI"], "bands": {"N": "S1_VV", "R": "S1_VH"}}]},
        features={"raw": ["DVI"]},
    )
    with pytest.raises(ProtocolError, match="derive"):
        EmbeddingTable(asked, folder)
    columns, values = EmbeddingTable(asked, folder, derive=derive).features("raw")
    assert columns == ["DVI"]
    frame = EmbeddingTable(card(), folder).frame
    assert_allclose(values[:, 0], frame["S1_VV"] - frame["S1_VH"], rtol=1e-5)


def test_projected_coordinates_become_degrees(tmp_path):
    import pyproj

    def project(frame):
        frame["x"], frame["y"] = pyproj.Transformer.from_crs(4326, 5070, always_xy=True).transform(frame["longitude"], frame["latitude"])

    write_regions(tmp_path)
    for path in tmp_path.glob("points_*.csv"):
        frame = pd.read_csv(path)
        project(frame)
        frame.to_csv(path, index=False)
    only = {"where": {"region": ["north", "west"]}}  # Albers of the US says nothing about the Amazon
    table = EmbeddingTable(card(coordinates={"x": "x", "y": "y", "crs": "EPSG:5070"}, preprocessing=only), tmp_path)
    assert_allclose(table.units().frame[["lon", "lat"]], table.frame[["longitude", "latitude"]], atol=1e-6)


@settings(max_examples=4)
@given(st.permutations(range(60)))
def test_order_of_rows_changes_nothing(tmp_path_factory, order):
    folder = write_regions(tmp_path_factory.mktemp("order"), 60)
    before = EmbeddingTable(card(), folder).digest
    path = folder / "points_west.csv"
    pd.read_csv(path).iloc[list(order)].to_csv(path, index=False)
    assert EmbeddingTable(card(), folder).digest == before


def test_digest_changes_with_a_label_a_feature_and_a_position(tmp_path, folder):
    before = EmbeddingTable(card(), folder).digest
    for column, value in (("lc_label", 2), ("A03", 0.123), ("latitude", 41.5)):

        def change(frame, column=column, value=value):
            frame.loc[0, column] = value

        target = tmp_path / column
        target.mkdir()
        assert EmbeddingTable(card(), changed(target, change)).digest != before


# What it drops, and says so


def test_missing_features_are_dropped_with_count_and_columns_or_kept(tmp_path):
    def change(frame):
        frame.loc[[3, 5], "A02"] = np.nan
        frame.loc[4, "S1_VV"] = np.inf

    changed(tmp_path, change)
    table = EmbeddingTable(card(), tmp_path)
    assert len(table) == 177
    assert table.dropped.to_dict("records") == [{"reason": "missing feature (A02, S1_VV)", "count": 3, "example": "points_north_3"}]
    kept = EmbeddingTable(card(missing="keep"), tmp_path)
    assert len(kept) == 180
    assert np.isnan(kept.features("hybrid")[1]).sum() == 3
    assert not np.isinf(kept.features("hybrid")[1]).any()


def test_blank_labels_unknown_classes_and_blank_positions_are_reported(tmp_path):
    def change(frame):
        frame["lc_label"] = frame["lc_label"].astype(float)
        frame.loc[[0, 1], "lc_label"] = np.nan
        frame.loc[2, "lc_label"] = 7
        frame.loc[3, "longitude"] = np.nan

    table = EmbeddingTable(card(), changed(tmp_path, change))
    assert table.dropped.set_index("reason")["count"].to_dict() == {
        "no label": 2,
        "label '7' is not one of the card's classes": 1,
        "no position (longitude, latitude)": 1,
    }
    assert len(table) == 176


def test_empty_earth_engine_geometries_are_dropped_not_placed_at_null_island(tmp_path):
    def change(frame):
        frame.loc[0, ".geo"] = json.dumps({"type": "MultiPoint", "coordinates": []})

    table = EmbeddingTable(card(coordinates={"geometry": True}), changed(tmp_path, change))
    assert table.dropped.to_dict("records") == [{"reason": "no geometry", "count": 1, "example": "points_north_0"}]


# What it refuses


def test_label_among_the_features_is_refused_in_the_documented_words(folder):
    with pytest.raises(DataError) as caught:
        EmbeddingTable(card(features={"raw": ["S1_*", "lc_*"]}), folder)
    assert str(caught.value).splitlines() == [
        f"landcover ({folder}): column 'lc_label' holds the target and also matches the feature pattern 'lc_*' (columns: lc_label).",
        "  Remove it from features.raw, or list it under never_features.",
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda y: 2.5 * y + 100, "copy of the target"),
        (lambda y: -y, "copy of the target"),
        (lambda y: np.exp(y), "rank correlation"),
    ],
)
def test_a_feature_that_is_the_target_in_other_units_is_refused(tmp_path, make, said):
    for path in write_regions(tmp_path).glob("*.csv"):
        frame = pd.read_csv(path)
        frame["biomass"] = make(frame["height"])
        frame.to_csv(path, index=False)
    with pytest.raises(DataError, match=f"'biomass' of features.raw is a {said}|'biomass'.*{said}"):
        EmbeddingTable(regression_card(features={"raw": ["biomass"]}), tmp_path)


@pytest.mark.parametrize(
    ("make", "said"), [(lambda c: 30 - 10 * c, "one value for each class"), (lambda c: (c == 1) * 1, "units of class '1'")]
)
def test_a_feature_that_recodes_the_class_is_refused(tmp_path, make, said):
    for path in write_regions(tmp_path).glob("*.csv"):
        frame = pd.read_csv(path)
        frame["code"] = make(frame["lc_label"])
        frame.to_csv(path, index=False)
    with pytest.raises(DataError, match=said):
        EmbeddingTable(card(features={"raw": ["S1_*", "code"]}), tmp_path)


def test_a_strong_but_honest_feature_is_not_taken_for_a_leak(tmp_path):
    rng = np.random.default_rng(0)
    for path in write_regions(tmp_path).glob("*.csv"):
        frame = pd.read_csv(path)
        frame["lidar"] = frame["height"] + rng.normal(0, 0.05, len(frame))
        frame.to_csv(path, index=False)
    table = EmbeddingTable(regression_card(features={"raw": ["lidar"]}), tmp_path)
    assert np.corrcoef(table.features("raw")[1][:, 0], table.labels())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("column", "is_leak"), [("log_GPP", True), ("GPP_lag1", True), ("gpp2018", True), ("GPPstation", False), ("NDVI", False)]
)
def test_names_that_hold_the_target_as_a_word(column, is_leak):
    assert named_after(column, "GPP") is is_leak


def _drop_column(name):
    return lambda frame: frame.drop(columns=name)


def _swap(frame):
    frame["longitude"], frame["latitude"] = frame["latitude"].copy(), frame["longitude"].copy()


REFUSED = {
    "missing target": (_drop_column("lc_label"), {}, "points_north.csv: lacks the column 'lc_label' that points_south.csv has"),
    "duplicate ids": (lambda f: f, {"unit": ["region", "year"]}, r"3 unit ids occur more than once, e.g. 'north_2024'"),
    "swapped out of range": (_swap, {"preprocessing": {"where": {"region": "north"}}, "splits": ["random"]}, "look swapped"),
    "text as a feature": (lambda f: f.assign(S1_VV="low"), {}, "'S1_VV' of features.raw holds text"),
    "feature without any value": (
        lambda f: f.assign(A03=np.nan),
        {"preprocessing": {"where": {"region": "north"}}, "splits": ["random"]},
        "'A03' has no value at all",
    ),
    "blank region": (lambda f: f.assign(region=None), {}, "'region' is blank in 60 of 180"),
    "wrong geojson": (lambda f: f.assign(**{".geo": "POINT (1 2)"}), {"coordinates": {"geometry": True}}, "holds no GeoJSON"),
    "official role in two spellings": (
        lambda f: f.assign(part=["Train", "test", "train"] * (len(f) // 3)),
        {"files": ["points_north.csv"], "splits": ["random"], "official": {"column": "part", "train": ["train"], "test": ["test"]}},
        r"official: column 'part' holds one role in two spellings: 'Train' and 'train' \(case\)",
    ),
    "no class of the card": (lambda f: f, {"classes": ["water", "trees"]}, r"no label of 'lc_label' is one of the card's classes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_table_is_refused_with_its_reason(tmp_path, name):
    change, fields, said = REFUSED[name]
    with pytest.raises(DataError, match=said):
        EmbeddingTable(card(**fields), changed(tmp_path, change))


def test_columns_in_range_but_swapped_are_caught_by_geo(tmp_path):
    for path in write_regions(tmp_path).glob("*.csv"):
        frame = pd.read_csv(path)
        frame = frame.assign(longitude=frame["latitude"], latitude=frame["longitude"].clip(-80, 80))
        frame[".geo"] = [
            json.dumps({"type": "Point", "coordinates": [y, x]}) for x, y in zip(frame["longitude"], frame["latitude"], strict=True)
        ]
        frame.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"look swapped: x 'longitude' and y 'latitude' are the other way round in '.geo'"):
        EmbeddingTable(card(), tmp_path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"coordinates": {"x": "longitude", "y": "latitude", "crs": "EPSG:123456"}}, "unknown CRS 'EPSG:123456'"),
        ({"coordinates": {"x": "lon", "y": "latitude"}}, "column 'lon' .card field coordinates. is missing"),
        ({"targets": ["lc_lable"]}, r"'lc_lable' .*missing[\s\S]*Did you mean 'lc_label'"),
        ({"files": ["nothing_*.csv"]}, "finds no file"),
        ({"features": {"raw": ["S2_*"]}}, "'S2_.' matches no column"),
        ({"reader": "cube"}, "reader 'cube'"),
        ({"preprocessing": {"where": {"lc_label": [1]}}}, "has one class only"),
    ],
)
def test_a_card_that_does_not_fit_the_table_is_refused(folder, fields, said):
    with pytest.raises(DataError, match=said):
        EmbeddingTable(card(**fields), folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("points_x.csv", b"", "is empty"),
        ("points_x.csv", b"A00,lc_label\n", "holds no row"),
        ("points_x.csv", b"\xff\xfe\x00\x00binary\n\x00\x01", "cannot be read as CSV"),
        ("points_x.csv", b'A00,lc_label\n"open quote,1\n', "cannot be read as CSV"),
        ("points_x.csv", b"A00,A00\n1,2\n", "'A00' twice"),
        ("points_x.parquet", b"PAR1 truncated", "cannot be read as Parquet"),
        ("points_x.gpkg", b"SQLite format 3\x00 truncated", "cannot be read"),
        ("points_x.geojson", b'{"type": "FeatureCollection", "features": [', "cannot be read"),
        ("points_x.xlsx", b"PK", "cannot be read as a workbook|needs openpyxl"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        EmbeddingTable(card(files=[name]), tmp_path)
    assert name in str(caught.value)


def test_a_vector_file_without_crs_is_refused(tmp_path):
    frame = geopandas.GeoDataFrame({"A00": [0.1, 0.2], "lc_label": ["a", "b"]}, geometry=geopandas.points_from_xy([0, 1], [0, 1]))
    frame.to_file(tmp_path / "points.shp")
    (tmp_path / "points.prj").unlink(missing_ok=True)
    with pytest.raises(DataError, match="does not say its CRS"):
        EmbeddingTable(
            card(files=["points.shp"], classes=["a", "b"], groups=None, splits=["random"], coordinates={"geometry": True}), tmp_path
        )


# Real data


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "folder", "units", "target", "groups"),
    [
        ("aef_landcover", "aef_landcover", 2880, "dw_label", 4),
        ("aef_counties_income", "aef_counties", 3139, "MedHHInc", 51),
        ("aef_counties_agriculture", "aef_counties", 3140, "PctEmpAgriculture", 51),
        ("aef_counties_unemployment", "aef_counties", 6278, "UnempRate", 51),
        ("carbonflux", "carbonflux_hls", 975, "GPP", 36),
    ],
)
def test_example_cards_read_the_real_tables(real, repository, name, folder, units, target, groups):
    task = TaskCard.load(repository / "examples" / "cards" / f"{name}.yaml")
    table = EmbeddingTable(task, real(folder))
    assert len(table) == units
    assert table.units().frame[task.groups[0]].nunique() == groups
    assert table.labels(target).notna().all()
    assert all(np.isfinite(table.features(features)[1]).all() for features in task.features)


@pytest.mark.real
def test_county_positions_lie_in_their_counties(real, repository):
    table = EmbeddingTable(TaskCard.load(repository / "examples" / "cards" / "aef_counties_income.yaml"), real("aef_counties"))
    counties = geopandas.read_file(real("aef_counties") / "counties.geojson").set_index("id")
    units = table.units().frame
    inside = counties.loc[units["unit_id"], "geometry"].contains(
        geopandas.GeoSeries.from_xy(units["lon"], units["lat"], crs=4326), align=False
    )
    assert inside.mean() > 0.999


@pytest.mark.real
def test_fuel_moisture_arrays_read_as_they_are(real):
    folder = real("lfmc_presto")
    task = card(
        kind="regression",
        classes=None,
        name="fuel-moisture",
        targets=["target"],
        reader="presto",
        groups=["site", "region"],
        coordinates={"x": "lon", "y": "lat"},
        official={"column": "official", "train": ["train"], "test": ["test"]},
        features={"raw": ["VV_t*", "B*_t*", "t2m_t*"], "presto": ["presto_*"]},
        splits=["official", "leave-region-out"],
        budgets=["50-units"],
    )
    table = EmbeddingTable(task, folder)
    columns, sequence = table.features("presto")
    raw = np.load(folder / "s1_s2_era5_srtm.npy")
    assert sequence.shape == (2313, 3, 17)
    assert columns[:2] == ["presto_VV_t0", "presto_VH_t0"]
    assert_allclose(sequence[5, 1, 0], (raw[5, 1, 0] + 25) / 25, rtol=1e-6)
    assert_allclose(sequence[5, 2, 10], raw[5, 2, 11] / 1e4, rtol=1e-6)  # B11 follows B8A: B9 is left out
    assert_array_equal(table.labels().to_numpy(), np.load(folder / "target.npy"))
    assert (table.units().frame["official"] == "test").sum() == np.load(folder / "is_test.npy").sum()


def embedded(count=128, columns="T{:03d}", rows=60, seed=0):
    """A table of an embedding with its columns shuffled, and a target that its first component gives."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, count)).round(4)
    names = [columns.format(number) for number in range(count)]
    frame = pd.DataFrame(vectors, columns=names)[list(rng.permutation(names))]
    place = {"longitude": rng.uniform(0, 5, rows), "latitude": rng.uniform(40, 45, rows), "region": [f"r{i % 4}" for i in range(rows)]}
    return frame.assign(height=vectors[:, 0] + rng.normal(3, 1, rows), **place, AGB=1.0, AOI=2.0), vectors, names


@pytest.mark.parametrize("columns", ["T{:03d}", "emb_{}", "embedding_{}"])
def test_a_card_names_the_product_and_its_columns_are_found(tmp_path, columns):
    frame, _, names = embedded(columns=columns)
    frame.to_csv(tmp_path / "t.csv", index=False)
    named = regression_card(features={"tessera": {"product": "tessera-v1.1-dclimate"}}, files=["t.csv"])
    table = EmbeddingTable(named, tmp_path)
    assert set(table.feature_sets["tessera"]) == set(names)
    assert table.products["tessera"].columns == names
    other = EmbeddingTable(regression_card(features={"tessera": {"product": "tessera-v1"}}, files=["t.csv"]), tmp_path)
    assert table.digest != other.digest


def test_a_list_valued_column_holds_the_product(tmp_path):
    frame, vectors, names = embedded()
    frame.drop(columns=names).assign(embedding=list(vectors)).to_parquet(tmp_path / "t.parquet")
    table = EmbeddingTable(regression_card(features={"tessera": {"product": "tessera-v1.1-dclimate"}}, files=["t.parquet"]), tmp_path)
    assert len(table.feature_sets["tessera"]) == 128


def test_a_product_that_the_table_does_not_hold_is_refused_with_what_was_looked_for(tmp_path):
    embedded(count=127)[0].to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"features.tessera: expected 128 columns of tessera-v1.1-dclimate \(T000\.\., emb_0"):
        EmbeddingTable(regression_card(features={"tessera": {"product": "tessera-v1.1-dclimate"}}, files=["t.csv"]), tmp_path)


def test_two_variants_on_one_card_are_refused(tmp_path):
    embedded()[0].to_csv(tmp_path / "t.csv", index=False)
    both = {"a": {"product": "tessera-v1.1-dclimate"}, "b": {"product": "tessera-v1"}}
    with pytest.raises(DataError, match="vectors of two variants are not comparable"):
        EmbeddingTable(regression_card(features=both, files=["t.csv"]), tmp_path)


def test_a_glob_that_takes_more_than_the_embedding_is_refused(tmp_path):
    frame, _, names = embedded(count=64, columns="A{:02d}")
    frame[names] /= np.linalg.norm(frame[names], axis=1)[:, None]
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"'A\?\?' takes the 64 columns of alphaearth-v1 and also AGB, AOI"):
        EmbeddingTable(regression_card(features={"alphaearth": ["A??"]}, files=["t.csv"]), tmp_path)
    table = EmbeddingTable(regression_card(features={"alphaearth": {"product": "alphaearth-v1"}}, files=["t.csv"]), tmp_path)
    assert sorted(table.feature_sets["alphaearth"]) == names


@pytest.mark.parametrize("value", [-9999, -1.00788, 0, 1.5])
def test_vectors_that_are_none_are_missing_and_counted(tmp_path, value):
    frame, _, names = embedded(count=64, columns="A{:02d}")
    frame[names] /= np.linalg.norm(frame[names], axis=1)[:, None]
    frame.loc[::10, names if value != 1.5 else names[3]] = value
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = EmbeddingTable(regression_card(features={"alphaearth": ["A[0-9][0-9]"]}, files=["t.csv"]), tmp_path)
    assert len(table) == 54
    assert table.dropped["count"].sum() == 6
    assert any("6 of 60 rows of 'alphaearth' do not hold a vector of alphaearth-v1" in remark for remark in table.remarks)


def test_a_union_of_sets_is_read_by_its_name(tmp_path):
    frame, _, names = embedded()
    frame.assign(elevation=np.arange(60.0)).to_csv(tmp_path / "t.csv", index=False)
    sets = {"tessera": {"product": "tessera-v1"}, "layers": ["elevation"]}
    table = EmbeddingTable(regression_card(features=sets, files=["t.csv"]), tmp_path)
    columns, values = table.features("tessera+layers")
    assert set(columns) == {*names, "elevation"}
    assert values.shape == (60, 129)
    with pytest.raises(DataError, match="no feature set 'tessera\\+absent'"):
        table.features("tessera+absent")


def test_pooling_takes_every_statistic_of_the_product(tmp_path):
    frame, _, names = embedded()
    stats = pd.DataFrame(
        {f"{name}_{stat}": 1.0 * number for number, name in enumerate(names) for stat in ("std", "min", "max")}, index=frame.index
    )
    pd.concat([frame, stats], axis=1).to_csv(tmp_path / "t.csv", index=False)
    pooled = {"tessera-pooled": {"product": "tessera-v1", "pooling": ["mean", "std", "min", "max"]}}
    table = EmbeddingTable(regression_card(features=pooled, files=["t.csv"]), tmp_path)
    assert len(table.feature_sets["tessera-pooled"]) == 4 * 128
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="pooling mean, std needs the column 'T000_std'"):
        EmbeddingTable(regression_card(features={"p": {"product": "tessera-v1", "pooling": ["mean", "std"]}}, files=["t.csv"]), tmp_path)
