"""The commands about one model: list and check models, fit and predict one, draw its map, export it to TerraTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rs05bench.cli._options import AsJson


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    # A group, so that `models check NAME` stands beside the plain listing.
    group = typer.Typer(invoke_without_command=True, help="List models with their tier and where they come from, or check one.")
    group.callback()(models)
    app.add_typer(group, name="models")
    group.command("check")(check)
    app.command("fit-predict")(fit_predict)
    app.command("map")(draw_map)
    app.command("export-terratorch")(export_terratorch)


def models(
    context: typer.Context,
    card: Annotated[Path | None, typer.Option("--card", help="Only what can run on this card.")] = None,
    tier: Annotated[str | None, typer.Option(help="Only this tier.")] = None,
    options: Annotated[bool, typer.Option("--options", help="Options of deep models: values, defaults, meaning.")] = False,
    as_json: AsJson = False,
) -> None:
    """List models with their tier and where they come from; `models check NAME` checks one."""
    if context.invoked_subcommand is not None:
        return
    from rs05bench.cli._terminal import print_rows

    if options:
        from rs05bench.models.options import option_rows

        print_rows(option_rows(), ["option", "of", "values", "default", "meaning"], as_json=as_json)
        return
    from rs05bench.models import list_models
    from rs05bench.protocol import TaskCard

    found = list_models(None if card is None else TaskCard.load(card))
    rows = [
        {**item.card.model_dump(mode="json"), "kinds": list(item.kinds), "source": item.source}
        for item in found
        if tier is None or item.card.tier == tier
    ]
    print_rows(rows, ["name", "tier", "open_weights", "source", "kinds"], as_json=as_json)


def check(
    name: Annotated[str, typer.Argument(help="Model name, or path/to/file.py:Name.")],
    card: Annotated[Path | None, typer.Option("--card", help="Check on this task instead of a small made-up one.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Its data directory; default the card's folder.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split; default the card's first that can be a main result.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Budget; default the card's first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a model keeps the contract; exits with 1 where it does not."""
    from rs05bench.models import contract

    if card is None:
        outcome = contract.check_by_name(name)
    else:
        from rs05bench import models
        from rs05bench.experiment.cell import make_bench
        from rs05bench.protocol.card import TaskCard
        from rs05bench.protocol.result import Cell
        from rs05bench.protocol.splits import Split

        task = TaskCard.load(card)
        chosen = split or next((item for item in task.splits if Split(item).rule.may_be_main), task.splits[0])
        bench = make_bench(task, data or card.parent, [chosen])
        cell = Cell(
            task=task.name,
            target=task.targets[0],
            split=chosen,
            fold=bench.manifest(chosen).folds[0],
            model=name,
            budget=budget or (task.budgets or ["full"])[0],
            seed=0,
        )
        view = bench.data(cell)
        found = contract.check_model(lambda seed: models.create(name, card=task, seed=seed), view)
        outcome = {f"{task.name}, {chosen}, {cell.budget}": found}
    broken = contract.failed(outcome)
    if as_json:
        import json
        from dataclasses import asdict

        shown = {key: [asdict(item) for item in checks] for key, checks in outcome.items()}
        typer.echo(json.dumps({"model": name, "keeps_the_contract": not broken, "checks": shown}, indent=2, ensure_ascii=False))
    else:
        for key, checks in outcome.items():
            typer.echo(key)
            for item in checks:
                detail = f": {item.detail}" if item.detail else ""
                typer.echo(f"  {item.status.upper() if item.status == 'failed' else item.status:<8} {item.what}{detail}")
        typer.echo(f"{name} {'BREAKS' if broken else 'keeps'} the contract.")
    if broken:
        raise typer.Exit(1)


def fit_predict(
    card: Annotated[str, typer.Argument(help="Task card (YAML), or the name of a task the package reads, e.g. hls-burn-scars.")],
    data: Annotated[Path, typer.Option(help="Folder of the data.")],
    model: Annotated[str, typer.Option(help="Model name; rs05bench models lists them.")],
    split: Annotated[str, typer.Option(help="Split, e.g. leave-state-out.")],
    out: Annotated[Path, typer.Option(help="Folder for result.json, predictions/, card.yaml and manifest/; must not hold them yet.")],
    fold: Annotated[str | None, typer.Option(help="Fold; default the first.")] = None,
    budget: Annotated[str, typer.Option(help="Label budget.")] = "full",
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    target: Annotated[str | None, typer.Option(help="Target; default the card's first.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Option of the model as key=value, e.g. rank=4; may be given often.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit one model on one fold, budget and seed, predict the test units, score them, and keep both."""
    from rs05bench.cli._options import find_card
    from rs05bench.experiment.one_cell import OneCell, parse_options
    from rs05bench.experiment.one_cell import fit_predict as run

    asked = OneCell(model, split, fold, budget, seed, target, parse_options(option or []))
    result = run(find_card(card, data), data, out, asked)
    if as_json:
        typer.echo(result.model_dump_json(exclude_none=True, indent=2))
        return
    cell = result.cell
    typer.echo(f"{cell.model}, {cell.task}, {cell.split} / {cell.fold}, {cell.budget}, seed {cell.seed}")
    if result.simulated:
        typer.echo("SIMULATED data: says nothing about the Earth.")
    if result.model.random_twin:
        typer.echo("The encoder has random weights.")
    typer.echo(result.table().to_string(float_format="{:.3f}".format, na_rep="-"))
    cost = result.cost
    labels = f"{cost.labels_used} labels" + (f" ({cost.labels_inspected} inspected)" if cost.labels_inspected != cost.labels_used else "")
    typer.echo(f"{labels}, fit {cost.fit_s:.1f} s, predict {cost.predict_s:.1f} s. Kept in {out}")


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


def export_terratorch(
    card: Annotated[str, typer.Argument(help="Task card (YAML), or the name of a task the package reads, e.g. hls-burn-scars.")],
    data: Annotated[Path, typer.Option(help="Folder of the data.")],
    model: Annotated[str, typer.Option(help="Name of a deep model, e.g. prithvi-300/lora.")],
    split: Annotated[str, typer.Option(help="Split, e.g. leave-state-out.")],
    out: Annotated[Path, typer.Option(help="New folder for cell.yaml, train/ and val/.")],
    fold: Annotated[str | None, typer.Option(help="Fold; default the first.")] = None,
    budget: Annotated[str, typer.Option(help="Label budget.")] = "full",
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the model as key=value, e.g. weights=FILE; may be given often.")
    ] = None,
) -> None:
    """Write the budget's patches and a configuration that trains the same network on them with `terratorch fit`."""
    from rs05bench.cli._options import find_card
    from rs05bench.experiment.one_cell import OneCell, export_cell, parse_options

    asked = OneCell(model, split, fold, budget, seed, options=parse_options(option or []))
    path = export_cell(find_card(card, data), data, out, asked)
    typer.echo(f"terratorch fit --config {path}")
