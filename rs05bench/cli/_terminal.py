"""What the command writes to a terminal: names from outside are shown as they are, and results as tables."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from rich.console import Console

    from rs05bench.experiment.means import Means

_OBEYED = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]|\\r(?!\\n)")


def visible(text: str) -> str:
    r"""Text with what a terminal would obey (escape sequences, other control characters, changes of direction) written out.

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


class _Visible(io.TextIOWrapper):
    def write(self, text: str) -> int:
        super().write(visible(text))
        return len(text)


def console() -> Console:
    """A console for tables: nothing in a name is markup, an emoji or a number to colour."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, color_system=None)


def show_names_as_they_are() -> None:
    """Has standard output and error write control characters out; progress bars write to `sys.__stderr__` and keep theirs."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, _Visible):
            stream.flush()
            line = stream.line_buffering or name == "stderr"
            setattr(sys, name, _Visible(stream.buffer, stream.encoding, "backslashreplace", line_buffering=line))


def print_means(tables: Sequence[Means], *, limit: int = 40) -> None:
    """Prints a table a task and split, best out-of-domain score first; what is the same in all of its rows stands above it."""
    from rich.table import Table

    out = console()
    if not tables:
        out.print("No result.")
    for found in tables:
        out.print(visible(" · ".join(found.same)), style="bold")
        out.print(visible(f"{found.mean}."))
        grid = Table(box=None, pad_edge=False)
        for column in found.rows.columns:
            words = column in ("model", "budget", "target")
            grid.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=not words)
        for row in found.rows.head(limit).itertuples(index=False):
            grid.add_row(*(visible(item) if isinstance(item, str) else "" if item != item else f"{item:.3f}" for item in row))
        out.print(grid)
        if len(found.rows) > limit:
            out.print(f"… {len(found.rows) - limit} rows more; --where narrows them, --csv prints all")
        out.print()


def print_cells(table: pd.DataFrame, *, limit: int = 60) -> None:
    """Prints a row a cell for people: short columns, three decimals."""
    from pandas.api.types import is_numeric_dtype
    from rich.table import Table

    out = console()
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
        words = [visible(str(row[column])) for column in names]
        grid.add_row(*words, *(f"{row[column]:.3f}" if row[column] == row[column] else "" for column in numbers))
    out.print(grid)
    if len(table) > limit:
        out.print(f"… {len(table) - limit} rows more; --csv or --json prints all")


def print_rows(rows: list[dict[str, Any]], columns: list[str], *, as_json: bool) -> None:
    """Prints records as a table of these columns, or all of them as JSON."""
    if as_json:
        import json

        import typer

        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column.replace("_", " "), no_wrap=column in ("name", "split", "tier"))
    for row in rows:
        grid.add_row(*(_text(row[column]) for column in columns))
    console().print(grid)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
