"""The Ray executor, on loopback: a lost node takes nothing with it; limits and errors are told as they are locally."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from rs05bench.experiment.store import ResultStore

pytest.importorskip("ray")


def run(repository, tiny, tmp_path, models, seeds, example):
    grid = tmp_path / "grid.yaml"
    fields = {
        "tasks": [{"card": str(tiny / "card.yaml")}],
        "models": models,
        "seeds": seeds,
        "splits": ["random"],
        "budgets": 1,
        "exclude": [{"model": "*:Dies", "seed": ["1", "2"]}],
    }
    grid.write_text(yaml.safe_dump({"kind": "grid", "costs": False, **fields}))
    command = [sys.executable, *example, str(grid), *(["--out"] if "sweep" in example else []), str(tmp_path / "runs")]
    more = ["--executor", "ray"] if "sweep" in example else []
    return subprocess.run([*command, *more], capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_a_lost_node_loses_no_cell_and_doubles_none(repository, tiny, tmp_path, model):
    example = [str(repository / "examples" / "two_node_ray.py")]
    ran = run(repository, tiny, tmp_path, [model("Dawdles")], "0-23", example)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "a node was lost" in ran.stdout
    assert "24 cells: 24 run, 0 failed, 1 node left" in ran.stdout
    assert len(ResultStore(tmp_path / "runs").digests()) == 24


@pytest.mark.slow
def test_the_command_runs_on_ray_and_gives_the_same_results_as_here(repository, tiny, tmp_path, model):
    from rs05bench.experiment.gridfile import GridFile
    from rs05bench.experiment.sweep import sweep

    ran = run(repository, tiny, tmp_path, ["alphaearth/logistic", model("Fails"), model("Dies")], "0-2", ["-m", "rs05bench.cli", "sweep"])
    assert ran.returncode == 1, ran.stdout + ran.stderr
    store = ResultStore(tmp_path / "runs")
    errors = sorted(failure["error"] for failure in store.failures())
    assert errors[:3] == ["ValueError: cannot do this"] * 3
    assert ["lost" in error for error in errors[3:]] == [True]
    plan = GridFile.load(tmp_path / "grid.yaml")
    plan.models = ["alphaearth/logistic"]
    sweep(plan, tmp_path / "here", jobs=1)
    here = ResultStore(tmp_path / "here")
    assert here.digests() == store.digests()
    for digest in here.digests():
        assert here.predictions(digest).digest == store.predictions(digest).digest
        assert here.read(digest).scores == store.read(digest).scores
