"""report, demo: a run folder as a page; the embedded benchmark from nothing to its page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rs05bench.report import Report


def register(app: typer.Typer) -> None:
    """Adds the commands of this family."""
    app.command("report")(report)
    app.command("demo")(demo)


def report(
    runs: Annotated[Path, typer.Argument(help="Folder of results.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write index.html and figures/.")],
    images: Annotated[bool, typer.Option("--images/--no-images", help="Write PNG and SVG of each figure too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print path, verdicts and broken rules as JSON.")] = False,
) -> None:
    """Write results as one page that opens anywhere: curves, drop, cost, maps, calibration, groups, tables."""
    from rs05bench.report import write_report

    written = write_report(runs, out, images=images)
    if as_json:
        import json

        said = {"page": str(written.page), "verdicts": written.verdicts, "broken_rules": written.broken_rules, "cells": written.cells}
        typer.echo(json.dumps(said, indent=2, ensure_ascii=False))
        return
    _tell(written)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for data, results and report; may hold an earlier demo.")] = Path(
        "demo-report"
    ),
    jobs: Annotated[int | None, typer.Option("--jobs", help="Worker processes; default all cores.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also train networks on simulated chips; much longer.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Run the embedded benchmark on simulated data, every task of tables, and write its report; three minutes, no network."""
    from rs05bench.cli._progress import SweepProgress
    from rs05bench.experiment import demo as embedded
    from rs05bench.report import write_report

    typer.echo(f"Simulated tasks: {', '.join(task.name for task in embedded.TASKS)}. Results: {out / 'runs'}", err=True)
    progress = SweepProgress(quiet=quiet)
    with progress:
        summary = embedded.run_demo(out, tasks=embedded.TASKS, deep=deep, jobs=jobs, on_start=progress.start, on_progress=progress.advance)
    if summary.stopped:
        typer.echo("Stopped. The same command takes it up where it stopped.", err=True)
        raise typer.Exit(130)
    typer.echo(f"{summary.cells:,} cells, {summary.reused:,} of them there already, {len(summary.failed)} failed.")
    for outcome in summary.failed[:5]:
        typer.echo(f"  {outcome.model}: {outcome.error.splitlines()[0] if outcome.error else 'failed'}", err=True)
    _tell(write_report(summary.store, out))
    if summary.failed:
        raise typer.Exit(1)


def _tell(written: Report) -> None:
    for key, sentences in written.verdicts.items():
        typer.echo(f"\n{key}: {' '.join(sentences)}")
    if written.broken_rules:
        told = ", ".join(map(str, written.broken_rules))
        typer.echo(f"\nRules of the protocol that are broken: {told} (the page says why).")
    typer.echo(f"\nThe report: {written.page}")
