"""Deep tiers behind the one model interface: ``create("prithvi-tiny/lora").fit(data)``, ``predict(data, role)``, ``card``.

Importing this module and listing ``catalogue()`` is cheap; torch and Lightning come in with the first model that is created, TerraTorch
with the first encoder that is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rs05bench.errors import DataError
from rs05bench.models.deep_names import DeepSpec, catalogue, find, model_card

if TYPE_CHECKING:
    from rs05bench.models.chip_model import DeepModel
    from rs05bench.models.frozen_learners import FrozenPresto
    from rs05bench.models.presto import PrestoModel
    from rs05bench.protocol import TaskCard

__all__ = ["DeepSpec", "catalogue", "create", "find", "model_card"]


def create(name: str, *, card: TaskCard | None = None, seed: int = 0, **options: Any) -> DeepModel | FrozenPresto | PrestoModel:
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
    return create_network(name, seed=seed, **options)


def create_network(name: str, *, seed: int = 0, **options: Any) -> DeepModel:
    """A deep model that is a network on chips, for a Trainer of yours or of TerraTorch.

    Args:
        name: A name of ``catalogue()``.
        seed: As of `create`.
        **options: As of `create`.

    Raises:
        DataError: No network on chips has this name, or as `create`.
    """
    from rs05bench.models.chip_model import DeepModel

    spec = find(name)
    if spec is None or spec.data != "chips" or spec.shallow is not None:
        raise DataError(f"{name!r} is no network on chips, so a Trainer cannot train it", remedy="For instance prithvi-300/lora.")
    return DeepModel(spec, seed=seed, **options)
