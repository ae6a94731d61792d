"""errors: where the models of a run folder fail, for QGIS and for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("errors")(errors)


def errors(
    runs: Annotated[Path, typer.Argument(help="Folder of results.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; for chips, and results that keep no labels.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split; default the first that holds groups out.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Budget; default the largest.")] = None,
) -> None:
    """Write maps of error, confidence and disagreement (GeoPackage, COG), typical failures by group, and a page that opens offline."""
    from rs05bench.report.errormaps import write_error_maps

    for entry in write_error_maps(runs, out, data=data, split=split, budget=budget):
        typer.echo(f"{entry.title}: {entry.best} is best on {entry.role}; {len(entry.errors.files)} files")
        for row in entry.failures.groupby("column", sort=False).head(1).itertuples(index=False) if len(entry.failures) else ():
            typer.echo(f"    worst {row.column} {row.group} ({row.units} units, mean error {row.error:.2f}): {row.failure}")
    typer.echo(f"Open {out / 'index.html'}")
