"""Tables of a page, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.report.drawing import csv_link
from rs05bench.report.style import number


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        key: Name of its file and anchor.
        title: What it holds.
        head: Column titles; those that start with `#` hold numbers.
        rows: Text to show.
        frame: The full numbers, its CSV; empty where the text is all there is.
    """

    key: str
    title: str
    head: list[str]
    rows: list[list[str]]
    frame: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def link(self) -> str:
        """The whole table as CSV; empty where there is none."""
        return csv_link(self.frame, f"figures/{self.key}.csv") if len(self.frame.columns) else ""


@dataclass(frozen=True)
class ConfusionTable:
    """A confusion matrix as text.

    Attributes:
        title: What it is of.
        classes: Names of the classes.
        rows: True class, the share predicted as each class, and how many are labelled so.
    """

    title: str
    classes: list[str]
    rows: list[tuple[str, list[str], str]]

    @classmethod
    def of(cls, counts: NDArray[np.float64], names: Sequence[str], title: str) -> ConfusionTable:
        """From counts (K, K) of true class by predicted class."""
        rows = []
        for name, row in zip(names, np.asarray(counts, dtype=np.float64), strict=True):
            total = row.sum()
            rows.append((str(name), [number(value / total) if total else "–" for value in row], f"{total:,.0f}"))
        return cls(title, [str(name) for name in names], rows)
