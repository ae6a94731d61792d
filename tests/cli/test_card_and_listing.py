"""card init, card check, tasks, models and splits as a person types them."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from rs05bench.cli import card as card_family
from rs05bench.cli import data, models, protocol
from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard
from tests.datasets.table_files import CENTRES, card, export, write_regions


def run(*words, status=0, **options):
    app = typer.Typer()
    card_family.register(app)
    for family in (data, models, protocol):
        family.register(app)
    result = CliRunner().invoke(app, [str(word) for word in words], **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "plots.csv"
    pd.concat([export(region) for region in CENTRES], ignore_index=True).to_csv(path, index=False)
    return path


def test_init_without_questions_writes_a_card_that_checks(table):
    out = run("card", "init", table, "--yes", "--features", "S1_VV,S1_VH")
    made = table.with_suffix(".yaml")
    assert f"card check {made}" in out
    assert TaskCard.load(made).features["hybrid"].columns == ["alphaearth", "raw"]
    seen = json.loads(run("card", "check", made, "--json"))
    assert seen["right"] is True
    assert seen["tiers"] == {"alphaearth": "embedding", "raw": "raw", "hybrid": "hybrid"}


def test_init_asks_in_turn_and_takes_what_is_typed(table, tmp_path):
    made = tmp_path / "asked.yaml"
    out = run("card", "init", table, "--out", made, input="height\n\nregion\n-\nS1_VV\n")
    assert "Which column is predicted?" in out
    loaded = TaskCard.load(made)
    assert (loaded.kind, loaded.targets, loaded.groups, loaded.unit, loaded.features["raw"].columns) == (
        "regression",
        ["height"],
        ["region"],
        [],
        ["S1_VV"],
    )


def test_init_with_yes_still_refuses_to_guess_the_target(tmp_path):
    export("north").drop(columns="lc_label").to_csv(tmp_path / "plots.csv", index=False)
    with pytest.raises(DataError, match=r"Which column is predicted\?[\s\S]*Give it with --target"):
        run("card", "init", tmp_path / "plots.csv", "--yes")
    assert not (tmp_path / "plots.yaml").exists()


def test_check_shows_units_features_splits_and_budgets(tmp_path):
    path = card().save(write_regions(tmp_path) / "card.yaml")
    out = run("card", "check", path)
    for said in ("180", "north 60", "alphaearth", "embedding", "leave-region-out", "5-per-class", "hybrid", "Readable;"):
        assert said in out


def test_check_of_an_impossible_split_ends_with_status_1(tmp_path):
    path = card(splits=["leave-region-out", "leave-year-out"], year="year").save(write_regions(tmp_path) / "card.yaml")
    out = run("card", "check", path, status=1)
    assert "not possible" in out


def test_models_and_tasks_and_splits_print_and_give_json(tmp_path):
    path = card().save(write_regions(tmp_path) / "card.yaml")
    assert "alphaearth/logistic" in run("models", "--card", path)
    embedding = json.loads(run("models", "--card", path, "--tier", "embedding", "--json"))
    assert {item["tier"] for item in embedding} == {"embedding"}
    assert {"name", "tier", "source", "open_weights"} <= set(embedding[0])
    assert "burn-scar" in run("tasks")
    assert json.loads(run("tasks", path, "--json"))[-1]["name"] == "landcover"
    assert "leave-<group>-out" in run("splits")
    assert [item["possible"] for item in json.loads(run("splits", "--card", path, "--json"))] == [True, True]
