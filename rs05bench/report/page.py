"""Setting the page: one HTML file that asks nobody for anything, and beside it the figures as PNG, SVG and CSV."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rs05bench.errors import DataError
from rs05bench.protocol.splits import Split
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.compose import Chapter, Table, all_figures, compose
from rs05bench.report.figures import Figure, ramp_gradient
from rs05bench.report.loading import Runs, Section, read_runs
from rs05bench.report.style import MARKER_PATHS, metric_name

SHOWN_CELLS = 2000
"""Rows of the table of cells that the page itself holds; the CSV holds all."""


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        page: The HTML file.
        verdicts: Task or target -> its sentences.
        broken_rules: Numbers of the rules that are broken.
        cells: Results shown.
    """

    page: Path
    verdicts: dict[str, list[str]]
    broken_rules: list[int]
    cells: int


def write_report(runs: str | Path, out: str | Path, *, data: str | Path | None = None, images: bool = True) -> Report:
    """Writes the report of a run folder.

    Args:
        runs: A sweep's folder.
        out: Where to write `index.html` and `figures/`; made where missing.
        data: Data directory, for run folders that keep no labels.
        images: Whether to write PNG and SVG of each figure too.

    Returns:
        Where it is and what it says.

    Raises:
        DataError: The folder holds no result, or something in it is not what it should be.
    """
    read = read_runs(runs, data=data)
    chapters = [compose(section) for section in read.sections]
    root = Path(out)
    try:
        _write_files(root / "figures", chapters, images=images)
        page = root / "index.html"
        part = page.with_name(".index.html.part")
        part.write_text(render(read, chapters, images=images), encoding="utf-8")
        part.replace(page)
    except OSError as error:
        raise DataError(f"the report cannot be written: {error}", source=root) from error
    return Report(
        page,
        {chapter.section.key: chapter.verdict for chapter in chapters},
        [verdict.rule for verdict in read.rules if verdict.verdict == "fail"],
        len(read.results),
    )


def _write_files(folder: Path, chapters: Sequence[Chapter], *, images: bool) -> None:
    # Figures of an earlier report into the same folder would belong to nothing.
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for chapter in chapters:
        subtitle = _subtitle(chapter.section)
        for figure in (figure for part in chapter.figures.values() for figure in part):
            figure.frame.to_csv(folder / f"{figure.key}.csv", index=False)
            if images:
                write_images(folder, figure, subtitle)
        for table in [*chapter.tables, *([chapter.worst] if chapter.worst else [])]:
            table.frame.to_csv(folder / f"{table.key}.csv", index=False)


def write_images(folder: Path, figure: Figure, subtitle: str) -> None:
    """Writes a figure as SVG and PNG under its key."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(figure.whole(subtitle))
    (folder / f"{figure.key}.svg").write_text(svg, encoding="utf-8")
    (folder / f"{figure.key}.png").write_bytes(vl_convert.svg_to_png(svg, scale=2))


def _subtitle(section: Section) -> str:
    said = section.card.title or section.card.name
    target = f", {section.target}" if len(section.card.targets) > 1 else ""
    mark = " · SIMULATED DATA" if section.simulated else ""
    return f"{said}{target} · {metric_name(section.metric)}{mark}"


def render(runs: Runs, chapters: Sequence[Chapter], *, images: bool = True) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("rs05bench.report", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["csv_link"] = csv_link
    own = resources.files("rs05bench.report") / "templates"
    digests = sorted({digest for figure in all_figures(chapters) for digest in figure.digests})
    number_of = {digest: i for i, digest in enumerate(digests)}
    content = {
        "digests": digests,
        "figures": {
            figure.key: {"panels": figure.responsive(), "cells": [number_of[digest] for digest in figure.digests]}
            for figure in all_figures(chapters)
        },
    }
    return environment.get_template("report.html.j2").render(
        runs=runs,
        chapters=chapters,
        about={chapter.section.key: about(chapter.section) for chapter in chapters},
        tiers=_legend(chapters),
        overall=_overall(runs, chapters),
        images=images,
        shown_cells=SHOWN_CELLS,
        written=datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
        ramp=Markup(ramp_gradient()),
        css=Markup((own / "report.css").read_text(encoding="utf-8")),
        script=Markup((own / "report.js").read_text(encoding="utf-8")),
        vega=Markup(vega_bundle()),
        content=Markup(script_safe(content)),
        numbers=table_numbers,
    )


def vega_bundle() -> str:
    """The script that draws, for a page that asks nobody for anything."""
    import vl_convert

    # A closing tag inside a string of the bundle would end the script element.
    return str(vl_convert.javascript_bundle()).replace("</script", "<\\/script").replace("<!--", "<\\!--")


def script_safe(content: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, default=_plain, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    return value.item()


def csv_link(frame: Any) -> str:
    """A data URI that holds a frame as CSV, so that the download needs no server and no script."""
    return "data:text/csv;charset=utf-8," + quote(frame.to_csv(index=False, float_format="%.6g"))


def table_numbers(table: Table) -> list[bool]:
    """Which columns hold numbers."""
    return [title.startswith("#") for title in table.head]


def _legend(chapters: Sequence[Chapter]) -> list[dict[str, Any]]:
    """The tiers shown, in order, each with its colour, marker and meaning."""
    there = {tier for chapter in chapters for tier in chapter.tiers}
    return [
        {"name": tier, "colour": style.colour, "path": MARKER_PATHS[style.marker], "meaning": style.meaning}
        for tier, style in TIER_STYLES.items()
        if tier in there
    ]


def _overall(runs: Runs, chapters: Sequence[Chapter]) -> dict[str, Any]:
    results = runs.results
    seeds = sorted({result.cell.seed for result in results})
    versions = results[0].provenance.get("versions", {})
    return {
        "cells": len(results),
        "models": len({result.cell.model for result in results}),
        "seeds": len(seeds),
        "passed": sum(verdict.verdict == "pass" for verdict in runs.rules),
        "failed": sum(verdict.verdict == "fail" for verdict in runs.rules),
        "version": versions.get("rs05bench", ""),
        "one": len(chapters) == 1,
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
    if section.card.kind == "regression" or section.labels is None:
        return target
    classes = [str(value) for value in section.card.class_names or section.card.classes or sorted(section.labels.dropna().unique())]
    return " and ".join(classes) if len(classes) == 2 else f"{target} ({len(classes)} classes)"
