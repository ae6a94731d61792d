"""What a deep tier asks of data, how every tier is trained, and what a fit leaves on record. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, Self, runtime_checkable

from rs05bench.errors import DataError
from rs05bench.protocol.cell_record import TrainingRecord

Kind = Literal["segmentation", "classification", "regression"]
IGNORE = -1


class ChipData(Protocol):
    """What a deep tier asks of data under the protocol; a `LightningDataModule` of rs05bench has it all.

    Attributes:
        kind: segmentation, classification or regression.
        classes: Class names, None for regression.
        bands: Bands of ``image``, in channel order.
        scale: The number that stands for a reflectance of 1.
        num_frames: Dates of ``image``.
        steps: Optimiser steps every tier gets.
    """

    kind: Kind
    classes: Any
    bands: Any
    scale: float
    num_frames: int
    steps: int

    @property
    def view(self) -> Self:
        """What a model is handed; of a view itself."""

    def train_dataloader(self) -> Iterable[Mapping[str, Any]]:
        """Batches with labels of the budget's training units."""

    def val_dataloader(self) -> Iterable[Mapping[str, Any]] | None:
        """Batches with labels of the budget's validation units; None where the budget leaves none."""

    def predict_dataloader(self, role: str) -> Iterable[Mapping[str, Any]]:
        """Batches without labels."""


@runtime_checkable
class Resumable(Protocol):
    """A loader, or its sampler, that can go on where a training stopped."""

    def begin(self, batches: int) -> None:
        """The next pass starts after so many batches of all passes."""


@dataclass(frozen=True)
class TrainingPlan:
    """How every tier is trained; a task card's ``training`` says otherwise for all of them at once.

    Args:
        steps: Optimiser steps.
        learning_rates: The declared grid; the rate with the lowest validation loss is kept. With no validation labels the middle one is
            used.
        weight_decay: Of AdamW.
        warmup: Share of the steps that warm up; a cosine follows.
        patience: Validations without improvement before stopping; 0 switches early stopping off.
        val_every: Steps between two looks at the validation labels.
        class_weights: ``none``, or ``balanced`` (inverse frequency of the training labels, at most 10 times the mean).
        accumulate: Batches a step.
        precision: ``auto`` (bfloat16 on a GPU that has it, else 32 bit) or a name of Lightning's.
    """

    steps: int = 200
    learning_rates: tuple[float, ...] = (1e-3,)
    weight_decay: float = 0.01
    warmup: float = 0.05
    patience: int = 5
    val_every: int = 20
    class_weights: Literal["none", "balanced"] = "none"
    accumulate: int = 1
    precision: str = "auto"

    @property
    def middle_rate(self) -> float:
        """The rate of the grid that is taken where none can be chosen."""
        return sorted(self.learning_rates)[len(self.learning_rates) // 2]

    @classmethod
    def of(cls, data: ChipData, **options: Any) -> TrainingPlan:
        """The plan of a data module: its card's ``training``, its ``steps``, then explicit options.

        Raises:
            DataError: A field is unknown.
        """
        known = {entry.name for entry in fields(cls)}
        declared = getattr(getattr(data, "card", None), "training", None) or {}
        plan = {key: value for key, value in dict(declared).items() if key in known}
        if getattr(data, "steps", None):
            plan["steps"] = int(data.steps)
        unknown = sorted(set(options) - known)
        if unknown:
            raise DataError(f"unknown training option {', '.join(unknown)}", remedy=f"Known: {', '.join(sorted(known))}.")
        plan |= options
        if "learning_rates" in plan:
            rates = plan["learning_rates"]
            plan["learning_rates"] = tuple(float(rate) for rate in ([rates] if isinstance(rates, int | float) else rates))
        return cls(**plan)


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
    seconds: float = 0.0
    note: str = ""
    planned_steps: int | None = None
    batch_size: int | None = None

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
            batch_size=self.batch_size,
            note=self.note,
        )
