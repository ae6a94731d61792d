"""Fits of deep cells can be watched, and are the same fits."""

from __future__ import annotations

import csv
import importlib.util

import pytest

import rs05bench as rb
from rs05bench.datamodules import BurnScarDataModule
from rs05bench.datamodules.chipsource import ChipSource, chip_card
from rs05bench.errors import DataError
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.sweep import sweep
from rs05bench.models.logs import check_loggers, logging_to

SPLIT, FOLD, BUDGET = "leave-state-out", "CA", "5-fires"


@pytest.fixture(scope="module")
def card(chip_folder):
    made = chip_card("burn-scars", chip_folder / "hls_burn_scars")
    training = made.training.model_copy(update={"steps": 3, "val_every": 2})
    return made.with_preprocessing(patch_size=64).model_copy(update={"training": training})


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_losses_are_logged_and_change_nothing(card, chip_folder, tmp_path):
    source = ChipSource(chip_folder / "hls_burn_scars", card)
    data = BurnScarDataModule(source, SPLIT, FOLD, BUDGET, 0)
    loggers = [name for name in ("csv", "tensorboard") if name == "csv" or importlib.util.find_spec(name)]
    with logging_to(loggers, tmp_path / "logs"):
        logged = rb.run(data, "raw/unet")
    silent = rb.run(data, "raw/unet")
    assert logged.digest == silent.digest
    assert logged.digests["predictions"] == silent.digests["predictions"]
    table = rows(tmp_path / "logs" / "fit-1" / "csv" / "metrics.csv")
    assert [int(row["step"]) for row in table if row["train_loss"]] == [1, 2, 3]
    assert any(row["val_loss"] for row in table)
    assert not (tmp_path / "logs" / "fit-2").exists()
    if "tensorboard" in loggers:
        assert list((tmp_path / "logs" / "fit-1" / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_a_sweep_logs_into_the_store_by_cell(card, chip_folder, tmp_path):
    card.save(tmp_path / "card.yaml")
    summary = sweep_with(tmp_path, chip_folder, ("csv",))
    assert summary.done == 1, summary.failed
    (folder,) = (tmp_path / "runs" / "logs").iterdir()
    assert (tmp_path / "runs" / "cells" / folder.name[:2] / folder.name / "result.json").is_file()
    assert (folder / "fit-1" / "csv" / "metrics.csv").is_file()
    assert sweep_with(tmp_path, chip_folder, ()).reused == 1, "what is logged is no part of a cell"


def sweep_with(folder, chips, loggers):
    choice = GridChoice(models=["raw/unet"], splits=[SPLIT], folds=[FOLD], budgets=[BUDGET])
    return sweep(
        GridFile.over(folder / "card.yaml", chips / "hls_burn_scars", choice, costs=False), folder / "runs", jobs=1, loggers=loggers
    )


def test_what_is_missing_is_named():
    assert check_loggers(["csv", "csv"]) == ("csv",)
    with pytest.raises(DataError, match="csv, tensorboard, mlflow, wandb"):
        check_loggers(["paper"])


def test_a_logger_whose_package_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install wandb"):
        check_loggers(["wandb"])
