"""sweep, results: many cells, and their table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    app.command("sweep")(sweep)
    app.command("results")(results)


def sweep(
    card: Annotated[Path, typer.Argument(help="Task card (YAML).")],
    out: Annotated[Path, typer.Option("--out", help="Folder of results; may hold earlier ones.")],
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    models: Annotated[str, typer.Option("--models", help="Model names, separated by commas, or 'shallow' or 'all'.")] = "shallow",
    splits: Annotated[str | None, typer.Option("--splits", help="Splits; default the card's.")] = None,
    budgets: Annotated[str | None, typer.Option("--budgets", help="Budgets; default the card's.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, e.g. 0-4.")] = "0-4",
    targets: Annotated[str | None, typer.Option("--targets", help="Targets; default the card's.")] = None,
    folds: Annotated[str | None, typer.Option("--folds", help="Only these folds.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Worker processes; default all cores.")] = None,
    costs: Annotated[bool, typer.Option("--costs/--no-costs", help="Measure costs alone in fresh processes at the end.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but the last line.")] = False,
) -> None:
    """Run a grid of models x splits x folds x budgets x seeds; what has a result already is not run again."""
    from rs05bench.cli._progress import SweepProgress
    from rs05bench.experiment.grid import choose_models, parse_seeds
    from rs05bench.experiment.sweep import sweep as run_sweep
    from rs05bench.protocol.card import TaskCard

    task = TaskCard.load(card)
    with SweepProgress(quiet=quiet) as progress:
        summary = run_sweep(
            card,
            data or card.parent,
            out,
            models=choose_models(models, task),
            splits=_names(splits),
            budgets=_names(budgets),
            seeds=parse_seeds(seeds),
            targets=_names(targets),
            folds=_names(folds),
            jobs=jobs,
            costs=costs,
            on_start=progress.start,
            on_progress=progress.advance,
        )
    typer.echo(
        f"{summary.cells} cells: {summary.done} run, {summary.reused} there already, {len(summary.failed)} failed. Results: {summary.store}"
    )
    for outcome in summary.failed[:5]:
        typer.echo(f"  {outcome.model}: {outcome.error.splitlines()[0] if outcome.error else 'failed'}", err=True)
    if summary.stopped:
        typer.echo("Stopped. The same command takes it up where it stopped.", err=True)
        raise typer.Exit(130)
    if summary.failed:
        raise typer.Exit(1)


def results(
    runs: Annotated[Path, typer.Argument(help="Folder of results.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON, a record a cell.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, a row a cell.")] = False,
) -> None:
    """Print a row a cell: names, scores at home, elsewhere and their drop, costs."""
    from rs05bench.errors import DataError
    from rs05bench.experiment.results import read_table
    from rs05bench.experiment.store import ResultStore

    if not (runs / "cells").is_dir():
        raise DataError("holds no results", source=runs, remedy="Make some: rs05bench sweep CARD --out FOLDER.")
    table = read_table(ResultStore(runs))
    if as_json:
        typer.echo(table.to_json(orient="records", double_precision=10))
    elif as_csv:
        typer.echo(table.to_csv(index=False), nl=False)
    else:
        from rs05bench.cli._progress import print_table

        print_table(table)


def _names(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None
