"""`plan` counts what `sweep` would run: both take the same options."""

from __future__ import annotations

import inspect

import pytest

from rs05bench.cli._options import Chosen
from rs05bench.cli.runs import plan, sweep
from rs05bench.errors import DataError
from tests.datasets.table_files import card, write_regions


def test_every_option_that_chooses_cells_is_taken_by_both():
    wanted = set(inspect.signature(Chosen).parameters)
    assert wanted <= set(inspect.signature(plan).parameters)
    assert wanted <= set(inspect.signature(sweep).parameters)


def test_options_go_before_the_preset_and_the_preset_before_what_is_usual(tmp_path):
    path = card().save(write_regions(tmp_path) / "card.yaml")
    usual, quick = Chosen().grid(path), Chosen(preset="quick").grid(path)
    assert (usual.models, usual.seeds) == (["shallow"], [0, 1, 2, 3, 4])
    assert (quick.seeds, quick.budgets) == ([0, 1], 2)
    assert Chosen(preset="quick", seeds="7", models="raw/rf, floor/*").grid(path).seeds == [7]
    assert Chosen(models="raw/rf, floor/*").grid(path).models == ["raw/rf", "floor/*"]


def test_a_grid_file_answers_for_itself(tmp_path):
    card().save(write_regions(tmp_path) / "card.yaml")
    path = tmp_path / "grid.yaml"
    path.write_text("kind: grid\nmodels: [raw/rf]\ntasks: [{card: card.yaml}]\n")
    assert Chosen(costs=False).grid(path).costs is False
    with pytest.raises(DataError, match="says its own --seeds"):
        Chosen(seeds="0").grid(path)
