"""Deep tiers behind the one model interface: ``create("prithvi-tiny/lora").fit(data)``, ``predict(data, role)``, ``card``.

Importing this module and listing ``catalogue()`` is cheap; torch and Lightning come in with the first model that is created, TerraTorch
with the first encoder that is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rs05bench.errors import DataError
from rs05bench.models.deep_names import DeepSpec, catalogue, find, model_card

if TYPE_CHECKING:
    from rs05bench.protocol import TaskCard

__all__ = ["DeepSpec", "catalogue", "create", "find", "model_card"]


def create(name: str, *, card: TaskCard | None = None, seed: int = 0, **options: Any) -> Any:
    """A deep model by name.

    Args:
        name: A name of ``catalogue()``.
        card: The task card; taken for the sake of one interface, the data bring their own.
        seed: Of the head's weights, of what adaptation adds, and of training.
        **options: Fields of `rs05bench.models.options.DeepOptions` that a model of this name takes.

    Raises:
        DataError: The name is unknown, an option is not one that the model takes, or a value is none that it can be.
    """
    spec = find(name)
    if spec is None:
        raise DataError(f"unknown deep model {name!r}", remedy="rs05bench models list names them.")
    if spec.shallow is not None and spec.data == "chips":
        from rs05bench.models.frozen_chips import FrozenChips

        return FrozenChips(spec, seed=seed, **options)
    if spec.shallow is not None:
        from rs05bench.models.frozen_learners import FrozenPresto

        return FrozenPresto(spec, seed=seed, **options)
    if spec.data == "series":
        from rs05bench.models.presto import PrestoModel

        return PrestoModel(spec, seed=seed, **options)
    from rs05bench.models.chip_model import DeepModel

    return DeepModel(spec, seed=seed, **options)
