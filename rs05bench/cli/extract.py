"""``rs05bench extract``: embeddings for a user's own points or polygons."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("extract")(extract)


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

    from rs05bench.embeddings.embedding_source import open_source
    from rs05bench.embeddings.extraction import extract_chips, extract_table, parse_years, read_units, start_exports
    from rs05bench.embeddings.products import DEFAULT, product

    table = read_units(units, unit=unit)
    wanted = parse_years(years) if years is not None else None
    stats = tuple(stat or ["mean"])
    bounds = tuple(float(v) for v in table.to_crs("EPSG:4326").total_bounds)
    asked = wanted if wanted is not None else sorted({int(year) for year in table["year"]}) if "year" in table else None
    record = product(embedding or DEFAULT)
    opened = open_source(source or next(iter(record.access), ""), of=record, area=bounds, years=asked, url=url, project=project)  # type: ignore[arg-type]
    if export_to is not None:
        tasks = start_exports(table, opened, wanted, to=export_to, stats=stats)
        typer.echo(json.dumps({"tasks": tasks}) if as_json else f"Started {len(tasks)} export tasks: {', '.join(tasks)}")
        return
    with _Bar(quiet=as_json) as bar:
        try:
            if chips is None:
                made = extract_table(table, opened, wanted, out, stats=stats, progress=bar.show)
            else:
                made = extract_chips(table, opened, wanted, out, size=chips, progress=bar.show)
        except KeyboardInterrupt:
            bar.stop()
            typer.echo("Stopped. What is finished is kept: run the same command again to go on.", err=True)
            raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps({"out": str(made.out), "rows": made.units, "masked": made.empty, "tiles": made.tiles}))
        return

    masked = f", {made.empty} of them masked" if made.empty else ""
    tiles = f" from {len(made.tiles)} tile{'s' if len(made.tiles) != 1 else ''}" if made.tiles else ""
    typer.echo(f"{made.units} rows{masked}{tiles} -> {made.out}")
    typer.echo(f"{opened.product.name}, {opened.product.licence}: {opened.product.attribution or opened.product.citation}")


class _Bar:
    """A bar on a terminal, nothing in a pipe."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def show(self, state: object) -> None:
        """Called by the extraction after every portion."""
        if not self._shown:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from rs05bench.embeddings.extraction import Progress as State

        assert isinstance(state, State)
        if self._bar is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(file=sys.__stderr__))
            if state.resumed:
                self._bar.console.print(f"{state.resumed} of {state.total} were there already")
            self._task = self._bar.add_task("extract", total=state.total, note="")
            self._bar.start()
        self._bar.update(self._task, completed=state.done, note=f"{state.year}, {state.tiles} tiles")

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
