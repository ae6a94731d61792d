"""Results as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from rs05bench.experiment.means import Means


def print_means(tables: Sequence[Means], *, limit: int = 40) -> None:
    """Prints a table a task and split, best out-of-domain score first; what is the same in all of its rows stands above it."""
    from rich.table import Table

    from rs05bench.cli._output import console, visible

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

    from rs05bench.cli._output import console, visible

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
