"""What the pages say: records put into words once, so that the page, its script and its downloads agree."""

from __future__ import annotations

from typing import Any

import numpy as np

from rs05bench.protocol.inference.ranking import RankRange
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.task_kinds import TASK_KINDS
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.site.rank_words import Ranks, why_unranked
from rs05bench.report.site.records import STANDING_MEANING, TRACKS, BoardPoint, BoardTable, Leaderboard, Row, Spread
from rs05bench.report.style import interval_of, metric_name, number, seconds, signed, split_title

MISSING = "missing"
MIDDLE_TRACK = "deployment"
MEDIAN = "median "
"""What the legend of a table says once, and its narrow cells leave out."""


def score(value: float | None) -> str:
    """A score: three decimals, fewer for large numbers."""
    return MISSING if value is None else number(value, 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0)


def interval(spread: Spread | None) -> str:
    """`[.58, .66]`, or `median .60 [.58, .66]`; empty where there is none."""
    if spread is not None and spread.median is not None:
        return interval_of({f"median{end}": found for end, found in zip(("", "_low", "_high"), spread.median[1:], strict=True)})
    if spread is None or spread.low is None or spread.high is None:
        return ""
    digits = 2 if max(abs(spread.low), abs(spread.high)) < 100 else 0
    return f"[{number(spread.low, digits)}, {number(spread.high, digits)}]"


def budget_words(budget: str) -> str:
    """`10-per-class` as `10 per class`, `5pct` as `5 %`, `full` as `all labels`."""
    if budget == "full":
        return "all labels"
    return budget.replace("pct-", " % of ").replace("pct", " %").replace("-", " ")


def rank_words(place: RankRange | None) -> tuple[str, str]:
    """The rank, and the ranks the data leave possible."""
    if place is None:
        return "–", ""
    if place.low is None or place.high is None:
        return str(place.rank), "range unknown: fewer than three groups"
    return str(place.rank), f"{place.low}–{place.high}"


def count_words(value: int | None) -> str:
    """A number of parameters: `304 M`."""
    if value is None:
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return str(value)


def point_words(point: BoardPoint | None) -> dict[str, str]:
    """The texts of one row at one budget, by the field of the table they stand in."""
    if point is None:
        point = BoardPoint(budget="")
    cost = point.cost
    per = seconds(cost.predict_s_per_1000) if cost and cost.predict_s_per_1000 is not None else ""
    return {
        "drop": signed(point.drop.value, 3) if point.drop else MISSING,
        "dropi": interval(point.drop).removeprefix(MEDIAN),
        "cal": score(point.calibration),
        "fit": seconds(cost.fit_s) if cost and cost.fit_s is not None else MISSING,
        "pred": (f"{per}/1,000" if per else "") + (" reported" if cost and not point.measured else ""),
    }


def point_numbers(point: BoardPoint | None) -> list[float | int | None]:
    """Labels, OOD with ends, home, drop with ends, calibration, fit, predict, trainable parameters, memory: what the pictures draw."""
    if point is None:
        return []
    cost = point.cost
    ood, drop = point.ood, point.drop
    return [
        _short(point.labels),
        *(_ends(ood)),
        _short(point.home.value if point.home else None),
        *(_ends(drop)),
        _short(point.calibration),
        *(_short(getattr(cost, name, None)) for name in ("fit_s", "predict_s_per_1000", "parameters_trainable", "peak_memory_mb")),
    ]


def _ends(spread: Spread | None) -> list[float | int | None]:
    return [_short(spread.value), _short(spread.low), _short(spread.high)] if spread else [None, None, None]


def _short(value: float | None) -> float | int | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")


def table_view(table: BoardTable, board: Leaderboard, ranks: Ranks) -> dict[str, Any]:
    """Everything a table's page shows."""
    chosen = table.budgets[len(table.budgets) // 2]
    better = find_metric(table.metric)
    rows = [_row(table, row, board, ranks, chosen) for row in table.rows]
    # Missing goes last; NaN would not sort.
    rows.sort(key=lambda row: (row["rank"] is None, row["rank"] or 0, row["good"] is None, -(row["good"] or 0), row["name"], row["slug"]))
    machines = sorted({machine for row in rows for machine in row["hardware"]})
    task = board.tasks[table.task]
    return {
        "table": table,
        "task": task,
        "title": task.title,
        "split_title": split_title(table.split),
        "metric": metric_name(table.metric),
        "higher": bool(better.higher_is_better),
        "calibration": TASK_KINDS[task.kind].calibration_title,
        "budgets": [{"name": name, "words": budget_words(name)} for name in table.budgets],
        "chosen": chosen,
        "shown": shown_budgets(table.budgets, chosen),
        "ranked": [row for row in rows if row["rank"] is not None],
        "unranked": [row for row in rows if row["rank"] is None],
        "tiers": [name for name in TIER_STYLES if any(row["tier"] == name for row in rows)],
        "machines": machines,
        "content": {
            "budgets": table.budgets,
            "words": {name: budget_words(name) for name in table.budgets},
            "chosen": chosen,
            "higher": bool(better.higher_is_better),
            "metric": metric_name(table.metric),
            "tiers": list(TIER_STYLES),
            "rows": {row["slug"]: row["content"] for row in rows},
        },
    }


def shown_budgets(budgets: list[str], chosen: str) -> list[str]:
    """The three budgets with a column: the smallest, the largest, and the chosen one or the middle."""
    if len(budgets) <= 3:
        return list(budgets)
    middle = chosen if chosen not in (budgets[0], budgets[-1]) else budgets[len(budgets) // 2]
    return [budgets[0], middle, budgets[-1]]


def _row(table: BoardTable, row: Row, board: Leaderboard, ranks: Ranks, chosen: str) -> dict[str, Any]:
    entry = board.entries[row.slug]
    better = find_metric(table.metric)
    point = row.points.get(chosen)
    place = ranks[MIDDLE_TRACK, chosen].get(row.slug)
    machines = sorted({p.cost.hardware for p in row.points.values() if p.cost and p.cost.hardware})
    budgets = {}
    for budget in table.budgets:
        here = row.points.get(budget)
        rank = {}
        for track in TRACKS:
            found = ranks[track, budget].get(row.slug)
            if found is not None:
                rank[track] = [found.rank, *rank_words(found)]
        budgets[budget] = {"r": rank, "t": point_words(here) | {"why": why_unranked(table, row, budget)}, "n": point_numbers(here)}
    words = [entry.model.name, entry.title, entry.slug, entry.model.tier, *entry.authors, *machines]
    return {
        "slug": row.slug,
        "name": entry.model.name,
        "title": entry.title,
        "authors": short_authors(entry.authors),
        "tier": entry.model.tier,
        "open": entry.model.open_weights,
        "random_twin": entry.model.random_twin,
        "standing": entry.standing,
        "standing_meaning": STANDING_MEANING[entry.standing],
        "simulated": table.simulated,
        "hardware": machines,
        "rank": place.rank if place else None,
        "rank_words": rank_words(place),
        "why": why_unranked(table, row, chosen),
        "good": better.goodness(point.ood.value) if point and point.ood else None,
        "ood": [
            {
                "budget": budget,
                "value": score(here.ood.value) if (here := row.points.get(budget)) and here.ood else MISSING,
                "interval": interval(here.ood).removeprefix(MEDIAN) if here else "",
                "lacking": here.missing if here else "",
            }
            for budget in table.budgets
        ],
        "words": point_words(point),
        "flags": sum(flag.verdict == "not looked at yet" for flag in entry.flags),
        "content": {
            "name": entry.model.name,
            "tier": entry.model.tier,
            "open": entry.model.open_weights,
            "tracks": entry.tracks,
            "hw": machines,
            "standing": entry.standing,
            "q": " ".join(words).lower(),
            "b": budgets,
        },
    }


def short_authors(authors: list[str]) -> str:
    """The first two names."""
    names = [name.split(" (")[0] for name in authors]
    return ", ".join(names) if len(names) <= 2 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
