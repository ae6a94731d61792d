"""The page of error maps, of tables and of chips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rs05bench.report import setting
from rs05bench.report.drawing import Figure
from rs05bench.report.error_figure import MapMeasure, error_figure, of_disagreement, of_errors
from rs05bench.report.style import number
from rs05bench.report.text_tables import Table
from rs05bench.report.thumbnails import CONFUSED, GOOD, HIT, MISSED, TOO_MUCH, UNKNOWN, Picture, class_colours

if TYPE_CHECKING:
    from rs05bench.report.errormaps import ErrorMap

MOST_ROWS, MOST_PICTURES, MOST_FILES, MOST_WORST = 8, 12, 7, 10


@dataclass(frozen=True)
class Strip:
    """The small pictures of a unit.

    Attributes:
        title: Its name.
        where: Its groups and what was wrong.
        pictures: The pictures.
    """

    title: str
    where: str
    pictures: list[Picture]


def write_error_page(maps: Sequence[ErrorMap], path: str | Path) -> Path:
    """Writes the page.

    Args:
        maps: Error maps, one a task and target.
        path: File to write.
    """
    sections = [_section(entry) for entry in maps]
    return setting.write_page(
        Path(path), setting.page("errors.html.j2", sections=sections, simulated=any(entry.simulated for entry in maps))
    )


def _section(entry: ErrorMap) -> dict[str, object]:
    shown = entry.errors.files[:MOST_FILES]
    return {
        "entry": entry,
        "figures": _figures(entry),
        "tables": [table for table in (_failures(entry), _worst(entry), _models(entry)) if table is not None],
        "marks": _keys(entry) if entry.errors.pictures else [],
        "strips": _strips(entry),
        "files": shown,
        "left": len(entry.errors.files) - len(shown),
    }


def _figures(entry: ErrorMap) -> list[Figure]:
    """Maps of error and of disagreement."""
    units = entry.units
    placed = units[np.isfinite(units["lon"].astype(float))]
    if placed.empty:
        return []
    drawn = placed.assign(place=placed["unit_id"], usual_mistake=placed["failure"])
    figures = [_figure(entry, drawn, "Error of each unit", of_errors(regression=entry.regression))]
    if float(placed["seeds_disagree"].max()) > 0:
        # Where a model answers differently with every draw of labels, its answer there is luck.
        differing = drawn.assign(error=drawn["seeds_disagree"], usual_mistake="")
        figures.append(_figure(entry, differing, "Disagreement between fits", of_disagreement(regression=entry.regression)))
    return figures


def _figure(entry: ErrorMap, drawn: pd.DataFrame, title: str, measure: MapMeasure) -> Figure:
    key = f"{entry.key}-{title.split()[0].lower()}"
    columns = ["place", "lon", "lat", "error", "usual_mistake", *entry.columns]
    return error_figure(key, title, f"{title}, {entry.best}", drawn[columns], entry.columns, measure=measure)


def _failures(entry: ErrorMap) -> Table | None:
    if entry.failures.empty:
        return None
    rows = [
        [row.column, row.group, f"{row.units:,}", number(row.error), number(row.sure_and_wrong), row.failure]
        for row in entry.failures.groupby("column", sort=False).head(MOST_ROWS).itertuples(index=False)
    ]
    error = "#mean absolute error" if entry.regression else "#share wrong"
    head = ["column", "group", "#units", error, "#sure and wrong", "typical failure"]
    if entry.regression:
        rows, head = [row[:4] + row[5:] for row in rows], head[:4] + head[5:]
    return Table(f"{entry.key}-failures", "Typical failures by group, worst first", head, rows)


def _worst(entry: ErrorMap) -> Table:
    half = "#half-width" if entry.regression else "#confidence"
    values = ["truth", "predicted"] if "truth" in entry.units else []
    head = ["unit", *values, "#error", half, "#fits disagree", "what is wrong"]
    rows = []
    for row in entry.units.head(MOST_WORST).to_dict("records"):
        shown = [number(float(row[name])) if entry.regression else str(row[name]) for name in values]
        rows.append(
            [str(row["unit_id"]), *shown, *(number(row[name]) for name in ("error", "confidence", "seeds_disagree")), row["failure"]]
        )
    return Table(f"{entry.key}-worst", "The worst units", head, rows)


def _models(entry: ErrorMap) -> Table | None:
    means = entry.errors.table.groupby("model")[["error", "confidence", "seeds_disagree"]].mean().sort_values("error")
    if len(means) < 2:
        return None
    head = ["model", "#mean error", "#half-width" if entry.regression else "#confidence", "#fits disagree"]
    rows = [[str(name), *(number(value) for value in row)] for name, row in zip(means.index, means.to_numpy(), strict=True)]
    return Table(f"{entry.key}-models", "All models on these units", head, rows)


def _strips(entry: ErrorMap) -> list[Strip]:
    """The worst chips, and the worst of each group of the first column where it is not among them."""
    pictures = entry.errors.pictures
    rows = {str(row["unit_id"]): row for row in entry.units.to_dict("records")}
    worst = [unit for unit in rows if unit in pictures][:MOST_PICTURES]
    found = [_strip(entry, rows[unit], "") for unit in worst]
    if len(entry.failures) and pictures:
        first = entry.failures[entry.failures["column"] == entry.failures["column"].iloc[0]]
        found += [
            _strip(entry, rows[row.worst], f"{row.group}: ")
            for row in first.itertuples(index=False)
            if row.worst in pictures and row.worst not in worst
        ]
    return found


def _strip(entry: ErrorMap, row: dict[str, object], lead: str) -> Strip:
    confidence = float(str(row["confidence"]))
    sure = f", {number(confidence)} sure on average" if confidence == confidence else ""
    groups = ", ".join(str(row[column]) for column in entry.columns)
    error = number(100 * float(str(row["error"])), 0)
    return Strip(
        f"{lead}{row['unit_id']}",
        f"{groups}{'. ' if groups else ''}{error} % wrong{sure}; {row['failure']}.",
        entry.errors.pictures[str(row["unit_id"])],
    )


def _keys(entry: ErrorMap) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the colours of the small pictures mean."""
    names = list(entry.errors.classes)
    errors = [("right", GOOD), ("wrong", CONFUSED)]
    if len(names) == 2:
        errors = [(f"{names[1]} found", HIT), (f"{names[1]} missed", MISSED), (f"{names[1]} where there is none", TOO_MUCH)]
    of_classes = [*zip(names, class_colours(len(names)), strict=True), ("nothing known", UNKNOWN)]
    return [("truth, answer", of_classes), ("error", errors), ("how sure, fits disagree: dark is doubt", [])]
