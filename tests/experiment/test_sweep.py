"""A sweep runs again what changed, tells what its cells warned of, and measures costs alone whatever becomes of one of them."""

from __future__ import annotations

import json
import os

import pytest

from rs05bench.experiment import sweep as module
from rs05bench.experiment.executors import Needs
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.importing import import_runs
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.experiment.upkeep import status
from rs05bench.experiment.workers import Job
from rs05bench.protocol.result import Cell, Cost

MODELS = '''
import warnings
from pathlib import Path

import numpy as np
from rs05bench.models.backbones.bands import ScaleWarning
from rs05bench.protocol import ModelCard, Predictions

class Even:
    """Says the same of every unit."""

    def __init__(self, card=None, seed=0):
        self.seed = seed
        self.card = ModelCard(name=type(self).__name__, tier="raw", inputs="raw", learner="constant", licence="MIT")

    def fit(self, data):
        self.classes = data.classes
        return self

    def predict(self, data, role):
        ids = data.unit_ids(role)
        return Predictions.of_classes(ids, role, np.full((len(ids), len(self.classes)), 1 / len(self.classes), np.float32), self.classes)

class Doubts(Even):
    def fit(self, data):
        for _ in range(2):
            warnings.warn(f"the values look odd: {self.seed}.5e-05", ScaleWarning)
        warnings.warn("nothing to do with the data", RuntimeWarning)
        return super().fit(data)

class FitsOnce(Even):
    """Finds no room the second time."""

    def fit(self, data):
        mark = Path(__file__).with_name("fitted")
        if mark.exists():
            raise RuntimeError("out of memory on the accelerator\\nand more")
        mark.touch()
        return super().fit(data)
'''


@pytest.fixture
def models(tmp_path):
    """`models("Even")` is the name of a model of a file that can be changed."""
    path = tmp_path / "models" / "models.py"
    path.parent.mkdir()
    path.write_text(MODELS)

    def name(model: str) -> str:
        return f"{path}:{model}"

    name.path = path
    return name


def run(tiny, out, names, **options):
    costs = options.pop("costs", False)
    choice = GridChoice(**{"models": names, "splits": ["leave-state-out"], "folds": ["ia"], "budgets": ["5-per-class"]} | options)
    return sweep(GridFile.over(tiny / "card.yaml", tiny, choice, costs=costs), out, jobs=1)


def test_a_model_whose_file_changed_is_run_again_and_others_are_not(tiny, tmp_path, models):
    out = tmp_path / "runs"
    names = [models("Even"), "raw/knn"]
    assert (run(tiny, out, names).done, run(tiny, out, names).reused) == (2, 2)
    models.path.write_text(MODELS + "\n# a better idea\n")
    again = run(tiny, out, names)
    assert (again.done, again.reused) == (1, 1)
    assert run(tiny, out, names).reused == 2
    # What others check a result by covers the file too.
    taken = import_runs(out, tmp_path / "theirs")
    assert (taken.taken, taken.refused) == (3, {})


def test_what_cells_warned_of_the_data_is_told_once_at_the_end(tiny, tmp_path, models, capsys):
    from rs05bench.cli._progress import run_with_progress

    said = {"splits": ["leave-state-out"], "budgets": ["5-per-class"], "seeds": [3, 4]}
    grid = GridFile.over(tiny / "card.yaml", tiny, GridChoice(models=[models("Doubts"), models("Even")], **said), costs=False)
    run_with_progress(grid, tmp_path / "runs", jobs=2)
    assert capsys.readouterr().err.count("Warning: the values look odd") == 1
    kept = {(result.model.name, result.cell.seed): result.training.warnings for result in ResultStore(tmp_path / "runs").results()}
    odd = {seed: f"the values look odd: {seed}.5e-05" for seed in (3, 4)}
    assert kept == {("Doubts", 3): [odd[3]], ("Doubts", 4): [odd[4]], ("Even", 3): [], ("Even", 4): []}
    run_with_progress(grid, tmp_path / "runs", jobs=2)
    assert "look odd" not in capsys.readouterr().err, "nothing was run, so nothing is new"
    run_with_progress(grid, tmp_path / "more", jobs=2, jsonl=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["warnings"] in ([odd[3]], [odd[4]])


def test_a_cost_that_cannot_be_measured_is_told_and_the_others_are_measured(tiny, tmp_path, models):
    summary = run(tiny, tmp_path / "runs", [models("FitsOnce"), models("Even")], costs=True)
    assert (summary.done, summary.failed) == (2, [])
    assert len(summary.warnings) == 1
    assert "FitsOnce, leave-state-out / ia, 5-per-class: RuntimeError: out of memory on the accelerator" in summary.warnings[0]
    store = ResultStore(tmp_path / "runs")
    assert [cost.alone for cost in store.costs().values()] == [True]
    assert all(result.cost.fit_s is not None for result in store.results())


def surroundings(job: Job, cell: Cell) -> tuple[str, Cost]:
    """Stands in for a measurement, and says where it ran."""
    import torch

    seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    return "digest", Cost(hardware=json.dumps(seen | {"threads": torch.get_num_threads(), "process": os.getpid()}))


@pytest.mark.parametrize(("gpus", "device"), [(0, ""), (1, "5")])
def test_a_cost_is_measured_on_one_thread_and_on_the_device_of_its_cell(gpus, device, monkeypatch):
    monkeypatch.setattr(module, "measure_cost", surroundings)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cell = Cell(task="t", target="t", split="random", fold="all", model="raw/rf", budget="full", seed=0)
    seen = json.loads(module._measured(Job("", "", "", ()), cell, Needs(gpus=gpus))[1].hardware)
    assert seen.pop("process") != os.getpid()
    assert seen.pop("threads") == 1
    assert seen.pop("CUDA_VISIBLE_DEVICES") == device
    assert set(seen.values()) == {"1"}


def test_what_does_not_apply_is_skipped_once_and_nothing_failed(tiny, tmp_path):
    (tmp_path / "plots.csv").write_text(
        "\n".join(f"{line},{'year' if n == 0 else 2020 + n % 2}" for n, line in enumerate((tiny / "plots.csv").read_text().splitlines()))
    )
    (tmp_path / "card.yaml").write_text((tiny / "card.yaml").read_text() + "\nyear: year\n")
    first = run(tmp_path, tmp_path / "runs", ["floor/last-year", "raw/knn"])
    assert (first.done, len(first.skipped), first.failed) == (1, 1, [])
    assert "earlier year" in first.skipped[0].skipped
    again = run(tmp_path, tmp_path / "runs", ["floor/last-year", "raw/knn"])
    assert (again.done, again.reused, again.failed) == (0, 2, [])
    assert status(tmp_path / "runs").left == 0
