"""The paper's figures and tables from stored results, each with its data named; what no store holds is shown as missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.hypotheses import HypothesisVerdict, judge_hypotheses
from rs05bench.protocol.pooling import Pool
from rs05bench.protocol.result import TIERS, Result
from rs05bench.report.compose import Chapter, Table, compose
from rs05bench.report.loading import Runs, Section, read_runs
from rs05bench.report.page import about
from rs05bench.report.style import metric_name, with_interval
from rs05bench.studies.page import Page, Part, write_page
from rs05bench.studies.pretraining import read as read_twins
from rs05bench.studies.record import Claim, Findings

TITLE = "Do public geospatial embeddings replace local fine-tuning?"
QUESTION = (
    "In a small area with a small label budget, is a public Earth embedding plus a shallow learner enough to make the map, or is it worth "
    "adapting an open backbone? And which of them falls least when the region, the year, the biome or the city changes?"
)
FAMILIES = {
    "burn-scar": ("Burn scars", ("burn", "mtbs", "wildfire", "severity")),
    "crop": ("Crops and irrigation", ("crop", "cdl", "tomato", "irrigated", "sen4map")),
    "urban": ("Urban indicators and built environment", ("urban", "aef-counties", "counties", "nlcd", "chesapeake", "building", "metro")),
}
"""The paper's tasks: title, and how the names of cards of the kind begin."""
OTHERS = "Further tasks"
PICTURES = {
    "curves": "few-shot curves",
    "drop": "the drop on the same ground",
    "cost": "cost against held-out score",
    "map": "maps of errors",
    "calibration": "calibration",
    "groups": "scores by group",
}


@dataclass(frozen=True)
class Paper:
    """A written paper page.

    Attributes:
        page: The HTML file.
        verdicts: `H1 (real)` and the like -> verdict.
        missing: What the paper asks for and no store holds, one sentence each.
        figures: Key of each figure -> whether its data are real or simulated.
    """

    page: Path
    verdicts: dict[str, str]
    missing: list[str]
    figures: dict[str, str]


def write_paper(stores: Sequence[str | Path], out: str | Path) -> Paper:
    """Writes the paper's page.

    Args:
        stores: Folders of results.
        out: Where to write `index.html`, `paper.md`, `figures/` and `cells.csv`.

    Raises:
        DataError: No store holds a result.
    """
    runs, faults = _read(stores)
    results = {result.digest: result for run in runs for result in run.results}
    missing: list[str] = []
    verdicts, parts = _hypotheses(results.values(), missing)
    sections = [(section, run) for run in runs for section in run.sections]
    parts.append(Part("data", "Tasks and data", tables=[_data_table([section for section, _ in sections])]))
    keys: set[str] = set()
    for family, (title, _) in FAMILIES.items():
        here = [section for section, _ in sections if _family(section) == family]
        if not here:
            missing.append(f"{title}: no result in the stores given.")
            parts.append(Part(family, title, missing=["no result of this task in the stores given."]))
        elif all(section.simulated for section in here):
            missing.append(f"{title}: no result on real data; what is shown is simulated.")
        parts += [_section(section, keys, missing) for section in here]
    parts += [_section(section, keys, missing) for section, _ in sections if _family(section) == OTHERS]
    parts.append(_twins(results, missing))
    parts.append(_rules(runs))
    missing += faults
    parts.append(Part("missing", "What is missing", points=missing or ["Nothing that the paper asks for."]))
    said = " ".join(f"--stores {Path(store).name}" for store in stores)
    page = Page("paper", TITLE, QUESTION, parts, results, f"Made by `rs05bench paper {said}`.", brand="rs05bench paper")
    written = write_page(page, Path(out))
    return Paper(written, verdicts, missing, {figure.key: page.mark(figure.digests) for figure in page.figures})


def _read(stores: Sequence[str | Path]) -> tuple[list[Runs], list[str]]:
    """Stores that can be read, and what is wrong with the others."""
    runs, faults = [], []
    for store in dict.fromkeys(map(Path, stores)):
        try:
            runs.append(read_runs(store))
        except DataError as error:
            faults.append(f"The store {store.name} is left out: it {error.problem}.")
    if not runs:
        why = f" ({faults[0]})" if faults else ""
        raise DataError(f"no store holds a result{why}", source=", ".join(map(str, stores)), remedy="Run a sweep or a study first.")
    return runs, faults


def _family(section: Section) -> str:
    name = section.card.name
    return next((family for family, (_, starts) in FAMILIES.items() if name.startswith(starts)), OTHERS)


def _hypotheses(results: Iterable[Result], missing: list[str]) -> tuple[dict[str, str], list[Part]]:
    """Verdicts on real and on simulated results, never on both together."""
    every = list(results)
    said: dict[str, str] = {}
    claims, tables = [], []
    for kind in ("real", "simulated"):
        pool = Pool.of(result for result in every if result.simulated == (kind == "simulated"))
        if not pool.points:
            said |= {f"{name} ({kind})": "not testable: no result" for name in ("H1", "H2", "H3")}
            continue
        judged = judge_hypotheses(pool)
        for verdict in judged:
            said[f"{verdict.hypothesis} ({kind})"] = verdict.verdict
            digests = tuple(sorted({digest for entry in verdict.comparisons if entry.in_scope for digest in entry.digests}))
            reason, lacks = _without_lacks(verdict.reason)
            missing += [f"{verdict.hypothesis} on {kind} data: {lack}." for lack in lacks]
            claims.append(Claim(f"{verdict.hypothesis} on {kind} data, {verdict.verdict}. {verdict.claim} {reason}", digests))
        if table := _comparisons(kind, judged):
            tables.append(table)
    return said, [Part("verdicts", "Verdicts on the three hypotheses", claims=claims, tables=tables)]


def _without_lacks(reason: str) -> tuple[str, list[str]]:
    """A reason without its list of what the cells lack, and that list: it stands among what is missing."""
    said, mark, lacks = reason.partition("Not looked at: ")
    if not mark:
        said, mark, lacks = reason.partition("Not testable: ")
        said = "The cells for it are missing." if mark else said
    return said.strip(), [lack.strip().rstrip(".") for lack in re.split(r"; (?![^(]*\))", lacks) if lack.strip()]


def _comparisons(kind: str, judged: Sequence[HypothesisVerdict]) -> Table | None:
    entries = [entry for verdict in judged for entry in verdict.comparisons]
    if not entries:
        return None
    head = ["Hypothesis", "Task", "Split", "Budget", "Where", "Contrast", "Metric", "#Effect", "#p (Holm)", "Verdict", "#Cells"]
    rows = []
    for entry in entries:
        effect = with_interval(entry.effect.value, entry.effect.low, entry.effect.high)
        task = f"{entry.task} ({entry.target})"
        p = f"{entry.p_holm:.2g}" if entry.p_holm == entry.p_holm else "–"
        verdict = entry.verdict if entry.in_scope else f"{entry.verdict}, beside the claim"
        rows.append(
            [
                entry.hypothesis,
                task,
                entry.split,
                entry.budget,
                entry.where,
                entry.contrast,
                metric_name(entry.metric),
                effect,
                p,
                verdict,
                str(len(entry.digests)),
            ]
        )
    return Table(f"contrasts-{kind}", f"Every contrast on {kind} data", head, rows, pd.DataFrame(rows, columns=head))


def _data_table(sections: Sequence[Section]) -> Table:
    head = ["Task", "Target", "Data", "#Cells", "Splits", "Units", "Source", "Licence"]
    rows = []
    for section in sections:
        told = about(section)
        cells = f"{len(section.results):,}"
        mark = "simulated" if section.simulated else "real"
        splits = ", ".join(section.splits)
        rows.append([section.card.name, section.target, mark, cells, splits, told["units"], told["source"], told["licence"]])
    return Table("data", "Tasks, and whether their data are real", head, rows, pd.DataFrame(rows, columns=head))


def _section(section: Section, keys: set[str], missing: list[str]) -> Part:
    """A task's figures and tables; what its results do not give is said."""
    title = section.card.title or section.card.name
    many = f": {section.target}" if len(section.card.targets) > 1 else ""
    key = _unused(section.key, keys)
    part = Part(key, f"{title}{many}", mark="simulated" if section.simulated else "real data")
    there = {result.model.tier for result in section.results}
    absent = [tier for tier in TIERS if tier not in there]
    if absent:
        part.missing.append(f"no result of the tiers {', '.join(absent)}.")
        missing.append(f"{title}{many}: tiers without a result: {', '.join(absent)}.")
    try:
        chapter: Chapter = compose(section)
    except DataError as error:
        why = "its store keeps no predictions" if not _predictions(section) else error.problem
        part.missing.append(f"figures and tables: {why}.")
        missing.append(f"{title}{many}: figures and tables, because {why}.")
        return part
    part.texts = [f"Question: {about(section)['question']}"]
    digests = tuple(sorted(result.digest for result in section.results))
    part.claims = [Claim(sentence, digests) for sentence in [chapter.answer.sentence, *chapter.answer.warnings, *chapter.answer.notes]]
    for name, words in PICTURES.items():
        drawn = chapter.figures.get(name) or []
        if not drawn:
            part.missing.append(f"{words}: these results do not give them.")
            missing.append(f"{title}{many}: {words}.")
        part.figures += [replace(figure, key=_unused(figure.key, keys)) for figure in drawn]
    tables = [*chapter.tables[:1], *([chapter.worst] if chapter.worst else [])]
    part.tables = [replace(table, key=_unused(table.key, keys)) for table in tables]
    part.points = list(chapter.notes)
    return part


def _predictions(section: Section) -> bool:
    """Whether all results keep the predictions that figures are drawn from."""
    return all((section.store.folder(result.digest) / "predictions").is_dir() for result in section.results)


def _unused(key: str, keys: set[str]) -> str:
    """A key no other part, figure or table has: two stores may hold the same task."""
    name, number = key, 2
    while name in keys:
        name, number = f"{key}-{number}", number + 1
    keys.add(name)
    return name


def _twins(results: dict[str, Result], missing: list[str]) -> Part:
    """Pretrained models beside their random twins."""
    found = Findings(results=results)
    read_twins(found, Pool.of(result for result in results.values() if result.sums))
    part = Part("twins", "Does pretraining pay?", claims=found.claims, figures=found.figures, tables=found.tables)
    if not found.figures:
        text = "no pretrained model has its random-initialised twin in the stores given."
        part.missing.append(text)
        missing.append(f"Does pretraining pay: {text}")
    return part


def _rules(runs: Sequence[Runs]) -> Part:
    """The rules of the protocol, store by store."""
    head = ["Store", "#Rule", "Verdict", "Rule", "Why"]
    rows = [[run.folder.name, str(rule.rule), rule.verdict, rule.sentence, rule.reason] for run in runs for rule in run.rules]
    table = Table("rules", "Which rules were kept", head, rows, pd.DataFrame(rows, columns=head))
    return Part("rules", "The rules of the protocol", tables=[table])
