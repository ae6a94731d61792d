"""map: what a practitioner came for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    app.command("map")(draw_map)


def draw_map(
    what: Annotated[
        Path,
        typer.Argument(
            metavar="CARD|CELL", help="Task card (YAML), or the folder of a result (of a sweep or of fit-predict), to map its cell."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the maps and their report.")],
    model: Annotated[str | None, typer.Option("--model", help="Model name, e.g. alphaearth/rf; default the cell's.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="Target; default the card's first.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Train on a fold of this split only; default on every label.")] = None,
    fold: Annotated[str | None, typer.Option("--fold", help="Fold; default the split's first.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Label budget under --split; default full.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed; default 0.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the model as key=value, e.g. weights=FILE; may be given often.")
    ] = None,
    area: Annotated[Path | None, typer.Option("--area", help="Polygons to map (any vector file); images are cut to them.")] = None,
    bbox: Annotated[str | None, typer.Option("--bbox", help="west,south,east,north in degrees, instead of --area.")] = None,
    years: Annotated[str | None, typer.Option("--years", help="Years of the embedding, e.g. 2022-2024; with --images one.")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--from", help="Tiles of the embedding: a folder, a file, a store, or a name such as mirror; PRODUCT=.. each for several."
        ),
    ] = None,
    product: Annotated[
        str | None, typer.Option("--product", help="Embedding product of the tiles, or its record (YAML); default the card's.")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="COLUMN=FILE: a one-band raster for a further feature column; repeat for more.")
    ] = None,
    images: Annotated[list[Path] | None, typer.Option("--images", help="Images for deep models that read bands; repeat for more.")] = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="Folder a deep model is saved to, or taken from; default OUT/model.")] = None,
    runs: Annotated[
        Path | None, typer.Option("--runs", help="Folder of results that say what accuracy to expect; default the cell's.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but the last line.")] = False,
) -> None:
    """Train a model and draw its map: class or value, confidence, area of applicability, a preview and a report."""
    from functools import partial

    from rs05bench.cli._progress import Bar
    from rs05bench.embeddings.extraction import parse_years
    from rs05bench.errors import DataError
    from rs05bench.experiment.map_area import parse_bbox, read_area
    from rs05bench.experiment.map_cell import load_cell, options_of
    from rs05bench.experiment.map_run import MapRequest, make_map
    from rs05bench.experiment.one_cell import parse_options
    from rs05bench.protocol.card import TaskCard
    from rs05bench.report.map_page import write_map_report

    options, kept = parse_options(option or []), None
    if what.is_dir():
        fixed = {"--split": split, "--fold": fold, "--budget": budget, "--seed": seed}
        if given := [name for name, value in fixed.items() if value is not None]:
            raise DataError(f"{', '.join(given)}: the cell says that already", source=what, remedy="Leave it out, or give the card.")
        kept = load_cell(what)
        cell = kept.cell
        model, target, options = model or cell.model, target or cell.target, options_of(cell, model or cell.model, options)
        split, fold, budget, seed = cell.split, cell.fold, cell.budget, cell.seed
        if data is None:
            raise DataError("the folder of a result does not say where its data lie", source=what, remedy="Give --data.")
    card = TaskCard.load(what) if kept is None else kept.card
    if model is None:
        raise DataError("no model was named", source=what, remedy="Give --model, e.g. --model alphaearth/rf.")
    if area is not None and bbox is not None:
        raise DataError("--area and --bbox were both given", remedy="Give one.")
    where = read_area(area) if area is not None else parse_bbox(bbox) if bbox is not None else None
    request = MapRequest(
        card=card,
        data=data or what.parent,
        model=model,
        out=out,
        target=target,
        split=split,
        fold=fold,
        budget=budget or "full",
        seed=seed or 0,
        options=options,
        cell=kept,
        area=where,
        years=parse_years(years) if years else (),
        sources=source or (),
        product=product,
        layers=dict(_named(part) for part in layer or []),
        images=images or (),
        runs=runs,
        keep=keep,
    )
    with Bar(quiet=quiet) as bar:
        result = make_map(request, on_progress=partial(bar.show, "mapping"))
    page = write_map_report(result)
    for key, named in result.files.items():
        counted = result.record["years"][key]
        if not quiet:
            typer.echo(f"{key}: {counted['pixels']:,} pixels, {counted['share_inside']:.0%} inside the area of applicability")
            typer.echo("  " + ", ".join(sorted(path.name for path in named.values())))
    typer.echo(f"Report: {page}")


def _named(text: str) -> tuple[str, Path]:
    from rs05bench.errors import DataError

    column, equals, path = text.partition("=")
    if not equals or not column or not path:
        raise DataError(f"--layer {text!r} is not COLUMN=FILE", remedy="For instance --layer elevation_m=dem.tif.")
    return column, Path(path)
