"""Baselines of a chip task without any network: learners on single pixels, on statistics of the image, on the place alone, and floors.

A network on chips has to beat them: per-pixel learners see colours and no texture, statistics see the image as a whole and no pixel, the
place sees no image at all. They learn from the same pixels as the shallow learners on frozen encoders do, with the same grid.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rs05bench.errors import ProtocolError
from rs05bench.models.backbones.bands import named_bands
from rs05bench.models.chip_facts import ChipFacts
from rs05bench.models.chip_model import ChipPredictions
from rs05bench.models.floor import neighbours, on_sphere
from rs05bench.models.learners import Floats
from rs05bench.models.pixel_learner import Learnt, learn, pixel_rows
from rs05bench.models.place import PLACE_ENCODERS, encode_place
from rs05bench.models.plan import IGNORE
from rs05bench.models.scratch import InputStack, spectral_indices
from rs05bench.models.sliding_windows import Window, window_starts
from rs05bench.models.tuning import NEAREST, Choice
from rs05bench.protocol.cell_record import TrainingRecord
from rs05bench.protocol.feature_sets import content_of_column

if TYPE_CHECKING:
    from rs05bench.models.plan import ChipData
    from rs05bench.protocol import ModelCard

Batch = Mapping[str, Any]
Read = Callable[[Window], dict[str, NDArray[Any]]]
_PORTION = 1 << 16
"""Pixels predicted at once."""


class ChipBaseline(abc.ABC):
    """Base: fits on a chip view, and predicts chips one by one.

    Args:
        card: What is known of the model before it is fitted.
        seed: Seed of everything random in it.
    """

    def __init__(self, *, card: ModelCard, seed: int = 0) -> None:
        self.card, self.seed = card, seed

    def fit(self, data: ChipData) -> Self:
        """Learns from the labelled pixels of the budget.

        Raises:
            ProtocolError: The learner cannot do a segmentation, or no label is there to learn from.
        """
        view = data.view
        self.classes_: tuple[str, ...] = tuple(view.classes or ())
        self._learn(view)
        return self

    def predict(self, data: ChipData, role: str) -> ChipPredictions:
        """Predictions of every chip of a role, made while they are read.

        Raises:
            ProtocolError: It was not fitted.
        """
        if not hasattr(self, "classes_"):
            raise ProtocolError(f"{self.card.name} was asked to predict before it was fitted", remedy="Call fit(data) first.")
        return ChipPredictions(self, data, role, self.classes_)

    def predict_chips(self, data: ChipData, role: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield each unit's id and its probabilities (K, H, W)."""
        for batch in data.view.predict_dataloader(role):
            for at, unit in enumerate(batch["unit_id"]):
                chip = {name: value[at : at + 1] for name, value in batch.items() if isinstance(value, Tensor)}
                yield str(unit), self._probabilities(chip)

    @abc.abstractmethod
    def _learn(self, view: ChipData) -> None:
        """Learn from the labelled pixels of the budget."""

    @abc.abstractmethod
    def _probabilities(self, chip: Batch) -> NDArray[np.float32]:
        """(K, H, W) of a batch of one whole chip."""


class PixelBaseline(ChipBaseline):
    """A shallow learner on what is known of a place: `harmonics/logistic`.

    Attributes:
        learnt_: The learner, and the tuning entry taken and why.
    """

    def _learn(self, view: ChipData) -> None:
        inputs = self.card.inputs if self.card.tier != "floor" else self.card.name.partition("/")[0]
        self._maps = source_of(inputs, view)
        # Statistics are those of a window of the size that training shows.
        self._window = ChipFacts.of(view).image_size if inputs == "statistics" else None
        train, val = (pixel_rows(loader or (), self._maps, self.seed) for loader in (view.train_dataloader(), view.val_dataloader()))
        self.learnt_: Learnt = learn(
            self.card.name,
            self.card.learner,
            "classification",
            len(self.classes_),
            train=train,
            val=val,
            seed=self.seed,
            impute=True,
        )
        count = self.learnt_.fitted.count()
        known: dict[str, Any] = {"parameters_trainable": count, "parameters_total": count}
        if self.card.tier == "raw":
            known["content"] = sorted({content_of_column(str(band)) for band in view.bands})
        self.card = self.card.model_copy(update=known)

    @property
    def training_record(self) -> TrainingRecord:
        """What was tuned and how; empty before the fit."""
        return self.learnt_.record() if hasattr(self, "learnt_") else TrainingRecord()

    def _probabilities(self, chip: Batch) -> NDArray[np.float32]:
        height, width = chip["image"].shape[-2:]
        out = np.empty((len(self.classes_), height, width), np.float32)
        tall, wide = self._window or height, self._window or width
        for top in window_starts(height, tall, tall):
            for left in window_starts(width, wide, wide):
                rows, columns = slice(top, top + tall), slice(left, left + wide)
                part = {name: value[..., rows, columns] if value.ndim > 3 else value for name, value in chip.items()}
                maps = self._maps(part)[0].numpy()
                features = maps.reshape(len(maps), -1).T
                found = [self.learnt_.predict(features[start : start + _PORTION]) for start in range(0, len(features), _PORTION)]
                # Where a map is one value, that holds for every pixel of the window.
                out[:, rows, columns] = np.concatenate(found).T.reshape(-1, *maps.shape[1:])
        return out


class ScenePixels(PixelBaseline):
    """A shallow learner on what an image or an embedding shows of each pixel: `raw/logistic`, `statistics/rf`; it draws scenes too.

    Attributes:
        context: Pixels it should see around what is drawn: none.
    """

    context = 0

    def predict_scene(self, read: Read, height: int, width: int, *, block: int) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Blocks of a scene with their probabilities (K, h, w).

        Args:
            read: Gives the arrays of a window by their batch names, without the batch axis.
            height: Rows of the scene.
            width: Columns.
            block: Side of an output block, rounded down to whole windows of image statistics.
        """
        block = max(block // self._window, 1) * self._window if self._window else block
        for top in range(0, height, block):
            for left in range(0, width, block):
                window = Window(top, left, min(block, height - top), min(block, width - left))
                yield window, self._probabilities({name: torch.from_numpy(value)[None] for name, value in read(window).items()})


class ChipMajority(ChipBaseline):
    """`floor/majority` on chips: the class frequencies of the labelled training pixels, everywhere."""

    def _learn(self, view: ChipData) -> None:
        counts = sum(_class_pixels(view.train_dataloader(), len(self.classes_)).values(), np.zeros(len(self.classes_)))
        if counts.sum() == 0:
            raise ProtocolError(f"{self.card.name}: no label to learn from in this budget", remedy="Use a larger budget.")
        self._shares = counts / counts.sum()

    def _probabilities(self, chip: Batch) -> NDArray[np.float32]:
        return _everywhere(self._shares, chip)


class ChipNearest(ChipBaseline):
    """`floor/nearest` on chips: the class frequencies of the k nearest labelled chips, great-circle; k is tuned on the validation pixels.

    Attributes:
        choice_: The k taken and why.
    """

    def _learn(self, view: ChipData) -> None:
        where: dict[str, Floats] = {}
        train, val = (
            {unit: counts for unit, counts in _class_pixels(loader or (), len(self.classes_), where).items() if counts.sum()}
            for loader in (view.train_dataloader(), view.val_dataloader())
        )
        if not train:
            raise ProtocolError(f"{self.card.name}: no label to learn from in this budget", remedy="Use a larger budget.")
        self._sphere = on_sphere(np.array([where[unit] for unit in train]))
        self._shares = np.array([counts / counts.sum() for counts in train.values()])
        grid = NEAREST
        self.choice_ = Choice(0, dict(grid[0]), [], "the budget has no validation label: the first entry of the grid was taken")
        if val:
            points, labels = on_sphere(np.array([where[unit] for unit in val])), np.array(list(val.values()))
            losses = []
            for entry in grid:
                guess = self._around(points, entry["k"])
                # The Brier score of all pixels of a chip that are guessed alike.
                chips = (guess**2).sum(axis=1) + 1.0 - 2.0 * (guess * labels).sum(axis=1) / labels.sum(axis=1)
                losses.append(float((chips * labels.sum(axis=1)).sum() / labels.sum()))
            best = int(np.argmin(losses))
            why = f"least validation loss of {len(grid)} entries over {len(val)} chips"
            self.choice_ = Choice(best, dict(grid[best]), losses, why)

    @property
    def training_record(self) -> TrainingRecord:
        """The k that was taken, and why; empty before the fit."""
        if not hasattr(self, "choice_"):
            return TrainingRecord()
        return self.choice_.record(NEAREST)

    def _around(self, points: Floats, k: int) -> Floats:
        return np.asarray(self._shares[neighbours(self._sphere, points, k)].mean(axis=1))

    def _probabilities(self, chip: Batch) -> NDArray[np.float32]:
        return _everywhere(self._around(on_sphere(_lonlat(chip)), self.choice_.parameters["k"])[0], chip)


FLOORS: dict[str, type[ChipBaseline]] = {"majority": ChipMajority, "nearest": ChipNearest}


def chip_baseline(card: ModelCard, seed: int) -> ChipBaseline:
    """The baseline of a card, not yet fitted."""
    if card.name.startswith("floor/"):
        return FLOORS[card.learner](card=card, seed=seed)
    return (PixelBaseline if card.name.partition("/")[0] in PLACE_ENCODERS else ScenePixels)(card=card, seed=seed)


def source_of(inputs: str, data: ChipData) -> Callable[[Batch], Tensor]:
    """What gives the feature maps (B, d, h, w) of a batch: one value a pixel, or one for the whole image.

    Args:
        inputs: `raw` (bands of all dates as reflectance, and the indices they allow), `hybrid`, a family of embedding products,
            `statistics` (mean, standard deviation, minimum and maximum of each band over the image), or a place encoder.
        data: Says bands, scale and the embedding's product.
    """
    if inputs in PLACE_ENCODERS:
        return partial(_place, inputs)
    if inputs == "statistics":
        return partial(_statistics, float(data.scale))
    stack = InputStack(inputs, data.bands, data.scale, data.view.embedding_product)
    return partial(_colours, stack, named_bands(data.bands)) if inputs == "raw" else stack


def _colours(stack: InputStack, bands: tuple[str, ...], batch: Batch) -> Tensor:
    image = batch["image"].float() / stack.scale
    indices = spectral_indices(image if image.ndim == 5 else image.unsqueeze(1), bands)
    return torch.cat([stack(batch), *indices], dim=1)


def _statistics(scale: float, batch: Batch) -> Tensor:
    image = batch["image"].float() / scale
    image = image.flatten(1, 2) if image.ndim == 5 else image
    values = image.flatten(2).numpy()
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=2), 1)
    mean = np.where(known, values, 0.0).sum(axis=2) / count
    deviation = np.sqrt((np.where(known, values - mean[..., None], 0.0) ** 2).sum(axis=2) / count)
    low, high = np.where(known, values, np.inf).min(axis=2), np.where(known, values, -np.inf).max(axis=2)
    found = np.concatenate([mean, deviation, low, high], axis=1)
    found[np.tile(~known.any(axis=2), 4)] = np.nan
    return torch.from_numpy(found.astype(np.float32))[..., None, None]


def _place(encoder: str, batch: Batch) -> Tensor:
    return torch.from_numpy(encode_place(encoder, _lonlat(batch)))[..., None, None]


def _lonlat(batch: Batch) -> Floats:
    """Degrees east and north of the chips of a batch, (n, 2)."""
    return np.asarray(batch["location"].double().numpy()[:, ::-1])


def _class_pixels(loader: Any, classes: int, where: dict[str, Floats] | None = None) -> dict[str, NDArray[np.float64]]:
    """Labelled pixels of each class by chip, in the order of their names; `where` is given the positions (longitude, latitude)."""
    found: dict[str, NDArray[np.float64]] = {}
    for batch in loader:
        for unit, mask, lonlat in zip(batch["unit_id"], batch["mask"].numpy(), _lonlat(batch), strict=True):
            found[str(unit)] = found.get(str(unit), np.zeros(classes)) + np.bincount(mask[mask != IGNORE], minlength=classes)
            if where is not None:
                where[str(unit)] = lonlat
    return dict(sorted(found.items()))


def _everywhere(shares: Floats, chip: Batch) -> NDArray[np.float32]:
    """The same probabilities in every pixel of a chip."""
    return np.broadcast_to(shares.astype(np.float32)[:, None, None], (len(shares), *chip["image"].shape[-2:]))
