"""What a deep tier asks of data, how every tier is trained, and what a fit leaves on record. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, runtime_checkable

from pydantic import ValidationError

from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard, Training
from rs05bench.protocol.cell_record import TrainingRecord

Kind = Literal["segmentation", "classification", "regression"]
IGNORE = -1


class TrainingData(Protocol):
    """What the training loop asks of data."""

    @property
    def kind(self) -> Kind:
        """segmentation, classification or regression."""

    @property
    def classes(self) -> Sequence[str] | None:
        """Class names; None for regression."""

    @property
    def steps(self) -> int:
        """Optimiser steps every tier gets."""

    @property
    def batch_size(self) -> int | None:
        """Units that go through a network at once; None where a batch is never more."""

    @property
    def card(self) -> TaskCard | None:
        """The task card; None of data without one."""

    def train_dataloader(self) -> Iterable[Mapping[str, Any]]:
        """Batches with labels of the budget's training units."""

    def val_dataloader(self) -> Iterable[Mapping[str, Any]] | None:
        """Batches with labels of the budget's validation units; None where the budget leaves none."""


class ChipData(TrainingData, Protocol):
    """What a deep tier asks of chips under the protocol; a `LightningDataModule` of rs05bench has it all."""

    @property
    def bands(self) -> Sequence[str]:
        """Bands of ``image``, in channel order."""

    @property
    def scale(self) -> float:
        """The number that stands for a reflectance of 1."""

    @property
    def num_frames(self) -> int:
        """Dates of ``image``."""

    @property
    def resolution_m(self) -> float | None:
        """Pixel size in metres; None where it is not known."""

    @property
    def embedding_product(self) -> EmbeddingProduct:
        """What ``embedding`` in a batch is of."""

    @property
    def digest(self) -> str:
        """SHA-256 of what a fit sees."""

    @property
    def view(self) -> Self:
        """What a model is handed; of a view itself."""

    def predict_dataloader(self, role: str) -> Iterable[Mapping[str, Any]]:
        """Batches without labels."""


@runtime_checkable
class Resumable(Protocol):
    """A loader, or its sampler, that can go on where a training stopped."""

    def begin(self, batches: int) -> None:
        """The next pass starts after so many batches of all passes."""


def training_of(data: TrainingData, changes: Mapping[str, Any]) -> Training:
    """How a model is trained on data: as the task card says, the steps of the data module, then what options change.

    Args:
        data: The data module.
        changes: Fields of `Training` by name.

    Raises:
        DataError: A value that is none.
    """
    declared = Training() if data.card is None else data.card.training
    steps = {"steps": int(data.steps)} if data.steps else {}
    try:
        return Training.model_validate({**declared.model_dump(), **steps, **changes})
    except ValidationError as error:
        raise DataError(f"training: {error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}", remedy="Correct that option.") from None


@dataclass
class FitHistory:
    """What happened in a fit.

    Attributes:
        learning_rate: The rate that was kept.
        steps: Optimiser steps run at that rate.
        best_step: Step whose weights were kept.
        best_validation: Their validation loss; None without validation labels.
        stopped_early: Whether patience ran out.
        validation: (step, loss) of that rate.
        tried: Lowest validation loss of every rate of the grid.
        curves: (step, loss) of every look at the validation labels, of every rate of the grid.
        seconds: Wall time of the whole grid.
        note: What a reader should know (no validation labels, ...).
        planned_steps: Steps every tier was given (rule 4).
        batch_size: Units a batch; None where the data do not say.
    """

    learning_rate: float
    steps: int
    best_step: int
    best_validation: float | None
    stopped_early: bool
    validation: list[tuple[int, float]]
    tried: dict[str, float | None] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""
    planned_steps: int | None = None
    batch_size: int | None = None

    @property
    def still_falling(self) -> bool:
        """Whether the last of several looks at the validation labels was the best, after all steps."""
        return len(self.validation) > 1 and not self.stopped_early and self.best_step == self.validation[-1][0]

    def record(self) -> TrainingRecord:
        """What a result states of its training; the rules read it."""
        return TrainingRecord(
            early_stopping_role="val",
            planned_steps=self.planned_steps,
            steps=self.steps,
            best_step=self.best_step,
            stopped_early=self.stopped_early,
            learning_rate=self.learning_rate,
            tried=self.tried,
            curves=self.curves,
            batch_size=self.batch_size,
            note=self.note,
        )
