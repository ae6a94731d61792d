"""What a model's page and a task's page say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.task_kinds import TASK_KINDS
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.foldmap import MEANING, STYLE
from rs05bench.report.site.pictures import GroupCentres, fold_figure, group_map, model_figures, reliability_figures
from rs05bench.report.site.rank_words import Ranks
from rs05bench.report.site.records import STANDING_MEANING, TRACKS, BoardPoint, BoardTable, Entry, Leaderboard, Row, SplitInfo, Task
from rs05bench.report.site.view import MISSING, budget_words, count_words, interval, rank_words, score
from rs05bench.report.style import elsewhere, metric_name, seconds, signed, split_title

MOST_MAPS = 6
Grounds = Mapping[tuple[str, str], GroupCentres]
"""(task, split) -> the ground its error maps are drawn on."""
BASELINES = (
    ("Floor (rule 6)", ("floor",)),
    ("Raw bands and indices (rule 6)", ("raw",)),
    ("Hybrid (rule 7)", ("hybrid",)),
)


def model_view(
    entry: Entry, rows: Sequence[tuple[BoardTable, Row]], board: Leaderboard, ranks: dict[str, Ranks], grounds: Grounds
) -> dict[str, Any]:
    """Everything a submission's page shows."""
    model = entry.model
    yes = "yes" if model.open_weights else "no: the model is closed"
    card = [
        ("Tier", f"{model.tier}: {TIER_STYLES[model.tier].meaning}"),
        ("Authors", "; ".join(entry.authors)),
        ("Submitted", entry.submitted),
        ("Inputs or backbone", model.inputs),
        ("Learner or adaptation", model.learner),
        ("Open weights", yes),
        ("Parameters, fitted of all", _parameters(model.parameters_trainable, model.parameters_total)),
        ("Pretrained on", ", ".join(model.pretraining) or "nothing"),
        ("Overlap of pretraining with the tasks", entry.overlap),
        ("Licence of the model", model.licence),
        ("Licence of the predictions", entry.licence),
        ("Code", entry.code),
        ("Weights", entry.weights or ("none named" if model.open_weights else "closed")),
        ("Hardware", "; ".join(entry.hardware)),
        ("Tracks", ", ".join(TRACKS[name].lower() for name in entry.tracks)),
        ("Cite", model.citation),
        ("Notes", entry.notes),
    ]
    if model.random_twin:
        card.insert(1, ("Random twin", "yes: the encoder is random-initialised, as a control"))
    verdicts = [rule.verdict for rule in entry.rules]
    return {
        "entry": entry,
        "meaning": STANDING_MEANING[entry.standing],
        "all_simulated": bool(rows) and all(table.simulated for table, _ in rows),
        "card": card,
        "ranks": [found for table, row in rows if (found := _best_rank(table, row, board, ranks[table.key]))],
        "parts_of_model": [_result(entry, table, row, board, ranks[table.key], grounds) for table, row in rows],
        "passed": verdicts.count("pass"),
        "broken": verdicts.count("fail"),
        "digests": [*entry.digests.items(), *((f"package {name}", version) for name, version in entry.environment.items())],
    }


def _parameters(fitted: int | None, total: int | None) -> str:
    if fitted is None and total is None:
        return "not applicable"
    return f"{count_words(fitted)} of {count_words(total)}"


def _best_rank(table: BoardTable, row: Row, board: Leaderboard, ranks: Ranks) -> dict[str, Any] | None:
    budget = table.budgets[len(table.budgets) // 2]
    place = ranks["deployment", budget].get(row.slug)
    if place is None:
        return None
    said, possible = rank_words(place)
    more = f"possible: {possible}" if possible and possible[0].isdigit() else possible
    many = len(ranks["deployment", budget])
    return {
        "rank": said,
        "of": f"of {many}: {board.tasks[table.task].title}, {split_title(table.split).lower()}",
        "range": f"{budget_words(budget)}; {more}",
    }


def _result(entry: Entry, table: BoardTable, row: Row, board: Leaderboard, ranks: Ranks, grounds: Grounds) -> dict[str, Any]:
    task = board.tasks[table.task]
    points = [row.points[budget] for budget in table.budgets if budget in row.points]
    middle = table.budgets[len(table.budgets) // 2]
    point = row.points.get(middle) or points[-1]
    reliable = reliability_figures(point, entry.model.name, entry.model.tier, table.key)
    title = task.title if len(task.targets) == 1 else f"{task.title}: {table.target}"
    metric, where = metric_name(table.metric), elsewhere(table.split)
    goodness = find_metric(table.metric).goodness
    worst = sorted(point.by_group, key=lambda group: goodness(point.by_group[group]))
    calibration = TASK_KINDS[task.kind].calibration_title
    return {
        "key": table.key,
        "title": title,
        "simulated": table.simulated,
        "split": split_title(table.split),
        "metric": metric,
        "where": where,
        "budget": budget_words(point.budget),
        "head": ["Budget", "Labels", "Rank", "Elsewhere", "At home", "Drop", calibration, "Fit", "Predict 1,000", "Memory", "Hardware"],
        "lines": [_line(budget, row.points.get(budget), ranks, row.slug) for budget in table.budgets],
        "figures": [*model_figures(points, entry.model.name, entry.model.tier, table.metric, table.key), *reliable],
        "held_out": [
            (group, score(point.by_group[group]), signed(point.drops[group], 3) if group in point.drops else MISSING) for group in worst
        ],
        "map": group_map(grounds[table.task, table.split], table, point, table.key),
        "groups": [
            (column, name, score(value), f"{units:,.0f}")
            for column, groups in point.groups.items()
            for name, (value, units) in sorted(groups.items(), key=lambda item: goodness(item[1][0]))
        ],
    }


def _line(budget: str, point: BoardPoint | None, ranks: Ranks, slug: str) -> list[str]:
    said, possible = rank_words(ranks["deployment", budget].get(slug))
    if point is None:
        return [budget_words(budget), *[MISSING] * 10]
    cost = point.cost
    memory = (cost.peak_device_memory_mb or cost.peak_memory_mb) if cost else None
    machine = (cost.hardware if cost else None) or MISSING
    return [
        budget_words(budget),
        f"{point.labels:,.0f}" if point.labels else MISSING,
        f"{said} ({possible})" if possible else said,
        _with(score(point.ood.value if point.ood else None), interval(point.ood), point.missing),
        _with(score(point.home.value if point.home else None), interval(point.home)),
        _with(signed(point.drop.value, 3) if point.drop else MISSING, interval(point.drop)),
        score(point.calibration),
        seconds(cost.fit_s) if cost and cost.fit_s is not None else MISSING,
        seconds(cost.predict_s_per_1000) if cost and cost.predict_s_per_1000 is not None else MISSING,
        MISSING if memory is None else f"{memory:,.0f} MiB" if memory >= 1 else "under 1 MiB",
        machine if point.measured or cost is None else f"{machine}, as reported",
    ]


def _with(value: str, *more: str) -> str:
    return " ".join(part for part in (value, *more) if part)


def task_view(task: Task, board: Leaderboard) -> dict[str, Any]:
    """Everything a task's page shows."""
    facts = [
        ("Kind", task.kind),
        ("Targets", ", ".join(task.targets)),
        ("Classes", ", ".join(task.classes or ()) or ("none: a regression" if task.kind == "regression" else "as found in the labels")),
        ("Main metric", metric_name(task.metric)),
        ("Source", task.source),
        ("Licence", task.licence),
        ("Cite", task.citation),
        ("Known overlap with pretraining data", task.overlap),
        ("Digest of the card", task.digest[:16] + "…"),
    ]
    return {
        "task": task,
        "metric": metric_name(task.metric),
        "facts": facts,
        "roles": [(words, STYLE[role][0]) for role, words in MEANING.items()],
        "splits": [_split_view(task, info, board) for info in task.splits],
    }


def _split_view(task: Task, info: SplitInfo, board: Leaderboard) -> dict[str, Any]:
    tables = [table for table in board.tables if (table.task, table.split) == (task.name, info.split)]
    shown = dict(list(info.places.items())[:MOST_MAPS])
    counts = {fold: info.counts.get(fold, {}) for fold in shown}
    words = {
        fold: f"{n.get('train', 0):,} train, {n.get('test_id', 0):,} at home, {n.get('test_ood', 0):,} held out"
        for fold, n in counts.items()
    }
    return {
        "info": info,
        "title": split_title(info.split),
        "tables": tables,
        "audit": audit_words(info),
        "verdict": info.audit.get("verdict", ""),
        "baselines": [_baseline(tables, board, what, tiers) for what, tiers in BASELINES],
        "map": fold_figure(shown, words, f"{info.split}-folds"),
        "more": max(0, len(info.places) - MOST_MAPS),
    }


def audit_words(info: SplitInfo) -> str:
    """What the leakage audit found, in a sentence or two."""
    audit = info.audit
    if not audit:
        return "Not audited: no audit is written on this manifest’s card."
    head = {
        "clean": "Clean: no leak was found.",
        "leaks": "It leaks: test and training units share something, so scores on it flatter.",
        "unlocated": "No leak was found, but some units have no position, so their distance is unknown.",
    }.get(audit.get("verdict", ""), "The verdict is unknown.")
    parts = [f"{audit.get('n_train', 0):,} training and {audit.get('n_test', 0):,} test units over all folds"]
    within = {int(km): count for km, count in (audit.get("within_km") or {}).items()}
    if 1 in within:
        parts.append(f"{within[1]:,} test units within 1 km of a training unit")
    if audit.get("median_nearest_km") is not None:
        parts.append(f"median distance to the nearest {audit['median_nearest_km']:,.1f} km")
    return f"{head} {'; '.join(parts)}."


def _baseline(tables: Sequence[BoardTable], board: Leaderboard, what: str, tiers: Sequence[str]) -> dict[str, Any]:
    best: tuple[float, Row, str] | None = None
    for table in tables[:1]:
        goodness = find_metric(table.metric).goodness
        budget = table.budgets[len(table.budgets) // 2]
        for row in table.rows:
            point = row.points.get(budget)
            if board.entries[row.slug].model.tier not in tiers or point is None or point.ood is None:
                continue
            if best is None or goodness(point.ood.value) > best[0]:
                said = f"{score(point.ood.value)} {interval(point.ood)} at {budget_words(budget)}"
                best = (goodness(point.ood.value), row, said)
    if best is None:
        return {"what": what, "slug": "", "why": "Missing: nobody has submitted one yet."}
    entry = board.entries[best[1].slug]
    return {
        "what": what,
        "slug": entry.slug,
        "name": entry.model.name,
        "tier": entry.model.tier,
        "score": best[2],
        "standing": entry.standing,
    }
