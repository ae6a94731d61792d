"""sweep, plan, status, resume, retry-failed, prune, import: many cells before, while and after they run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rs05bench.cli._options import (
    AsJson,
    Budgets,
    Chosen,
    Costs,
    Data,
    Folds,
    Logger,
    Manifests,
    Models,
    Preset,
    RayAddress,
    RuntimeEnv,
    Seeds,
    Splits,
    Targets,
    What,
    Where,
    chosen_executor,
)

if TYPE_CHECKING:
    from rs05bench.experiment.executors import Executor

Runs = Annotated[Path, typer.Argument(help="Folder of results.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this file."""
    app.command("sweep")(sweep)
    app.command("plan")(plan)
    app.command("status")(status)
    app.command("resume")(resume)
    app.command("retry-failed")(retry_failed)
    app.command("prune")(prune)
    app.command("import")(import_runs)


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


def plan(
    grid: What,
    out: Annotated[Path | None, typer.Option("--out", help="Folder the results would go to; what is there counts as done.")] = None,
    data: Data = None,
    preset: Preset = None,
    models: Models = None,
    splits: Splits = None,
    budgets: Budgets = None,
    seeds: Seeds = None,
    targets: Targets = None,
    folds: Folds = None,
    manifest: Manifests = None,
    costs: Costs = None,
    costs_from: Annotated[list[Path] | None, typer.Option("--costs-from", help="Further results to learn costs from.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Workers; default all cores.")] = None,
    price: Annotated[float | None, typer.Option("--price", "--price-per-hour", help="Price of an hour of one worker.")] = None,
    device_price: Annotated[
        float | None, typer.Option("--device-price", "--device-price-per-hour", help="Price of an hour of an accelerator.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How many cells, what is done, predicted time, memory and cost, and which rules the grid would break; takes the options of sweep."""
    import json
    import os

    from rs05bench.experiment.grid_plan import plan_grid

    jobs = jobs or os.cpu_count() or 1
    asked = Chosen(data, preset, models, splits, budgets, seeds, targets, folds, manifest, costs).grid(grid)
    found = plan_grid(asked, out, costs_from=costs_from or [], jobs=jobs, price_hour=price, price_device_hour=device_price)
    if as_json:
        typer.echo(json.dumps(found.record(), indent=2))
        return
    typer.echo(f"{found.cells} cells, {found.done} done, {found.failed} failed")
    for tier in found.tiers:
        took = "nothing like it was ever run" if tier.seconds is None else _duration(tier.seconds)
        memory = "" if tier.memory_mb is None else f", up to {tier.memory_mb:.0f} MiB"
        typer.echo(f"  {tier.task:<16} {tier.tier:<10} {tier.cells:>7} cells {tier.done:>7} done   {took}{memory}")
    unknown = f" without {found.unknown} cells nothing is known of" if found.unknown else ""
    typer.echo(f"Work left: {_duration(found.seconds)} of one worker, {_duration(found.wall_seconds)} on {jobs}{unknown}")
    if found.memory_together_mb is not None:
        typer.echo(f"Memory: up to {found.memory_mb:.0f} MiB a cell, {found.memory_together_mb:.0f} MiB together, beside workers and data")
    if found.device_hours:
        typer.echo(f"Accelerators: {found.device_hours:.1f} hours")
    if found.price is not None:
        typer.echo(f"Price: {found.price:.2f}")
    for verdict in found.lacking:
        typer.echo(f"Rule {verdict.rule} would fail: {verdict.reason}")


def status(runs: Runs, as_json: AsJson = False) -> None:
    """What was asked for in a folder, and what of it is there."""
    import json

    from rs05bench.experiment.upkeep import status as find

    found = find(runs)
    if as_json:
        rows = found.tiers.to_dict("records")
        typer.echo(json.dumps({"tiers": rows, "failures": found.failures, "other": found.other, "left": found.left}, indent=2))
        return
    for row in found.tiers.to_dict("records"):
        failed = f", {row['failed']} failed" if row["failed"] else ""
        typer.echo(f"  {row['task']:<16} {row['tier']:<10} {row['done']} of {row['cells']} done{failed}, {row['left']} left")
    for error, count in list(found.failures.items())[:5]:
        typer.echo(f"  {count} x {error}")
    if found.other:
        typer.echo(f"  {found.other} results that no kept grid asks for")
    if found.left:
        typer.echo(f"Take it up with: rs05bench resume {runs}")
    if found.failures:
        typer.echo(f"Try the failed ones again with: rs05bench retry-failed {runs}")


def resume(
    runs: Runs,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Worker processes; default all cores.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but the last line.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print events as JSON lines.")] = False,
    logger: Logger = None,
    executor: Where = "local",
    ray_address: RayAddress = None,
    runtime_env: RuntimeEnv = None,
) -> None:
    """Take up what a folder's grids still lack; cells that failed are left as they are."""
    _again(runs, "new", jobs, quiet, jsonl, logger, chosen_executor(executor, jobs, ray_address, runtime_env))


def retry_failed(
    runs: Runs,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Worker processes; default all cores.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but the last line.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print events as JSON lines.")] = False,
    logger: Logger = None,
    executor: Where = "local",
    ray_address: RayAddress = None,
    runtime_env: RuntimeEnv = None,
) -> None:
    """Run the cells again that failed, and no others."""
    _again(runs, "failed", jobs, quiet, jsonl, logger, chosen_executor(executor, jobs, ray_address, runtime_env))


def prune(
    runs: Runs,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only what would go is listed.")] = False,
    other: Annotated[bool, typer.Option("--other", help="Also results that no kept grid asks for.")] = False,
) -> None:
    """Remove results of earlier cards, manifests or data, results that cannot be read, and failures that were settled."""
    from rs05bench.experiment.upkeep import prunable
    from rs05bench.experiment.upkeep import prune as remove

    found = prunable(runs)
    typer.echo(
        f"{len(found.stale)} stale, {len(found.broken)} unreadable, {len(found.settled)} settled failures, "
        f"{len(found.other)} that no grid asks for{'' if other else ' (kept; --other removes them)'}"
    )
    if yes:
        typer.echo(f"{remove(runs, found, other=other)} removed")
    else:
        typer.echo("Nothing was removed; --yes does.")


def import_runs(
    source: Annotated[Path, typer.Argument(help="Folder of results of another team.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of results to take them into.")],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Label pack to score with; default the labels kept in --out, else those that came along."),
    ] = None,
) -> None:
    """Take another team's results into a folder, each checked and scored again from its predictions; no stated score is believed."""
    from rs05bench.experiment.importing import import_runs as take

    told = take(source, out, labels)
    reported = f", {len(told.reported)} kept as reported (in no table)" if told.reported else ""
    typer.echo(f"{told.taken} taken, {told.there} there already{reported}, {len(told.refused)} refused")
    for digest, why in [*list(told.refused.items())[:10], *list(told.reported.items())[:3]]:
        typer.echo(f"  {digest[:12]}: {why}", err=True)
    if told.refused:
        raise typer.Exit(1)


def _again(runs: Path, retry: str, jobs: int | None, quiet: bool, jsonl: bool, loggers: list[str] | None, executor: Executor | str) -> None:
    from rs05bench.cli._progress import run_with_progress
    from rs05bench.experiment.upkeep import kept_grids

    for grid in kept_grids(runs):
        run_with_progress(grid, runs, jobs=jobs, retry=retry, quiet=quiet, jsonl=jsonl, loggers=loggers or (), executor=executor)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
