"""The store stays right whoever writes to it and however that ends; what can go, goes; what others give is checked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from rs05bench.errors import DataError
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.importing import import_runs
from rs05bench.experiment.query import read_index
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.experiment.upkeep import kept_grids, prunable, prune, status
from rs05bench.protocol.atomic import hidden_sibling
from rs05bench.protocol.result import Result


@pytest.fixture
def runs(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def test_a_full_disk_leaves_nothing_half_written(finished, tmp_path):
    """A file-size limit stands for the full disk."""
    code = f"""
import resource, sys
from rs05bench.experiment.store import ResultStore
theirs, ours = ResultStore({str(finished)!r}), ResultStore({str(tmp_path)!r})
digest = sorted(theirs.digests())[0]
result, predictions = theirs.read(digest), theirs.predictions(digest)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
try:
    ours.write(result, predictions)
except OSError:
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 7
    assert ResultStore(tmp_path).digests() == set()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_many_writers_of_one_cell_leave_one_result(finished, tmp_path):
    code = f"""
from rs05bench.experiment.store import ResultStore
theirs, ours = ResultStore({str(finished)!r}), ResultStore({str(tmp_path)!r})
for digest in sorted(theirs.digests()):
    ours.write(theirs.read(digest), theirs.predictions(digest))
"""
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    store = ResultStore(tmp_path)
    assert store.digests() == ResultStore(finished).digests()
    assert not list((tmp_path / "cells").glob("*/.*"))
    for digest in store.digests():
        assert store.predictions(digest).digest == store.read(digest).digests["predictions"]


def test_leftovers_of_writers_that_are_gone_are_removed_and_those_of_others_kept(runs):
    store = ResultStore(runs)
    folder = store.folder("ab" * 32).parent
    folder.mkdir(exist_ok=True)
    ended = subprocess.Popen(["true"])
    ended.wait()
    alive = hidden_sibling(store.folder("ab" * 32))
    _, host, _, random = alive.name.split(".")
    gone, elsewhere = alive.with_name(f".{host}.{ended.pid}.{random}"), alive.with_name(f".writing-another-host.{ended.pid}.{random}")
    for path in (gone, alive, elsewhere):
        path.mkdir()
    assert store.sweep_leftovers() == 1
    assert [path.exists() for path in (gone, alive, elsewhere)] == [False, True, True]


def test_a_folder_without_a_result_is_unfinished_and_run_again(tiny, runs):
    store = ResultStore(runs)
    digest = sorted(store.digests())[0]
    (store.folder(digest) / "result.json").unlink()
    assert digest not in store.digests()
    (grid,) = kept_grids(runs)
    assert sweep(grid, runs, jobs=1).done == 1
    assert digest in store


def test_status_knows_what_is_left_and_what_failed(tiny, runs, model):
    store = ResultStore(runs)
    for digest in sorted(store.digests())[:3]:
        store.remove(digest)
    sweep(
        GridFile.over(
            tiny / "card.yaml", tiny, GridChoice(models=[model("Fails")], splits=["random"], budgets=["5-per-class"]), costs=False
        ),
        runs,
        jobs=1,
    )
    found = status(runs)
    assert found.left == 3
    assert found.failures == {"ValueError: cannot do this": 1}
    assert found.tiers["cells"].sum() == len(store.digests()) + 3 + 1


def test_resume_leaves_failed_cells_alone_and_retry_runs_only_them(tiny, tmp_path, model):
    sweep(
        GridFile.over(
            tiny / "card.yaml",
            tiny,
            GridChoice(models=[model("Fails"), "floor/majority"], splits=["random"], budgets=["5-per-class"]),
            costs=False,
        ),
        tmp_path,
    )
    (grid,) = kept_grids(tmp_path)
    resumed = sweep(grid, tmp_path, retry="new")
    assert (resumed.done, len(resumed.failed), resumed.left) == (0, 0, 1)
    again = sweep(grid, tmp_path, retry="failed")
    assert (again.done, len(again.failed), again.reused) == (0, 1, 1)


def test_pruning_removes_what_rests_on_an_earlier_card(runs):
    store = ResultStore(runs)
    before = store.digests()
    (card,) = store.cards().values()
    store.put_card(card.model_copy(update={"main_metric": "overall_accuracy"}))
    found = prunable(runs)
    assert set(found.stale) == before
    prune(runs, found)
    assert store.digests() == set()


def test_pruning_removes_what_cannot_be_read_and_keeps_the_rest(runs):
    store = ResultStore(runs)
    broken, *rest = sorted(store.digests())
    (store.folder(broken) / "result.json").write_text("{")
    assert prune(runs, prunable(runs)) == 1
    assert store.digests() == set(rest)


def test_anothers_runs_are_taken_in_once(runs, tmp_path):
    told = import_runs(runs, tmp_path / "ours")
    store = ResultStore(tmp_path / "ours")
    assert (told.taken, told.refused) == (len(ResultStore(runs).digests()), {})
    assert store.digests() == ResultStore(runs).digests()
    assert import_runs(runs, tmp_path / "ours").taken == 0


def change(path, edit):
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))


def test_results_that_do_not_hold_together_are_refused(runs, tmp_path):
    store = ResultStore(runs)
    cell, predictions, unread, data = sorted(store.digests())[:4]
    change(store.folder(cell) / "result.json", lambda record: record["cell"].update(seed=99))
    shutil.copy(store.folder(data) / "predictions" / "units.parquet", store.folder(predictions) / "predictions" / "units.parquet")
    (store.folder(unread) / "result.json").write_text("{")
    change(store.folder(data) / "result.json", lambda record: record["digests"].update(data="0" * 64))
    told = import_runs(runs, tmp_path / "ours")
    assert set(told.refused) == {cell, predictions, unread, data}
    assert not told.refused.keys() & ResultStore(tmp_path / "ours").digests()


def edited(runs, tmp_path, edit):
    """A copy of two of the runs with one result edited, what became of it, and our store."""
    theirs = tmp_path / "theirs"
    shutil.copytree(runs, theirs)
    store = ResultStore(theirs)
    digest, _, *rest = sorted(store.digests())
    for other in rest:
        store.remove(other)
    edit(store, digest)
    return digest, import_runs(theirs, tmp_path / "ours"), ResultStore(tmp_path / "ours")


def result_edit(edit):
    return lambda store, digest: change(store.folder(digest) / "result.json", edit)


def test_a_stated_score_is_not_believed(runs, tmp_path):
    def better(record):
        metric = record["main_metric"]
        record["scores"]["test_ood"][metric] = 0.999

    digest, told, ours = edited(runs, tmp_path, result_edit(better))
    assert "0.9990 on test_ood, and its predictions give" in told.refused[digest]
    assert digest not in ours


def test_a_stated_number_of_labels_is_not_believed(runs, tmp_path):
    digest, told, _ = edited(runs, tmp_path, result_edit(lambda record: record["budget"].update(labels_used=1)))
    assert "states 1 labels" in told.refused[digest]


def test_whatever_follows_from_predictions_card_and_manifest_is_made_again(runs, tmp_path):
    def lies(record):
        record.update(
            main=False,
            simulated=True,
            strata=[],
            sums={},
            per_group={},
            calibration={},
            fairness={"test_id": {"biome": {"metric": "macro_f1", "groups": {}, "worst": "nobody"}}},
        )

    digest, told, ours = edited(runs, tmp_path, result_edit(lies))
    assert not told.refused
    true, kept = ResultStore(runs).read(digest), ours.read(digest)
    for name in ("main", "simulated", "strata", "sums", "per_group", "calibration", "fairness", "scores"):
        assert getattr(kept, name) == getattr(true, name), name


def test_without_predictions_a_result_is_reported_and_in_no_table(runs, tmp_path):
    digest, told, ours = edited(runs, tmp_path, lambda store, digest: shutil.rmtree(store.folder(digest) / "predictions"))
    assert "without predictions" in told.reported[digest]
    assert digest not in ours
    assert digest not in set(read_index(ours)["digest"])
    assert (ours.root / "reported" / digest[:2] / digest / "result.json").is_file()


def test_without_labels_all_results_are_reported(runs, tmp_path):
    _, told, ours = edited(runs, tmp_path, lambda store, _: shutil.rmtree(store.root / "labels"))
    assert (told.taken, len(told.reported), ours.digests()) == (0, 2, set())


def test_our_labels_win_over_those_that_came_along(runs, tmp_path):
    """Labels set to what a model predicts make its scores perfect; with the labels kept here they are what they are."""
    here = ResultStore(tmp_path / "ours")
    for path in (runs / "labels").glob("*.parquet"):
        here.put_labels(path.stem, ResultStore(runs).labels(path.stem))

    def shuffled(store, _):
        for path in (store.root / "labels").glob("*.parquet"):
            table = pd.read_parquet(path)
            for column in table.columns.drop("unit_id"):
                table[column] = table[column].to_numpy()[::-1]
            table.to_parquet(path, index=False)

    _, told, ours = edited(runs, tmp_path, shuffled)
    assert (told.refused, len(ours.digests())) == ({}, told.taken)


@pytest.mark.parametrize("name", ["../../p/evil", "/abs", "a" * 12, "", 5])
def test_a_digest_of_another_form_writes_nothing(runs, tmp_path, name):
    def lie(store, digest):
        path = store.folder(digest) / "result.json"
        change(path, lambda record: record["digests"].update(data=name))
        with contextlib.suppress(ValueError):  # a digest that fits what it says
            result = Result.model_validate_json(path.read_bytes())
            new = result.cell.digest(**result.rests_on())
            change(path, lambda record: record.update(digest=new))
            store.folder(new).parent.mkdir(exist_ok=True)
            store.folder(digest).rename(store.folder(new))

    before = {path for path in tmp_path.rglob("*") if "theirs" not in path.parts}
    _, told, ours = edited(runs, tmp_path, lie)
    assert len(told.refused) == 1
    assert {path for path in tmp_path.rglob("*") if "theirs" not in path.parts and "ours" not in path.parts} == before
    assert len(list((ours.root / "labels").iterdir())) == 1


@pytest.mark.parametrize("kind", ["pipe", "link"])
@pytest.mark.parametrize("place", ["cells", "cards", "labels", "manifests"])
def test_a_folder_with_pipes_or_links_is_refused(runs, tmp_path, kind, place):
    def add(store, _):
        path = store.root / place / "extra.yaml"
        os.mkfifo(path) if kind == "pipe" else path.symlink_to("/etc/hostname")

    with pytest.raises(DataError, match=r"is a (pipe|link)"):
        edited(runs, tmp_path, add)
    assert not (tmp_path / "ours").exists()
