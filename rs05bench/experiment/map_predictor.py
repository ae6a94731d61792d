"""Models that draw a map: a learner on the columns of each pixel, or a network that slides over a scene.

Both give the same planes block by block: `class` or `value`, `confidence` or `half_width90`, and `dissimilarity` to the training data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.map_frame import blocks_of
from rs05bench.experiment.map_notes import CONFIDENCE, notes_of_years
from rs05bench.models.applicability import Applicability, permutation_importance

if TYPE_CHECKING:
    from rs05bench.datamodules.chip_view import ChipView
    from rs05bench.embeddings import EmbeddingProduct
    from rs05bench.experiment.map_model import SceneModel
    from rs05bench.experiment.map_scene import Scene
    from rs05bench.models.sliding_windows import Window
    from rs05bench.protocol.manifest import SplitManifest
    from rs05bench.protocol.result import Model, ModelCard
    from rs05bench.protocol.taskdata import TaskData, TaskView

IMPORTANCE_UNITS = 2_000
"""Importance is measured on at most this many labelled units, drawn by the seed."""
TRAINING_PIXELS = 2_000
"""Labelled training pixels that a network's area of applicability is drawn from: every pixel of a map is compared with each of them."""
NETWORK_BLOCK = 512
"""Side of the blocks that a network predicts at once."""
_BY_PIXEL = "Of a network this means single pixels: whether it has seen such spectra, not such shapes. All bands weigh the same."

Planes = dict[str, NDArray[np.float32]]


class Predictor(Protocol):
    """What a map asks of a fitted model.

    Attributes:
        card: The card of the fitted model.
        data: What it was trained on.
        area: Its area of applicability.
    """

    @property
    def card(self) -> ModelCard:
        """The card of the fitted model."""

    @property
    def data(self) -> TaskData | ChipView:
        """What it was trained on."""

    @property
    def area(self) -> Applicability:
        """Its area of applicability."""

    @property
    def planes(self) -> list[str]:
        """Names of the planes of a block."""

    def blocks(self, scene: Scene) -> Iterator[tuple[Window, Planes | None]]:
        """The blocks of a scene in pixels of what is drawn, NaN where there is no prediction; None where nothing of a block is wanted."""

    def count_blocks(self, scene: Scene) -> int:
        """How many blocks `blocks` gives."""

    def applicability(self) -> dict[str, Any]:
        """The area of applicability as plain data, for the report."""

    def notes(self, years: Sequence[int]) -> list[str]:
        """What a reader should know of the model before a map of these years is used."""


@runtime_checkable
class PixelModel(Protocol):
    """A model of tables that predicts arrays: `predict_array` gives probabilities (n, classes) or values (n,) of features (n, d)."""

    @property
    def card(self) -> ModelCard:
        """What it is."""

    def fit(self, data: TaskData, /) -> PixelModel:
        """Learns from a view."""

    def predict_array(self, X: NDArray[np.float32], /) -> NDArray[np.floating[Any]]:
        """Predictions of rows of features."""


@runtime_checkable
class NamesFeatures(Protocol):
    """A model of tables that says which feature set it reads; one that does not reads its card's `inputs`."""

    features: str


@runtime_checkable
class GivesRadius(Protocol):
    """A fitted regression with an interval."""

    radius_: float | None


@dataclass(frozen=True)
class PixelPredictor:
    """A learner of tables: each pixel is a row.

    Attributes:
        model: The model.
        data: What it was trained on.
        area: Its area of applicability.
        columns: Its feature columns, in order.
        folds: What was left out together when the area was drawn.
    """

    model: PixelModel
    data: TaskData
    area: Applicability
    columns: list[str]
    folds: str

    @property
    def card(self) -> ModelCard:
        """The card of the fitted model."""
        return self.model.card

    @property
    def planes(self) -> list[str]:
        """Names of the planes of a block."""
        if self.data.classes is not None:
            return ["class", "confidence", "dissimilarity"]
        return ["value", *([] if radius_of(self.model) is None else ["half_width90"]), "dissimilarity"]

    def count_blocks(self, scene: Scene) -> int:
        """How many blocks `blocks` gives."""
        return sum(1 for _ in blocks_of(scene.frame.grid.height, scene.frame.grid.width))

    def blocks(self, scene: Scene) -> Iterator[tuple[Window, Planes | None]]:
        """Predictions of the wanted pixels, block by block."""
        for window in blocks_of(scene.frame.grid.height, scene.frame.grid.width):
            wanted = scene.frame.wanted(window)
            yield window, self._predicted(scene.columns(window, self.columns), wanted) if wanted.any() else None

    def _predicted(self, values: NDArray[np.float32], wanted: NDArray[np.bool_]) -> Planes:
        # A masked pixel of a layer looks like a missing value of the training table: it is left out.
        usable = wanted & np.isfinite(values).all(axis=0)
        planes = {name: np.full(wanted.shape, np.nan, dtype=np.float32) for name in self.planes}
        if not usable.any():
            return planes
        X = np.ascontiguousarray(values[:, usable].T)
        predicted = self.model.predict_array(X)
        if self.data.classes is not None:
            planes["class"][usable], planes["confidence"][usable] = predicted.argmax(axis=1), predicted.max(axis=1)
        else:
            planes["value"][usable] = predicted
            if "half_width90" in planes:
                planes["half_width90"][usable] = radius_of(self.model)
        planes["dissimilarity"][usable] = self.area.dissimilarity(X)
        return planes

    def applicability(self) -> dict[str, Any]:
        """The area of applicability as plain data, with the weight of each column."""
        weights = self.area.weights
        order = np.argsort(-weights, kind="stable")[:5]
        return {
            **_area_record(self.area, self.folds),
            "top": [self.columns[column] for column in order],
            "weights": dict(zip(self.columns, weights.round(4).tolist(), strict=True)),
        }

    def notes(self, years: Sequence[int]) -> list[str]:
        """See `Predictor.notes`."""
        notes = notes_of_years({int(year) for role in ("train", "val") for year in self.data.years(role) if year == year}, years)
        notes.append(
            "If a label describes an area (a parcel, a county), the model learnt from averages and is applied to single pixels of 10 m."
        )
        if self.data.classes is not None:
            return [*notes, CONFIDENCE]
        if radius_of(self.model) is None:
            return [*notes, "No interval: too few validation labels for one at 90 %."]
        return [
            *notes,
            "The interval is split-conformal: its width is the same everywhere; it holds on average, over places like the validation's.",
        ]


@dataclass(frozen=True)
class NetworkPredictor:
    """A model of chips: it slides over a scene, and overlapping windows are averaged.

    Attributes:
        model: A fitted model.
        data: The view it was trained on.
        area: From `pixel_area`.
        block: Side of the blocks that are predicted at once.
    """

    model: SceneModel
    data: ChipView
    area: Applicability
    block: int = NETWORK_BLOCK

    @property
    def card(self) -> ModelCard:
        """The card of the fitted model."""
        return self.model.card

    @property
    def planes(self) -> list[str]:
        """Names of the planes of a block."""
        return ["class", "confidence", "dissimilarity"]

    def count_blocks(self, scene: Scene) -> int:
        """How many blocks `blocks` gives."""
        return -(-scene.frame.grid.height // self.block) * -(-scene.frame.grid.width // self.block)

    def blocks(self, scene: Scene) -> Iterator[tuple[Window, Planes | None]]:
        """Predictions of the wanted pixels, block by block."""
        from rs05bench.models.sliding_windows import Window

        frame, grid = scene.frame, scene.frame.grid
        for window, probabilities in self.model.predict_scene(scene.batch, grid.height, grid.width, block=self.block):
            here = frame.shared(window)
            if here is None:
                yield window, None
                continue
            X = scene.predictors(here)
            # A pixel without any image is not predicted; one that lacks some dates is, and no distance can be given.
            seen = np.isfinite(X).any(axis=0) & frame.wanted(here)
            drawn = Window(here.row - frame.drawn.row, here.column - frame.drawn.column, here.height, here.width)
            if not seen.any():
                yield drawn, None
                continue
            top, left = here.row - window.row, here.column - window.column
            shown = probabilities[:, top : top + here.height, left : left + here.width]
            planes = {name: np.full(seen.shape, np.nan, dtype=np.float32) for name in self.planes}
            planes["class"][seen] = shown.argmax(axis=0)[seen]
            planes["confidence"][seen] = shown.max(axis=0)[seen]
            planes["dissimilarity"][seen] = self.area.dissimilarity(X[:, seen].T)
            yield drawn, planes

    def applicability(self) -> dict[str, Any]:
        """The area of applicability as plain data."""
        return {**_area_record(self.area, "chips"), "notes": [_BY_PIXEL]}

    def notes(self, years: Sequence[int]) -> list[str]:
        """See `Predictor.notes`."""
        units = self.data.manifest.units.set_index("unit_id")["year"]
        seen = units.reindex([*self.data.unit_ids("train"), *self.data.unit_ids("val")]).dropna()
        offset = self.data.card.preprocessing.embedding_year_offset
        return [*notes_of_years({int(year) + offset for year in seen}, years), CONFIDENCE]


def radius_of(model: PixelModel) -> float | None:
    """Half the width of a model's 90 % interval; None where it gives none (an outside model need not)."""
    return model.radius_ if isinstance(model, GivesRadius) else None


def train_on_pixels(
    model: Model[TaskView], data: TaskData, manifest: SplitManifest, products: Sequence[EmbeddingProduct], layers: Sequence[str] = ()
) -> PixelPredictor:
    """Fits a model of tables for a map and draws its area of applicability.

    Args:
        model: From `rs05bench.models.create`.
        data: What it may see.
        manifest: Where `data` come from; its blocks are the folds of the area of applicability.
        products: The embeddings that the map is drawn from.
        layers: Further columns that there are rasters for.

    Raises:
        DataError: A column of its features is in no raster, or no column is that of a layer.
        ProtocolError: The model cannot predict arrays.
    """
    features, name = features_of(model), model.card.name
    if not isinstance(model, PixelModel):
        raise ProtocolError(
            f"{name} cannot draw a map: it has no predict_array(X), so it predicts units of a table and not pixels",
            remedy="Use a shallow model, or a model for chips with --images; an outside model may add predict_array.",
        )
    columns = data.columns(features)
    absent = [column for column in columns if column not in layers and all(of.component(column) is None for of in products)]
    if absent:
        shown = ", ".join(absent[:8]) + (f", … ({len(absent)} in all)" if len(absent) > 8 else "")
        held = ", ".join(f"{of.name} holds {of.bands[0]} to {of.bands[-1]}" for of in products)
        raise DataError(
            f"{name} reads the feature set {features!r}, of which no raster holds: {shown}",
            remedy=f"Use a model of what the tiles hold ({held}), or give each further column as a raster: --layer COLUMN=FILE.",
        )
    if unread := sorted(set(layers) - set(columns)):
        raise DataError(f"{name} reads no column {', '.join(unread)}", remedy="Leave out its --layer.")
    model.fit(data)
    X, y = data.X("train", features), data.y("train")
    rows = manifest.fold(data.fold).set_index("unit_id")["block"].astype(str)
    blocks = rows.reindex(data.unit_ids("train")).to_numpy(dtype=object)
    both = np.concatenate([X, data.X("val", features)]), np.concatenate([y, data.y("val")])
    weights = _importance(model, *both, classes=data.classes is not None, seed=data.seed)
    area = Applicability.fit(X, folds=blocks, weights=weights, seed=data.seed)
    return PixelPredictor(model, data, area, columns, "spatial blocks" if len(set(blocks)) > 1 else "single units")


def features_of(model: Model[TaskView]) -> str:
    """The feature set that a model of tables reads; an outside model may leave it to its card."""
    return model.features if isinstance(model, NamesFeatures) else model.card.inputs


def _importance(model: PixelModel, X: NDArray[np.float32], y: NDArray[Any], *, classes: bool, seed: int) -> NDArray[np.float64]:
    from rs05bench.models.tuning import brier

    if len(X) > IMPORTANCE_UNITS:
        chosen = np.random.default_rng(seed).choice(len(X), IMPORTANCE_UNITS, replace=False)
        X, y = X[chosen], y[chosen]

    def loss(out: Any, labels: Any) -> float:
        return brier(out, labels) if classes else float(np.mean((out - labels) ** 2))

    return permutation_importance(model.predict_array, X, y, loss, seed=seed)


def pixel_area(data: ChipView, inputs: str, *, seed: int = 0) -> Applicability:
    """The area of applicability of at most `TRAINING_PIXELS` labelled training pixels of the budget, drawn from all its patches.

    Chips are the folds, and all bands weigh the same.

    Args:
        data: What the network was trained on.
        inputs: What it reads.
        seed: Of the pixels drawn.
    """
    from rs05bench.experiment.map_scene import NetworkReads

    reads_image = NetworkReads.of("", inputs).image
    generator = np.random.default_rng(seed)
    picked: list[NDArray[np.float32]] = []
    units: list[str] = []
    loader = data.train_dataloader()
    share = -(-TRAINING_PIXELS // max(len(loader.dataset), 1))
    for batch in loader:
        values = _predictors({name: batch[name].numpy() for name in ("image", "embedding") if name in batch}, reads_image)
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


def _predictors(arrays: Mapping[str, NDArray[Any]], reads_image: bool) -> NDArray[np.float32]:
    """What the area is measured in, (n, d, h, w): all bands of all dates of a batch, else its decoded embedding. See `Scene.predictors`."""
    from rs05bench.embeddings import decode

    if not reads_image:
        values = arrays["embedding"]
        return decode(values) if values.dtype == np.int8 else np.asarray(values, dtype=np.float32)
    image = arrays["image"]
    return np.asarray(image.reshape(len(image), -1, *image.shape[-2:]), dtype=np.float32)


def _area_record(area: Applicability, folds: str) -> dict[str, Any]:
    return {
        "threshold": area.threshold,
        "folds": folds,
        "predictors": len(area.weights),
        "training_points": len(area.points),
        "mean_distance": area.mean_distance,
    }
