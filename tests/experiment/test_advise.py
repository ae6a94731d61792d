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
from rs05bench.experiment.advice_text import lines
from rs05bench.experiment.advise import advise
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol import TaskCard
from rs05bench.protocol.inference import Estimate
from rs05bench.protocol.pooling import Point, Pool

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
    bands = {f"A{i:02d}": crop * signal * (i == 0) + rng.standard_normal(n) for i in range(64)}
    pd.concat([table, pd.DataFrame(bands)], axis=1).to_csv(folder / "fields.csv", index=False)
    (folder / "card.yaml").write_text(CARD)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    write_table(folder)
    stages: list[str] = []
    # No time at all: only the first round of simple models is run.
    found = advise(folder / "card.yaml", folder, folder / "runs", labels=40, minutes=0, jobs=1, on_stage=stages.append)
    return folder, found, stages


def test_without_time_the_first_round_is_run_and_what_is_left_is_said(asked):
    _, found, stages = asked
    assert len(stages) == 1
    assert found.seeds == 1
    assert set(found.models) == {"floor/majority", "floor/nearest", "raw/logistic", "alphaearth/logistic", "hybrid/logistic"}
    assert found.stopped
    text = "\n".join(lines(found))
    assert "The time was up before" in text
    assert "was not reached in the time given" in text


def test_every_number_follows_from_the_stored_cells(asked):
    folder, found, _ = asked
    pool = Pool.of(ResultStore(folder / "runs").results())
    point = Point("fields", "crop", "leave-county-out", found.elsewhere.model, "40-units")
    scores = {p.model: pool.score(p, "test_ood").value for p in pool.points}
    assert found.elsewhere.score.value == pytest.approx(max(scores.values())) == pytest.approx(scores[point.model])
    assert found.here.score.value == pytest.approx(max(pool.score(p, "test_id").value for p in pool.points))
    assert found.labels_used == 40
    assert (found.units, found.groups, found.classes, found.bands, found.columns) == (320, 4, 2, 64, 2)
    assert found.cells == len(list(ResultStore(folder / "runs").results())) == 20


def test_the_first_lines_say_what_the_data_are_and_what_to_do(asked):
    _, found, _ = asked
    text = lines(found)
    assert text[0].startswith("40 labels (validation included) out of 320 units in 4 counties, 2 classes; 64 AlphaEarth bands and 2 other")
    assert text[1].startswith(f"Use {found.recommended}:")
    assert any(line.startswith("Here (new places, same county)") for line in text)
    assert any(line.startswith("Next county") and "drop" in line for line in text)
    assert any(line.startswith("Coordinates alone reach") and "score here" in line for line in text)


def test_the_recommended_model_is_never_a_floor_where_a_model_is_as_good(asked):
    _, found, _ = asked
    assert found.recommended in found.elsewhere.alike
    assert not found.recommended.startswith("floor/")


def test_cells_that_are_there_already_answer_what_labels_would_buy(asked, tmp_path):
    folder, first, _ = asked
    shutil.copytree(folder / "runs", tmp_path / "runs")
    models = [first.recommended]
    sweep(
        folder / "card.yaml",
        folder,
        tmp_path / "runs",
        models=models,
        splits=["leave-county-out+15"],
        budgets=["40-units"],
        jobs=1,
        costs=False,
    )
    sweep(
        folder / "card.yaml",
        folder,
        tmp_path / "runs",
        models=models,
        splits=["leave-county-out"],
        budgets=["70-units"],
        jobs=1,
        costs=False,
    )
    found = advise(folder / "card.yaml", folder, tmp_path / "runs", labels=40, minutes=0, jobs=1)
    pool = Pool.of(ResultStore(tmp_path / "runs").results())
    base = Point("fields", "crop", "leave-county-out", found.recommended, "40-units")
    plus = pool.score(base._replace(split="leave-county-out+15"), "test_ood").value
    assert found.more_there.extra_labels == 30
    assert found.more_there.gain.value == pytest.approx(plus - pool.score(base, "test_ood").value)
    larger = pool.score(base._replace(budget="70-units"), "test_id").value
    assert found.more_here["test_id"].value == pytest.approx(larger - pool.score(base, "test_id").value)
    assert [row[0] for row in found.by_budget] == [40.0, 70.0]
    assert any("30 more labels in the new county" in line for line in lines(found))


def test_inputs_that_say_nothing_are_called_so(tmp_path):
    write_table(tmp_path, signal=0.0)
    found = advise(tmp_path / "card.yaml", tmp_path, tmp_path / "runs", labels=40, minutes=0, jobs=1)
    text = "\n".join(lines(found))
    assert "cannot tell" in text or "No model beats" in text
    assert "the embedding is worth having" not in text.lower()


def estimate(value: float, low: float, high: float, seeds: int = 3) -> Estimate:
    return Estimate(value, low, high, 0.95, (high - low) / 4, "t", "within-groups", 4, 40, seeds, 0.5)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (estimate(0.05, 0.02, 0.08), "The embedding is worth having"),
        (estimate(0.05, -0.02, 0.12), "cannot be told"),
        (estimate(-0.05, -0.08, -0.02), "does not pay here"),
    ],
)
def test_what_the_embedding_is_worth_is_worded_by_its_interval(asked, gain, said):
    _, found, _ = asked
    text = lines(dataclasses.replace(found, inputs=("alphaearth/logistic", "raw/logistic", gain)))
    assert any(said in line for line in text)


def test_a_gain_seen_in_one_draw_of_labels_is_called_so(asked):
    _, found, _ = asked
    many = lines(dataclasses.replace(found, more_here={"test_id": estimate(0.05, 0.02, 0.08)}))
    once = lines(dataclasses.replace(found, more_here={"test_id": estimate(0.05, 0.02, 0.08, seeds=1)}))
    assert not any("one draw of labels" in line for line in many)
    assert any(
        "30 more labels from where you have labels already: +.05 [.02, .08] here, by one draw of labels only" in line for line in once
    )


@pytest.mark.parametrize(("share", "said"), [(0.5, "part of the score here"), (0.05, "little of the score here")])
def test_how_much_of_the_score_is_place_is_worded_by_its_share(asked, share, said):
    _, found, _ = asked
    base = found.floors["floor/majority"]["test_id"].value
    counts = estimate(share * (found.here.score.value - base), 0.001, 1.0)
    assert any(said in line for line in lines(dataclasses.replace(found, place_counts=counts)))


def test_units_without_positions_are_called_so(asked):
    _, found, _ = asked
    floors = {"floor/majority": found.floors["floor/majority"]}
    text = lines(dataclasses.replace(found, floors=floors, place_counts=None))
    assert any("have no positions, so what knowing the place alone gives cannot be told" in line for line in text)


def test_simulated_data_are_called_so_first(asked):
    assert lines(dataclasses.replace(asked[1], simulated=True))[0].startswith("SIMULATED")


def test_everything_behind_it_is_plain_json(asked):
    record = json.loads(json.dumps(to_dict(asked[1]), allow_nan=False))
    assert record["elsewhere"]["score"]["value"] == asked[1].elsewhere.score.value


def test_too_few_labels_and_chips_are_refused(asked, tmp_path):
    folder, _, _ = asked
    with pytest.raises(DataError, match="too few for any advice"):
        advise(folder / "card.yaml", folder, tmp_path, labels=4, minutes=0, jobs=1)
    card = TaskCard.load(folder / "card.yaml").model_copy(update={"kind": "segmentation", "main_metric": "miou"})
    card.save(tmp_path / "chips.yaml")
    with pytest.raises(DataError, match="advice is for tables"):
        advise(tmp_path / "chips.yaml", folder, tmp_path, minutes=0)


def test_the_command_prints_it(asked):
    import rs05bench.cli as cli

    folder, found, _ = asked
    cli._register()
    done = CliRunner().invoke(
        cli.app, ["advise", str(folder / "card.yaml"), "--labels", "40", "--minutes", "0", "--out", str(folder / "runs"), "--jobs", "1"]
    )
    assert done.exit_code == 0, done.output
    assert f"Use {found.recommended}" in done.output


def test_a_best_model_that_others_equal_is_not_called_better_than_chance(asked):
    found = asked[1]
    best = dataclasses.replace(found.elsewhere, model="raw/logistic", lead=estimate(0.1, 0.05, 0.15), alike=("raw/logistic",))
    alone = lines(dataclasses.replace(found, recommended="raw/logistic", elsewhere=best))[1]
    assert alone.startswith("Use raw/logistic: the best in the next county")
    assert "chance" not in alone
    assert alone.endswith("That is logistic regression on the 2 other feature columns.")
    equalled = dataclasses.replace(best, alike=("raw/logistic", "hybrid/logistic"))
    assert "not by more than chance" in lines(dataclasses.replace(found, recommended="raw/logistic", elsewhere=equalled))[1]


def test_a_model_that_is_not_told_from_a_floor_is_warned_of(asked):
    found = asked[1]
    sure = dataclasses.replace(found.elsewhere, over_floor=estimate(0.2, 0.1, 0.3))
    home = dataclasses.replace(found.here, over_floor=estimate(0.2, 0.1, 0.3))
    assert not any(line.startswith("Caution") for line in lines(dataclasses.replace(found, here=home, elsewhere=sure)))
    unsure = dataclasses.replace(found.elsewhere, over_floor=estimate(0.04, -0.2, 0.2))
    (said,) = [line for line in lines(dataclasses.replace(found, here=home, elsewhere=unsure)) if line.startswith("Caution")]
    assert "in the next county" in said
    assert " here" not in said


def test_the_gain_over_the_floor_is_that_of_the_same_blocks(asked):
    folder, found, _ = asked
    pool = Pool.of(ResultStore(folder / "runs").results())
    points = {point.model: point for point in pool.points}
    floors = {name: pool.score(point, "test_ood").value for name, point in points.items() if name.startswith("floor/")}
    best = pool.score(points[found.elsewhere.model], "test_ood").value
    assert found.elsewhere.over_floor.value == pytest.approx(best - max(floors.values()))
