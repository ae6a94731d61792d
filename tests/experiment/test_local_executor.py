"""The local executor: whatever happens to a worker or a driver, the rest goes on and the store stays right."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rs05bench.errors import DataError
from rs05bench.experiment.executors.local import LocalExecutor
from rs05bench.experiment.executors.machine import free_memory_mb
from rs05bench.experiment.gridfile import GridChoice, GridFile, Resources
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep


def grid(tiny: Path, models: list[str], **options):
    choice = GridChoice(**{"models": models, "splits": ["random"], "budgets": ["5-per-class"], "seeds": [0, 1]} | options)
    return GridFile.over(tiny / "card.yaml", tiny, choice, costs=False)


def run(tiny, out, models, executor=None, **options):
    return sweep(grid(tiny, models, **options), out, executor=executor or LocalExecutor(2))


def test_a_cell_whose_worker_is_killed_is_run_again(tiny, tmp_path, model, monkeypatch):
    monkeypatch.setenv("RS05BENCH_TEST_MARKER", str(tmp_path / "died"))
    # The fork server may be running already: the environment reaches it through the command only.
    code = "import sys; from rs05bench.cli import main; main()"
    command = ["sweep", str(tiny / "card.yaml"), "--models", f"{model('DiesOnce')},floor/majority", "--splits", "random"]
    command += ["--budgets", "5-per-class", "--seeds", "0-1", "--no-costs", "--out", str(tmp_path / "runs")]
    ran = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=120)
    assert (tmp_path / "died").exists()
    assert ran.returncode == 0, ran.stderr
    assert len(ResultStore(tmp_path / "runs").digests()) == 4


def test_a_cell_that_keeps_killing_is_recorded_with_its_last_words_and_the_rest_goes_on(tiny, tmp_path, model):
    summary = run(tiny, tmp_path, [model("Dies"), "floor/majority"], seeds=[0])
    assert (summary.done, len(summary.failed)) == (1, 1)
    (failure,) = ResultStore(tmp_path).failures()
    assert "died" in failure["error"]
    assert "last words" in failure["log"]


def test_a_cell_beyond_its_time_is_stopped_and_recorded(tiny, tmp_path, model):
    plan = grid(tiny, [model("Sleeps"), "floor/majority"], seeds=[0])
    plan.resources = [Resources(model="*Sleeps", time_s=1.0)]
    summary = sweep(plan, tmp_path, executor=LocalExecutor(1))
    assert summary.done == 1
    assert "time limit" in summary.failed[0].error


@pytest.mark.parametrize("how", ["Hungers", "Creeps"])
def test_a_cell_beyond_its_memory_is_stopped_and_recorded(tiny, tmp_path, model, how):
    plan = grid(tiny, [model(how), "floor/majority"], seeds=[0])
    plan.resources = [Resources(model=f"*{how}", memory_mb=700.0)]
    summary = sweep(plan, tmp_path, executor=LocalExecutor(1))
    assert summary.done == 1
    assert "memory limit" in summary.failed[0].error


def test_an_error_keeps_its_traceback(tiny, tmp_path, model):
    run(tiny, tmp_path, [model("Fails")], seeds=[0])
    (failure,) = ResultStore(tmp_path).failures()
    assert failure["error"] == "ValueError: cannot do this"
    assert "in work" in failure["log"]


def test_a_second_worker_waits_for_memory(tiny, tmp_path, model):
    executor = LocalExecutor(2, memory_mb=1.0)
    begin = time.monotonic()
    summary = run(tiny, tmp_path, [model("Dawdles")], executor, seeds=[0, 1, 2, 3])
    assert summary.done == 4
    assert time.monotonic() - begin >= 4 * 0.5  # one after another
    assert free_memory_mb() > 1


def test_workers_do_not_outlive_a_driver_that_is_killed(tiny, tmp_path, model):
    code = (
        "from rs05bench.experiment.gridfile import GridChoice, GridFile; from rs05bench.experiment.sweep import sweep; "
        f"choice = GridChoice(models=[{model('Sleeps')!r}], splits=['random'], budgets=['5-per-class'], seeds=[0, 1]); "
        f"sweep(GridFile.over({str(tiny / 'card.yaml')!r}, {str(tiny)!r}, choice, costs=False), {str(tmp_path)!r}, jobs=2)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while len(started := psutil.Process(driver.pid).children(recursive=True)) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)  # fork server, resource tracker, two workers
    assert len(started) >= 4
    time.sleep(0.5)
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_workers_that_cannot_open_the_data_end_the_sweep_with_a_reason(tiny, tmp_path):
    from rs05bench.experiment.executors import Batch
    from rs05bench.experiment.workers import Job
    from rs05bench.protocol.result import Cell

    cell = Cell(task="tiny", target="crop", split="random", fold="random", model="floor/majority", budget="5-per-class", seed=0)
    job = Job(str(tiny / "nothing.yaml"), str(tiny), str(tmp_path), ("random",))
    with pytest.raises(DataError, match=r"nothing\.yaml"):
        LocalExecutor(1).run([Batch(job, [("d" * 64, cell)])], lambda outcomes: None)
