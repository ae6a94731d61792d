"""sweep, results: many cells, and their table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rs05bench.cli._where import Logger, RayAddress, RuntimeEnv, Where, chosen_executor


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    app.command("sweep")(sweep)
    app.command("results")(results)


def sweep(
    what: Annotated[Path, typer.Argument(metavar="CARD|GRID", help="Task card or grid file (YAML).")],
    out: Annotated[Path, typer.Option("--out", help="Folder of results; may hold earlier ones.")],
    data: Annotated[Path | None, typer.Option("--data", help="Data directory; default the card's folder.")] = None,
    models: Annotated[str | None, typer.Option("--models", help="Model names or patterns, separated by commas; 'shallow', 'all'.")] = None,
    splits: Annotated[str | None, typer.Option("--splits", help="Splits; default the card's.")] = None,
    budgets: Annotated[str | None, typer.Option("--budgets", help="Budgets; default the card's.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="Seeds; default 0-4.")] = None,
    targets: Annotated[str | None, typer.Option("--targets", help="Targets; default the card's.")] = None,
    folds: Annotated[str | None, typer.Option("--folds", help="Only these folds.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Worker processes; default all cores.")] = None,
    time_limit: Annotated[float | None, typer.Option("--time-limit", help="Longest time of a cell, seconds.")] = None,
    memory_limit: Annotated[float | None, typer.Option("--memory-limit", help="Most memory of a cell's process, MiB.")] = None,
    manifest: Annotated[
        list[str] | None,
        typer.Option("--manifest", help="Frozen manifest instead of one made from the data: file, folder of some, or shipped name."),
    ] = None,
    executor: Where = "local",
    ray_address: RayAddress = None,
    runtime_env: RuntimeEnv = None,
    logger: Logger = None,
    costs: Annotated[bool | None, typer.Option("--costs/--no-costs", help="Measure costs alone in fresh processes at the end.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but the last line.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print events as JSON lines.")] = False,
) -> None:
    """Run a grid of models x splits x folds x budgets x seeds; what has a result already is not run again."""
    from rs05bench.cli._progress import run_with_progress
    from rs05bench.errors import DataError
    from rs05bench.experiment.grid import choose_models, parse_seeds
    from rs05bench.experiment.gridfile import GridFile, Resources, is_grid, of_card
    from rs05bench.protocol.card import TaskCard

    limit = Resources(time_s=time_limit, memory_mb=memory_limit) if time_limit or memory_limit else None
    if is_grid(what):
        given = {"--models": models, "--splits": splits, "--budgets": budgets, "--seeds": seeds, "--targets": targets, "--folds": folds}
        given |= {"--data": None if data is None else str(data), "--manifest": ", ".join(manifest) if manifest else None}
        if said := [name for name, value in given.items() if value is not None]:
            raise DataError(f"a grid file says its own {', '.join(said)}", source=what, remedy="Change the file, or sweep a task card.")
        grid = GridFile.load(what)
        grid.costs = grid.costs if costs is None else costs
    else:
        task = TaskCard.load(what)
        grid = of_card(
            what,
            data or what.parent,
            models=choose_models(models or "shallow", task),
            splits=_names(splits),
            budgets=_names(budgets),
            seeds=parse_seeds(seeds or "0-4"),
            targets=_names(targets),
            folds=_names(folds),
            manifests=manifest,
            costs=costs is not False,
        )
    if limit:
        grid.resources.append(limit)
    runner = chosen_executor(executor, jobs, ray_address, runtime_env)
    run_with_progress(grid, out, jobs=jobs, quiet=quiet, jsonl=jsonl, executor=runner, loggers=logger or ())


def results(
    runs: Annotated[Path, typer.Argument(help="Folder of results.")],
    where: Annotated[
        str | None, typer.Option("--where", help="Only rows for which this holds, e.g. \"tier = 'raw' and seed < 3\".")
    ] = None,
    columns: Annotated[str | None, typer.Option("--columns", help="Columns, or SQL such as model,avg(macro_f1_ood) as ood.")] = None,
    order: Annotated[str | None, typer.Option("--order", help="What to order by, e.g. 'ood desc'.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Write to this .csv or .parquet file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, a record a cell.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, a row a cell.")] = False,
) -> None:
    """Print a row a cell: names, scores at home, elsewhere and their drop, costs."""
    from rs05bench.errors import DataError
    from rs05bench.experiment import query
    from rs05bench.experiment.store import ResultStore

    if not (runs / "cells").is_dir():
        raise DataError("holds no results", source=runs, remedy="Make some: rs05bench sweep CARD --out FOLDER.")
    store, chosen = ResultStore(runs), _expressions(columns)
    sql = where is not None or order is not None or any(not name.isidentifier() for name in chosen or [])
    table = query.select(store, where, chosen, order) if sql else query.read_index(store, chosen)
    if to is not None:
        typer.echo(f"{len(table)} rows: {query.export(table, to)}")
    elif as_json:
        typer.echo(table.to_json(orient="records", double_precision=10))
    elif as_csv:
        typer.echo(query.without_formulas(table).to_csv(index=False), nl=False)
    else:
        from rs05bench.cli._progress import print_table

        print_table(table)


def _names(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def _expressions(text: str | None) -> list[str] | None:
    """Parts between commas that stand outside brackets."""
    if not text:
        return None
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
