"""The commands that bring data: tasks, download, extract, layers, build, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rs05bench.cli._options import AsJson


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command("tasks")(tasks)
    app.command("download")(download)
    app.command("extract")(extract)
    app.command("layers")(layers)
    app.command("build")(build)
    app.command("simulate")(simulate)


def tasks(
    cards: Annotated[list[Path] | None, typer.Argument(help="Cards, or folders of cards, to list beside the built-in ones.")] = None,
    as_json: AsJson = False,
) -> None:
    """List tasks: the simulated benchmark's three, those over published data, and those of your cards."""
    from rs05bench.cli._terminal import print_rows
    from rs05bench.datasets import task_list

    found = [item.model_dump(mode="json") for item in task_list.tasks(cards or [])]
    print_rows(found, ["name", "load", "kind", "source", "title"], as_json=as_json)


def download(
    name: Annotated[str | None, typer.Argument(help="Name of the dataset; --list shows all.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder to put it in; default data/NAME.")] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(help="A URL to try first: a folder, or with {path} in it. May be given again.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Fetch only this file. May be given again.")] = None,
    no_unpack: Annotated[bool, typer.Option("--no-unpack", help="Leave archives packed.")] = False,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep archives after unpacking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what differs, replace what is in the way.")] = False,
    retries: Annotated[int, typer.Option(min=1, help="Tries without a new byte before the next mirror is asked.")] = 5,
    listing: Annotated[bool, typer.Option("--list", help="List the datasets and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a dataset: resumed after a cut, checked by its checksum, unpacked safely, pinned to a revision."""
    from rs05bench.cli._progress import DownloadBars
    from rs05bench.datasets.download import Fetching
    from rs05bench.datasets.download import download as run
    from rs05bench.errors import DataError

    if listing:
        _list_sources(as_json)
        return
    if name is None:
        raise DataError("which dataset?", remedy="`rs05bench download --list` shows them.")
    with DownloadBars() as bars:
        report = run(
            name,
            root or Path("data") / name,
            only=only or [],
            how=Fetching(mirror or [], not no_unpack, keep_archives, force, retries),
            watch=bars.show,
        )
    if as_json:
        import json

        shown = {"name": report.name, "root": str(report.root), "fetched": report.fetched, "kept": report.kept, "unpacked": report.unpacked}
        typer.echo(json.dumps({**shown, "resumed": report.resumed, "first_use": report.on_first_use}))
        return
    typer.echo(
        f"{report.name} is in {report.root}: {len(report.fetched)} fetched, {len(report.kept)} already there, "
        f"{report.unpacked} files unpacked."
    )
    if report.on_first_use:
        typer.echo(
            f"Nobody states a checksum for {', '.join(report.on_first_use)}: what came was recorded in the receipt, "
            "and is what later downloads are compared with."
        )


def _list_sources(as_json: bool) -> None:
    from rs05bench.datasets.sources import load_catalogue

    sources = load_catalogue()
    if as_json:
        import json

        typer.echo(json.dumps({name: source.model_dump(mode="json") for name, source in sources.items()}))
        return
    for name, source in sources.items():
        known = sum(file.size or 0 for file in source.files)
        size = f"{known / 1e9:.1f} GB" if known else "size not stated"
        if known and any(file.size is None for file in source.files):
            size = f"more than {size}"
        typer.echo(f"{name:<22} {source.title}\n{'':<22} {size}; {source.licence}; revision {source.revision[:12]}; {source.homepage}")


def extract(
    units: Annotated[
        Path, typer.Argument(help="Points or polygons: CSV or Parquet with lon and lat, GeoPackage, GeoParquet, GeoJSON, Shapefile.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Table to write (.parquet or .csv), or the folder of chips.")],
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="SOURCE", help="A folder, a store, an index Parquet file, or a name such as mirror or earthengine."),
    ] = None,
    years: Annotated[str | None, typer.Option(help="Years, e.g. 2024 or 2018-2020,2023; by default each unit's own column 'year'.")] = None,
    stat: Annotated[list[str] | None, typer.Option(help="Statistic of polygons: mean, std, min or max; repeatable. Default: mean.")] = None,
    chips: Annotated[int | None, typer.Option(metavar="PX", help="Write chips of this size around every unit instead of a table.")] = None,
    unit: Annotated[str | None, typer.Option(metavar="COL", help="Column that names the units; by default unit_id, else the row.")] = None,
    url: Annotated[str | None, typer.Option(help="Another address of mirror, gcs, zarr or earthengine.")] = None,
    project: Annotated[
        str | None, typer.Option(help="Cloud project: Earth Engine's, or the one billed where the bucket asks for it.")
    ] = None,
    export_to: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Earth Engine only: start an export to drive:FOLDER or gs://bucket/prefix instead.")
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option("--product", help="Embedding product, or its record (YAML); default alphaearth-v1. See the docs for names."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Extract embeddings of a public product for points, polygons or chips; run it again after a cut and it goes on where it stopped."""
    import json

    from rs05bench.cli._progress import Bar
    from rs05bench.embeddings.embedding_source import Access, open_source
    from rs05bench.embeddings.extraction import Progress, extract_chips, extract_table, parse_years, read_units, start_exports
    from rs05bench.embeddings.products import DEFAULT, product

    table = read_units(units, unit=unit)
    wanted = parse_years(years) if years is not None else None
    stats = tuple(stat or ["mean"])
    west, south, east, north = (float(value) for value in table.to_crs("EPSG:4326").total_bounds)
    asked = wanted if wanted is not None else sorted({int(year) for year in table["year"]}) if "year" in table else None
    record = product(embedding or DEFAULT)
    opened = open_source(
        source or next(iter(record.access), ""),
        of=record,
        area=(west, south, east, north),
        years=asked,
        access=Access(url=url, project=project),
    )
    if export_to is not None:
        tasks = start_exports(table, opened, wanted, to=export_to, stats=stats)
        typer.echo(json.dumps({"tasks": tasks}) if as_json else f"Started {len(tasks)} export tasks: {', '.join(tasks)}")
        return
    with Bar(quiet=as_json) as bar:

        def show(state: Progress) -> None:
            known = f", {state.resumed} were there already" if state.resumed else ""
            bar.show(f"{state.year}, {state.tiles} tiles{known}", state.done, state.total)

        try:
            if chips is None:
                made = extract_table(table, opened, wanted, out, stats=stats, progress=show)
            else:
                made = extract_chips(table, opened, wanted, out, size=chips, progress=show)
        except KeyboardInterrupt:
            typer.echo("Stopped. What is finished is kept: run the same command again to go on.", err=True)
            raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps({"out": str(made.out), "rows": made.units, "masked": made.empty, "tiles": made.tiles}))
        return

    masked = f", {made.empty} of them masked" if made.empty else ""
    tiles = f" from {len(made.tiles)} tile{'s' if len(made.tiles) != 1 else ''}" if made.tiles else ""
    typer.echo(f"{made.units} rows{masked}{tiles} -> {made.out}")
    typer.echo(f"{opened.product.name}, {opened.product.licence}: {opened.product.attribution or opened.product.citation}")


def layers(
    table: Annotated[Path | None, typer.Argument(help="CSV, Parquet, GeoPackage, GeoJSON or Shapefile of points or polygons.")] = None,
    folder: Annotated[Path | None, typer.Option("--layers", metavar="DIR", help="Folder with one subfolder a layer.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Table to write: .csv, .parquet or .gpkg.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Only this layer; repeatable.")] = None,
    x: Annotated[str | None, typer.Option(metavar="COL", help="Column of the x coordinate; default lon or longitude.")] = None,
    y: Annotated[str | None, typer.Option(metavar="COL", help="Column of the y coordinate; default lat or latitude.")] = None,
    crs: Annotated[str, typer.Option(help="CRS of those columns.")] = "EPSG:4326",
    listing: Annotated[bool, typer.Option("--list", help="List the layers with source, licence and resolution, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Append the columns of layers (terrain, climate zone, distances, counts) to a table, for hybrid feature sets."""
    import json

    if listing:
        _list_layers(as_json)
        return
    from rs05bench.errors import DataError

    if table is None or folder is None or out is None:
        raise DataError("name a table, --layers DIR and --out FILE", remedy="`rs05bench layers --list` says what belongs into DIR.")
    from rs05bench.datasets.layers import append_layers

    done = append_layers(table, folder, out, names=only or None, x=x, y=y, crs=crs)
    if as_json:
        said = {"out": str(done.out), "rows": done.rows, "columns": done.columns, "notes": done.notes, "simulated": done.simulated}
        typer.echo(json.dumps(said, ensure_ascii=False))
        return
    count = sum(map(len, done.columns.values()))
    typer.echo(f"{done.rows:,} rows, {count} columns of {', '.join(done.columns)} -> {done.out}")
    for note in done.notes:
        typer.echo(f"  {note}")
    typer.echo("For the card, under features:")
    for line in done.card_lines:
        typer.echo(f"  {line}")
    if done.simulated:
        typer.echo("Simulated layers: set `simulated: true` in the card.")


def _list_layers(as_json: bool) -> None:
    from rs05bench.datasets.layers import list_sources

    if as_json:
        import json

        typer.echo(json.dumps([source.model_dump() for source in list_sources()], indent=2, ensure_ascii=False))
        return
    for source in list_sources():
        typer.echo(f"{source.name}: {source.title}")
        for label in ("columns", "resolution", "licence", "homepage", "get", "leaks"):
            value = getattr(source, label)
            text = "; ".join(f"{name} ({meaning})" for name, meaning in value.items()) if isinstance(value, dict) else value
            typer.echo(f"  {label:<10} {text}")


def build(
    name: Annotated[str | None, typer.Argument(help="Name of the recipe; --list shows all.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder that holds the source files.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to make; default NAME in the current folder.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of the recipe; repeatable.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of an earlier build.")] = False,
    about: Annotated[bool, typer.Option("--about", help="Print the recipe's page: sources, what leaks, splits, options.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the recipes and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a task from public source files: card.yaml, the data, and build.json with what was read, counted and dropped."""
    import json

    from rs05bench.cli._progress import Bar
    from rs05bench.datasets.recipes import all_recipes, find_recipe
    from rs05bench.datasets.recipes import build as run
    from rs05bench.errors import DataError

    if listing:
        _list_recipes(as_json)
        return
    if name is None:
        raise DataError("which recipe?", remedy=f"There are: {', '.join(all_recipes())}. `rs05bench build --list` says more.")
    if about:
        from rs05bench.datasets.recipes.recipe_page import page

        recipe = find_recipe(name)
        typer.echo(json.dumps(recipe.described().model_dump(mode="json")) if as_json else page(recipe))
        return
    if root is None:
        raise DataError(
            "where are the source files?", remedy=f"Give --root DIR; `rs05bench build {name} --about` says what must lie there."
        )
    with Bar(quiet=as_json) as bar:
        made = run(name, root, out, replace=replace, progress=bar.show, options=_recipe_options(settings or []))
    if as_json:
        shown: dict[str, Any] = {"name": made.card.name, "folder": str(made.folder), "files": list(made.files), "counts": made.counts}
        shown |= {"dropped": made.dropped, "splits": made.card.splits, "splits_left_out": made.splits_left_out, "notes": list(made.notes)}
        typer.echo(json.dumps(shown))
        return
    typer.echo(made.report)
    if made.card.simulated:
        typer.echo("Simulated: for trying things out, never for a leaderboard.")
    typer.echo(f"Next: rs05bench sweep {made.folder / 'card.yaml'} --data {made.folder} --out runs")


def _recipe_options(settings: list[str]) -> dict[str, str]:
    from rs05bench.errors import DataError

    pairs = [setting.partition("=") for setting in settings]
    for key, sign, _ in pairs:
        if not (key and sign):
            raise DataError(f"--set takes OPTION=VALUE, found {key!r}")
    return {key: value for key, _, value in pairs}


def _list_recipes(as_json: bool) -> None:
    import json

    from rs05bench.datasets.recipes import all_recipes

    recipes = all_recipes()
    if as_json:
        typer.echo(json.dumps({name: recipe.described().model_dump(mode="json") for name, recipe in recipes.items()}))
        return
    width = max(map(len, recipes), default=0)
    for name, recipe in recipes.items():
        typer.echo(f"{name:<{width}}  {recipe.title}")
        needed = ", ".join(source.name + ("" if source.required else " (optional)") for source in recipe.sources)
        typer.echo(f"{'':<{width}}  needs {needed}; main split {recipe.main_split}")
    typer.echo("`rs05bench build NAME --about` says where to get the sources, what leaks in them and which splits are possible.")


def simulate(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    size: Annotated[str, typer.Option(help="tiny, small or medium.")] = "small",
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    tables: Annotated[bool, typer.Option("--tables", help="Write the three task tables with their cards instead of files.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Write the layers of hybrid feature sets instead: terrain, roads, ..")] = False,
    layout: Annotated[str, typer.Option(help="Layout of the burn chips: training or splits.")] = "training",
    nodata: Annotated[str, typer.Option(help="What missing pixels of the burn chips hold: -9999, 9999, 0 or nan.")] = "-9999",
    as_json: AsJson = False,
) -> None:
    """Write simulated landscapes in the formats of the real data sets; everything in them is marked simulated."""
    from rs05bench.cli._progress import Bar
    from rs05bench.datasets.simulated import write_files, write_layers, write_tables
    from rs05bench.errors import DataError

    if tables and layers:
        raise DataError("--tables and --layers are two things", remedy="Run it twice, each into a folder of its own.")
    if tables:
        written = write_tables(out, size=size, seed=seed)
    elif layers:
        written = write_layers(out, size=size, seed=seed)
    else:
        try:
            missing = float(nodata)
        except ValueError as error:
            raise DataError(f"--nodata takes a number or nan, found {nodata!r}") from error
        with Bar() as bar:
            written = write_files(out, size, seed, layout=layout, nodata=missing, progress=bar.show)  # type: ignore[arg-type]
    if as_json:
        import json

        typer.echo(
            json.dumps({"simulated": True, "size": size, "seed": seed, "written": {name: str(path) for name, path in written.items()}})
        )
        return
    for name, path in written.items():
        typer.echo(f"{name:<16} {path}")
    typer.echo("Simulated: for trying things out, never for a leaderboard.")
