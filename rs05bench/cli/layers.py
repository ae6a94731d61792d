"""``rs05bench layers``: terrain, climate zone, distances and counts beside the embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command of this family."""
    app.command("layers")(layers)


def layers(
    table: Annotated[Path | None, typer.Argument(help="CSV, Parquet, GeoPackage, GeoJSON or Shapefile of points or polygons.")] = None,
    folder: Annotated[Path | None, typer.Option("--layers", metavar="DIR", help="Folder with one subfolder a layer.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Table to write: .csv, .parquet or .gpkg.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Only this layer; repeatable.")] = None,
    x: Annotated[str | None, typer.Option(metavar="COL", help="Column of the x coordinate; default lon or longitude.")] = None,
    y: Annotated[str | None, typer.Option(metavar="COL", help="Column of the y coordinate; default lat or latitude.")] = None,
    crs: Annotated[str, typer.Option(help="CRS of those columns.")] = "EPSG:4326",
    listing: Annotated[bool, typer.Option("--list", help="List the layers with source, licence and resolution, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """Append the columns of layers (terrain, climate zone, distances, counts) to a table, for hybrid feature sets."""
    import json

    if listing:
        _list(as_json)
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


def _list(as_json: bool) -> None:
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
