"""`rs05bench map` in one call: card or cell, model, place and years in; maps and a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.errors import DataError
from rs05bench.experiment.cell import make_bench
from rs05bench.experiment.map_grid import grid_for_years
from rs05bench.experiment.mapping import ALL_LABELS, MapResult, Progress, all_labels, draw, everything, train
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.taskdata import TaskData, TaskSource

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from rs05bench.embeddings import EmbeddingProduct, TileIndex
    from rs05bench.experiment.map_cell import KeptCell


AROUND_DEGREES = 0.1


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
        source: Tiles of the embedding: what `rs05bench.embeddings.open_source` takes.
        product: Name or record of the embedding; default the one that the card's feature sets name.
        layers: Column -> raster, for feature columns that are no component of the embedding.
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
    source: str | None = None
    product: str | None = None
    layers: Mapping[str, str | Path] = field(default_factory=dict)
    images: Sequence[Path] = ()
    runs: Path | None = None
    keep: Path | None = None


def make_map(request: MapRequest, *, on_progress: Progress | None = None) -> MapResult:
    """Trains (or loads) a model, draws its map, and writes the report.

    Raises:
        DataError: Something asked for is missing, cannot be, or would be ignored.
        ProtocolError: The model cannot draw a map, or a rule would be broken.
    """
    if request.split is None and (request.fold is not None or request.budget != "full"):
        raise DataError("--fold and --budget say nothing without --split: every label trains", remedy="Give --split too, or neither.")
    if request.card.kind == "segmentation":
        return _by_network(request, on_progress)
    return _by_table(request, on_progress)


def _by_table(request: MapRequest, on_progress: Progress | None) -> MapResult:
    from rs05bench.datamodules.sources import open_source as open_table

    if request.images:
        raise DataError(f"{request.card.name} is a table: its maps are drawn from tiles (--area, --years, --from), not from --images")
    if request.keep is not None:
        raise DataError("--keep is for deep models: those of tables are trained again for every map", source=request.keep)
    if request.area is None or not request.years or request.source is None:
        raise DataError("a map of a table needs a place, years and tiles", remedy="Give --area FILE or --bbox, --years and --from.")
    table = open_table(request.card, request.data)
    manifest, split, fold = _trained_on(request, table)
    if split is None:
        data = all_labels(table, request.target, request.seed)
    else:
        data = TaskData.build(table, manifest, fold, request.budget, request.seed, split=split, target=request.target)
    index = _tiles(request)
    trained = train(request.model, data, manifest, index.product, layers=list(request.layers), options=request.options)
    if unread := sorted(set(request.layers) - set(trained.columns)):
        raise DataError(f"{request.model} reads no column {', '.join(unread)}", remedy="Leave out its --layer.")
    result = draw(trained, index, request.area, _years(request), request.out, layers=request.layers, on_progress=on_progress)
    order = np.argsort(-trained.area.weights, kind="stable")[:5]
    applicability = {
        "threshold": trained.area.threshold,
        "folds": trained.folds,
        "predictors": len(trained.columns),
        "top": [trained.columns[column] for column in order],
        "weights": dict(zip(trained.columns, trained.area.weights.round(4).tolist(), strict=True)),
        "training_points": len(trained.area.points),
        "mean_distance": trained.area.mean_distance,
    }
    return _reported(request, result, data, trained.model, applicability, index.product)


def _by_network(request: MapRequest, on_progress: Progress | None) -> MapResult:
    from rs05bench import models
    from rs05bench.datamodules.chips import ChipDataModule
    from rs05bench.datamodules.sources import open_source as open_chips
    from rs05bench.experiment.map_images import draw_images, draw_tiles
    from rs05bench.experiment.map_network import fit_or_load, pixel_area

    model: Any = models.create(request.model, card=request.card, seed=request.seed, **dict(request.options))
    _refuse_ignored(request, model)
    index: Any = None if request.source is None else _tiles(request)
    where: Any = request.area
    source: Any = open_chips(request.card, request.data)
    manifest, split, fold = _trained_on(request, source)
    if not request.images:
        grid_for_years(index, where, _years(request))  # a year without tiles is said before the training, which takes long
    at = (source.root, split or "spatial-block", fold, request.budget, request.seed)
    data = ChipDataModule(*at, manifest=manifest, source=source).view
    data.show_what_is_read(model.card.tier)
    fitted = fit_or_load(model, data, request.keep or request.out / "model")
    area = pixel_area(data, fitted.card.inputs, seed=request.seed)
    if request.images:
        year = next(iter(request.years), None)
        result = draw_images(fitted, data, area, request.images, request.out, index=index, year=year, within=where, on_progress=on_progress)
    else:
        result = draw_tiles(fitted, data, area, index, where, _years(request), request.out, on_progress=on_progress)
    applicability = {
        "threshold": area.threshold,
        "folds": "chips",
        "predictors": len(area.weights),
        "training_points": len(area.points),
        "mean_distance": area.mean_distance,
        "notes": ["Here it speaks of single pixels: whether the network has seen such spectra, not such shapes. All bands weigh the same."],
    }
    return _reported(request, result, data, fitted, applicability, None if index is None else index.product)


def _refuse_ignored(request: MapRequest, model: Any) -> None:
    """A map by a network takes images, or for one that reads the embedding alone a place and years; what it would ignore is refused."""
    from rs05bench.embeddings.products import families

    name, inputs = request.model, model.card.inputs
    if request.target not in (None, request.card.targets[0]):
        raise DataError(f"chips have one target, {request.card.targets[0]!r}, and {request.target!r} was asked for")
    if request.layers:
        raise DataError(
            f"--layer is for tables: {name} reads the layers it was trained with",
            remedy="The card names them (preprocessing: extra).",
        )
    if request.images:
        if inputs not in (*families(), "hybrid") and (request.years or request.source is not None):
            raise DataError(f"{name} reads no embedding, so --years and --from would be ignored", remedy="Leave them out.")
        if len(set(request.years)) > 1:
            raise DataError(
                f"an image is of one time, and {len(set(request.years))} years of the embedding were given", remedy="Give one of --years."
            )
    elif inputs not in families():
        raise DataError(f"{name} reads images: give those to map", remedy="Give --images FILE .. with the bands of the chips.")
    elif request.area is None or not request.years or request.source is None:
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


def _product(request: MapRequest) -> EmbeddingProduct:
    """The embedding that a map is drawn from."""
    from rs05bench.embeddings.products import product

    named = {members.product for members in request.card.features.values() if members.product is not None}
    if request.product is None and len(named) > 1:
        raise DataError(
            f"the card names {len(named)} products: {', '.join(sorted(named))}", remedy="Say with --product which tiles --from has."
        )
    return product(*filter(None, [request.product or next(iter(named), None)]))


def _tiles(request: MapRequest) -> TileIndex:
    from rs05bench.embeddings import open_source
    from rs05bench.embeddings.readers import TileReader

    # A little more than the area: networks see what lies around it.
    area = None if request.area is None else request.area.buffer(AROUND_DEGREES).bounds
    tiles = open_source(str(request.source), of=_product(request), area=area, years=request.years or None)
    if not isinstance(tiles, TileReader):
        raise DataError(
            f"maps are drawn from tiles, and {request.source!r} has none",
            remedy="Use --from mirror, gcs, zarr or a folder; rs05bench extract fetches tiles of an area.",
        )
    return tiles.index


def _reported(
    request: MapRequest, result: MapResult, data: Any, model: Any, applicability: dict[str, Any], of: EmbeddingProduct | None
) -> MapResult:
    from rs05bench.experiment.map_report import expected_accuracy, notes_of, write_report
    from rs05bench.experiment.provenance import provenance

    card, budget = request.card, data.budget
    used = "all labels of the card" if request.split is None else f"{budget.name} of {data.split}, fold {data.fold}"
    # A cell's own store knows what to expect, where no other is named.
    runs = request.runs or (None if request.cell is None else request.cell.results)
    expected = {"known": False} if runs is None else expected_accuracy(runs, card, data.target, request.model, budget.labels_used)
    attribution = [of.attribution or of.citation] if of is not None and result.record.get("tiles") else []
    attribution += [
        text
        for text in (card.citation, f"Licence of the training data: {card.licence}" if card.licence else "", model.card.citation)
        if text
    ]
    record = {
        "schema_version": 1,
        "title": card.title or card.name,
        "task": card.name,
        "card_digest": card.digest,
        "target": data.target,
        "model": model.card.name,
        "tier": model.card.tier,
        "seed": request.seed,
        "split": request.split or "none: every label",
        "fold": None if request.split is None else data.fold,
        "trained_on": f"{used}, seed {request.seed}",
        "labels_train": len(budget.train),
        "labels_val": len(budget.val),
        "simulated": card.simulated,
        "metres": _in_metres(result),
        "applicability": applicability,
        "expected": expected,
        "notes": notes_of(card, data, model, split=request.split, years=_years(request)),
        "attribution": attribution,
        "provenance": provenance(),
    }
    write_report(result, record)
    result.record = {**record, **result.record}
    return result


def _in_metres(result: MapResult) -> bool:
    import rasterio

    with rasterio.open(next(path for named in result.files.values() for path in named.values())) as src:
        return bool(src.crs.is_projected and src.crs.linear_units in ("metre", "meter", "m"))
