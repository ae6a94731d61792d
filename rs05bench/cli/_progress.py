"""What a person sees while something runs; of a sweep a bar a tier, what is done, what failed, time left. Quiet when piped."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rs05bench.experiment.gridfile import GridFile
    from rs05bench.experiment.sweep import SweepSummary
    from rs05bench.experiment.workers import Outcome
    from rs05bench.protocol.result import Cell


class Bar:
    """One bar on standard error, as a context manager; nothing when piped.

    Args:
        quiet: Show nothing on a terminal either.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._bars: Any = None
        self._task: Any = None
        self._shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> Bar:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
            self._bars = Progress(*columns, console=Console(file=sys.__stderr__))
            self._bars.start()
            self._task = self._bars.add_task("", total=None)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, what: str, done: int, total: int | None) -> None:
        """Says what is being done, and how much of it is; a total of None is not known."""
        if self._bars is not None:
            self._bars.update(self._task, description=what, completed=done, total=total)


class DownloadBars:
    """One bar a file on a terminal; nothing when piped."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._progress: Any = None
        self._tasks: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> DownloadBars:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=Console(file=sys.__stderr__))
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, file: str, step: str, done: int, total: int | None) -> None:
        """Called with every chunk fetched and every file unpacked."""
        if self._progress is None:
            return
        if step == "unpack":
            if done % 100 == 1:
                self._progress.console.print(f"unpacking {file}: {done} files")
            return
        if (file, step) not in self._tasks:
            self._tasks[file, step] = self._progress.add_task(file, total=total)
        self._progress.update(self._tasks[file, step], completed=done, total=total)


class SweepProgress:
    """Bars for a running sweep, as a context manager: one a tier, with what is there, what failed, and the time left.

    Args:
        quiet: Print nothing.
        jsonl: Print every event as a line of JSON on standard output instead.
        tier: Tier of a model by its name; default the part before the slash.
    """

    def __init__(self, *, quiet: bool = False, jsonl: bool = False, tier: Callable[[str], str] | None = None) -> None:
        self.shown = not quiet and not jsonl and sys.stderr.isatty()
        self.jsonl = jsonl
        self._tier = tier or _family
        self._bars: Any = None
        self._task: dict[str, Any] = {}
        self._failed: Counter[str] = Counter()

    def __enter__(self) -> SweepProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, cells: list[Cell], reused: int) -> None:
        """Called once with all cells, those that need not run first, and how many those are."""
        if self.jsonl:
            _line({"event": "start", "cells": len(cells), "reused": reused})
        if not self.shown:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<18}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="red", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        # Cells of a tier come in bursts, hence a long memory for its speed.
        self._bars = Progress(*columns, console=Console(file=sys.__stderr__), speed_estimate_period=300)
        if reused:
            self._bars.console.print(f"{reused} of {len(cells)} cells already exist")
        there = Counter(self._tier(cell.model) for cell in cells[:reused])
        counts = Counter(self._tier(cell.model) for cell in cells)
        for tier, count in sorted(counts.items(), key=lambda item: _rank(item[0])):
            self._task[tier] = self._bars.add_task(tier, total=count, completed=there[tier], note="")
        self._bars.start()

    def advance(self, outcomes: Iterable[Outcome]) -> None:
        """Called with what is done."""
        for outcome in outcomes:
            if self.jsonl:
                record = {"event": "cell", "digest": outcome.digest, "model": outcome.model, "ok": outcome.ok}
                _line(record | {"seconds": round(outcome.seconds, 4)} | _why(outcome))
            if self._bars is None:
                continue
            tier = self._tier(outcome.model)
            task = self._task.get(tier)
            if task is None:
                continue
            if not outcome.ok:
                self._failed[tier] += 1
                self._bars.update(task, note=f"{self._failed[tier]} failed")
            self._bars.advance(task)

    def end(self, summary: SweepSummary) -> None:
        """Called with what became of it."""
        if self.jsonl:
            _line(
                {"event": "end", "cells": summary.cells, "run": summary.done, "reused": summary.reused, "failed": len(summary.failed)}
                | {
                    "skipped": len(summary.skipped),
                    "left": summary.left,
                    "stopped": summary.stopped,
                    "store": str(summary.store),
                    "warnings": summary.warnings,
                }
            )


def run_with_progress(
    grid: GridFile,
    out: Path,
    *,
    jobs: int | None = None,
    retry: str = "all",
    quiet: bool = False,
    jsonl: bool = False,
    executor: Any = "local",
    loggers: Sequence[str] = (),
) -> None:
    """Runs a grid, shows how it goes and what came of it; the command ends with 1 where cells failed, with 130 where it was stopped."""
    import typer

    from rs05bench import models
    from rs05bench.experiment.sweep import sweep
    from rs05bench.protocol.card import TaskCard

    known: dict[str, str] = {}
    cards = [TaskCard.load(entry.card) for entry in grid.tasks]

    def tier(name: str) -> str:
        if name not in known:
            for card in cards:
                try:
                    known[name] = models.model_card(name, card).tier
                    break
                except Exception:  # a name another task's card knows
                    known[name] = _family(name)
        return known[name]

    with SweepProgress(quiet=quiet, jsonl=jsonl, tier=tier) as progress:
        summary = sweep(
            grid,
            out,
            jobs=jobs,
            executor=executor,
            retry=retry,  # type: ignore[arg-type]
            loggers=loggers,
            on_start=progress.start,
            on_progress=progress.advance,
        )
    progress.end(summary)
    if not jsonl:
        left = f", {summary.left} left as they are" if summary.left else ""
        skipped = f", {len(summary.skipped)} do not apply" if summary.skipped else ""
        typer.echo(
            f"{summary.cells} cells: {summary.done} run, {summary.reused} there already{skipped}, {len(summary.failed)} failed{left}. "
            f"Results: {out}"
        )
        for line in _skipped(summary):
            typer.echo(f"  {line}", err=True)
        for warning in summary.warnings:
            typer.echo(f"  Warning: {warning}", err=True)
        for outcome in summary.failed[:5]:
            typer.echo(f"  {outcome.model}: {outcome.error.splitlines()[0] if outcome.error else 'failed'}", err=True)
    if summary.stopped:
        typer.echo(f"Stopped; what is done is kept. Take it up with: rs05bench resume {out}", err=True)
        raise typer.Exit(130)
    if summary.failed:
        if not jsonl:
            typer.echo(f"Try these again with: rs05bench retry-failed {out}", err=True)
        raise typer.Exit(1)


def _why(outcome: Outcome) -> dict[str, str]:
    return {
        name: text
        for name, text in (("error", outcome.error), ("skipped", outcome.skipped))
        if text or (name == "error" and not outcome.ok)
    }


def _skipped(summary: SweepSummary) -> list[str]:
    """What does not apply, once a model."""
    counts = Counter(outcome.model for outcome in summary.skipped)
    first = {outcome.model: outcome.skipped for outcome in reversed(summary.skipped)}
    return [
        f"{model} skipped {count} cells: {first[model].removeprefix(f'{model} is not applicable: ')}" for model, count in counts.items()
    ]


def _line(record: dict[str, Any]) -> None:
    import json

    print(json.dumps(record, ensure_ascii=False), file=sys.stdout, flush=True)


def _rank(tier: str) -> tuple[int, str]:
    order = ("floor", "raw", "embedding", "hybrid", "frozen", "decoder", "adapter", "lora", "full")
    return (order.index(tier) if tier in order else len(order), tier)


def _family(model: str) -> str:
    return model.split("/", maxsplit=1)[0]
