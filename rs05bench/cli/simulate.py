"""simulate: write the embedded benchmark, as files in the real formats or as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command of this family."""
    app.command("simulate")(simulate)


def simulate(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    size: Annotated[str, typer.Option(help="tiny, small or medium.")] = "small",
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    tables: Annotated[bool, typer.Option("--tables", help="Write the three task tables with their cards instead of files.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Write the layers of hybrid feature sets instead: terrain, roads, ..")] = False,
    layout: Annotated[str, typer.Option(help="Layout of the burn chips: training or splits.")] = "training",
    nodata: Annotated[str, typer.Option(help="What missing pixels of the burn chips hold: -9999, 9999, 0 or nan.")] = "-9999",
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
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
