"""Shallow learners on the features of a frozen encoder: the learners, grid and scaling that every other feature source gets.

`presto/frozen` puts a linear layer on the same features and trains it by gradient steps; what differs between `presto/frozen-ridge` and
`alphaearth/ridge` is the features alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rs05bench.models.deep_names import DeepSpec, model_card
from rs05bench.models.learners import LEARNERS, Floats
from rs05bench.models.presto import PrestoModel
from rs05bench.models.shallow import ShallowModel
from rs05bench.protocol.cell_record import TrainingRecord

if TYPE_CHECKING:
    from rs05bench.protocol import TaskData


class FrozenPresto(ShallowModel):
    """A shallow learner on Presto's embedding of each unit, (n, 128).

    Args:
        spec: `presto/frozen-<learner>`, or its random-initialised twin.
        seed: Seed of everything random in the learner, and of a twin's weights.
        **options: Of the encoder (`weights`, `revision`, `init_seed`, `location`, `calendar`, `features`) and how it is run (`cache`,
            `accelerator`).

    Raises:
        DataError: Another option: the tuning grid is the protocol's.
    """

    def __init__(self, spec: DeepSpec, *, seed: int = 0, **options: Any) -> None:
        learner = str(spec.shallow)
        self.encoder = PrestoModel(spec, seed=seed, **options)
        card = model_card(spec, None, self.encoder.options.given())
        card = card.model_copy(update={"citation": f"{card.citation}; {LEARNERS[learner].citation}"})
        super().__init__("presto", learner, card=card, seed=seed)

    def fit(self, data: TaskData) -> Self:
        """As `ShallowModel.fit`, on the encoder's features."""
        super().fit(data)
        learnt = self.card.parameters_trainable or 0
        self.card = self.card.model_copy(update={"parameters_total": learnt + self.encoder.encoder_parameters})
        return self

    @property
    def training_record(self) -> TrainingRecord:
        """What was tuned and how, and where the encoder's weights are from."""
        return super().training_record.with_fields(encoder=self.encoder.origin)

    def gflops_per_unit(self, data: TaskData) -> float | None:
        """Billions of operations to encode one unit; the learner's own are beneath its rounding."""
        return self.encoder.gflops_per_unit(data)

    def _X(self, data: TaskData, role: str) -> Floats:
        return self.encoder.embed(data, role)
