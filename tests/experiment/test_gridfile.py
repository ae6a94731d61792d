from __future__ import annotations

import pandas as pd
import pytest
import yaml

from rs05bench.errors import DataError
from rs05bench.experiment.cell import make_bench
from rs05bench.experiment.grid import expand
from rs05bench.experiment.grid_plan import plan_grid
from rs05bench.experiment.gridfile import GridFile, is_grid, load_preset, preset_names
from rs05bench.experiment.sweep import open_grid
from rs05bench.protocol import TaskCard


def write(tiny, tmp_path, **fields):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({"kind": "grid", "tasks": [{"card": str(tiny / "card.yaml")}], **fields}))
    return path


def cells(path):
    return [cell for entry in open_grid(GridFile.load(path), None) for _, cell in entry.cells]


def test_a_grid_is_told_from_a_card(tiny, tmp_path):
    assert is_grid(write(tiny, tmp_path))
    assert not is_grid(tiny / "card.yaml")


def test_every_fault_is_told_at_once(tiny, tmp_path):
    path = write(tiny, tmp_path, modles=["x"], splits=["leave-nothing"], seeds="4-1", resources=[{"gpus": -1}])
    with pytest.raises(DataError) as error:
        GridFile.load(path)
    for word in ("modles", "leave-nothing", "backwards", "gpus"):
        assert word in str(error.value)


def test_include_and_exclude_choose_cells(tiny, tmp_path):
    path = write(
        tiny, tmp_path, models=["floor/majority", "raw/rf", "alphaearth/rf"], splits=["random"], seeds="0-2",
        include=[{"model": "*/rf"}, {"seed": 0}], exclude=[{"model": "raw/*", "budget": "10-per-class"}],
    )  # fmt: skip
    found = {(cell.model, cell.budget, cell.seed) for cell in cells(path)}
    assert ("floor/majority", "5-per-class", 0) in found
    assert ("floor/majority", "5-per-class", 1) not in found
    assert ("raw/rf", "5-per-class", 2) in found
    assert not any(model == "raw/rf" and budget == "10-per-class" for model, budget, _ in found)


def test_what_a_task_says_goes_before_what_the_grid_says_and_that_before_its_preset(tiny, tmp_path):
    task = {"card": str(tiny / "card.yaml"), "models": ["floor/majority"]}
    path = write(tiny, tmp_path, preset="quick", tasks=[task], seeds=[7], splits=["random"])
    found = cells(path)
    assert {cell.model for cell in found} == {"floor/majority"}
    assert {cell.seed for cell in found} == {7}
    assert {cell.budget for cell in found} == {"5-per-class", "10-per-class"}  # the preset's two smallest


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_grids(name, tiny, tmp_path):
    assert load_preset(name)
    assert cells(write(tiny, tmp_path, preset=name))


def test_the_leaderboard_preset_leaves_the_sanity_split_out(tiny, tmp_path):
    assert "random" not in {cell.split for cell in cells(write(tiny, tmp_path, preset="leaderboard"))}


def test_an_unknown_preset_names_those_there_are(tiny, tmp_path):
    with pytest.raises(DataError, match="leaderboard, paper, quick"):
        GridFile.load(write(tiny, tmp_path, preset="big"))


def test_a_plan_counts_predicts_and_says_which_rules_would_fail(tiny, tmp_path, finished):
    path = write(tiny, tmp_path, models=["floor/majority", "alphaearth/logistic"], splits=["leave-state-out"], seeds="0-4", costs=False)
    plan = plan_grid(GridFile.load(path), finished, jobs=2, price_hour=3600.0)
    assert (plan.cells, plan.done) == (80, 32)
    assert plan.unknown == 0
    assert plan.seconds > 0
    assert plan.price == pytest.approx(plan.seconds)
    assert plan.wall_seconds == pytest.approx(plan.seconds / 2)
    assert {verdict.rule for verdict in plan.lacking} == {6, 7}  # no raw baseline, no hybrid; five seeds and two budgets are there


def test_a_plan_counts_the_prediction_of_every_unit_and_the_memory_of_all_workers(tiny, tmp_path, monkeypatch):
    path = write(tiny, tmp_path, models=["floor/majority"], splits=["random"])
    one = {"task": "tiny", "split": "random", "model": "floor/majority", "tier": "floor", "budget": "5-per-class", "learner": "majority"}
    costs = {"fit_s": 10.0, "predict_s_per_1000": 1000.0, "peak_memory_mb": 100.0, "device_hours": 0.5}
    monkeypatch.setattr("rs05bench.experiment.grid_plan._known", lambda folders: pd.DataFrame([one | costs]))
    plan = plan_grid(GridFile.load(path), jobs=2)
    (entry,) = open_grid(GridFile.load(path), None)
    (units,) = entry.predicted.values()
    assert 0 < units < 240
    assert plan.seconds == pytest.approx(2 * (10 + units))  # a cell a budget
    assert (plan.memory_mb, plan.memory_together_mb) == (100.0, 200.0)
    assert plan.device_hours == 1.0


def test_a_plan_says_what_nothing_is_known_of(tiny, tmp_path):
    plan = plan_grid(GridFile.load(write(tiny, tmp_path, models=["floor/majority"], splits=["random"])))
    assert plan.unknown == plan.cells == 2


def test_a_fold_that_no_split_has_names_those_there_are(tiny):
    bench = make_bench(TaskCard.load(tiny / "card.yaml"), tiny, ["leave-state-out"])
    with pytest.raises(DataError, match=r"no fold is named 'nowhere'\n.*leave-state-out: mn, ia, wi, il"):
        expand(bench, ["floor/majority"], ["leave-state-out"], ["full"], [0], folds=["nowhere"])


def test_a_budget_of_a_group_that_the_card_does_not_declare_stops_before_anything_runs(tiny):
    bench = make_bench(TaskCard.load(tiny / "card.yaml"), tiny, ["leave-state-out"])
    with pytest.raises(DataError, match=r"budget '3-chips' counts chips, and the card declares no such group\n.*Its groups: .*state"):
        expand(bench, ["floor/majority"], ["leave-state-out"], ["3-chips"], [0])
