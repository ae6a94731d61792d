"""From the files of `leaderboard/` to the records of the site: the one place that knows both."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rs05bench.errors import BenchError, DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.cell_record import BudgetRecord
from rs05bench.protocol.comparison import drop_of, score_of
from rs05bench.protocol.hashing import hash_order
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.names import parse_budget
from rs05bench.protocol.pooling import Pool
from rs05bench.protocol.result import Cell, ModelCard, Result, Stratum
from rs05bench.protocol.shipped import shipped_manifests
from rs05bench.protocol.splits import Split
from rs05bench.protocol.submission.board import Board, BoardSplit, BoardTask
from rs05bench.protocol.submission.schema import Hardware
from rs05bench.protocol.submission.standing import Standing, ranks, read_submissions, standing_of
from rs05bench.protocol.submission.verdict import CellFamily, Verdict
from rs05bench.report.site.records import BoardPoint, BoardTable, Entry, Event, FoldPlace, Leaderboard, Mark, Row, SplitInfo, Spread, Task
from rs05bench.report.style import plain

MOST_POINTS = 700
"""Positions of a split drawn on its map; more are thinned in hash order."""


def read_leaderboard(directory: str | Path) -> Leaderboard:
    """Reads a leaderboard's folder.

    Args:
        directory: Holds `tasks.yaml` and `submissions/<slug>/{verdict,standing}.json`.

    Raises:
        DataError: A record is missing or not what it should be.
    """
    directory = Path(directory)
    board = Board.load(directory)
    try:
        submissions = list(read_submissions(directory / "submissions"))
    except (OSError, ValueError) as error:
        raise DataError(f"a submission cannot be read: {error}", source=directory / "submissions") from error
    entries: dict[str, Entry] = {}
    rows: dict[str, list[Row]] = defaultdict(list)
    tables = [table for task in board.tasks for table in _tables(task)]
    for folder, verdict, standing in submissions:
        if verdict.slug != folder.name:
            raise DataError(f"the verdict is of {verdict.slug!r}", source=folder, remedy="The folder's name is the submission's slug.")
        if standing.digest != verdict.digest:
            # What was stated of another submission does not hold for this one.
            standing = standing_of(verdict)
        entries[verdict.slug] = _entry(verdict, standing)
        for key, row in _rows(verdict, standing, tables):
            rows[key].append(row)
    filled = [table.model_copy(update={"rows": rows[table.key]}) for table in tables]
    tasks = {task.task: _task(task, directory) for task in board.tasks}
    return Leaderboard(entries=entries, tables=filled, tasks=tasks, links=board.links)


def _tables(task: BoardTask) -> Iterable[BoardTable]:
    for target in task.targets:
        for name, split in task.splits.items():
            parts = [task.task, target, name] if len(task.targets) > 1 else [task.task, name]
            yield BoardTable(
                key=file_name("--".join(parts)),
                task=task.task,
                target=target,
                split=name,
                metric=task.main_metric,
                budgets=_in_order(split.budgets),
                folds=list(split.folds),
                main=split.main,
                simulated=task.simulated,
                kind=task.kind,
            )


def _in_order(budgets: Sequence[str]) -> list[str]:
    """From few labels to many within a kind; kinds in the board's order, the full budget last."""
    parsed = [parse_budget(name) for name in budgets]
    kinds = list(dict.fromkeys(budget.kind for budget in parsed))
    return [item.text for item in sorted(parsed, key=lambda item: (item.kind == "full", kinds.index(item.kind), item.amount))]


def file_name(text: str) -> str:
    """A name that is safe as a file and in an address; `+` of `+5` splits becomes `plus`."""
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower().replace("+", "-plus-")).strip("-.") or "unnamed"


def _rows(verdict: Verdict, standing: Standing, tables: Sequence[BoardTable]) -> Iterable[tuple[str, Row]]:
    submission = verdict.submission
    assert submission is not None
    families = {family.key: family for family in verdict.families}
    reported = {cost.key: cost.cost() for cost in submission.costs}
    measured = {cost.key: cost.cost() for cost in standing.rerun.costs} if standing.rerun is not None else {}
    model = submission.model.card()
    for table in tables:
        points = {}
        for budget in table.budgets:
            key = (table.task, table.target, table.split, budget)
            if key in families:
                cost = {"cost": measured.get(key) or reported.get(key), "measured": key in measured}
                points[budget] = _point(model, table, families[key]).model_copy(update=cost)
        if points:
            yield table.key, Row(slug=verdict.slug, points=points, barred=sentence(_barred(table, verdict, standing)))


def _barred(table: BoardTable, verdict: Verdict, standing: Standing) -> str:
    return ranks(standing, verdict, f"{table.task}/{table.target}/{table.split}") or ""


def _point(model: ModelCard, table: BoardTable, family: CellFamily) -> BoardPoint:
    metric = table.metric
    results = _as_results(model, table, family)
    pool = Pool.of(results)
    (key,) = pool.points
    ood, home = (score_of(pool, key, role, metric) for role in ("test_ood", "test_id"))
    drop = drop_of(pool, key, metric)
    held = dict(zip(family.folds, family.by_fold.get("test_ood", []), strict=False))
    means = {fold: value for fold in table.folds if (value := held.get(fold)) is not None}
    lacking = [fold for fold in table.folds if fold not in means]
    found = [value for name in ("ece", "coverage90") if (value := family.scores.get("test_ood", {}).get(name)) is not None]
    return BoardPoint(
        budget=family.budget,
        labels=family.labels_used,
        ood=Spread.of(ood.estimate, len(family.seeds)) if ood else None,
        home=Spread.of(home.estimate, len(family.seeds)) if home else None,
        drop=Spread.of(drop.drop, len(family.seeds)) if drop else None,
        calibration=found[0] if found else None,
        by_fold=means,
        by_group={plain(group): value for group, value in ood.estimate.points.items() if np.isfinite(value)} if ood else {},
        drops={plain(entry.group): entry.drop for entry in drop.groups if np.isfinite(entry.drop)} if drop else {},
        curves=family.calibration,
        groups={plain(column): {plain(name): found for name, found in values.items()} for column, values in family.columns.items()},
        missing=f"{len(means)} of {len(table.folds)} folds" if lacking and means else "no score" if not means else "",
    )


def _as_results(model: ModelCard, table: BoardTable, family: CellFamily) -> list[Result]:
    """A family as the records that are compared, one a seed; its fields were checked when the verdict was read."""
    return [
        Result.model_construct(
            cell=Cell.model_construct(
                task=family.task,
                target=family.target,
                split=Split(family.split),
                fold="all",
                model=model.name,
                budget=family.budget,
                seed=seed,
            ),
            digest=f"{'/'.join(family.key)}/{seed}",
            kind=table.kind,
            main_metric=table.metric,
            higher_is_better=bool(find_metric(table.metric).higher_is_better),
            simulated=table.simulated,
            model=model,
            scores={},
            strata=[
                Stratum(role=role, shift=groups.shift, ground="", group=group, units=units, scores={table.metric: value})
                for role, groups in family.groups.items()
                for group, units, scores in zip(groups.groups, groups.units, groups.scores, strict=True)
                if (value := scores[index]) is not None
            ],
            budget=BudgetRecord(labels_used=round(family.labels_used)),
        )
        for index, seed in enumerate(family.seeds)
    ]


def _entry(verdict: Verdict, standing: Standing) -> Entry:
    sent = verdict.submission
    assert sent is not None
    model = sent.model.card()
    card = model.model_copy(
        update={
            "pretraining": [plain(name) for name in model.pretraining],
            "options": {},
            **{field: plain(getattr(model, field)) for field in ("name", "inputs", "learner", "licence", "citation")},
        }
    )
    return Entry(
        slug=verdict.slug,
        title=plain(sent.title),
        model=card,
        standing=standing.level,
        history=_history(verdict, standing),
        tracks=list(verdict.tracks),
        simulated=verdict.simulated,
        authors=[plain(author.name) + (f" ({plain(author.affiliation)})" if author.affiliation else "") for author in sent.authors],
        submitted=str(sent.submitted),
        overlap=plain(sent.overlap),
        licence=plain(sent.licence),
        code="the package rs05bench" if sent.code == "rs05bench" else link(sent.code),
        weights=link(sent.weights),
        hardware=[_machine(machine) for machine in sent.hardware],
        environment={
            "Python": plain(sent.environment.python),
            **{plain(name): plain(version) for name, version in sent.environment.packages.items()},
        },
        notes=plain(sent.notes),
        rules=[
            Mark(title=f"{rule.rule}. {plain(rule.sentence)}", verdict=rule.verdict, reason=plain(rule.reason)) for rule in verdict.rules
        ],
        flags=[
            Mark(title=flag.key, verdict=plain(standing.reviewed_flags.get(flag.key, "not looked at yet")), reason=plain(flag.sentence))
            for flag in verdict.flags
        ],
        digests={
            "submission": verdict.digest,
            **{f"manifest {plain(name)}": digest for name, digest in sent.manifests.items()},
            **{f"card {plain(name)}": digest for name, digest in sent.cards.items()},
        },
    )


def _machine(machine: Hardware) -> str:
    text = f"{machine.count} × {plain(machine.name)}" if machine.count > 1 else plain(machine.name)
    more = [f"{machine.cores} cores" if machine.cores else "", f"{machine.memory_gb:g} GB" if machine.memory_gb else ""]
    return text + (f" ({', '.join(part for part in more if part)})" if any(more) else "")


def _history(verdict: Verdict, standing: Standing) -> list[Event]:
    scored = "scored here from the predictions sent" if verdict.outcome == "accepted" else "checked; the labels were not available"
    events = [Event(standing="rescored" if verdict.outcome == "accepted" else "self-reported", when=verdict.verified_at[:10], text=scored)]
    rerun = standing.rerun
    if rerun is not None:
        worst = max(rerun.compared, key=lambda item: abs(item.submitted - item.rerun) / item.allowed if item.allowed else 0.0)
        off = f"largest difference {abs(worst.submitted - worst.rerun):.3f}, allowed {worst.allowed:.3f} ({plain(worst.family)})"
        said = "came within tolerance" if rerun.same else "did NOT come within tolerance"
        text = f"a rerun by {plain(rerun.by)} on {plain(rerun.hardware)} {said}: {off}"
        events.append(Event(standing="reproduced" if rerun.same else "rerun differs", when=str(rerun.date), text=text))
    if standing.sign_off is not None:
        signed = standing.sign_off
        events.append(
            Event(standing="verified", when=str(signed.date), text=f"signed off by {plain(signed.by)}: {plain(signed.statement)}")
        )
    return events


def _task(task: BoardTask, directory: Path) -> Task:
    card = _card(task, directory)
    return Task(
        name=task.task,
        title=plain(task.title or (card.title if card else "")) or task.task,
        kind=task.kind,
        targets=task.targets,
        classes=list(card.class_names or task.classes or ()) or None if card else task.classes,
        metric=task.main_metric,
        simulated=task.simulated,
        digest=task.card,
        source=plain(card.source) if card else "",
        licence=plain(card.licence) if card else "",
        citation=plain(card.citation) if card else "",
        overlap=plain(card.overlap) if card else "",
        note=plain(task.note),
        splits=[_split(task, name, split, directory) for name, split in task.splits.items()],
    )


def _card(task: BoardTask, directory: Path) -> TaskCard | None:
    """The task's card, where it lies in the repository and is still the frozen one."""
    if not task.card_file:
        return None
    for root in (directory, directory.parent):
        path = root / task.card_file
        if path.is_file():
            card = TaskCard.load(path)
            return card if card.digest == task.card else None
    return None


def _split(task: BoardTask, name: str, split: BoardSplit, directory: Path) -> SplitInfo:
    base = Split(name).base
    full = f"{task.task}/{base}@v{split.version}"
    manifest = _manifest(full, split.manifest, directory, simulated=task.simulated)
    if manifest is None:
        return SplitInfo(split=name, name=full, digest=split.manifest)
    counts = manifest.counts()
    return SplitInfo(
        split=name,
        name=full,
        digest=split.manifest,
        audit=manifest.card.get("audit") or {},
        places=_places(manifest),
        counts={str(fold): {str(role): int(units) for role, units in row.items()} for fold, row in counts.iterrows()},
    )


def _manifest(name: str, digest: str, directory: Path, *, simulated: bool) -> SplitManifest | None:
    """The frozen manifest, from the leaderboard's folder or the package; None where neither holds the one the board names."""
    path = directory / "manifests" / f"{name}.parquet"
    shipped = shipped_manifests().get(f"{'simulated/' if simulated else ''}{name}")
    if not path.is_file() and shipped is None:
        return None
    try:
        # The digest, which the board names, is checked below.
        manifest = SplitManifest.load(path if path.is_file() else str(shipped), verify=False)
    except BenchError:
        return None
    return manifest if manifest.digest == digest else None


def _places(manifest: SplitManifest) -> dict[str, FoldPlace]:
    units = manifest.units[np.isfinite(manifest.units["lon"].to_numpy())]
    if units.empty:
        return {}
    ids = units["unit_id"].astype(str).to_numpy()
    shown = set(ids[hash_order(ids.tolist(), "site")[:MOST_POINTS]])
    position = {unit: (float(lon), float(lat)) for unit, lon, lat in zip(ids, units["lon"], units["lat"], strict=True)}
    places = {}
    located = manifest.table[manifest.table["unit_id"].isin(units["unit_id"])]
    wanted = located["unit_id"].isin(shown) | (located["role"].astype(str) == "test_ood")
    for fold, rows in located[wanted].groupby("fold", observed=True, sort=False):
        held = [position[unit] for unit in rows.loc[rows["role"].astype(str) == "test_ood", "unit_id"].astype(str) if unit in position]
        points: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for unit, role in zip(rows["unit_id"].astype(str), rows["role"].astype(str), strict=True):
            if unit in shown:
                points[role].append(position[unit])
        middle = np.median(np.array(held), axis=0) if held else None
        places[str(fold)] = FoldPlace(points=dict(points), centre=None if middle is None else (float(middle[0]), float(middle[1])))
    return places


def link(address: Any) -> str:
    """A plain https address; empty for anything else, so that no other scheme ever becomes a link."""
    text = str(address or "")
    return text if re.fullmatch(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[!-~]*)?", text) else ""


def sentence(text: str) -> str:
    """With a capital and a full stop; empty stays empty."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""
