"""The one shape of all data modules: constructors only store, `setup` reads once, and a view is what a model is handed."""

from __future__ import annotations

import abc
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning

from rs05bench.errors import ProtocolError
from rs05bench.protocol.budget import LabelBudget
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.taskdata import TaskSource, TaskView


@dataclass(frozen=True)
class Opened[View: TaskView, Source: TaskSource]:
    """What `setup` reads.

    Attributes:
        source: The task's units, pixels or features, and labels: for the scorer and for you, never for a model.
        manifest: The split.
        view: What a model is handed.
    """

    source: Source
    manifest: SplitManifest
    view: View


class ProtocolDataModule[View: TaskView, Source: TaskSource](lightning.LightningDataModule, abc.ABC):
    """Shows a fold of a task under a label budget, in the shape of TorchGeo's `BaseDataModule`.

    `prepare_data` makes files, in one process; `setup(stage)` reads them, once, whatever the stage; loaders and attributes call it where
    nobody did. `hparams` holds the arguments that a configuration file can hold.

    Args:
        split: Split name.
        fold: Fold name; default the first.
        budget: Budget name.
        seed: Seed of the budget's draw and of the order of batches.
        **given: Further arguments of the constructor, for `hparams`.
    """

    def __init__(self, split: str, fold: str | None, budget: str, seed: int, **given: Any) -> None:
        super().__init__()
        self.split, self.seed = split, seed
        self._fold, self._budget = fold, budget
        # Plain values: a checkpoint that holds them can be read without unpickling.
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
        kept = {name: value for name, value in plain.items() if isinstance(value, str | int | float | bool | None)}
        # Not logged: a module of a model may have a `seed` too, and Lightning refuses two.
        self.save_hyperparameters({"split": split, "fold": fold, "budget": budget, "seed": seed, **kept}, logger=False)

    @abc.abstractmethod
    def _open(self) -> Opened[View, Source]:
        """Read the units, draw the split and the budget."""

    @functools.cached_property
    def _opened(self) -> Opened[View, Source]:
        return self._open()

    def setup(self, stage: str | None = None) -> None:
        """Reads units, split and budget, once; `stage` makes no difference.

        Raises:
            DataError: The data contradict the card, or the manifest is over other units.
            ProtocolError: No such fold, or nothing to train on.
        """
        _ = self._opened

    @property
    def view(self) -> View:
        """What a model is handed: no attribute of it leads to a label outside the budget."""
        return self._opened.view

    @property
    def source(self) -> Source:
        """The whole task with its labels, for scoring."""
        return self._opened.source

    @property
    def manifest(self) -> SplitManifest:
        """The split."""
        return self._opened.manifest

    @property
    def card(self) -> TaskCard:
        """The task card."""
        return self._opened.source.card

    @property
    def fold(self) -> str:
        """The fold."""
        return self._fold or self.manifest.folds[0]

    @property
    @abc.abstractmethod
    def target(self) -> str:
        """The target."""

    @property
    @abc.abstractmethod
    def budget(self) -> LabelBudget:
        """The labels in use."""

    @property
    def steps(self) -> int:
        """Optimiser steps of every trained tier (rule 4)."""
        return self.card.training.steps

    def test_dataloader(self) -> Any:
        """Not there: labels of test units are never shown.

        Raises:
            ProtocolError: Always.
        """
        raise ProtocolError(
            "a data module has no test labels",
            remedy="Predict with predict_dataloader, then: rs05bench score PREDICTIONS --manifest M --labels DIR.",
        )
