"""The map: a cell is trained and drawn over an area, with its confidence, its area of applicability and what accuracy to expect.

Maps are computed block by block, so the memory needed does not grow with the area.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.map_files import MapWriter, gdal_limits, write_preview
from rs05bench.experiment.map_grid import EmbeddingBlocks, LayerBlocks, blocks_of, grid_for_years, grid_record, in_crs, inside_area, part_of
from rs05bench.models.applicability import Applicability, permutation_importance
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.splits import Split
from rs05bench.protocol.taskdata import TaskData, TaskSource

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from rs05bench.embeddings import EmbeddingProduct, TileIndex

ALL_LABELS = "all"
IMPORTANCE_UNITS = 2_000
"""Importance is measured on at most this many labelled units, drawn by the seed."""

Progress = Callable[[int, int], None]


@dataclass
class MapResult:
    """What was written, and what it says.

    Attributes:
        out: The folder.
        files: Year (or image) -> name -> file.
        record: Everything the report says, as plain data (`map.json`).
    """

    out: Path
    files: dict[str, dict[str, Path]]
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A fitted model with what a map of it needs.

    Attributes:
        model: The model.
        data: What it was trained on.
        columns: Its feature columns, in order.
        features: The feature set.
        area: Its area of applicability.
        importance: Weight of each column in it.
        folds: What was left out together when the area was drawn.
        product: The embedding it reads.
    """

    model: Any
    data: TaskData
    columns: list[str]
    features: str
    area: Applicability
    folds: str
    product: EmbeddingProduct


def all_labels(source: TaskSource, target: str | None = None, seed: int = 0) -> TaskData:
    """Every labelled unit of a task for a map: whole blocks of them validate (tuning, intervals), the rest trains, none is tested.

    Args:
        source: The data.
        target: Which target; default the card's first.
        seed: Seed.
    """
    return TaskData.build(source, everything(source), ALL_LABELS, "full", seed, target=target)


def everything(source: TaskSource) -> SplitManifest:
    """A manifest of one fold, `all`, without test units: a share of whole blocks validates, what is left trains."""
    import pandas as pd

    from rs05bench.protocol.ground import lay_ground

    units, options = source.units(), source.card.split_options
    ground = lay_ground(units, options.region, options)
    # A region that is one block spares none of it for validation.
    val = ground.draw(np.ones(len(units.frame), dtype=bool), options.val_fraction, "val")
    region, block = ground.region, ground.block
    table = pd.DataFrame(
        {
            "fold": ALL_LABELS,
            "unit_id": units.frame["unit_id"].to_numpy(),
            "role": np.where(val, "val", "train"),
            "shift": "none",
            "region": region,
            "block": block,
        }
    )
    keep = ["unit_id", "lon", "lat", "place", "year", "time", *units.groups]
    record = {"digest": "", "can_be_main": False, "simulated": source.card.simulated}
    return SplitManifest(source.card.name, Split("spatial-block"), table, units.frame[keep].copy(), record)


def train(
    name: str,
    data: TaskData,
    manifest: SplitManifest,
    of: EmbeddingProduct,
    *,
    layers: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Trained:
    """Fits a model for a map and draws its area of applicability.

    Args:
        name: The model.
        data: What it may see.
        manifest: Where `data` come from; its blocks are the folds of the area of applicability.
        of: The embedding that the map is drawn from.
        layers: Further columns that there are rasters for.
        options: Options of the model.

    Raises:
        DataError: A column of its features is in no raster.
        ProtocolError: The model cannot predict arrays, or no one can do what it asks.
    """
    from rs05bench import models

    model: Any = models.create(name, card=data.card, seed=data.seed, **dict(options or {}))
    features = str(getattr(model, "features", model.card.inputs))
    if not hasattr(model, "predict_array"):
        raise ProtocolError(
            f"{name} cannot draw a map: it has no predict_array(X), so it predicts units of a table and not pixels",
            remedy="Use a shallow model, or a model for chips with --images; an outside model may add predict_array.",
        )
    columns = data.columns(features)
    _refuse_absent(name, features, columns, layers, of)
    model.fit(data)
    X, y = data.X("train", features), data.y("train")
    rows = manifest.fold(data.fold).set_index("unit_id")["block"].astype(str)
    blocks = rows.reindex(data.unit_ids("train")).to_numpy(dtype=object)
    both = np.concatenate([X, data.X("val", features)]), np.concatenate([y, data.y("val")])
    weights = _importance(model, *both, seed=data.seed)
    area = Applicability.fit(X, folds=blocks, weights=weights, seed=data.seed)
    folds = "spatial blocks" if len(set(blocks)) > 1 else "single units"
    return Trained(model, data, columns, features, area, folds, of)


def _refuse_absent(name: str, features: str, columns: Sequence[str], layers: Sequence[str], of: EmbeddingProduct) -> None:
    absent = [column for column in columns if of.component(column) is None and column not in layers]
    if absent:
        shown = ", ".join(absent[:8]) + (f", … ({len(absent)} in all)" if len(absent) > 8 else "")
        raise DataError(
            f"{name} reads the feature set {features!r}, of which no raster holds: {shown}",
            remedy=f"Use {of.family}/<learner> (tiles hold {of.bands[0]} to {of.bands[-1]}), or give each further column as a raster: "
            "--layer COLUMN=FILE.",
        )


def _importance(model: Any, X: NDArray[np.float32], y: NDArray[Any], *, seed: int) -> NDArray[np.float64]:
    from rs05bench.models.tuning import brier

    if len(X) > IMPORTANCE_UNITS:
        chosen = np.random.default_rng(seed).choice(len(X), IMPORTANCE_UNITS, replace=False)
        X, y = X[chosen], y[chosen]

    def loss(out: Any, labels: Any) -> float:
        return brier(out, labels) if model.kind_ == "classification" else float(np.mean((out - labels) ** 2))

    return permutation_importance(model.predict_array, X, y, loss, seed=seed)


def draw(
    trained: Trained,
    index: TileIndex,
    area: BaseGeometry,
    years: Sequence[int],
    out: str | Path,
    *,
    layers: Mapping[str, str | Path] | None = None,
    on_progress: Progress | None = None,
) -> MapResult:
    """Draws a trained model over an area, a folder a year.

    Args:
        trained: From `train`.
        index: Tiles of the embedding.
        area: Where, in WGS84 degrees.
        years: Years; the grid is that of the first.
        out: Folder.
        layers: Column -> raster, for columns that are no embedding band.
        on_progress: Called with blocks done and blocks in all.

    Returns:
        Files and counts; the report is written by `rs05bench.experiment.map_report.write_report`.

    Raises:
        DataError: No tile meets the area in one of the years.
    """
    target = grid_for_years(index, area, years)
    here = in_crs(area, target.crs)
    blocks = list(blocks_of(target.height, target.width))
    files: dict[str, dict[str, Path]] = {}
    counts: dict[str, dict[str, Any]] = {}
    done = 0
    opened = {column: LayerBlocks(path, column) for column, path in (layers or {}).items() if column in trained.columns}
    try:
        for year in years:
            stack = EmbeddingBlocks(index, target, year)
            planes, tags = _layers_of(trained), _tags(trained, year)
            with (
                gdal_limits(),
                MapWriter(Path(out) / str(year), target, planes, trained.area, classes=names_of(trained.data), tags=tags) as writer,
            ):
                for row, column, height, width in blocks:
                    part = part_of(target, row, column, height, width)
                    wanted = inside_area(here, part)
                    if wanted.any():
                        embedding = stack.read(part)
                        extra = {name: layer.read(part) for name, layer in opened.items()}
                        writer.add(predict_block(trained, embedding, extra, wanted), row, column)
                    done += 1
                    if on_progress is not None:
                        on_progress(done, len(blocks) * len(years))
            files[str(year)], counts[str(year)] = writer.files, writer.counts()
    finally:
        for layer in opened.values():
            layer.close()
    _previews(trained, files)
    return MapResult(Path(out), files, {"grid": grid_record(target), "years": counts, "tiles": index.description})


def predict_block(
    trained: Trained, embedding: NDArray[np.float32], extra: Mapping[str, NDArray[np.float32]], wanted: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    """Predictions of the wanted pixels of a block.

    Args:
        trained: The model.
        embedding: (dimensions, h, w).
        extra: Further columns, (h, w) each.
        wanted: Which pixels, (h, w).

    Returns:
        `class` or `value`, `confidence` or `half_width90`, `dissimilarity`; (h, w) each, NaN where there is no prediction.
    """
    height, width = wanted.shape
    numbers = [(column, trained.product.component(column)) for column in trained.columns]
    planes = [extra[column] if number is None else embedding[number] for column, number in numbers]
    usable = wanted & ~np.isnan(embedding[0])
    X = np.stack([plane[usable] for plane in planes], axis=1)
    # Masked pixels of a further layer cannot be told from missing values of the training table: they are left out.
    complete = np.isfinite(X).all(axis=1)
    X = np.ascontiguousarray(X[complete])
    place = np.flatnonzero(usable)[complete]
    out = {name: np.full(height * width, np.nan, dtype=np.float32) for name in _layers_of(trained)}
    if len(X):
        predicted = trained.model.predict_array(X)
        if trained.model.kind_ == "classification":
            out["class"][place], out["confidence"][place] = predicted.argmax(axis=1), predicted.max(axis=1)
        else:
            out["value"][place] = predicted
            if "half_width90" in out:
                out["half_width90"][place] = trained.model.radius_
        out["dissimilarity"][place] = trained.area.dissimilarity(X)
    return {name: plane.reshape(height, width) for name, plane in out.items()}


def _layers_of(trained: Trained) -> list[str]:
    if trained.model.kind_ == "classification":
        return ["class", "confidence", "dissimilarity"]
    radius = getattr(trained.model, "radius_", None)
    return ["value", *(["half_width90"] if radius is not None else []), "dissimilarity"]


def _tags(trained: Trained, year: int) -> dict[str, str]:
    return {
        "TASK": trained.data.card.name,
        "TARGET": trained.data.target,
        "MODEL": trained.model.card.name,
        "YEAR": str(year),
        "PRODUCT": trained.product.name,
        "ATTRIBUTION": trained.product.attribution,
        "SOFTWARE": "rs05bench",
        **({"SIMULATED": "yes"} if trained.data.card.simulated else {}),
    }


def names_of(data: Any) -> list[str] | None:
    """Names of the classes as people read them, None for numbers."""
    if data.classes is None:
        return None
    names = data.card.class_names
    return [str(value) for value in (names if names and len(names) == len(data.classes) else data.classes)]


def _previews(trained: Trained, files: dict[str, dict[str, Path]]) -> None:
    data = trained.data
    for year, named in files.items():
        named["preview"] = write_preview(
            next(iter(named.values())).parent / "preview.png",
            named,
            title=f"{data.card.title or data.card.name}, {year} ({trained.model.card.name})",
            classes=names_of(data),
            unit=data.target,
            simulated=data.card.simulated,
        )
