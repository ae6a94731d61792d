"""How tables and their values are named in ids and messages."""

from __future__ import annotations

from difflib import get_close_matches

import pandas as pd

from rs05bench.datasets.tables.card_files import FILE_COLUMN, ROW_COLUMN


def some_columns(frame: pd.DataFrame, limit: int = 10) -> str:
    """The first columns of a table, and how many there are."""
    names = [str(column) for column in frame.columns if column not in (FILE_COLUMN, ROW_COLUMN, "unit_id")]
    return ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")


def did_you_mean(name: str, frame: pd.DataFrame) -> str:
    """A remedy for a column that is not there."""
    close = get_close_matches(name, [str(column) for column in frame.columns], n=1)
    return f"Did you mean {close[0]!r}?" if close else "Correct the card, or join the file that holds it."
