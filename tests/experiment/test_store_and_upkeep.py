"""The store stays right whoever writes to it and however that ends; what can go, goes; what others give is checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep, sweep_grid
from rs05bench.experiment.upkeep import import_runs, kept_grids, prunable, prune, status
from rs05bench.protocol.atomic import hidden_sibling


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
    assert sweep_grid(grid, runs, jobs=1).done == 1
    assert digest in store


def test_status_knows_what_is_left_and_what_failed(tiny, runs, model):
    store = ResultStore(runs)
    for digest in sorted(store.digests())[:3]:
        store.remove(digest)
    sweep(tiny / "card.yaml", tiny, runs, models=[model("Fails")], splits=["random"], budgets=["5-per-class"], jobs=1, costs=False)
    found = status(runs)
    assert found.left == 3
    assert found.failures == {"ValueError: cannot do this": 1}
    assert found.tiers["cells"].sum() == len(store.digests()) + 3 + 1


def test_resume_leaves_failed_cells_alone_and_retry_runs_only_them(tiny, tmp_path, model):
    sweep(
        tiny / "card.yaml",
        tiny,
        tmp_path,
        models=[model("Fails"), "floor/majority"],
        splits=["random"],
        budgets=["5-per-class"],
        costs=False,
    )
    (grid,) = kept_grids(tmp_path)
    resumed = sweep_grid(grid, tmp_path, retry="new")
    assert (resumed.done, len(resumed.failed), resumed.left) == (0, 0, 1)
    again = sweep_grid(grid, tmp_path, retry="failed")
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
