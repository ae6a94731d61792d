"""From a frozen task to a place on the board and back: templates, label sets, truth, predictions at an address, baselines run again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from rs05bench.cli import _register, app
from rs05bench.datasets import transfer
from rs05bench.errors import DataError
from rs05bench.experiment.entries import (
    baselines_of,
    check_code,
    frozen_task,
    opened_submission,
    rerun_baseline,
    write_budgets,
    write_truth,
)
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol import TaskCard, draw_budget
from rs05bench.protocol.submission.board import Board, published_board
from rs05bench.protocol.submission.faults import Faults
from rs05bench.protocol.submission.folder import read_record
from rs05bench.protocol.submission.make import make_submission, pin
from rs05bench.protocol.submission.shelf import add_submission, freeze_runs
from rs05bench.protocol.submission.verify import verify_submission
from rs05bench.report.site import read_leaderboard
from tests.datasets.servers import Server
from tests.hub.server import serve
from tests.hub.test_hub import loopback

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


def test_the_board_comes_with_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    board = published_board()
    assert {task.task for task in Board.load(board).tasks} >= {"aef-landcover", "carbonflux"}
    alone = shutil.copytree(board, tmp_path / "alone", ignore=shutil.ignore_patterns("cards", "submissions"))
    assert frozen_task(alone, "carbonflux").card.digest == Board.load(board).task("carbonflux").card  # its card is the package's
    shutil.copytree(alone, tmp_path / "leaderboard")
    assert published_board() == Path("leaderboard")
    assert published_board(tmp_path / "nowhere") == tmp_path / "nowhere"


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
    (table,) = read_leaderboard(board).tables
    points = table.rows[0].points
    assert all(point.measured for point in points.values())  # the site shows what this machine measured
    assert {budget: point.cost.fit_s for budget, point in points.items()} == {cost.budget: cost.fit_s for cost in standing.rerun.costs}


@pytest.mark.parametrize("name", ["mine/svm", "raw/nothing", "evil.py:Model"])
def test_code_of_the_package_is_for_models_of_the_package(task, tmp_path, name):
    record = tmp_path / "submission.yaml"
    fields = {"code": "rs05bench", "model": {"name": "raw/logistic"}, "cards": {"points": "0" * 64}}
    record.write_text(yaml.safe_dump(fields))
    check_code(task / "board", record)
    record.write_text(yaml.safe_dump(fields | {"model": {"name": name}}))
    with pytest.raises(DataError, match="the package has no model"):
        check_code(task / "board", record)
    record.write_text(yaml.safe_dump(fields | {"model": [name], "cards": 5}))
    check_code(task / "board", record)  # what is no record is refused by who reads it


def test_a_check_lists_code_that_the_package_does_not_have_as_a_fault(task, tmp_path):
    _register()
    folder = made(task, tmp_path / "mine")
    arguments = ["submit", "check", str(folder), "--board", str(task / "board")]
    assert "no fault found" in RUN.invoke(app, arguments).output
    record = yaml.safe_load((folder / "submission.yaml").read_text())
    (folder / "submission.yaml").write_text(yaml.safe_dump(record | {"model": record["model"] | {"name": "my-forest"}}))
    done = RUN.invoke(app, arguments)
    assert done.exit_code == 1
    assert "the package has no model 'my-forest' for points" in done.output
    assert "no fault found" not in done.output


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
    for odd in ([1], 5, {"address": "x"}):
        (tmp_path / "submission.yaml").write_text(yaml.safe_dump({"slug": "mine", "predictions": odd}))
        with pytest.raises(DataError, match=r"predictions(\.address)?: "), opened_submission(tmp_path):
            pass


# Pins ----------------------------------------------------------------------------------------------------------------------------

ADDRESS = "https://data.example.org/predictions.parquet"


@pytest.fixture(scope="module")
def sent(task, tmp_path_factory):
    """A submission whose predictions are published: its folder, and their bytes."""
    folder = made(task, tmp_path_factory.mktemp("pins") / "sent", code="https://example.org/code")
    return folder, (folder / "predictions.parquet").read_bytes()


def pinned(folder: Path, place: Path, address: str, revision: str | None = None) -> Path:
    """The folder on a board that holds nothing but the record with its pin."""
    whole = shutil.copytree(folder, place / "whole")
    pin(whole, address, revision)
    record = place / "submissions" / "raw-logistic-points"
    record.mkdir(parents=True)
    shutil.copyfile(whole / "submission.yaml", record / "submission.yaml")
    return record


@pytest.fixture
def web(monkeypatch):
    """A loopback server under the address that records pin."""
    server = Server()
    real = transfer.fetch

    def fetch(wanted, target):
        urls = tuple(url.replace("https://data.example.org", server.url) for url in wanted.urls)
        return real(replace(wanted, urls=urls), target, retries=1, pause=0, timeout=5)

    monkeypatch.setattr(transfer, "fetch", fetch)
    yield server
    server.close()


def test_predictions_come_from_the_address_that_is_pinned(sent, web, task, tmp_path):
    folder, content = sent
    web.serve("/predictions.parquet", redirect=f"{web.url}/elsewhere")
    web.serve("/elsewhere", content)
    record = pinned(folder, tmp_path, ADDRESS)
    with opened_submission(record) as (files, yaml_file):
        verdict = verify_submission(files, task / "board", record=yaml_file)
    assert verdict.outcome == "complete", verdict.faults


@pytest.mark.parametrize(
    "case", ["other bytes", "half a file, whole by its length", "breaks off", "moved away", "longer", "a link to this machine"]
)
def test_what_is_not_what_was_pinned_is_not_taken(sent, web, tmp_path, case):
    folder, content = sent
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    behaviour = {
        "other bytes": {"content": content[:-1] + bytes([content[-1] ^ 1])},
        "half a file, whole by its length": {"content": content[: len(content) // 2]},
        "breaks off": {"content": content, "cuts": [len(content) // 2], "ranges": False},
        "moved away": {"status": 404},
        "longer": {"content": content + b"x"},
        "a link to this machine": {"redirect": secret.as_uri()},
    }[case]
    web.serve("/predictions.parquet", **behaviour)
    record = pinned(folder, tmp_path, ADDRESS)
    with pytest.raises(DataError), opened_submission(record):
        pass
    assert sorted(path.name for path in record.iterdir()) == ["submission.yaml"]


@pytest.fixture(scope="module")
def hub():
    found, server = serve()
    yield found
    server.shutdown()


@pytest.mark.parametrize("case", ["as pinned", "a newer commit", "other bytes", "moved files", "half a file", "no such commit"])
def test_a_commit_of_the_hub_is_what_was_pinned_or_is_refused(sent, hub, task, tmp_path, monkeypatch, case):
    folder, content = sent
    repo = f"someone/{case.replace(' ', '-')}"
    commit = hub.commit(repo, {"predictions.parquet": content, "run.sh": b"echo"})
    record = pinned(folder, tmp_path, f"hf://datasets/{repo}", "0" * 40 if case == "no such commit" else commit)
    if case == "a newer commit":
        hub.commit(repo, {"predictions.parquet": b"other"})
    if case in ("other bytes", "half a file"):  # the Hub itself, or who holds it, serves something else under the commit
        hub.commits[repo][commit]["predictions.parquet"] = content[:-1] + b"x" if case == "other bytes" else content[: len(content) // 2]
    if case == "moved files":
        hub.commits[repo][commit] = {"data/predictions.parquet": content}
    wrong = {"other bytes": "its SHA-256 is", "half a file": "its SHA-256 is", "moved files": "predictions.parquet is missing"}
    with loopback(monkeypatch, hub, tmp_path):
        if case == "no such commit":
            with pytest.raises(DataError), opened_submission(record):
                pass
            return
        with opened_submission(record) as (files, yaml_file):
            assert "run.sh" not in {path.name for path in files.iterdir()}
            verdict = verify_submission(files, task / "board", record=yaml_file)
    assert verdict.outcome == ("refused" if case in wrong else "complete"), verdict.faults
    assert wrong.get(case, "") in "; ".join(verdict.faults)


@pytest.mark.parametrize(
    "change", [{"revision": "main"}, {"revision": "0" * 39}, {"revision": None}, {"sha256": "0" * 63}, {"sha256": "g" * 64}]
)
def test_a_pin_names_a_commit_and_a_digest_in_full(sent, tmp_path, change):
    record = pinned(sent[0], tmp_path, "hf://datasets/someone/answers", "0" * 40) / "submission.yaml"
    fields = yaml.safe_load(record.read_text())
    fields["predictions"] |= change
    record.write_text(yaml.safe_dump(fields))
    faults = Faults()
    assert read_record(record, faults) is None
    assert all("predictions" in fault for fault in faults.sentences())


def test_a_linked_record_is_not_followed(tmp_path):
    (tmp_path / "elsewhere.yaml").write_text("slug: mine\nsecret: {")
    (tmp_path / "submissions/mine").mkdir(parents=True)
    (tmp_path / "submissions/mine/submission.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(DataError, match="is a link"), opened_submission(tmp_path / "submissions/mine"):
        pass
