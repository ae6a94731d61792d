"""sweep, results: many cells, and their table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rs05bench.cli._chosen import Budgets, Chosen, Costs, Data, Folds, Manifests, Models, Preset, Seeds, Splits, Targets, What
from rs05bench.cli._where import Logger, RayAddress, RuntimeEnv, Where, chosen_executor


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    app.command("sweep")(sweep)
    app.command("results")(results)


def sweep(
    what: What,
    out: Annotated[Path, typer.Option("--out", help="Folder of results; may hold earlier ones.")],
    data: Data = None,
    preset: Preset = None,
    models: Models = None,
    splits: Splits = None,
    budgets: Budgets = None,
    seeds: Seeds = None,
    targets: Targets = None,
    folds: Folds = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Worker processes; default all cores.")] = None,
    time_limit: Annotated[float | None, typer.Option("--time-limit", help="Longest time of a cell, seconds.")] = None,
    memory_limit: Annotated[float | None, typer.Option("--memory-limit", help="Most memory of a cell's process, MiB.")] = None,
    manifest: Manifests = None,
    executor: Where = "local",
    ray_address: RayAddress = None,
    runtime_env: RuntimeEnv = None,
    logger: Logger = None,
    costs: Costs = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but the last line.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print events as JSON lines.")] = False,
) -> None:
    """Run a grid of models x splits x folds x budgets x seeds; what has a result already is not run again."""
    from rs05bench.cli._progress import run_with_progress
    from rs05bench.experiment.gridfile import Resources

    grid = Chosen(data, preset, models, splits, budgets, seeds, targets, folds, manifest, costs).grid(what)
    if time_limit or memory_limit:
        grid.resources.append(Resources(time_s=time_limit, memory_mb=memory_limit))
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
    """Print the mean scores of every model at every budget: in-domain, out-of-domain and their drop.

    With --columns or --order, or written as CSV, JSON or a file, a row a cell with every score and cost.
    """
    from rs05bench.cli._result_tables import print_cells, print_means
    from rs05bench.errors import DataError
    from rs05bench.experiment import query
    from rs05bench.experiment.means import means_of
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
    elif chosen or order:
        print_cells(table)
    else:
        print_means(means_of(table))


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
