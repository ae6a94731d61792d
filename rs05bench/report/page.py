"""The report of a run folder: one HTML file that opens anywhere, and next to it the figures as PNG, SVG and CSV."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rs05bench.experiment.query import without_formulas
from rs05bench.protocol.splits import Split
from rs05bench.report import setting
from rs05bench.report.answer import REMEDIES, overview
from rs05bench.report.compose import Chapter, all_figures, compose
from rs05bench.report.drawing import Figure, all_digests
from rs05bench.report.loading import RunFolder, Section, read_runs
from rs05bench.report.style import metric_name

MARK = ".rs05bench-report"


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        page: The HTML file.
        verdicts: Task or target -> its answer, one sentence each.
        broken_rules: Numbers of the rules that are broken.
        cells: Results shown.
    """

    page: Path
    verdicts: dict[str, list[str]]
    broken_rules: list[int]
    cells: int


def write_report(runs: str | Path, out: str | Path, *, images: bool = True) -> Report:
    """Writes the report of a run folder.

    Args:
        runs: A sweep's folder.
        out: Where to write `index.html` and `figures/`; made where missing.
        images: Whether to write PNG and SVG of each figure too.

    Returns:
        Where it is and what it says.

    Raises:
        DataError: The folder holds no result, or something in it is not what it should be;
            `out` holds a file of such a name that no report wrote.
    """
    read = read_runs(runs)
    chapters = [compose(section) for section in read.sections]
    top = overview(chapters)
    root = Path(out)
    text = render(read, chapters, top, images=images)
    setting.make_room(root, MARK, _names(chapters, top, images=images))
    _write_files(root / "figures", chapters, top, images=images)
    page = setting.write_page(root / "index.html", text)
    return Report(
        page,
        {chapter.section.key: [chapter.answer.sentence, *chapter.answer.warnings, *chapter.answer.notes] for chapter in chapters},
        [verdict.rule for verdict in read.rules if verdict.verdict == "fail"],
        len(read.results),
    )


def _names(chapters: Sequence[Chapter], top: Figure, *, images: bool) -> list[str]:
    tables = [table.key for chapter in chapters for table in chapter.all_tables]
    figures = [figure.key for figure in (top, *all_figures(chapters))]
    drawn = [f"figures/{key}.{kind}" for key in figures for kind in ("svg", "png") if images]
    return ["index.html", *(f"figures/{key}.csv" for key in dict.fromkeys([*figures, *tables])), *drawn]


def _write_files(folder: Path, chapters: Sequence[Chapter], top: Figure, *, images: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_figure(top, folder, "SIMULATED DATA" if any(chapter.section.simulated for chapter in chapters) else "", images=images)
    for chapter in chapters:
        for figure in all_figures([chapter]):
            _write_figure(figure, folder, _subtitle(chapter.section), images=images)
        for table in chapter.all_tables:
            without_formulas(table.frame).to_csv(folder / f"{table.key}.csv", index=False)


def _write_figure(figure: Figure, folder: Path, subtitle: str, *, images: bool) -> None:
    without_formulas(figure.frame).to_csv(folder / f"{figure.key}.csv", index=False)
    if images:
        figure.write(folder, subtitle)


def _subtitle(section: Section) -> str:
    said = section.card.title or section.card.name
    target = f", {section.target}" if len(section.card.targets) > 1 else ""
    mark = " · SIMULATED DATA" if section.simulated else ""
    return f"{said}{target} · {metric_name(section.metric)}{mark}"


def render(runs: RunFolder, chapters: Sequence[Chapter], top: Figure, *, images: bool = True) -> str:
    """The page as text."""
    from markupsafe import Markup

    figures = [top, *all_figures(chapters)]
    digests = all_digests(figures)
    number_of = {digest: i for i, digest in enumerate(digests)}
    content = {"digests": digests, "figures": {figure.key: [number_of[digest] for digest in figure.digests] for figure in figures}}
    return setting.page(
        "report.html.j2",
        runs=runs,
        chapters=chapters,
        overview=top,
        about={chapter.section.key: about(chapter.section) for chapter in chapters},
        tiers={tier for chapter in chapters for tier in chapter.tiers},
        overall=_overall(runs, chapters),
        images=images,
        remedies=REMEDIES,
        written=datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
        content=Markup(setting.script_safe(content)),
    )


def _overall(runs: RunFolder, chapters: Sequence[Chapter]) -> dict[str, Any]:
    results = runs.results
    seeds = sorted({result.cell.seed for result in results})
    versions = results[0].provenance.versions
    return {
        "cells": len(results),
        "models": len({result.cell.model for result in results}),
        "seeds": len(seeds),
        "passed": sum(verdict.verdict == "pass" for verdict in runs.rules),
        "failed": sum(verdict.verdict == "fail" for verdict in runs.rules),
        "version": versions.get("rs05bench", ""),
        "one": len(chapters) == 1,
        "simulated": all(chapter.section.simulated for chapter in chapters),
    }


def about(section: Section) -> dict[str, str]:
    """What a section's data are, for the top of it."""
    card = section.card
    units = max((len(manifest.units) for manifest in section.manifests.values()), default=0)
    groups = []
    first = next(iter(section.manifests.values()), None)
    if first is not None:
        for column in card.groups:
            if column in first.units:
                groups.append(f"{column.replace('_', ' ')} ({first.units[column].nunique():,})")
        if card.year:
            years = first.units["year"].dropna()
            groups.append(f"years {int(years.min())}–{int(years.max())}" if len(years) else "")
    moved = Split(section.lead_split).group if section.lead_split else None
    left = f"in another {moved.replace('-', ' ').replace('_', ' ')}" if moved else "elsewhere"
    return {
        "question": f"How well can {_predicted(section)} be mapped from few labels, and how much of that is left {left}?",
        "units": f"{units:,} units" if units else "",
        "groups": ", ".join(part for part in groups if part),
        "source": card.source,
        "licence": card.licence,
        "citation": card.citation,
        "notes": card.notes,
        "overlap": card.overlap,
    }


def _predicted(section: Section) -> str:
    """What is predicted, to stand in a question."""
    target = section.target.replace("_", " ")
    classes = [str(value) for value in section.card.class_names or section.card.classes or ()]
    if section.card.kind == "regression" or not classes:
        return target
    return " and ".join(classes) if len(classes) == 2 else f"{target} ({len(classes)} classes)"
