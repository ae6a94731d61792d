"""Advice on a person's own table: what it says follows from the cells it ran, and it is honest where they do not tell."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from rs05bench.errors import DataError
from rs05bench.experiment.advice import to_dict
from rs05bench.experiment.advice_text import full, lines
from rs05bench.experiment.advise import AdviceAsked, advise
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol import TaskCard
from rs05bench.protocol.comparison import compare
from rs05bench.protocol.inference.estimate import Estimate
from rs05bench.protocol.inference.over_groups import over_groups
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.report.page import write_report

CARD = """
kind: classification
name: fields
targets: [crop]
classes: [corn, rice]
groups: [county]
coordinates: {x: lon, y: lat, crs: "EPSG:4326"}
files: [fields.csv]
features: {raw: [b1, b2], alphaearth: ["A??"], hybrid: [alphaearth, raw]}
splits: [leave-county-out, random]
split_options: {block_size_m: 5000, buffer_m: 0}
budgets: [20-units]
"""


def write_table(folder, *, signal: float = 2.0) -> None:
    """Four counties; the bands know the crop as well as `signal` says, the embedding better than the raw bands."""
    rng = np.random.default_rng(0)
    n = 320
    county = np.arange(n) % 4
    crop = rng.integers(0, 2, n)
    table = pd.DataFrame(
        {
            "lon": -100 + county + rng.random(n) * 0.4,
            "lat": 40 + rng.random(n) * 0.4,
            "county": [f"c{value}" for value in county],
            "crop": np.where(crop == 1, "rice", "corn"),
            "b1": crop * signal / 4 + rng.standard_normal(n),
            "b2": rng.standard_normal(n),
        }
    )
    bands = pd.DataFrame({f"A{i:02d}": crop * signal * (i == 0) + rng.standard_normal(n) for i in range(64)})
    bands = bands.div(np.linalg.norm(bands, axis=1), axis=0)
    pd.concat([table, bands], axis=1).to_csv(folder / "fields.csv", index=False)
    (folder / "card.yaml").write_text(CARD)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    write_table(folder)
    stages: list[str] = []
    # No time at all: only the first round of simple models is run.
    found = advise(
        folder / "card.yaml", folder, folder / "runs", question=AdviceAsked(labels=40), minutes=0, jobs=1, on_stage=stages.append
    )
    return folder, found, stages


def estimate(value: float, low: float, high: float, *, seeds: int = 3, p: float = 0.5) -> Estimate:
    return Estimate(value, low, high, 0.95, (high - low) / 4, "groups", 4, n_seeds=seeds, p=p)


def test_without_time_the_first_round_is_run_and_what_is_left_is_said(asked):
    _, found, stages = asked
    assert len(stages) == 1
    assert found.seeds == 1
    assert set(found.models) == {"floor/majority", "floor/nearest", "raw/logistic", "alphaearth/logistic", "hybrid/logistic"}
    text = "\n".join(lines(found))
    assert "The time was up after 1 draw of labels" in text
    assert "was not reached in the time given" in text


def test_every_number_is_that_of_the_comparison_of_the_stored_cells(asked):
    folder, found, _ = asked
    pool = Pool.of(ResultStore(folder / "runs").results())
    compared = compare(pool)
    scores = {point.model: compared.score(point, "test_ood").estimate.value for point in pool.points}
    models = {name: value for name, value in scores.items() if not name.startswith("floor/")}
    floors = {name: value for name, value in scores.items() if name.startswith("floor/")}
    assert found.elsewhere.best == max(models, key=models.get)
    assert found.elsewhere.score.value == max(models.values())
    assert found.elsewhere.floor_score.value == max(floors.values())
    points = {point.model: point for point in pool.points}
    difference = compared.difference(points[found.elsewhere.best], points[found.elsewhere.floor], "test_ood")
    assert found.elsewhere.over_floor.value == pytest.approx(difference.effect.value)
    assert found.labels_used == 40
    assert (found.units, found.groups, found.classes, found.features["alphaearth"], found.features["raw"]) == (320, 4, 2, 64, 2)
    assert sum(sum(row.values()) for row in found.confusion.values()) > 0


def test_the_recommendation_stands_first_and_a_dozen_lines_are_enough(asked):
    _, found, _ = asked
    text = lines(found)
    assert text[0].startswith(f"Use {found.recommended} (")
    assert any(line.startswith("Here (same county)") for line in text)
    assert any(line.startswith("Next county") and "drop" in line for line in text)
    assert any(line.startswith("Each county: c0") for line in text)
    assert len(text) <= 12


def test_cells_that_are_there_already_answer_what_labels_would_buy(asked, tmp_path):
    folder, first, _ = asked
    shutil.copytree(folder / "runs", tmp_path / "runs")
    plus = ("leave-county-out+30-units", "leave-county-out+30-units-in-5-blocks")
    for split, budgets in (*((name, ["40-units"]) for name in plus), ("leave-county-out", ["70-units", "70-units-in-5-blocks"])):
        sweep(
            GridFile.over(
                folder / "card.yaml", folder, GridChoice(models=[first.recommended], splits=[split], budgets=budgets), costs=False
            ),
            tmp_path / "runs",
            jobs=1,
        )
    found = advise(folder / "card.yaml", folder, tmp_path / "runs", question=AdviceAsked(labels=40), minutes=0, jobs=1)
    compared = compare(Pool.of(ResultStore(tmp_path / "runs").results()), by="budget")
    base = Point("fields", "crop", "leave-county-out", found.recommended, "40-units")
    larger = compared.difference(base._replace(budget="70-units"), base, "test_ood").effect.value
    spread = compared.difference(base._replace(budget="70-units-in-5-blocks"), base._replace(budget="70-units"), "test_ood").effect.value
    assert found.more_random["test_ood"].value == pytest.approx(larger)
    assert found.more_clustered["test_ood"].value == pytest.approx(spread)
    there = compare(Pool.of(ResultStore(tmp_path / "runs").results()), by="split")
    for gain, name in zip((found.more_there, found.more_there_clustered), plus, strict=True):
        assert gain.value == pytest.approx(there.difference(base._replace(split=name), base, "test_ood").effect.value)
    assert [row[0] for row in found.by_budget] == [40.0, 70.0]
    text = "\n".join(lines(found))
    assert "30 more labels at random" in text
    assert "in a few visited places instead" in text
    assert "30 labels from the new county as well" in text
    assert "in a few visited places of it" in text


def test_where_no_model_is_ahead_of_a_baseline_the_baseline_is_the_answer(tmp_path):
    write_table(tmp_path)
    table = pd.read_csv(tmp_path / "fields.csv")
    table[[name for name in table.columns if name[0] in "bA"]] = 0.25
    table["crop"] = np.where(table["lat"] % 0.2 < 0.1, "rice", "corn")  # stripes that the nearest label knows
    table.to_csv(tmp_path / "fields.csv", index=False)
    found = advise(tmp_path / "card.yaml", tmp_path, tmp_path / "runs", question=AdviceAsked(labels=40), minutes=0, jobs=1)
    assert found.verdict in ("floor", "perfect-floor")
    assert found.recommended.startswith("floor/")
    assert any(f"{found.recommended}, a baseline without imagery" in line for line in lines(found))
    assert not any(line.startswith("Use alphaearth") for line in lines(found))


def test_with_one_area_only_what_is_not_known_is_stated(asked):
    _, found, _ = asked
    text = "\n".join(lines(dataclasses.replace(found, elsewhere=None)))
    assert "Another area: not known" in text
    assert "Another area" not in "\n".join(lines(found))


def test_a_perfect_baseline_is_a_broken_design(asked):
    _, found, _ = asked
    text = lines(dataclasses.replace(found, verdict="perfect-floor", recommended="floor/nearest"))
    assert text[0].startswith("Use no model yet: floor/nearest")
    assert "labelling more" not in text[0]


def test_a_label_that_follows_from_the_place_is_said_before_anything_else(tmp_path):
    write_table(tmp_path)
    table = pd.read_csv(tmp_path / "fields.csv")
    table["crop"] = np.where(table["county"].isin(["c0", "c1"]), "rice", "corn")
    table.to_csv(tmp_path / "fields.csv", index=False)
    card = (tmp_path / "card.yaml").read_text().replace("[leave-county-out, random]", "[leave-county-out, spatial-block, random]")
    (tmp_path / "card.yaml").write_text(card)
    found = advise(tmp_path / "card.yaml", tmp_path, tmp_path / "runs", question=AdviceAsked(labels=40), minutes=0, jobs=1)
    assert {"county", "place"} <= {flag.what for flag in found.flags}
    assert found.split == "spatial-block"
    assert lines(found)[0].startswith("DESIGN FAULT: the label is a function of county: 4 of 4")
    report = write_report(tmp_path / "runs", tmp_path / "page", images=False)
    assert report.verdicts["fields"][1].startswith("Design fault: the label is a function of county")


def test_one_small_area_is_answered_for_itself(tmp_path):
    write_table(tmp_path)
    table = pd.read_csv(tmp_path / "fields.csv")
    rng = np.random.default_rng(1)
    table["lon"], table["lat"] = -100 + rng.random(len(table)) * 0.05, 40 + rng.random(len(table)) * 0.04
    table.drop(columns="county").to_csv(tmp_path / "fields.csv", index=False)
    (tmp_path / "card.yaml").write_text(
        "kind: classification\nname: fields\ntargets: [crop]\ncoordinates: {x: lon, y: lat}\nfiles: [fields.csv]\n"
        "features: {raw: [b1, b2], alphaearth: ['A[0-9][0-9]']}\nsplits: [spatial-block, random]\n"
    )
    found = advise(tmp_path / "card.yaml", tmp_path, tmp_path / "runs", question=AdviceAsked(labels=60), minutes=0, jobs=1)
    assert found.split == "spatial-block"
    assert found.elsewhere is None
    text = "\n".join(lines(found))
    assert "here with 60 labels" in text
    assert "they hold here, not in a new area" in text
    assert "m blocks" in text
    said = write_report(tmp_path / "runs", tmp_path / "page", images=False).verdicts["fields"]
    assert said[0].startswith("With 60 labels in this area, ")
    assert f"{found.here.best} is best: macro-F1 " in said[0] or f"{found.here.best} leads by value: macro-F1 " in said[0]
    assert any("nothing can be said about another place" in line for line in said)


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.95, "all of the score. The classes lie in different places"), (0.7, "most of the score"), (0.4, "part of the score")],
)
def test_how_much_of_the_score_is_place_is_worded_by_its_share(asked, share, said):
    gain = estimate(0.3, 0.2, 0.4, p=0.001)
    assert any(said in line for line in lines(dataclasses.replace(asked[1], verdict="model", place_share=share, place_gain=gain)))
    told = lines(dataclasses.replace(asked[1], verdict="model", place_share=share, place_gain=estimate(0.3, -0.2, 0.8)))
    assert not any(said in line for line in told)
    assert any("over always giving the same answer +.30, no effect detected" in line for line in told)


def test_absence_of_evidence_is_written_as_such(asked):
    open_ = [("hybrid/rf against hybrid/logistic", estimate(0.02, -0.05, 0.09))]
    text = "\n".join(lines(dataclasses.replace(asked[1], settled=[], unsettled=open_)))
    assert (
        "Not settled by these data: hybrid/rf against hybrid/logistic: +.02, no effect detected (between -.05 and .09 is possible)" in text
    )
    gain = {"test_ood": estimate(0.18, -0.01, 0.37)}
    text = "\n".join(lines(dataclasses.replace(asked[1], more_random=gain)))
    assert "30 more labels at random: +.18, no effect detected (between -.01 and .37 is possible)" in text
    assert "nothing" not in text
    for gain, said in (
        (estimate(1e-17, -1e-17, 1e-16), "the same score everywhere"),
        (estimate(0.001, -0.002, 0.004), "no difference in two"),
    ):
        text = "\n".join(lines(dataclasses.replace(asked[1], more_random={"test_ood": gain})))
        assert f"30 more labels at random: {said}" in text


def test_an_interval_beside_zero_that_is_not_significant_is_no_absence_of_effect(asked):
    lead = dataclasses.replace(estimate(0.56, 0.14, 0.98, p=0.03), p_holm=0.13)
    judged = dataclasses.replace(asked[1].judged, over_floor=lead)
    text = lines(dataclasses.replace(asked[1], verdict="leads", elsewhere=judged))[0]
    assert "+.56 [.14, .98], not significant (p .13 over all comparisons made)" in text
    assert "no effect" not in text
    assert "if a model must be chosen" in text
    assert "Nothing is shown to be better than floor/nearest" in text


def test_what_the_data_lack_stands_after_the_recommendation(asked):
    found = lines(dataclasses.replace(asked[1], warnings=["64 of 64 feature columns hold one value only"]))
    assert found[1] == "Look at: 64 of 64 feature columns hold one value only."


def test_a_card_without_features_leads_to_extract(tmp_path):
    write_table(tmp_path)
    card = (tmp_path / "card.yaml").read_text().splitlines()
    (tmp_path / "card.yaml").write_text("\n".join(line for line in card if not line.startswith(("features", "tiers"))))
    with pytest.raises(DataError, match=r"(?s)names no features: only baselines without imagery can run.*rs05bench extract"):
        advise(tmp_path / "card.yaml", tmp_path, tmp_path / "runs", minutes=0, jobs=1)


def test_a_gain_seen_in_one_draw_of_labels_is_called_so(asked):
    sure = estimate(0.05, 0.02, 0.08, p=0.01)
    many = lines(dataclasses.replace(asked[1], more_random={"test_ood": sure}))
    once = lines(dataclasses.replace(asked[1], more_random={"test_ood": dataclasses.replace(sure, n_seeds=1)}))
    assert not any("one draw of labels only" in line for line in many)
    assert any("30 more labels at random: +.05 [.02, .08] (one draw of labels only" in line for line in once)


def test_too_few_groups_give_no_interval(asked):
    bare = dataclasses.replace(estimate(0.5, float("nan"), float("nan")), n_groups=2)
    text = lines(dataclasses.replace(asked[1], reaches={"test_ood": bare}))
    assert ".50 (no interval: too few groups)" in text[0]


def of_groups(asked, values):
    """What advice gives of values inside groups, by the declaration of R2."""
    values = np.asarray(values, dtype=float)
    score = over_groups(values[:, None], [chr(97 + at) for at in range(len(values))], of=find_metric("r2").over_groups)
    elsewhere = dataclasses.replace(asked[1].elsewhere, score=score)
    return lines(dataclasses.replace(asked[1], metric="r2", elsewhere=elsewhere, reaches={"test_ood": score}))


def test_a_new_group_lies_in_the_range_of_the_groups_with_the_probability_it_has(asked):
    text = "\n".join(of_groups(asked, [0.1, -0.4, 0.3, 0.2]))
    assert "lies between -.40 and .30 with a probability of 60 %, the range of these 4; 95 % needs 39." in text
    assert "R2 .05 (no interval: too few groups)" in text


def test_an_r2_has_the_interval_of_its_median(asked):
    assert "R2 -.08 (median .25 [-2.00, .50])" in of_groups(asked, [0.5, 0.4, 0.1, 0.2, 0.3, -2.0])[0]


def test_units_without_positions_are_called_so(asked):
    floors = {"floor/majority": asked[1].floors["floor/majority"]}
    text = lines(dataclasses.replace(asked[1], floors=floors, place_share=None))
    assert any("have no positions, so what the place alone gives is not known" in line for line in text)


def test_simulated_data_are_called_so_first(asked):
    assert lines(dataclasses.replace(asked[1], simulated=True))[0].startswith("SIMULATED")


def test_everything_behind_it_is_plain_json(asked):
    record = json.loads(json.dumps(to_dict(asked[1]), allow_nan=False))
    assert record["elsewhere"]["score"]["value"] == asked[1].elsewhere.score.value


def test_each_class_is_shown_in_full(asked):
    text = "\n".join(full(asked[1]))
    for name, row in asked[1].confusion.items():
        assert f"{name}  F1" in text
        assert f"right {row.get(name, 0)} of {sum(row.values())}" in text


def test_too_few_labels_and_chips_are_refused(asked, tmp_path):
    folder, _, _ = asked
    with pytest.raises(DataError, match="too few for any advice"):
        advise(folder / "card.yaml", folder, tmp_path, question=AdviceAsked(labels=4), minutes=0, jobs=1)
    card = TaskCard.load(folder / "card.yaml").model_copy(update={"kind": "segmentation", "main_metric": "miou"})
    card.save(tmp_path / "chips.yaml")
    with pytest.raises(DataError, match="advice is for tables, and this card is a segmentation"):
        advise(tmp_path / "chips.yaml", folder, tmp_path, minutes=0)


def test_the_command_prints_it(asked):
    import rs05bench.cli as cli

    folder, found, _ = asked
    cli._register()
    done = CliRunner().invoke(
        cli.app,
        ["advise", str(folder / "card.yaml"), "--labels", "40", "--minutes", "0", "--out", str(folder / "runs"), "--jobs", "1", "--full"],
    )
    assert done.exit_code == 0, done.output
    assert f"Use {found.recommended}" in done.output
    assert "takes for what" in done.output


def test_what_labels_bring_in_one_new_group_is_said_apart_from_the_mean(asked):
    gain = over_groups(np.array([[0.1], [0.2], [0.3], [0.4]]), "abcd", test=True)
    (line,) = (said for said in lines(dataclasses.replace(asked[1], more_there=gain)) if "from the new county as well" in said)
    # By hand: mean .25, standard deviation .129, t(3) at .975 is 3.182, times the root of 1 + 1/4.
    assert "In one new county the gain lies between -.21 and .71 with a probability of 95 %." in line
