"""A sweep under a frozen manifest rests on that manifest and no other, also where the data lack some of its units."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from rs05bench.datamodules.open_data import open_source
from rs05bench.errors import DataError
from rs05bench.experiment.cell import make_bench
from rs05bench.experiment.gridfile import GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.experiment.upkeep import kept_grids
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import build_manifest
from rs05bench.protocol.taskdata import TaskData

SPLIT = "leave-state-out"


@pytest.fixture
def frozen(tiny, tmp_path):
    """A manifest drawn with other blocks than the card's, version 3: the data would not make it."""
    card = TaskCard.load(tiny / "card.yaml")
    other = card.model_copy(update={"split_options": card.split_options.model_copy(update={"block_size_m": 9000})})
    manifest = build_manifest(other, open_source(card, tiny).units(), SPLIT, version=3)
    manifest.save(tmp_path / "frozen")
    return manifest, tmp_path / "frozen"


def grid_file(tiny, tmp_path, data=None, **task):
    import yaml

    path = tmp_path / "grid.yaml"
    entry = {"card": str(tiny / "card.yaml"), "data": str(data or tiny), **task}
    fields = {"models": ["floor/majority"], "splits": [SPLIT], "folds": ["ia"], "budgets": ["5-per-class"], "seeds": 0, "costs": False}
    path.write_text(yaml.safe_dump({"kind": "grid", "tasks": [entry], **fields}))
    return GridFile.load(path)


def test_results_name_the_frozen_manifest_and_so_do_later_ones(tiny, tmp_path, frozen):
    manifest, _ = frozen
    grid = grid_file(tiny, tmp_path, manifests="frozen")  # relative to the grid file
    assert sweep(grid, tmp_path / "runs", jobs=1).done == 1
    (result,) = ResultStore(tmp_path / "runs").results()
    assert result.digests["manifest"] == manifest.digest
    assert result.main
    assert not result.budget.absent
    again = sweep(kept_grids(tmp_path / "runs")[0], tmp_path / "runs", jobs=1)
    assert (again.reused, again.done) == (1, 0)


def test_a_folder_holds_one_manifest_a_split(tiny, tmp_path, frozen):
    sweep(grid_file(tiny, tmp_path, manifests="frozen"), tmp_path / "runs", jobs=1)
    with pytest.raises(DataError, match="holds another manifest tiny/leave-state-out@v3"):
        sweep(grid_file(tiny, tmp_path), tmp_path / "runs", jobs=1)


def test_units_that_the_data_lack_are_counted_and_a_result_without_all_test_units_is_no_main_one(tiny, tmp_path, frozen):
    manifest, _ = frozen
    role = manifest.fold("ia").set_index("unit_id")["role"].astype(str)
    gone = {name: list(role.index[role == name][:2]) for name in ("train", "test_ood")}
    for name, units in gone.items():
        folder = tmp_path / name
        shutil.copytree(tiny, folder)
        table = pd.read_csv(folder / "plots.csv")
        table[~table["plot"].isin([unit.rsplit("/")[-1] for unit in units])].to_csv(folder / "plots.csv", index=False)
        summary = sweep(grid_file(tiny, tmp_path, folder, manifests="frozen"), tmp_path / f"runs-{name}", jobs=1)
        assert summary.done == 1, summary.failed
        (result,) = ResultStore(tmp_path / f"runs-{name}").results()
        assert result.budget.absent == {name: 2}
        assert result.main is (name == "train")


def test_data_with_units_that_a_manifest_does_not_know_are_refused(tiny, frozen):
    manifest, _ = frozen
    part = manifest.table[~manifest.table["unit_id"].isin(manifest.units["unit_id"][:3])]
    smaller = type(manifest)(manifest.task, manifest.split, part, manifest.units, manifest.card, manifest.version)
    source = open_source(TaskCard.load(tiny / "card.yaml"), tiny)
    with pytest.raises(DataError, match="knows 237 of the 240 of the data"):
        TaskData.build(source, smaller, "ia", "5-per-class", 0)


def test_a_manifest_of_another_task_or_split_is_told(tiny, tmp_path, frozen):
    _, folder = frozen
    card = TaskCard.load(tiny / "card.yaml")
    with pytest.raises(DataError, match="of the task 'tiny'"):
        make_bench(card.model_copy(update={"name": "other"}), tiny, [SPLIT], frozen=[folder])
    with pytest.raises(DataError, match="and the splits are"):
        make_bench(card, tiny, ["random"], frozen=[folder])
    with pytest.raises(DataError, match="given twice"):
        make_bench(card, tiny, [SPLIT], frozen=[folder, folder])
