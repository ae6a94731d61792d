"""`rs05bench map` in one call: card or cell, model, place and years in; maps and their record out.

One pipeline for tables and chips: what a map is drawn from (`map_scene`), a fitted model (`map_predictor`), the files (`map_draw`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.errors import DataError, ProtocolError
from rs05bench.experiment.cell import make_bench
from rs05bench.experiment.map_draw import MapResult, Progress, draw
from rs05bench.experiment.map_frame import Frame, tile_frame
from rs05bench.experiment.map_predictor import NetworkPredictor, PixelPredictor, Predictor, features_of, pixel_area, train_on_pixels
from rs05bench.experiment.map_scene import ImageRequest, NetworkReads, RasterLayer, Scene, image_scenes
from rs05bench.models.place import split_places
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.splits import Split
from rs05bench.protocol.taskdata import TaskData, TaskSource

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from rs05bench.embeddings import EmbeddingProduct, EmbeddingReader
    from rs05bench.experiment.map_cell import KeptCell
    from rs05bench.protocol.result import Model
    from rs05bench.protocol.taskdata import TaskView

ALL_LABELS = "all"
AROUND_DEGREES = 0.1
"""How far around the area tiles are listed: a network sees what is around it."""


@dataclass(frozen=True)
class MapRequest:
    """What is to be mapped.

    Attributes:
        card: The task.
        data: Its data directory.
        model: The model's name.
        out: Folder of the maps.
        target: Which target; default the card's first.
        split: Train only on a fold's training role, as a cell does; None trains on every label.
        fold: The fold; default the split's first.
        budget: Label budget.
        seed: Seed.
        options: Options of the model.
        cell: The cell that is mapped, if one is: its manifest is used, and other data than its own are refused.
        area: Where, WGS84 degrees; images are cut to it.
        years: Years of the embedding; for images one at most.
        sources: Where the embeddings are: each what `rs05bench.embeddings.open_source` takes, with `PRODUCT=` before it where a model
            reads several. The first tells the grid.
        product: Name or record of the embedding of a single source; default the one that the model reads.
        layers: Column -> raster, for feature columns that are no component of an embedding.
        images: Images (for chips); networks that read the embedding alone need none.
        runs: Folder of results that say what accuracy to expect; default the cell's.
        keep: Folder a deep model is saved to, or taken from.
    """

    card: TaskCard
    data: Path
    model: str
    out: Path
    target: str | None = None
    split: str | None = None
    fold: str | None = None
    budget: str = "full"
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    cell: KeptCell | None = None
    area: BaseGeometry | None = None
    years: Sequence[int] = ()
    sources: Sequence[str] = ()
    product: str | None = None
    layers: Mapping[str, str | Path] = field(default_factory=dict)
    images: Sequence[Path] = ()
    runs: Path | None = None
    keep: Path | None = None


def make_map(request: MapRequest, *, on_progress: Progress | None = None) -> MapResult:
    """Trains (or loads) a model and draws its map: a folder a year or image, and `map.json` with everything that a report says.

    Raises:
        DataError: Something asked for is missing, cannot be, or would be ignored.
        ProtocolError: The model cannot draw a map, or a rule would be broken.
    """
    from rs05bench import models

    if request.split is None and (request.fold is not None or request.budget != "full"):
        raise DataError("--fold and --budget say nothing without --split: every label trains", remedy="Give --split too, or neither.")
    model = models.create(request.model, card=request.card, seed=request.seed, **dict(request.options))
    prepare = _network_and_scenes if request.card.about.pixel_labels else _learner_and_scenes
    predictor, scenes = prepare(request, model)
    try:
        result = draw(predictor, scenes, request.out, on_progress=on_progress)
    finally:
        for scene in scenes:
            scene.close()
    products = list({source.product.name: source.product for scene in scenes for source in scene.sources}.values())
    result.record = _record(request, predictor, products) | result.record
    write_text(request.out / "map.json", json.dumps(result.record, indent=1, ensure_ascii=False, default=float) + "\n")
    return result


def everything(source: TaskSource) -> SplitManifest:
    """A manifest of one fold, `all`, without test units: a share of whole blocks validates, what is left trains."""
    import pandas as pd

    from rs05bench.protocol.ground import lay_ground

    units, options = source.units(), source.card.split_options
    ground = lay_ground(units, options.region, options)
    # A region that is one block spares none of it for validation.
    val = ground.draw(np.ones(len(units.frame), dtype=bool), options.val_fraction, "val")
    table = pd.DataFrame(
        {
            "fold": ALL_LABELS,
            "unit_id": units.frame["unit_id"].to_numpy(),
            "role": np.where(val, "val", "train"),
            "shift": "none",
            "region": ground.region,
            "block": ground.block,
        }
    )
    keep = ["unit_id", "lon", "lat", "place", "year", "time", *units.groups]
    record = {"digest": "", "can_be_main": False, "simulated": source.card.simulated}
    return SplitManifest(source.card.name, Split("spatial-block"), table, units.frame[keep].copy(), record)


def _learner_and_scenes(request: MapRequest, model: Model[TaskView]) -> tuple[PixelPredictor, list[Scene]]:
    from rs05bench.datamodules.open_data import open_source as open_table

    if request.images:
        raise DataError(f"{request.card.name} is a table: its maps are drawn from tiles (--area, --years, --from), not from --images")
    if request.keep is not None:
        raise DataError("--keep is for deep models: those of tables are trained again for every map", source=request.keep)
    places, _ = split_places(features_of(model), request.card.features)
    if places:
        raise ProtocolError(
            f"{model.card.name} reads positions ({', '.join(places)}), and maps are drawn from tiles and layers alone",
            remedy="Draw the map of a feature set, for instance without the place.",
        )
    years = _years(request)
    if request.area is None or not years or not request.sources:
        raise DataError("a map of a table needs a place, years and tiles", remedy="Give --area FILE or --bbox, --years and --from.")
    table = open_table(request.card, request.data)
    manifest, split, fold = _trained_on(request, table)
    budget = "full" if split is None else request.budget
    data = TaskData.build(table, manifest, fold, budget, request.seed, split=split, target=request.target)
    sources = open_embeddings(request, features_of(model))
    frame = _frame(request, sources)
    predictor = train_on_pixels(model, data, manifest, [source.product for source in sources], list(request.layers))
    read = [source for source in sources if any(source.product.component(column) is not None for column in predictor.columns)]
    layers = {column: RasterLayer(path, column) for column, path in request.layers.items()}
    return predictor, [Scene(str(year), frame, sources=read, year=year, layers=layers) for year in years]


def _network_and_scenes(request: MapRequest, model: Model[TaskView]) -> tuple[NetworkPredictor, list[Scene]]:
    from rs05bench.datamodules.chip_datamodule import ChipDataModule
    from rs05bench.datamodules.chipsource import ChipSource
    from rs05bench.datamodules.open_data import open_source as open_chips
    from rs05bench.experiment.map_model import fit_or_load

    reads = NetworkReads.of(request.model, model.card.inputs)
    _refuse_ignored(request, reads)
    sources = open_embeddings(request, model.card.inputs) if request.sources else []
    source = open_chips(request.card, request.data)
    assert isinstance(source, ChipSource)
    manifest, split, fold = _trained_on(request, source)
    if not request.images:  # a year without tiles is reported before the training, which takes long
        _frame(request, sources)
    at = (source, split or "spatial-block", fold, request.budget, request.seed)
    data = ChipDataModule(*at, manifest=manifest).view
    data.show_what_is_read(model.card.tier)
    fitted = fit_or_load(model, data, request.keep, request.out / "model")
    predictor = NetworkPredictor(fitted, data, pixel_area(data, fitted.card.inputs, seed=request.seed))
    margin = fitted.context
    if request.images:
        asked = ImageRequest(reads, data, sources, next(iter(request.years), None), request.area, margin)
        return predictor, image_scenes(request.images, asked)
    frame = _frame(request, sources, metres=data.resolution_m, margin=margin)
    return predictor, [Scene(str(year), frame, sources=sources, year=year) for year in _years(request)]


def _frame(request: MapRequest, sources: Sequence[EmbeddingReader], *, metres: float | None = None, margin: int = 0) -> Frame:
    from rs05bench.embeddings.readers import TileReader

    first, area = sources[0], request.area
    if not isinstance(first, TileReader):
        raise DataError(
            f"maps are drawn on the grid of tiles, and {first.description!r} has none",
            remedy="Name a source of tiles first: --from mirror, gcs, zarr or a folder; rs05bench extract fetches tiles of an area.",
        )
    assert area is not None
    return tile_frame(first.index, area, _years(request), metres=metres, margin=margin)


def open_embeddings(request: MapRequest, features: str) -> list[EmbeddingReader]:
    """The sources of a map, each of one product, those of one product refused twice.

    Args:
        request: Names them: `SOURCE`, or `PRODUCT=SOURCE` where `PRODUCT` is a product, its family, its record or a feature set.
        features: What the model reads.

    Raises:
        DataError: A source without a product where the model reads several, a product named twice, or one that the model does not read.
    """
    from rs05bench.embeddings import open_source
    from rs05bench.embeddings.card_products import products_of
    from rs05bench.embeddings.products import product, refuse_mixture

    read = products_of(features, request.card)
    named = [_with_product(text, request, read) for text in request.sources]
    refuse_mixture([(text, of) for of, text in named], source="--from")
    if len({of.name for of, _ in named}) < len(named):
        raise DataError(f"--from names {named[0][0].name} twice", remedy="Give one source of each product.")
    if request.product is None and (strange := [of.name for of, _ in named if read and of.name not in {one.name for one in read}]):
        raise DataError(
            f"{request.model} does not read {strange[0]}",
            remedy=f"It reads {', '.join(one.name for one in read)}: give --from of those, or --product for tiles of another one.",
        )
    # A little more than the area: networks see what is around it.
    area = None if request.area is None else request.area.buffer(AROUND_DEGREES).bounds
    years = list(request.years) or None
    return [open_source(text, of=product(of), area=area, years=years) for of, text in named]


def _with_product(text: str, request: MapRequest, read: Sequence[EmbeddingProduct]) -> tuple[EmbeddingProduct, str]:
    """The product of a source and where it is."""
    from rs05bench.embeddings.card_products import products_of
    from rs05bench.embeddings.products import product

    name, equals, where = text.partition("=")
    if equals and where and "/" not in name:
        of = products_of(name, request.card) if name in request.card.features else [product(name)]
        if len(of) == 1:
            return of[0], where
    if request.product is not None:
        return product(request.product), text
    if len(read) > 1:
        listed = " ".join(f"--from {one.name}=SOURCE" for one in read)
        raise DataError(f"{request.model} reads {len(read)} products: {', '.join(one.name for one in read)}", remedy=f"Give {listed}.")
    return read[0] if read else product(), text


def _refuse_ignored(request: MapRequest, reads: NetworkReads) -> None:
    """A map by a network takes images, or for one that reads the embedding alone a place and years; what it would ignore is refused."""
    name = request.model
    if request.target not in (None, request.card.targets[0]):
        raise DataError(f"chips have one target, {request.card.targets[0]!r}, and {request.target!r} was asked for")
    if request.layers:
        raise DataError(
            f"--layer is for tables: {name} reads the layers it was trained with",
            remedy="The card names them (preprocessing: extra).",
        )
    if request.images:
        if not reads.embedding and (request.years or request.sources):
            raise DataError(f"{name} reads no embedding, so --years and --from would be ignored", remedy="Leave them out.")
        if len(set(request.years)) > 1:
            raise DataError(
                f"an image is of one time, and {len(set(request.years))} years of the embedding were given", remedy="Give one of --years."
            )
    elif reads.image:
        raise DataError(f"{name} reads images: give those to map", remedy="Give --images FILE .. with the bands of the chips.")
    elif request.area is None or not request.years or not request.sources:
        raise DataError(
            f"a map by {name} needs a place, years and tiles, or images whose ground is mapped",
            remedy="Give --area FILE or --bbox, --years and --from; or --images and --from.",
        )


def _trained_on(request: MapRequest, source: TaskSource) -> tuple[SplitManifest, str | None, str]:
    """Manifest, split and fold of the map's model; a cell keeps the manifest it was run under, and refuses other data."""
    if request.split is None:
        return everything(source), None, ALL_LABELS
    if request.cell is None:
        manifest = make_bench(request.card, request.data, [request.split], source).manifest(request.split)
    else:
        request.cell.refuse_other_data(source.digest, request.data)
        manifest = request.cell.manifest
    return manifest, request.split, request.fold or manifest.folds[0]


def _years(request: MapRequest) -> list[int]:
    return sorted(set(request.years))


def _record(request: MapRequest, predictor: Predictor, products: Iterable[EmbeddingProduct]) -> dict[str, Any]:
    """What a report says of the model and its labels."""
    from rs05bench.experiment.map_notes import expected_accuracy, notes_of
    from rs05bench.experiment.provenance import provenance

    card, data, model = request.card, predictor.data, predictor.card
    budget = data.budget
    used = "all labels of the card" if request.split is None else f"{budget.name} of {data.split}, fold {data.fold}"
    # A cell's own store knows what to expect, where no other is named.
    runs = request.runs or (None if request.cell is None else request.cell.results)
    licence = f"Licence of the training data: {card.licence}" if card.licence else ""
    cited = [*(product.attribution or product.citation for product in products), card.citation, licence, model.citation]
    return {
        "schema_version": 1,
        "title": card.title or card.name,
        "task": card.name,
        "card_digest": card.digest,
        "target": data.target,
        "model": model.name,
        "tier": model.tier,
        "seed": request.seed,
        "split": request.split or "none: every label",
        "fold": None if request.split is None else data.fold,
        "trained_on": f"{used}, seed {request.seed}",
        "labels_train": len(budget.train),
        "labels_val": len(budget.val),
        "simulated": card.simulated,
        "applicability": predictor.applicability(),
        "expected": {"known": False} if runs is None else expected_accuracy(runs, card, data.target, request.model, budget.labels_used),
        "notes": notes_of(card, predictor.notes(_years(request)), split=request.split),
        "attribution": [text for text in cited if text],
        "provenance": provenance().model_dump(mode="json"),
    }
