"""A study's page: a table, a forest plot and a few fixed sentences, in Markdown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.inference.estimate import Bounds, Estimate
from rs05bench.protocol.inference.power import detectable
from rs05bench.protocol.result import Result

from .record import ROOT, StudyRecord

HIGHER, LOWER, OPEN = "#0072B2", "#D55E00", "#777777"
"""Of Okabe and Ito's palette; the marker repeats what the colour says."""


@dataclass(frozen=True)
class Row:
    """One comparison as shown.

    Attributes:
        label: What is compared.
        first: Value of the first side.
        second: Value of the second side.
        effect: First minus second; positive means that the first is better.
        metric: Metric.
    """

    label: str
    first: float
    second: float
    effect: Estimate
    metric: str

    @property
    def detectable(self) -> float:
        """The difference that these groups show with 80 % probability."""
        return detectable(self.effect)

    @property
    def reading(self) -> str:
        """What the corrected test says."""
        if self.effect.p is None:
            return "no interval"
        if not self.effect.significant:
            return "no significant difference"
        return "higher" if self.effect.value > 0 else "lower"


def digest_of(rows: Sequence[Row]) -> str:
    """Twelve hex digits over labels and numbers to two decimals, which the sentences of a page are written for."""
    ends = [row.effect.bounds or Bounds("mean", np.nan, np.nan, np.nan) for row in rows]
    text = "\n".join(f"{r.label}|{r.effect.value:.2f}|{e.low:.2f}|{e.high:.2f}|{r.reading}" for r, e in zip(rows, ends, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_page(
    study: StudyRecord,
    rows: Sequence[Row],
    results: Sequence[Result],
    tables: Sequence[tuple[str, pd.DataFrame]],
    docs: Path,
    *,
    quick: bool,
    notes: Sequence[str] = (),
) -> Path:
    """Writes `NAME.md`, `NAME.png` and `NAME.csv`.

    Args:
        study: The study.
        rows: Its comparisons.
        results: The cells behind them.
        tables: Further tables: title and content.
        docs: Where to write.
        quick: Whether this was a trial of the steps.
        notes: What is to be said of the intervals.

    Returns:
        The Markdown page.
    """
    docs.mkdir(parents=True, exist_ok=True)
    seen = digest_of(rows)
    frame = pd.DataFrame(
        {
            "comparison": row.label,
            "metric": row.metric,
            "first": row.first,
            "second": row.second,
            "difference": row.effect.value,
            "median": row.effect.median.value if row.effect.median else np.nan,
            "low": row.effect.bounds.low if row.effect.bounds else np.nan,
            "high": row.effect.bounds.high if row.effect.bounds else np.nan,
            "p_holm": row.effect.p_holm,
            "detectable": row.detectable,
            "over": row.effect.over,
            "groups": row.effect.n_groups,
            "seeds": row.effect.n_seeds,
            "reading": row.reading,
        }
        for row in rows
    )
    write_text(docs / f"{study.name}.csv", frame.to_csv(index=False, float_format="%.6g"))
    forest(rows, docs / f"{study.name}.png", study.title)
    environment = Environment(loader=FileSystemLoader(ROOT), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"two": two, "signed": signed, "cells": lambda text: str(text).replace("|", "\\|")}
    simulated = {result.simulated for result in results}
    text = environment.get_template("page.md.j2").render(
        study=study,
        rows=rows,
        tables=tables,
        notes=notes,
        cells=len(results),
        seeds=sorted({result.cell.seed for result in results}),
        simulated="all" if simulated == {True} else "part" if True in simulated else "",
        says=study.says.sentences if study.says and study.says.digest == seen else [],
        outdated=study.says is not None and study.says.digest != seen,
        digest=seen,
        quick=quick,
    )
    return write_text(docs / f"{study.name}.md", text)


def forest(rows: Sequence[Row], path: Path, title: str) -> None:
    """A forest plot: one line per comparison, its interval, and zero."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.3 + 0.28 * max(len(rows), 1)), layout="constrained", dpi=110)
    axes = figure.subplots()
    for at, row in enumerate(rows):
        colour, marker = {"higher": (HIGHER, "^"), "lower": (LOWER, "v")}.get(row.reading, (OPEN, "o"))
        if (ends := row.effect.bounds) is not None:
            axes.plot([ends.low, ends.high], [at, at], color=colour, linewidth=1.6)
        axes.plot(row.effect.median.value if row.effect.median else row.effect.value, at, marker=marker, color=colour, markersize=6)
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
    axes.invert_yaxis()
    metrics = sorted({row.metric for row in rows})
    axes.set_xlabel(f"difference in {' or '.join(metrics)}, 95 % interval\nright of zero: the first is better")
    figure.suptitle(title, fontsize=11)
    figure.savefig(path)


def two(value: float) -> str:
    """Two decimals without the leading zero; a dash where it is not defined."""
    return "–" if not np.isfinite(value) else f"{value:.2f}".replace("0.", ".", 1)


def signed(value: float) -> str:
    """The same with its sign."""
    return "–" if not np.isfinite(value) else f"{value:+.2f}".replace("0.", ".", 1)
