"""The demo on a tiny world: it runs, it is taken up again, it ends with what was found and where the page is."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rs05bench.datasets.simulated import TASKS as SIMULATED
from rs05bench.experiment import demo
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.rules import check_rules

TINY = demo.DemoTask("urban", "leave-city-out", ("20-units", "50-units"), ("floor/mean", "raw/ridge"), ("log_income",), "tiny")


def test_the_demo_covers_every_simulated_task_and_tier_of_tables() -> None:
    assert {task.name for task in demo.TASKS} == set(SIMULATED)
    for task in demo.TASKS:
        tiers = {name.partition("/")[0] for name in task.models}
        assert {"floor", "raw", "alphaearth", "hybrid"} <= tiers
        assert len(task.budgets) >= 2
        assert not any(budget.endswith("per-class") for budget in task.budgets)
    assert len(demo.SEEDS) >= 5


@pytest.mark.slow
def test_the_command_ends_with_the_page_and_a_second_run_reuses_every_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rs05bench.cli import results as command

    monkeypatch.setattr(demo, "TASKS", (TINY,))
    import typer

    app = typer.Typer()
    app.command("demo")(command.demo)
    app.command("other")(command.report)
    first = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--jobs", "1"])
    assert first.exit_code == 0, first.output
    assert first.output.strip().endswith(f"The report: {tmp_path / 'index.html'}")
    assert "urban-log_income: With " in first.output
    assert "0 of them there already, 0 failed" in first.output
    store = ResultStore(tmp_path / "runs")
    cells = len(store.digests())
    assert {result.cell.split for result in store.results()} == {"leave-city-out"}
    assert store.costs()
    again = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--jobs", "1"])
    assert again.exit_code == 0, again.output
    assert f"{cells} of them there already, 0 failed" in again.output
    assert len(store.digests()) == cells


@pytest.mark.slow
def test_a_model_on_image_bands_beats_every_baseline_in_cities_it_has_not_seen(tmp_path: Path) -> None:
    """Rule 6 on the demo's regression, at its largest budget; it failed while the target was one that no image shows."""
    (task,) = (task for task in demo.TASKS if task.name == "urban")
    models = tuple(name for name in task.models if name.startswith(("floor/", "raw/")))
    demo.run_demo(tmp_path, tasks=[replace(task, models=models, budgets=task.budgets[-1:])], jobs=1)
    verdicts = {verdict.key: verdict for verdict in check_rules(ResultStore(tmp_path / "runs").results())}
    assert verdicts["baselines"].verdict == "pass", verdicts["baselines"].reason


@pytest.mark.slow
def test_opening_a_task_with_many_derived_columns_warns_of_nothing(tmp_path: Path) -> None:
    """A warning of pandas about its own memory, once a cell, was the first thing that the demo printed."""
    from rs05bench.datamodules.open_data import open_source
    from rs05bench.datasets.simulated import write_tables
    from rs05bench.protocol.card import TaskCard

    write_tables(tmp_path, tasks=["crop"], size="small", seed=0)
    card = tmp_path / "crop" / "card.yaml"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_source(TaskCard.load(card), card.parent).units().frame)
