"""Weights that a task card keeps beside its data: found from card and folder alone, and never taken for others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from rs05bench.errors import DataError
from rs05bench.models.backbones.weights import declared_weights
from rs05bench.protocol import TaskCard
from rs05bench.protocol.preprocessing import Preprocessing
from rs05bench.protocol.result import Cell


def task(folder: Path | None, **entry: str) -> SimpleNamespace:
    return SimpleNamespace(card=SimpleNamespace(name="task", preprocessing=Preprocessing(weights={"presto": entry})), folder=folder)


def test_a_declared_file_is_found_in_the_data_folder(tmp_path: Path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert declared_weights(task(tmp_path, file="model.pt", sha256=digest), "presto") == tmp_path / "model.pt"


def test_other_weights_than_the_cards_are_refused(tmp_path: Path):
    (tmp_path / "model.pt").write_bytes(b"other weights")
    with pytest.raises(DataError, match="not those of the card 'task'"):
        declared_weights(task(tmp_path, file="model.pt", sha256="0" * 64), "presto")


def test_a_missing_file_says_where_it_should_be(tmp_path: Path):
    with pytest.raises(DataError, match=r"model\.pt.*keeps its weights here"):
        declared_weights(task(tmp_path, file="model.pt"), "presto")


def test_a_card_that_declares_none_leaves_the_choice_to_the_options(tmp_path: Path):
    assert declared_weights(task(tmp_path, file="model.pt"), "prithvi-tiny") is None
    assert declared_weights(SimpleNamespace(card=SimpleNamespace(name="task", preprocessing=Preprocessing())), "presto") is None


@pytest.mark.real
@pytest.mark.slow
def test_a_fuel_moisture_cell_needs_nothing_but_card_and_folder(real, repository):
    from rs05bench.experiment.cell import make_bench, run_cell

    card = TaskCard.load(repository / "examples" / "cards" / "fuel_moisture.yaml")
    short = card.model_copy(update={"training": card.training.model_copy(update={"steps": 10})})
    bench = make_bench(short, real("lfmc_presto"), ["official"])
    assert bench.data(_cell(card, "presto/frozen")).folder == real("lfmc_presto")
    result, predictions = run_cell(bench, _cell(card, "presto/frozen"))
    assert result.model.pretrained
    assert len(predictions.of_role("test_ood")) == 735
    assert run_cell(bench, _cell(card, "presto/frozen@random"))[0].model.pretrained is False


def _cell(card: TaskCard, model: str) -> Cell:
    return Cell(task=card.name, target="target", split="official", fold="official", model=model, budget="100-units", seed=0)


def test_an_encoder_of_chips_takes_the_weights_that_the_card_keeps(tmp_path: Path, chips):
    """What the card declares is looked for next to the data; a control never takes it."""
    from rs05bench.models.deep import create

    data = chips()
    kept = Preprocessing.model_validate({"weights": {"galileo-nano": {"file": "encoder.pt"}}})
    data.card, data.folder = SimpleNamespace(name="task", preprocessing=kept), tmp_path
    with pytest.raises(DataError, match=r"encoder\.pt.*keeps its weights here"):
        create("galileo-nano/frozen").build(data)
    create("galileo-nano/frozen@random", patch=8).build(data)
