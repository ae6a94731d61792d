"""From a frozen task to a place on the board and back: templates, label sets, truth, predictions at an address, baselines run again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from rs05bench.cli import _register, app
from rs05bench.errors import DataError
from rs05bench.experiment.entries import baselines_of, frozen_task, opened_submission, rerun_baseline, write_budgets, write_truth
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol import TaskCard, draw_budget
from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.make import make_submission, pin
from rs05bench.protocol.submission.shelf import add_submission, freeze_runs
from rs05bench.protocol.submission.verify import verify_submission

RUN = CliRunner()
SPLIT, BUDGETS = "leave-region-out", ["20-units", "40-units"]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A table task with a sweep of one model, frozen on a board."""
    root = tmp_path_factory.mktemp("task")
    rng = np.random.default_rng(0)
    rows = []
    for at, region in enumerate(("east", "north", "west", "south")):
        x = rng.normal(size=(90, 2))
        rows.append(
            pd.DataFrame({"lon": 10.0 * at + rng.random(90), "lat": 45 + rng.random(90), "region": region, "b1": x[:, 0], "b2": x[:, 1]})
        )
    table = pd.concat(rows, ignore_index=True)
    table["id"] = [f"p{number:03d}" for number in range(len(table))]
    table["cover"] = np.where(table["b1"] + 0.3 * table["b2"] > 0, "crop", "tree")
    (root / "data").mkdir()
    table.to_csv(root / "data" / "points.csv", index=False)
    fields = {
        "kind": "classification",
        "name": "points",
        "targets": ["cover"],
        "unit": ["id"],
        "groups": ["region"],
        "classes": ["crop", "tree"],
        "coordinates": {"x": "lon", "y": "lat"},
        "files": ["points.csv"],
        "features": {"raw": ["b1", "b2"]},
        "splits": [SPLIT],
        "split_options": {"block_size_m": 20000, "buffer_m": 0},
        "budgets": BUDGETS,
        "overlap": "none",
        "licence": "CC0-1.0",
    }
    TaskCard.parse(fields).save(root / "card.yaml")
    sweep(
        GridFile.over(
            root / "card.yaml", root / "data", GridChoice(models=["raw/logistic"], splits=[SPLIT], budgets=BUDGETS, seeds=range(5))
        ),
        root / "runs",
        jobs=1,
    )
    freeze_runs(root / "board", root / "runs", "points", [SPLIT], BUDGETS)
    (root / "board" / "cards").mkdir()
    shutil.copyfile(root / "card.yaml", root / "board" / "cards" / "points.yaml")
    return root


def card_of(**changes):
    fields = {
        "slug": "raw-logistic-points",
        "title": "A baseline",
        "authors": [{"name": "The authors"}],
        "overlap": "None.",
        "licence": "CC0-1.0",
        "code": "rs05bench",
        "hardware": [{"name": "A processor", "kind": "cpu"}],
        "model": {"licence": "MIT", "open_weights": True},
        "statement": dict.fromkeys(("test_labels_unused", "budget_counts_all", "may_publish"), True),
    }
    return fields | changes


def made(task: Path, out: Path, **changes) -> Path:
    store = ResultStore(task / "runs")
    cells = [(result, store.folder(result.digest) / "predictions") for result in store.results()]
    return make_submission(cells, card_of(**changes), Board.load(task / "board"), out, costs=store.costs())


@pytest.mark.slow
def test_results_of_a_sweep_are_scored_as_the_sweep_scored_them(task, tmp_path):
    folder = made(task, tmp_path / "sent")
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.parquet", "submission.yaml"]
    truth = write_truth(task / "board", "points", task / "data", tmp_path / "truth")
    verdict = verify_submission(folder, task / "board", truth=truth)
    assert verdict.outcome == "accepted", verdict.faults
    kept = {
        (result.cell.fold, result.cell.budget, result.cell.seed): result.scores["test_ood"]["macro_f1"]
        for result in ResultStore(task / "runs").results()
    }
    for cell in verdict.cells:
        assert cell.scores["test_ood"]["macro_f1"] == pytest.approx(kept[cell.fold, cell.budget, cell.seed], abs=1e-6)


@pytest.mark.slow
def test_other_data_give_no_truth(task, tmp_path):
    shutil.copytree(task / "data", tmp_path / "data")
    table = pd.read_csv(tmp_path / "data" / "points.csv")
    table.loc[0, "cover"] = "tree" if table.loc[0, "cover"] == "crop" else "crop"
    table.to_csv(tmp_path / "data" / "points.csv", index=False)
    with pytest.raises(DataError, match="frozen"):
        write_truth(task / "board", "points", tmp_path / "data", tmp_path / "truth")


def test_label_sets_are_those_of_the_budgets(task, tmp_path):
    card = TaskCard.load(task / "card.yaml")
    rows = write_budgets(card, task / "data", tmp_path / "labels.csv", splits=[SPLIT], budgets=BUDGETS, seeds=2)
    found = pd.read_csv(tmp_path / "labels.csv", dtype=str)
    assert len(found) == rows
    manifest = frozen_task(task / "board", "points").manifests[SPLIT]
    labels = pd.read_csv(task / "data" / "points.csv").set_index("id")["cover"].to_dict()
    drawn = draw_budget(card, manifest, manifest.folds[0], "40-units", 1, labels)
    here = found[(found["fold"] == manifest.folds[0]) & (found["budget"] == "40-units") & (found["seed"] == "1")]
    assert set(here["unit_id"]) == {*drawn.train, *drawn.val}
    with pytest.raises(DataError, match="neither"):
        write_budgets(card, task / "data", tmp_path / "labels.xlsx", splits=[SPLIT], budgets=BUDGETS, seeds=2)


def test_the_template_is_written_from_the_board_alone(task, tmp_path):
    _register()
    done = RUN.invoke(app, ["submit", "template", "points", "--out", str(tmp_path / "mine"), "--board", str(task / "board")])
    assert done.exit_code == 0, done.output
    rows = pd.read_parquet(tmp_path / "mine" / "predictions.parquet")
    assert rows[["p_crop", "p_tree"]].isna().all().all()
    assert set(pd.read_parquet(tmp_path / "mine" / "labels.parquet")["role"]) == {"train", "val"}
    done = RUN.invoke(app, ["submit", "check", str(tmp_path / "mine"), "--board", str(task / "board")])
    assert done.exit_code == 1
    assert "what the template asks for" in done.output


def test_an_unknown_task_is_refused_with_those_there_are(task):
    with pytest.raises(DataError, match="there are: points"):
        frozen_task(task / "board", "crops")


@pytest.mark.slow
def test_a_baseline_is_run_again_and_compared(task, tmp_path):
    board = shutil.copytree(task / "board", tmp_path / "board")
    folder = made(task, tmp_path / "sent")
    pin(folder, "rs05bench")
    truth = write_truth(board, "points", task / "data", tmp_path / "truth")
    place, verdict, level = add_submission(folder, board, truth)
    assert (place, level) == (board / "submissions" / "raw-logistic-points", "rescored"), verdict.faults
    assert baselines_of(board) == ["raw-logistic-points"]
    standing = rerun_baseline(board, "raw-logistic-points", {"points": task / "data"}, tmp_path / "again")
    assert standing.level == "reproduced"
    assert standing.rerun.by == "machine"
    assert standing.rerun.identical == standing.rerun.cells


def test_a_folder_on_the_board_has_the_name_of_its_slug(tmp_path):
    folder = tmp_path / "submissions" / "mine"
    folder.mkdir(parents=True)
    (folder / "submission.yaml").write_text(yaml.safe_dump({"slug": "yours"}))
    with pytest.raises(DataError, match="its slug is 'yours'"), opened_submission(folder):
        pass


def test_a_submission_without_an_address_cannot_be_fetched(tmp_path):
    (tmp_path / "submission.yaml").write_text(yaml.safe_dump({"slug": "mine"}))
    with pytest.raises(DataError, match="pins no address"), opened_submission(tmp_path):
        pass
