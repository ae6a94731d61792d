"""`rs05bench map` in one call: card or cell, model, place and years in; maps and a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.errors import DataError
from rs05bench.experiment.cell import make_bench
from rs05bench.experiment.mapping import ALL_LABELS, MapResult, Progress, all_labels, draw, everything, train
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.names import parse_split
from rs05bench.protocol.taskdata import TaskData

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


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
        area: Where, WGS84 degrees (for tables).
        years: Years of the embedding.
        source: AlphaEarth tiles: a folder, a file, or a name of `rs05bench.datasets.alphaearth.open_source`.
        layers: Column -> raster, for feature columns beside A00 to A63.
        images: Images (for chips).
        runs: Folder of results that say what accuracy to expect.
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
    area: BaseGeometry | None = None
    years: Sequence[int] = ()
    source: str | None = None
    layers: Mapping[str, str | Path] = field(default_factory=dict)
    images: Sequence[Path] = ()
    runs: Path | None = None
    keep: Path | None = None


def make_map(request: MapRequest, *, on_progress: Progress | None = None) -> MapResult:
    """Trains (or loads) a model, draws its map, and writes the report.

    Raises:
        DataError: Something asked for is missing or cannot be.
        ProtocolError: The model cannot draw a map, or a rule would be broken.
    """
    if request.card.kind == "segmentation":
        return _from_images(request, on_progress)
    if request.images:
        raise DataError(f"{request.card.name} is a table: its maps are drawn from tiles (--area, --years, --from), not from --images")
    return _from_tiles(request, on_progress)


def _from_tiles(request: MapRequest, on_progress: Progress | None) -> MapResult:
    from rs05bench.datamodules.sources import open_source as open_table
    from rs05bench.datasets.alphaearth import open_source

    if request.area is None or not request.years or request.source is None:
        raise DataError("a map of a table needs a place, years and tiles", remedy="Give --area FILE or --bbox, --years and --from.")
    table = open_table(request.card, request.data)
    if request.split is None:
        data, manifest = all_labels(table, request.target, request.seed), everything(table)
    else:
        bench = make_bench(request.card, request.data, [request.split], table)
        manifest = bench.manifest(request.split)
        fold = request.fold or manifest.folds[0]
        data = TaskData.build(table, manifest, fold, request.budget, request.seed, split=request.split, target=request.target)
    tiles: Any = open_source(request.source, area=request.area.bounds, years=request.years)
    if not hasattr(tiles, "index"):
        raise DataError(
            f"maps are drawn from tiles, and {request.source!r} has none",
            remedy="Use --from mirror, gcs, zarr or a folder; rs05bench extract fetches tiles of an area.",
        )
    trained = train(request.model, data, manifest, layers=list(request.layers), options=request.options)
    result = draw(
        trained, tiles.index, request.area, sorted(set(request.years)), request.out, layers=request.layers, on_progress=on_progress
    )
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
    return _reported(request, result, data, trained.model, applicability, _notes(request, data, trained.model))


def _from_images(request: MapRequest, on_progress: Progress | None) -> MapResult:
    from rs05bench import models
    from rs05bench.datamodules.chips import ChipDataModule
    from rs05bench.datamodules.sources import open_source as open_chips
    from rs05bench.datasets.alphaearth import open_source
    from rs05bench.experiment.map_images import draw_images, fit_or_load, pixel_area

    if not request.images:
        raise DataError(
            f"{request.card.name} holds chips: give the images to map", remedy="Give --images FILE .. with the bands of the chips."
        )
    source: Any = open_chips(request.card, request.data)
    if request.split is None:
        manifest, split, fold = everything(source), "spatial-block", ALL_LABELS
    else:
        split = request.split
        manifest = make_bench(request.card, request.data, [split], source).manifest(split)
        fold = request.fold or manifest.folds[0]
    data = ChipDataModule(source.root, split, fold, request.budget, request.seed, manifest=manifest, source=source)
    model = models.create(request.model, card=request.card, seed=request.seed, **dict(request.options))
    fitted = fit_or_load(model, data, request.keep or request.out / "model")
    area = pixel_area(data, fitted.card.inputs, seed=request.seed)
    tiles: Any = None if request.source is None else open_source(request.source)
    year = request.years[0] if request.years else None
    index = None if tiles is None else tiles.index
    result = draw_images(fitted, data, area, request.images, request.out, index=index, year=year, on_progress=on_progress)
    applicability = {
        "threshold": area.threshold,
        "folds": "chips",
        "predictors": len(area.weights),
        "training_points": len(area.points),
        "mean_distance": area.mean_distance,
        "notes": ["Here it speaks of single pixels: whether the network has seen such spectra, not such shapes. All bands weigh the same."],
    }
    return _reported(request, result, data, fitted, applicability, _notes(request, data, fitted))


def _reported(request: MapRequest, result: MapResult, data: Any, model: Any, applicability: dict[str, Any], notes: list[str]) -> MapResult:
    from rs05bench.datasets.alphaearth import ATTRIBUTION
    from rs05bench.experiment.map_report import expected_accuracy, write_report
    from rs05bench.experiment.provenance import provenance

    card, budget = request.card, data.budget
    used = "all labels of the card" if request.split is None else f"{budget.name} of {data.split}, fold {data.fold}"
    expected = (
        {"known": False} if request.runs is None else expected_accuracy(request.runs, card, data.target, request.model, budget.labels_used)
    )
    attribution = [ATTRIBUTION] if result.record.get("tiles") else []
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
        "notes": notes,
        "attribution": attribution,
        "provenance": provenance(),
    }
    write_report(result, record)
    result.record = {**record, **result.record}
    return result


def _notes(request: MapRequest, data: Any, model: Any) -> list[str]:
    card, notes = request.card, []
    if request.split is None:
        notes.append(
            "Trained on every label, so none is left to test this very map: the expected accuracy is that of its sisters under protocol."
        )
    elif parse_split(request.split).rule == "random":
        notes.append("Trained under a random split, which is a sanity check only.")
    if card.kind != "segmentation":
        years = {int(year) for role in ("train", "val") for year in data.years(role) if year == year}
        outside = sorted(set(request.years) - years)
        if years and outside:
            notes.append(f"No label is of {', '.join(map(str, outside))}: the model carries {', '.join(map(str, sorted(years)))} over.")
        notes.append(
            "If a label describes an area (a parcel, a county), the model learnt from averages and is applied to single pixels of 10 m."
        )
        if model.kind_ == "regression" and getattr(model, "radius_", None) is None:
            notes.append("No interval: too few validation labels for one at 90 %.")
        elif model.kind_ == "regression":
            notes.append(
                "The interval is split-conformal: its width is the same everywhere; it holds on average, over places like the validation's."
            )
        else:
            notes.append("Confidence is the largest class probability of the model, not a calibrated chance of being right.")
    if card.notes:
        notes.append(" ".join(card.notes.split()))
    if card.overlap:
        notes.append(f"Overlap with pretraining: {card.overlap}")
    return notes


def _in_metres(result: MapResult) -> bool:
    import rasterio

    with rasterio.open(next(path for named in result.files.values() for path in named.values())) as src:
        return bool(src.crs.is_projected and src.crs.linear_units in ("metre", "meter", "m"))
