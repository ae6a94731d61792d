"""What a person sees while a sweep runs: a bar a tier, what is done, what failed, time left. Quiet when piped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from rs05bench.experiment.workers import Outcome
    from rs05bench.protocol.result import Cell


class SweepProgress:
    """Bars for a running sweep, as a context manager.

    Args:
        quiet: Print nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        import sys

        self.shown = not quiet and sys.stderr.isatty()
        self._bars: Any = None
        self._task: dict[str, Any] = {}
        self._failed: Counter[str] = Counter()

    def __enter__(self) -> SweepProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, cells: list[Cell], reused: int) -> None:
        """Called once with all cells and how many are done already."""
        if not self.shown:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=Console(stderr=True))
        left = len(cells) - reused
        counts = Counter(_family(cell.model) for cell in cells)
        if reused:
            self._bars.console.print(f"{reused} of {len(cells)} cells are there already")
        if left == len(cells):
            for family, count in sorted(counts.items()):
                self._task[family] = self._bars.add_task(family, total=count, note="")
        else:
            self._task[""] = self._bars.add_task("cells", total=left, note="")
        self._bars.start()

    def advance(self, outcomes: Iterable[Outcome]) -> None:
        """Called with what is done."""
        if self._bars is None:
            return
        for outcome in outcomes:
            task = self._task.get(_family(outcome.model), self._task.get(""))
            if not outcome.ok:
                self._failed[_family(outcome.model)] += 1
                self._bars.update(task, note=f"{self._failed[_family(outcome.model)]} failed")
            self._bars.advance(task)


def _family(model: str) -> str:
    return model.split("/", maxsplit=1)[0]


def print_table(table: pd.DataFrame, *, limit: int = 60) -> None:
    """Prints a table for people: short columns, three decimals."""
    from pandas.api.types import is_numeric_dtype
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shown = [
        column
        for column in table.columns
        if column not in ("digest", "kind", "main_metric", "main", "simulated", "random_twin", "open_weights", "alone")
    ]
    names = [column for column in shown if not is_numeric_dtype(table[column]) or column == "seed"]
    numbers = [column for column in shown if column not in names][:9]
    grid = Table(box=None, pad_edge=False)
    for column in [*names, *numbers]:
        grid.add_column(column, justify="left" if column in names else "right", no_wrap=True)
    for _, row in table.head(limit).iterrows():
        grid.add_row(
            *(str(row[column]) for column in names), *(f"{row[column]:.3f}" if row[column] == row[column] else "" for column in numbers)
        )
    console.print(grid)
    if len(table) > limit:
        console.print(f"… {len(table) - limit} rows more; --csv or --json prints all")
