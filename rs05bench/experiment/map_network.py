"""The network behind a map: trained, or taken from the folder of an earlier map; and the pixels it has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.map_scene import predictors
from rs05bench.models.applicability import Applicability

TRAINED_ON = "trained_on.json"
TRAINING_PIXELS = 2_000
"""Labelled training pixels the area of applicability is drawn from: every pixel of a map is compared with each of them."""


def fit_or_load(model: Any, data: Any, folder: str | Path | None) -> Any:
    """Trains a deep model, or takes it from a folder it was saved to before.

    Args:
        model: From `rs05bench.models.create`; its `window`, `batch`, `cache`, `accelerator` and `weights` hold for a kept one too.
        data: The data module.
        folder: Where it is, or will be, saved; None keeps it in memory only.

    Raises:
        DataError: The folder holds another model, or one that was trained on other labels.
    """
    from rs05bench.models.chip_network import RUN_OPTIONS

    if not hasattr(model, "predict_scene"):
        raise ProtocolError(f"{model.card.name} predicts no images", remedy="Use a model for chips, e.g. raw/unet or prithvi-tiny/lora.")
    place = None if folder is None else Path(folder)
    if place is not None and (place / "model.json").is_file():
        name = json.loads((place / "model.json").read_text(encoding="utf-8")).get("name")
        if name != model.card.name:
            raise DataError(f"holds the model {name!r}, not {model.card.name!r}", source=place, remedy="Name another folder.")
        _refuse_others_labels(place, _trained_on(model, data))
        return type(model).load(place, **{key: value for key, value in model.options.items() if key in (*RUN_OPTIONS, "weights")})
    model.fit(data)
    if place is not None:
        model.save(place)
        (place / TRAINED_ON).write_text(json.dumps(_trained_on(model, data), indent=1), encoding="utf-8")
    return model


def _trained_on(model: Any, data: Any) -> dict[str, Any]:
    """What the weights depend on beside the model's name."""
    from rs05bench.models.chip_network import RUN_OPTIONS

    said = {key: value for key, value in model.options.items() if key not in RUN_OPTIONS}
    cell = {"task": data.card.name, "card": data.card.digest, "split": data.split, "fold": data.fold, "budget": data.budget.name}
    # Names say what was asked for. The labels behind them may have been corrected since, or the units drawn again.
    content = {"data": data.digest, "manifest": data.manifest.digest, "labels": data.budget.digest}
    return {**cell, **content, "seed": model.seed, "options": json.loads(json.dumps(said, default=str))}


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


def context_of(model: Any) -> int:
    """Pixels a network should see around what is drawn: half a window, so that every drawn pixel has a whole one about it."""
    return int(model.options.get("window") or model.facts_["image_size"]) // 2


def pixel_area(data: Any, inputs: str, *, seed: int = 0) -> Applicability:
    """The area of applicability of at most `TRAINING_PIXELS` labelled training pixels of the budget, drawn from all its patches.

    Chips are the folds, and all bands weigh the same.

    Args:
        data: The data module.
        inputs: `alphaearth` takes the embedding, anything else the bands of all dates.
        seed: Of the pixels drawn.
    """
    generator = np.random.default_rng(seed)
    picked: list[NDArray[np.float32]] = []
    units: list[str] = []
    loader = data.train_dataloader()
    share = -(-TRAINING_PIXELS // max(len(loader.dataset), 1))
    for batch in loader:
        values = predictors({name: batch[name].numpy() for name in ("image", "embedding") if name in batch}, inputs)
        for row, unit in enumerate(batch["unit_id"]):
            flat = values[row].reshape(values.shape[1], -1)
            usable = np.flatnonzero((batch["mask"][row].numpy().ravel() >= 0) & np.isfinite(flat).all(axis=0))
            chosen = generator.choice(usable, min(share, len(usable)), replace=False) if len(usable) else usable
            picked.append(flat[:, chosen].T)
            units += [str(unit)] * len(chosen)
    X, folds = np.concatenate(picked), np.array(units, dtype=object)
    if len(X) > TRAINING_PIXELS:
        # A whole share of every patch is a few too many.
        kept = np.sort(generator.choice(len(X), TRAINING_PIXELS, replace=False))
        X, folds = X[kept], folds[kept]
    return Applicability.fit(X, folds=folds, seed=seed)
