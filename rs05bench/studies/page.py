"""Setting a study: an HTML page that asks nobody for anything, the same in Markdown for the documentation, figures, the list of cells."""

from __future__ import annotations

import csv
import datetime
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.result import Result
from rs05bench.report import setting
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure, all_digests
from rs05bench.studies.record import Claim, Findings, Study

CELL_COLUMNS = ("task", "target", "split", "fold", "model", "options", "budget", "seed")


@dataclass
class Part:
    """A part of a page.

    Attributes:
        key: Anchor.
        title: Heading.
        texts: Paragraphs.
        claims: Numbered sentences with the cells each rests on.
        figures: Pictures.
        tables: Tables.
        points: Short points.
        mark: Shown beside the heading, e.g. `simulated`.
        missing: What should stand here and does not.
    """

    key: str
    title: str
    texts: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    mark: str = ""
    missing: list[str] = field(default_factory=list)


@dataclass
class Page:
    """A page of parts.

    Attributes:
        name: Name of its files.
        title: Title.
        question: What it is about.
        parts: Its parts, in order.
        results: The cells behind it, by digest.
        command: How it was made.
        brand: Line above the title.
    """

    name: str
    title: str
    question: str
    parts: list[Part]
    results: Mapping[str, Result]
    command: str
    brand: str = "rs05bench study"

    @property
    def claims(self) -> list[Claim]:
        """All numbered sentences, in order."""
        return [claim for part in self.parts for claim in part.claims]

    @property
    def figures(self) -> list[Figure]:
        """All pictures, in order."""
        return [figure for part in self.parts for figure in part.figures]

    @property
    def tables(self) -> list[Table]:
        """All tables, in order."""
        return [table for part in self.parts for table in part.tables]

    def mark(self, digests: Iterable[str]) -> str:
        """Whether some cells are of real or simulated data, in words."""
        kinds = {self.results[digest].simulated for digest in digests}
        return {frozenset({True}): "simulated", frozenset({False}): "real", frozenset(): "no cell"}.get(
            frozenset(kinds), "partly real, partly simulated"
        )


def study_page(study: Study, found: Findings, command: str) -> Page:
    """A study's page: question, answer, design, figures, numbers, limits."""
    parts = [
        Part("answer", "The answer", claims=found.claims),
        Part("design", "What was done", texts=[study.design], points=found.notes),
        Part("figures", "Figures", figures=found.figures),
        Part("numbers", "The numbers", tables=found.tables),
        Part("limits", "What this does not say", points=list(study.limits)),
    ]
    return Page(study.name, study.title, study.question, parts, found.results, command)


def write_page(page: Page, out: Path) -> Path:
    """Writes `index.html`, `figures/`, `cells.csv`, `page.json` and the Markdown page; returns the HTML file.

    Raises:
        DataError: The folder cannot be written to.
    """
    try:
        folder = out / "figures"
        if folder.is_dir():  # figures of an earlier page would belong to nothing
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for figure in page.figures:
            figure.frame.to_csv(folder / f"{figure.key}.csv", index=False)
            figure.write(folder, f"{page.title} · {page.mark(figure.digests)} data")
        for table in page.tables:
            table.frame.to_csv(folder / f"{table.key}.csv", index=False)
        write_text(out / "cells.csv", cells_csv(page))
        write_text(out / "page.json", json.dumps(record(page), indent=1, ensure_ascii=False))
        write_text(out / f"{page.name}.md", markdown(page))
        return write_text(out / "index.html", html(page))
    except OSError as error:
        raise DataError(f"the page cannot be written: {error}", source=out) from error


def write_docs(page: Page, docs: Path, out: Path) -> Path:
    """Copies the Markdown page, its pictures and its list of cells to where the documentation keeps them."""
    docs.mkdir(parents=True, exist_ok=True)
    for old in docs.glob(f"{page.name}-*.png"):
        old.unlink()
    for figure in page.figures:
        shutil.copyfile(out / "figures" / f"{figure.key}.png", docs / f"{page.name}-{figure.key}.png")
    shutil.copyfile(out / "cells.csv", docs / f"{page.name}.cells.csv")
    return write_text(docs / f"{page.name}.md", markdown(page, images=f"{page.name}-", cells=f"{page.name}.cells.csv"))


def cell_line(result: Result) -> str:
    """A cell's key and its digest, in one line."""
    cell = result.cell
    options = "".join(f" {name}={value}" for name, value in sorted(cell.options.items()))
    return (
        f"{result.digest[:16]}  {cell.task}/{cell.target}  {cell.split}/{cell.fold}  {cell.model}{options}  {cell.budget}  seed {cell.seed}"
    )


def cells_csv(page: Page) -> str:
    """Every cell behind the page: its key, its digest, and the claims and figures that rest on it."""
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CELL_COLUMNS, "simulated", "digest", "claims", "figures"])
    claims: dict[str, list[str]] = {digest: [] for digest in page.results}
    drawn: dict[str, list[str]] = {digest: [] for digest in page.results}
    for number, claim in enumerate(page.claims, start=1):
        for digest in claim.digests:
            claims[digest].append(str(number))
    for figure in page.figures:
        for digest in figure.digests:
            drawn[digest].append(figure.key)
    for digest, result in page.results.items():
        cell = result.cell.model_dump() | {"options": json.dumps(result.cell.options, sort_keys=True) if result.cell.options else ""}
        row = [*(cell[name] for name in CELL_COLUMNS), "yes" if result.simulated else "no", digest]
        writer.writerow([*row, " ".join(claims[digest]), " ".join(drawn[digest])])
    return text.getvalue()


def record(page: Page) -> dict[str, Any]:
    """The page as plain data: each sentence with its number, interval and cells."""
    return {
        "schema_version": 1,
        "name": page.name,
        "title": page.title,
        "simulated": page.mark(page.results),
        "claims": [
            {
                "text": claim.text,
                "said": claim.said,
                "effect": None if claim.effect is None else claim.effect.to_dict(),
                "data": page.mark(claim.digests),
                "cells": list(claim.digests),
            }
            for claim in page.claims
        ],
        "figures": {figure.key: {"data": page.mark(figure.digests), "cells": list(figure.digests)} for figure in page.figures},
    }


def html(page: Page) -> str:
    """The page as HTML."""
    from markupsafe import Markup

    digests = all_digests(page.figures)
    number_of = {digest: i for i, digest in enumerate(digests)}
    content = {"digests": digests, "figures": {figure.key: [number_of[digest] for digest in figure.digests] for figure in page.figures}}
    said = page.mark(page.results)
    first = next(iter(page.results.values()), None)
    return setting.page(
        "study.html.j2",
        "rs05bench.studies",
        title=page.title,
        question=page.question,
        brand=page.brand,
        command=page.command,
        parts=_numbered(page),
        digests=len(page.results),
        simulated="simulated" in said,
        all_simulated=said == "simulated",
        version="" if first is None else first.provenance.get("versions", {}).get("rs05bench", ""),
        written=datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
        content=Markup(setting.script_safe(content)),
    )


def _numbered(page: Page) -> list[dict[str, Any]]:
    number, shown = 0, []
    for part in page.parts:
        claims = []
        for claim in part.claims:
            number += 1
            claims.append(
                {
                    "number": number,
                    "text": claim.text,
                    "mark": page.mark(claim.digests),
                    "cells": [cell_line(page.results[digest]) for digest in claim.digests],
                }
            )
        shown.append(
            {
                "key": part.key,
                "title": part.title,
                "mark": part.mark,
                "texts": [{"words": text, "missing": False} for text in part.texts]
                + [{"words": text, "missing": True} for text in part.missing],
                "claims": claims,
                "figures": [{"figure": figure, "mark": page.mark(figure.digests)} for figure in part.figures],
                "tables": part.tables,
                "points": part.points,
            }
        )
    return shown


def markdown(page: Page, *, images: str = "figures/", cells: str = "cells.csv") -> str:
    """The page as Markdown.

    Args:
        page: The page.
        images: What stands before a figure's file name.
        cells: Name of the list of cells.
    """
    said = page.mark(page.results)
    lines = [f"# {page.title}", ""]
    if "simulated" in said:
        whole = "everything" if said == "simulated" else "part of what"
        lines += [
            f":::{{admonition}} Simulated\n:class: warning\nMade by a simulator: {whole} on this page says nothing about the Earth.\n:::",
            "",
        ]
    lines += [
        f"**{page.question}**",
        "",
        f"{page.command} {len(page.results):,} cells; every claim names those it rests on in [{cells}]({cells}).",
        "",
    ]
    number = 0
    for part in page.parts:
        if not (part.texts or part.claims or part.figures or part.tables or part.points or part.missing):
            continue
        lines += [f"## {part.title}{f' ({part.mark})' if part.mark else ''}", ""]
        for text in part.texts:
            lines += [text, ""]
        lines += [f"- {point}" for point in part.points] + ([""] if part.points else [])
        for claim in part.claims:
            number += 1
            rests = f" [Claim {number}, {page.mark(claim.digests)} data, {len(claim.digests):,} cells]({cells})." if claim.digests else ""
            lines.append(f"{number}. {claim.text}{rests}")
        lines += [""] if part.claims else []
        for text in part.missing:
            lines += [f"*Missing: {text}*", ""]
        for figure in part.figures:
            lines += [
                f"![{figure.title}]({images}{figure.key}.png)",
                "",
                f"*{figure.title}. {figure.caption} Data: {page.mark(figure.digests)}; {len(figure.digests):,} cells.*",
                "",
            ]
        for table in part.tables:
            lines += [_table(table), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Table, most: int = 60) -> str:
    """A table as Markdown; long ones are cut, the CSV holds all."""
    head = [title.removeprefix("#") for title in table.head]
    marks = ["---:" if title.startswith("#") else "---" for title in table.head]
    rows: Sequence[Sequence[str]] = table.rows[:most]
    lines = [f"**{table.title}**", "", _line(head), f"|{'|'.join(marks)}|", *(_line(row) for row in rows)]
    if len(table.rows) > most:
        lines += ["", f"*The first {most} of {len(table.rows)} rows.*"]
    return "\n".join(lines)


def _line(values: Sequence[str]) -> str:
    return "| " + " | ".join(re.sub(r"\|", r"\\|", str(value)) for value in values) + " |"
