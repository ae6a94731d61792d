"""A card from a look at a table, and what a check of it shows."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import yaml

from rs05bench.datasets import published
from rs05bench.datasets.card_check import check_card
from rs05bench.datasets.card_init import propose, questions, settle
from rs05bench.datasets.card_writing import write_commented
from rs05bench.datasets.embedding_table import EmbeddingTable
from rs05bench.datasets.table_facts import look
from rs05bench.datasets.tables.numbered_columns import embedding_remarks
from rs05bench.datasets.task_list import load_task, split_forms, tasks
from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard
from rs05bench.protocol.splits import Split
from tests.datasets.table_files import BANDS, CENTRES, card, export, write_regions


@pytest.fixture
def table(tmp_path):
    frame = pd.concat([export(region) for region in CENTRES], ignore_index=True)
    frame["plot_id"] = [f"{row:05d}" for row in range(len(frame))]
    frame["height_ft"] = frame["height"] * 3.28
    path = tmp_path / "Field plots.csv"
    frame.to_csv(path, index=False)
    return path


def agree(facts, **answers):
    """Answers a person gives who agrees with every suggestion."""
    while open_questions := questions(facts, answers):
        for question in open_questions:
            answers[question.field] = question.suggestion
    return answers


def test_the_columns_are_told_apart(table):
    facts = look(table)
    assert facts.bands == BANDS
    assert (facts.x, facts.y, facts.geometry, facts.year, facts.time) == ("longitude", "latitude", True, "year", None)
    assert "region" in facts.names
    assert {"S1_VV", "S1_VH", "height"} <= set(facts.numbers)


def test_what_cannot_be_known_is_asked_one_after_the_other(table):
    facts = look(table)
    assert [(q.field, q.suggestion) for q in questions(facts, {})] == [("target", "lc_label")]
    assert [(q.field, q.suggestion) for q in questions(facts, {"target": "lc_label"})] == [("kind", "classification")]
    assert [(q.field, q.suggestion) for q in questions(facts, {"target": "height"})] == [("kind", "regression")]
    answers = agree(facts)
    assert answers["groups"] == "region"
    assert answers["unit"] == "plot_id"
    assert questions(facts, answers) == []


def test_agreeing_with_everything_gives_a_card_that_reads_the_table(table, tmp_path):
    facts = look(table)
    made, comments = propose(facts, agree(facts), name="plots")
    path = write_commented(made, comments, tmp_path / "plots.yaml")
    text = path.read_text()
    assert "never be a main result" in text
    again = TaskCard.load(path)
    assert again.digest == made.digest
    opened = EmbeddingTable(again, tmp_path)
    assert len(opened) == 180
    assert set(opened.feature_sets) == {"alphaearth", "raw", "hybrid"}
    assert again.splits[:2] == ["leave-region-out", "within-region"]
    assert "leave-year-out" not in again.splits
    assert "One year only (2024)" in text


def test_copies_of_the_target_and_columns_named_after_it_go_under_never_features(table):
    facts = look(table)
    made, _ = propose(facts, agree(facts, target="height", features="S1_VV,S1_VH"), name="plots")
    assert made.features["raw"].columns == ["S1_VV", "S1_VH"]
    assert "height_ft" in made.never_features
    facts.frame["biomass"] = facts.frame["height"] * 12.0
    made, _ = propose(facts, agree(facts, target="height", features="S1_VV,biomass"), name="plots")
    assert made.features["raw"].columns == ["S1_VV"]
    assert "biomass" in made.never_features


def test_the_probabilities_behind_a_label_are_not_suggested(tmp_path):
    import numpy as np

    frame = export("north", 90)
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], 90) * 0.4
    shares[np.arange(90), frame["lc_label"]] += 0.6
    frame[["water", "grass", "built"]] = shares
    frame.drop(columns="trees").to_csv(tmp_path / "plots.csv", index=False)
    facts = look(tmp_path / "plots.csv")
    answers = agree(facts)
    assert answers["features"].split(",") == ["S1_VV", "S1_VH", "height"]
    made, _ = propose(facts, answers, name="plots")
    assert made.never_features == ["water", "grass", "built"]


def test_a_card_is_never_overwritten(table, tmp_path):
    facts = look(table)
    made, comments = propose(facts, agree(facts), name="plots")
    path = write_commented(made, comments, tmp_path / "plots.yaml")
    before = path.read_bytes()
    with pytest.raises(DataError, match="already exists"):
        write_commented(made, comments, path)
    assert path.read_bytes() == before


def test_an_answer_that_is_no_column_is_refused(table):
    facts = look(table)
    with pytest.raises(DataError, match="no column 'crop'"):
        questions(facts, {"target": "crop"})
    with pytest.raises(DataError, match="groups: there is no column 'county'"):
        propose(facts, agree(facts, groups="county"), name="plots")


def test_a_check_says_what_the_card_will_see(tmp_path):
    report = check_card(
        card(splits=["leave-region-out", "within-region", "random"], budgets=["5-per-class", "20-units"]), write_regions(tmp_path)
    )
    assert report.right
    assert (report.units, report.located) == (180, 180)
    assert report.classes == {"0": 60, "1": 60, "2": 60}
    assert report.groups == {"region": {"north": 60, "south": 60, "west": 60}}
    assert report.features["hybrid"] == [*BANDS, "S1_VV", "S1_VH"] or set(report.features["hybrid"]) == {*BANDS, "S1_VV", "S1_VH"}
    assert "trees" in report.unused
    assert [item.folds for item in report.splits] == [3, 3, 1]
    assert report.budgets[1].train + report.budgets[1].val == 20


def test_a_check_gives_the_reason_for_what_is_impossible(tmp_path):
    write_regions(tmp_path)
    task = card(splits=["leave-region-out", "leave-year-out"], year="year", budgets=["5-per-class", "500-per-class"])
    report = check_card(task, tmp_path)
    assert not report.right
    year = report.splits[1]
    assert not year.possible
    assert "year" in year.reason
    assert "instead of" in report.budgets[1].reason  # fewer labels than asked for, said per class


def test_the_split_forms_parse_and_say_truly_what_can_be_a_main_result():
    forms = {form["split"]: form for form in split_forms()}
    assert {"random", "spatial-block", "within-<group>", "leave-year-out", "next-year", "until-<year>"} <= set(forms)
    for form in forms.values():
        for one in str(form["split"]).split(", "):
            text = one
            for word, example in (("<group>", "region"), ("<k>", "5"), ("<n>", "30"), ("<b>", "3"), ("<year>", "2021"), ("<which>", "2")):
                text = text.replace(word, example)
            assert Split(text).rule.may_be_main is form["main_result"]
            assert Split(text).rule.form == form["split"]


def test_tasks_lists_the_three_simulated_ones_and_my_cards(tmp_path):
    card().save(tmp_path / "mine.yaml")
    entries = tasks([tmp_path])
    assert [entry.name for entry in entries[:3]] == ["burn-scar", "crop", "urban"]
    assert [entry.simulated for entry in entries[:3]] == [True, True, True]
    assert entries[-1].name == "landcover"
    assert {entry.load for entry in entries} >= {path.stem for path in (Path(published.__file__).parent / "cards").glob("*.yaml")}
    for entry in entries:
        assert load_task(entry.load).name == entry.name
    with pytest.raises(DataError, match="no task 'crops'"):
        load_task("crops")
    with pytest.raises(DataError, match="no such file"):
        tasks([tmp_path / "absent"])


@pytest.mark.parametrize("word", ["NO", "yes", "on", "off", "n"])
def test_words_of_a_card_stay_words(tmp_path, word):
    path = tmp_path / "card.yaml"
    card(classes=None).save(path)
    data = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(data) + f"class_names: null\nnever_features: [{word}]\nsimulated: true\n")
    loaded = TaskCard.load(path)
    assert loaded.never_features == [word]
    assert loaded.simulated is True


def plots(count=240):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(count, 8)).round(4), columns=[f"A{band:02d}" for band in range(8)])
    return frame.assign(
        longitude=10 + draw.uniform(0, 2, count), latitude=45 + draw.uniform(0, 2, count), label=draw.choice(["crop", "wood"], count)
    )


def test_rows_that_lack_a_band_of_the_embedding_are_kept_and_said(tmp_path):
    frame = plots()
    frame.loc[::2, "A03"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    facts = look(tmp_path / "t.csv")
    made, said = settle(propose(facts, agree(facts), name="t")[0], tmp_path)
    assert made.missing == "keep"
    assert any("lack a value of alphaearth: they stay" in line for line in said)
    assert len(EmbeddingTable(made, tmp_path)) == 240


def test_rows_that_are_left_out_are_said_with_their_number(tmp_path):
    frame = plots()
    frame.loc[:29, "A03"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    facts = look(tmp_path / "t.csv")
    _, said = settle(propose(facts, agree(facts), name="t")[0], tmp_path)
    assert any(line.startswith("30 of 240 rows are left out: ") for line in said)


def test_codes_are_no_class_commas_in_names_separate_nothing_and_days_read_two_ways_are_no_group(tmp_path):
    frame = plots()
    frame["label"] = np.where(np.arange(240) % 20 == 0, -9999, (frame["label"] == "crop").astype(int))
    frame["Ökoregion (EPA)"] = np.random.default_rng(2).choice(["Alps", "Jura", "Po"], 240)
    frame["height, m"] = np.random.default_rng(1).normal(size=240)
    frame["acquired"] = ["04.07.2018", "05.08.2019"] * 120
    frame.to_csv(tmp_path / "t.csv", index=False)
    facts = look(tmp_path / "t.csv")
    made = propose(facts, agree(facts, target="label", class_names=""), name="t")[0]
    assert made.classes == ["0", "1"]
    assert made.features["raw"].columns == ["height, m"]
    assert (made.groups, made.splits[:2]) == (["Ökoregion (EPA)"], ["leave-okoregion-epa-out", "within-okoregion-epa"])
    assert made.group_column("okoregion-epa") == "Ökoregion (EPA)"
    assert any("'acquired' is not used: '04.07.2018' may be 2018-07-04 or 2018-04-07" in line for line in facts.remarks)


def test_points_of_a_geoparquet_get_the_blocks_that_their_columns_would(tmp_path):
    frame = plots()
    frame.to_parquet(tmp_path / "columns.parquet")
    points = gpd.points_from_xy(frame.pop("longitude"), frame.pop("latitude"), crs=4326)
    gpd.GeoDataFrame(frame, geometry=points).to_parquet(tmp_path / "points.parquet")
    columns, shapes = (look(tmp_path / name) for name in ("columns.parquet", "points.parquet"))
    by_columns, by_shapes = (propose(facts, agree(facts), name="t")[0].split_options for facts in (columns, shapes))
    assert by_shapes.block_size_m == by_columns.block_size_m
    assert "block_size_m" in by_shapes.model_fields_set


@pytest.mark.parametrize(
    ("names", "product", "features", "remark"),
    [
        ([f"a{i:02d}" for i in range(64)], None, {"alphaearth": ("alphaearth-v1", ["a[0-9][0-9]"])}, ""),
        ([f"ae_A{i:02d}_2021" for i in range(64)], "alphaearth", {"alphaearth": ("alphaearth-v1", ["ae_A[0-9][0-9]_2021"])}, ""),
        (
            [f"A{i:02d}" for i in range(40)],
            None,
            {"alphaearth": (None, ["A[0-9][0-9]"])},
            "40 columns of alphaearth, whose vectors have 64",
        ),
        ([f"T{i:03d}" for i in range(128)], None, {"tessera": (None, ["T[0-9][0-9][0-9]"])}, "of which version their names do not tell"),
        ([f"T{i:03d}" for i in range(128)], "tessera-v1", {"tessera": ("tessera-v1", [])}, ""),
        (
            [f"emb_{i}" for i in range(768)],
            None,
            {"embedding": (None, ["emb_[0-9]*"])},
            "--product names it (esd, major-tom, olmoearth-v1-base)",
        ),
        ([f"emb_{i}" for i in range(2048)], "mine", {"mine": (None, ["emb_[0-9]*"])}, "--product names it"),
        ([f"S2_emb{i:02d}_std" for i in range(16)], "mine", {"mine": (None, ["S2_emb[0-9][0-9]_std"])}, ""),
    ],
)
def test_an_embedding_is_found_by_number_whatever_its_columns_are_called(tmp_path, names, product, features, remark):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(-1, 1, (80, len(names))), columns=names)[rng.permutation(names)]
    plain = pd.DataFrame(
        {"state": np.repeat(["a", "b"], 40), "year": 2021, "crop": np.tile(["x", "y"], 40), "AGB": rng.uniform(0, 300, 80)}
    )
    pd.concat([plain, frame], axis=1).to_csv(tmp_path / "t.csv", index=False)
    facts = look(tmp_path / "t.csv")
    answers = agree(facts, target="crop", groups="state", unit="", **({"product": product} if product else {}))
    made, _ = propose(facts, answers, name="t")
    found = {name: (members.product, members.columns) for name, members in made.features.items() if name not in ("raw", "hybrid")}
    assert found == features
    assert made.features["raw"].columns == ["AGB"]
    said = embedding_remarks(facts.families, str(answers.get("product") or "embedding"))
    assert remark in " ".join(said)
    assert bool(said) == bool(remark)


@pytest.mark.filterwarnings("error")
def test_wide_years_of_any_product_become_rows(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"T{i:03d}_{year}" for year in (2018, 2019) for i in range(128)]
    plain = pd.DataFrame({"state": np.repeat(["a", "b"], 20), "crop": np.tile(["x", "y"], 20)})
    pd.concat([plain, pd.DataFrame(rng.normal(size=(40, 256)), columns=names)], axis=1).to_csv(tmp_path / "t.csv", index=False)
    facts = look(tmp_path / "t.csv")
    assert facts.wide_years == [2018, 2019]
    made, _ = propose(facts, agree(facts, target="crop", product="tessera-v1.1-cam"), name="t")
    assert made.features["tessera"].product == "tessera-v1.1-cam"
    read = EmbeddingTable(made, tmp_path)
    assert len(read) == 80
    last = read.features("tessera")[1][:, -1]
    table = pd.read_csv(tmp_path / "t.csv")
    assert sorted(last) == pytest.approx(sorted([*table["T127_2018"], *table["T127_2019"]]))


@pytest.mark.filterwarnings("error")
def test_a_wide_geoparquet_is_read_without_a_word_of_pandas(tmp_path):
    rng = np.random.default_rng(0)
    bands = pd.DataFrame(rng.uniform(-1, 1, (40, 128)), columns=[f"T{i:03d}" for i in range(128)])
    places = gpd.points_from_xy(rng.uniform(10, 11, 40), rng.uniform(50, 51, 40), crs=4326)
    gpd.GeoDataFrame(bands.assign(crop=np.tile(["x", "y"], 20), state=np.repeat(["a", "b"], 20)), geometry=places).to_parquet(
        tmp_path / "t.parquet"
    )
    facts = look(tmp_path / "t.parquet")
    assert facts.geometry
    made, _ = propose(facts, agree(facts, target="crop", product="tessera-v1"), name="t")
    assert len(EmbeddingTable(made, tmp_path)) == 40
