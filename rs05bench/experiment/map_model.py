"""The model behind a map of chips: trained, or taken from the folder of an earlier map."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.models.options import RUN_NAMES

if TYPE_CHECKING:
    from rs05bench.datamodules.chip_view import ChipView
    from rs05bench.models.chip_model import DeepModel
    from rs05bench.models.sliding_windows import Window
    from rs05bench.protocol.result import Model, ModelCard
    from rs05bench.protocol.taskdata import TaskView

TRAINED_ON = "trained_on.json"


@runtime_checkable
class SceneModel(Protocol):
    """A model of chips that draws scenes: a network, a learner on a frozen encoder, or one on single pixels."""

    @property
    def context(self) -> int:
        """Pixels that it should see around what is drawn."""

    @property
    def card(self) -> ModelCard:
        """What it is."""

    def fit(self, data: ChipView, /) -> SceneModel:
        """Learns from a view."""

    def predict_scene(
        self, read: Callable[[Window], dict[str, NDArray[Any]]], height: int, width: int, *, block: int
    ) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Blocks of a scene with their probabilities (K, h, w)."""


def fit_or_load(model: Model[TaskView], data: ChipView, keep: Path | None, beside: Path) -> SceneModel:
    """Trains a model, or takes it from a folder it was saved to before; learners that no file holds are trained for every map.

    Args:
        model: From `rs05bench.models.create`; its `window`, `batch`, `cache`, `accelerator` and `weights` hold for a kept one too.
        data: The data module.
        keep: Folder that a person named for it.
        beside: Folder that a model which can be saved goes to otherwise.

    Raises:
        DataError: The folder holds another model, or one that was trained on other labels.
        ProtocolError: The model draws no scene.
    """
    from rs05bench.models.chip_model import DeepModel

    if not isinstance(model, SceneModel):
        raise ProtocolError(
            f"{model.card.name} draws no map of images: it sees none",
            remedy="Models of bands, of embeddings and of encoders do, for instance raw/logistic, raw/unet or prithvi-tiny/lora.",
        )
    if not isinstance(model, DeepModel) or not model.can_be_saved:
        if keep is not None:
            raise DataError(f"{model.card.name} is trained again for every map; it cannot be kept", source=keep, remedy="Leave out --keep.")
        return model.fit(data)
    place = keep or beside
    if (place / "model.json").is_file():
        name = json.loads((place / "model.json").read_text(encoding="utf-8")).get("name")
        if name != model.card.name:
            raise DataError(f"holds the model {name!r}, not {model.card.name!r}", source=place, remedy="Name another folder.")
        _refuse_others_labels(place, _trained_on(model, data))
        return type(model).load(place, **{key: value for key, value in model.options.given().items() if key in (*RUN_NAMES, "weights")})
    model.fit(data)
    model.save(place)
    (place / TRAINED_ON).write_text(json.dumps(_trained_on(model, data), indent=1), encoding="utf-8")
    return model


def _trained_on(model: DeepModel, data: ChipView) -> dict[str, Any]:
    """What the weights depend on beside the model's name."""
    options = {key: value for key, value in model.options.given().items() if key not in RUN_NAMES}
    cell = {"task": data.card.name, "card": data.card.digest, "split": data.split, "fold": data.fold, "budget": data.budget.name}
    # Names say what was asked for. The labels behind them may have been corrected since, or the units drawn again.
    content = {"data": data.digest, "manifest": data.manifest.digest, "labels": data.budget.digest}
    return {**cell, **content, "seed": model.seed, "options": json.loads(json.dumps(options, default=str))}


def _refuse_others_labels(place: Path, wanted: dict[str, Any]) -> None:
    try:
        found = json.loads((place / TRAINED_ON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    other = [f"{name} {_short(found.get(name))} instead of {_short(value)}" for name, value in wanted.items() if found.get(name) != value]
    if other:
        raise DataError(
            f"holds a model that was trained otherwise: {', '.join(other)}", source=place, remedy="Name another folder, or remove this one."
        )


def _short(value: Any) -> str:
    digest = isinstance(value, str) and len(value) == 64
    return repr(f"{value[:12]}…") if digest else repr(value)
