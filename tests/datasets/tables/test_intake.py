"""`card init` on tables in the shapes people have: what is a feature, what tells the label, what is asked."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from rs05bench.cli import card
from rs05bench.datasets.card_check import check_card
from rs05bench.datasets.card_init import next_steps, propose, questions, settle
from rs05bench.datasets.embedding_table import EmbeddingTable
from rs05bench.datasets.table_facts import look
from rs05bench.datasets.tables.zones import candidate_crs, named_crs, to_degrees
from rs05bench.errors import DataError

CLASSES = ("corn", "rice", "wheat", "grass")


def plots(n: int = 240, dims: int = 64, seed: int = 0) -> pd.DataFrame:
    """Four regions, four classes, an embedding that knows a little of them."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, n)
    values = rng.normal(0, 0.1, (n, dims)) + 0.2 * np.eye(4, dims)[label]
    frame = pd.DataFrame(values.round(5), columns=[f"A{band:02d}" for band in range(dims)])
    region = np.arange(n) % 4
    frame.insert(0, "region", np.array(list("NSEW"))[region])
    frame["longitude"], frame["latitude"] = 10 + region * 3 + rng.uniform(0, 1, n), 50 + rng.uniform(0, 1, n)
    frame["label"] = np.array(CLASSES)[label]
    return frame


def agreed(path, **answers):
    """The facts, and the answers of somebody who agrees with every suggestion."""
    facts = look(path)
    while open_questions := questions(facts, answers):
        answers |= {question.field: question.suggestion for question in open_questions}
    return facts, answers


def card_of(frame: pd.DataFrame, folder, **answers):
    path = folder / "plots.csv"
    frame.to_csv(path, index=False)
    facts, given = agreed(path, **answers)
    made, comments = propose(facts, given, name="plots")
    return *settle(made, folder), comments


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("code", lambda frame: frame["label"].map({name: 10 + number for number, name in enumerate(CLASSES)})),
        ("kind", lambda frame: frame["label"].str.upper()),
        ("cereal", lambda frame: frame["label"].ne("grass").astype(int)),
        ("yield_t", lambda frame: np.where(frame["label"] == "rice", 3.5, np.nan)),
        ("label_conf", lambda frame: np.random.default_rng(1).uniform(size=len(frame))),
        ("fold", lambda frame: np.arange(len(frame)) % 5),
        ("is_test", lambda frame: np.arange(len(frame)) % 3 == 0),
        ("split", lambda frame: np.where(np.arange(len(frame)) % 3 == 0, "test", "train")),
        ("pid", lambda frame: np.arange(len(frame)) + 7),
        ("easting", lambda frame: 500_000 + frame["longitude"] * 1000),
        ("soil_ph", lambda frame: np.where(np.arange(len(frame)) % 3 == 0, 6.5 + np.arange(len(frame)) / 999, np.nan)),
    ],
)
def test_what_gives_the_label_away_or_only_counts_is_neither_feature_nor_group(tmp_path, column, values):
    frame = plots()
    frame[column] = values(frame)
    made, _, _ = card_of(frame, tmp_path, target="label")
    assert "raw" not in made.features
    assert column not in made.groups


def test_a_measured_column_is_a_feature(tmp_path):
    frame = plots().assign(elevation=np.random.default_rng(2).normal(300, 50, 240))
    made, _, _ = card_of(frame, tmp_path, target="label")
    assert made.features["raw"].columns == ["elevation"]


@pytest.mark.parametrize(
    ("stem", "count", "product"),
    [("emb_", 32, ""), ("tessera_", 128, "tessera"), ("clay-", 40, "clay"), ("f", 300, ""), ("embedding_", 768, "")],
)
def test_numbered_columns_are_an_embedding_under_any_name(tmp_path, stem, count, product):
    frame = plots(dims=count).rename(columns={f"A{band:02d}": f"{stem}{band}" for band in range(count)})
    frame.to_csv(tmp_path / "plots.csv", index=False)
    facts, answers = agreed(tmp_path / "plots.csv", target="label")
    (family,) = facts.families
    assert (len(family.columns), family.product) == (count, product)
    # TESSERA has several versions with vectors of this length; no record of Clay has 40 components.
    assert answers.get("product") == {"": "embedding", "tessera": "tessera", "clay": None}[product]
    made, _ = propose(facts, answers, name="plots")
    assert len(EmbeddingTable(made, tmp_path).feature_sets[product or "embedding"]) == count


def test_values_of_alphaearths_bytes_are_told_by_what_they_are(tmp_path):
    bytes_ = np.random.default_rng(0).integers(-80, 80, (240, 64)).astype(np.int8)
    frame = plots().rename(columns={f"A{band:02d}": f"v{band}" for band in range(64)})
    frame[[f"v{band}" for band in range(64)]] = (np.sign(bytes_) * (bytes_ / 127.5) ** 2).round(4)
    frame.to_csv(tmp_path / "plots.csv", index=False)
    assert [family.product for family in look(tmp_path / "plots.csv").families] == ["alphaearth-v1"]


def test_a_column_beside_the_bands_is_none_of_them(tmp_path):
    made, _, _ = card_of(plots().assign(AGB=np.arange(240) * 1.7, AOI=1), tmp_path, target="label")
    assert len(EmbeddingTable(made, tmp_path).feature_sets["alphaearth"]) == 64


def test_rare_classes_do_not_set_every_budget(tmp_path):
    frame = plots()
    frame.loc[:5, "label"] = "orchid"
    made, _, _ = card_of(frame, tmp_path, target="label")
    assert {"20-units", "50-units"} <= set(made.budgets)
    assert any("orchid (6)" in hint for hint in check_card(made, tmp_path).hints)


def test_a_card_is_never_written_that_the_next_command_refuses(tmp_path):
    frame = plots()
    frame["ndvi_may"] = np.where(np.random.default_rng(3).uniform(size=240) < 0.4, np.nan, 0.5 + np.arange(240) / 999)
    made, _, comments = card_of(frame, tmp_path, target="label")
    assert made.missing == "keep"
    assert "Many rows lack a feature" in comments["missing"]
    report = check_card(made, tmp_path)
    assert report.right
    assert report.units == 240


def test_unlocated_units_without_a_group_get_what_is_possible(tmp_path):
    made, said, _ = card_of(plots().drop(columns=["longitude", "latitude", "region"]), tmp_path, target="label")
    assert made.splits == ["random"]
    assert check_card(made, tmp_path).right
    assert said == []


def test_metres_are_asked_for_their_zone(tmp_path):
    frame = plots()
    frame["x"], frame["y"] = 265_000 + np.arange(240) * 10.0, 4_639_000 + np.arange(240) * 10.0
    frame.drop(columns=["longitude", "latitude"]).to_csv(tmp_path / "plots.csv", index=False)
    facts, given = look(tmp_path / "plots.csv"), {"target": "label", "kind": "classification", "groups": "region", "unit": ""}
    (question,) = questions(facts, given)
    assert (question.field, question.suggestion) == ("crs", None)
    assert "32601..32660 (UTM north)" in question.choices
    made, _ = propose(facts, {**given, "crs": named_crs("15n"), "features": ""}, name="plots")
    assert made.coordinates.crs == "EPSG:32615"
    lon, lat = to_degrees(pd.Series([265_016.1]), pd.Series([4_639_517.2]), "15N")
    assert (lon[0], lat[0]) == pytest.approx((-95.83, 41.87), abs=0.02)


def test_a_national_grid_is_proposed_where_it_fits():
    paris, nowhere = ([652_000.0], [6_862_000.0]), ([652_000.0], [20_000_000.0])
    assert "EPSG:2154" in candidate_crs(*map(pd.Series, paris))
    assert candidate_crs(*map(pd.Series, nowhere)) == []


def test_one_small_area_gets_blocks_of_its_own_size(tmp_path):
    rng = np.random.default_rng(0)
    frame = plots(720).drop(columns="region").assign(longitude=10 + rng.uniform(0, 0.06, 720), latitude=42 + rng.uniform(0, 0.045, 720))
    made, _, _ = card_of(frame, tmp_path, target="label")
    assert 100 <= made.split_options.block_size_m <= 500
    assert made.split_options.buffer_m <= 100
    report = check_card(made, tmp_path)
    assert report.splits[0].split == "spatial-block"
    assert report.splits[0].possible
    assert "m blocks" in report.blocks


@pytest.mark.parametrize("what", ["place", "rare", "year", "region"])
def test_a_label_that_follows_from_the_design_is_flagged_and_its_split_not_offered(tmp_path, what):
    frame = plots()
    match what:
        case "place":
            frame["label"] = np.where(frame["latitude"] > 50.5, "forest", "cleared")
        case "rare":
            frame["label"] = np.where(frame["latitude"] > 50.85, "lost", "forest")  # north of a line, in each of the regions
            what = "place"
        case "year":
            frame["year"] = 2018 + np.arange(240) // 120
            frame["label"] = np.where(frame["year"] == 2018, "forest", "cleared")
        case _:
            frame["label"] = frame["region"].map(dict(zip("NSEW", CLASSES, strict=True)))
    made, said, _ = card_of(frame, tmp_path, target="label")
    flags = check_card(made, tmp_path).flags
    assert what in {flag.what for flag in flags}
    assert any(f"function of {'the place' if what == 'place' else what}" in line for line in said)
    assert made.groups == ["region"]
    assert {"region": "leave-region-out", "year": "leave-year-out"}.get(what) not in made.splits


def test_labels_in_no_pattern_raise_no_flag(tmp_path):
    made, said, _ = card_of(plots(), tmp_path, target="label")
    assert check_card(made, tmp_path).flags == []
    assert said == []


def test_years_are_read_from_dates(tmp_path):
    frame = plots().assign(date=[f"{2019 + row % 3}-06-01" for row in range(240)])
    made, _, _ = card_of(frame, tmp_path, target="label")
    assert "leave-year-out" in made.splits
    assert set(EmbeddingTable(made, tmp_path).units().frame["year"]) == {2019, 2020, 2021}


def test_copies_constants_codes_and_few_rows_are_remarked(tmp_path):
    frame = plots(40)
    frame["A05"] = 0.25
    frame.loc[20, "A07"] = -9999
    pd.concat([frame, frame.head(6)]).to_csv(tmp_path / "plots.csv", index=False)
    said = " ".join(look(tmp_path / "plots.csv").remarks)
    for words in ("46 rows are few", "6 rows are exact copies", "1 column holds one value only (A05)", "-9999 stands in 1 cell:"):
        assert words in said


def test_rows_without_features_or_a_position_are_no_copies_of_each_other(tmp_path):
    pd.DataFrame({"GEOID": [f"{row:05d}" for row in range(80)], "income": [40] * 40 + [50] * 40}).to_csv(tmp_path / "t.csv", index=False)
    assert not any("copies" in line for line in look(tmp_path / "t.csv").remarks)


def test_dates_that_may_be_read_two_ways_are_named_with_both_readings(tmp_path):
    plots(60).assign(date="03/04/2019").to_csv(tmp_path / "t.csv", index=False)
    (line,) = [line for line in look(tmp_path / "t.csv").remarks if "'date'" in line]
    assert "may be 2019-04-03 or 2019-03-04" in line


@pytest.mark.parametrize(("tile", "zone"), [("T32UNB", "EPSG:32632"), ("20MRB", "EPSG:32720")])
def test_a_tile_tells_the_zone_of_metres(tmp_path, tile, zone):
    frame = plots(60).drop(columns=["longitude", "latitude"]).assign(x=500_000 + np.arange(60) * 10.0, y=5_600_000 + np.arange(60) * 10.0)
    frame.assign(tile=tile).to_csv(tmp_path / "t.csv", index=False)
    asked = questions(look(tmp_path / "t.csv"), {"target": "label", "kind": "classification", "groups": "region", "unit": ""})
    assert [(question.field, question.suggestion) for question in asked] == [("crs", zone)]


def test_a_question_without_a_suggestion_ends_on_enter(tmp_path):
    plots(60).drop(columns="label").assign(one=np.arange(60.0) / 7, two=np.arange(60.0) / 9).to_csv(tmp_path / "t.csv", index=False)
    app = typer.Typer()
    card.register(app)
    done = CliRunner().invoke(app, ["card", "init", str(tmp_path / "t.csv")], input="\n")
    assert isinstance(done.exception, DataError)
    assert "Which column is predicted? (fit: region, one, two)" in str(done.exception)


@pytest.mark.parametrize("label", ["name and code", "yes or no", "only number"])
def test_the_one_column_that_can_be_the_label_is_suggested(tmp_path, label):
    frame = plots(80)
    match label:
        case "name and code":
            frame = frame.rename(columns={"label": "grown"}).assign(
                CDL=frame["label"].map(dict(zip(CLASSES, (1, 3, 24, 176), strict=True)))
            )
            expected = "grown"
        case "yes or no":
            frame = frame.drop(columns="label").assign(irrigated=np.arange(80) % 3 == 0)
            expected = "irrigated"
        case _:
            frame = frame.drop(columns="label").assign(soil_ph=5 + np.random.default_rng(0).uniform(0, 3, 80))
            expected = "soil_ph"
    frame.to_csv(tmp_path / "t.csv", index=False)
    (question,) = questions(look(tmp_path / "t.csv"), {})
    assert question.suggestion == expected


def test_clusters_far_apart_get_the_blocks_of_one_cluster(tmp_path):
    apart, _, _ = card_of(plots(400).drop(columns="region"), tmp_path, target="label")
    named, _, _ = card_of(plots(400), tmp_path, target="label")
    assert apart.split_options.block_size_m == named.split_options.block_size_m


def test_without_positions_no_labels_of_blocks_are_offered(tmp_path):
    made, _, _ = card_of(plots().drop(columns=["longitude", "latitude"]), tmp_path, target="label")
    assert "50-units" in made.budgets
    assert not any("blocks" in budget for budget in made.budgets)


def test_longitudes_of_0_to_360_degrees_are_west_of_greenwich(tmp_path):
    frame = plots()
    made, _, _ = card_of(frame.assign(longitude=frame["longitude"] + 250), tmp_path, target="label")
    table = EmbeddingTable(made, tmp_path)
    assert np.sort(table.units().frame["lon"]) == pytest.approx(np.sort(frame["longitude"] - 110))
    assert any("0 to 360 degrees" in line for line in table.remarks)


def test_codes_without_names_are_asked_for_by_the_check(tmp_path):
    frame = plots(60).assign(label=lambda frame: frame["label"].map(dict(zip(CLASSES, (1, 3, 24, 176), strict=True))))
    made, _, _ = card_of(frame, tmp_path, target="label")
    assert any("classes are codes (1, 3, 24, 176): class_names" in hint for hint in check_card(made, tmp_path).hints)


def test_class_names_come_from_the_column_that_holds_them_or_are_asked_for(tmp_path):
    frame = plots().assign(name=lambda frame: frame["label"])
    frame["label"] = frame["label"].map({name: number for number, name in enumerate(CLASSES)})
    made, _, _ = card_of(frame, tmp_path, target="label")
    assert (made.classes, made.class_names) == (["0", "1", "2", "3"], list(CLASSES))
    frame.drop(columns="name").to_csv(tmp_path / "plots.csv", index=False)
    asked = questions(look(tmp_path / "plots.csv"), {"target": "label", "kind": "classification"})
    assert [question.field for question in asked] == ["class_names"]


def test_labels_without_features_lead_on_to_extract(tmp_path):
    frame = plots()
    shapes = gpd.points_from_xy(frame["longitude"], frame["latitude"]).buffer(0.01)
    gpd.GeoDataFrame(frame[["region", "label"]], geometry=shapes, crs=4326).to_file(tmp_path / "fields.gpkg")
    facts, answers = agreed(tmp_path / "fields.gpkg", target="label")
    made, _ = propose(facts, answers, name="fields")
    assert settle(made, tmp_path)[0].coordinates.geometry
    assert "rs05bench extract" in next_steps(facts, tmp_path / "fields.gpkg")


def test_a_class_in_two_spellings_is_refused_before_a_card_is_written(tmp_path):
    frame = plots()
    frame.loc[::2, "label"] = frame.loc[::2, "label"].str.upper()
    with pytest.raises(Exception, match=r"column 'label' holds one key in two spellings: 'CORN' and 'corn' \(case\)"):
        card_of(frame, tmp_path, target="label", groups="region")
