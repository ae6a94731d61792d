"""The front page: what the board is, what it has found, and every model over all tasks."""

from __future__ import annotations

from typing import Any

from rs05bench.protocol.result import TIERS, Tier
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.site.across import by_model, by_tier, label_gains, middle
from rs05bench.report.site.rank_words import Ranks
from rs05bench.report.site.records import BoardTable, Leaderboard
from rs05bench.report.site.view import budget_words, score
from rs05bench.report.style import metric_name, split_title


def home_view(board: Leaderboard, ranks: dict[str, Ranks]) -> dict[str, Any]:
    """Everything the front page shows of the tables that count."""
    tables = [table for table in board.tables if table.main]
    gains = label_gains(board, tables)
    return {
        "columns": [
            {"key": table.key, "title": _short(table, board), "split": split_title(table.split), "budget": budget_words(middle(table))}
            for table in tables
        ],
        "models": by_model(board, tables),
        "tiers": by_tier(board, tables),
        "gains": [row | {"title": _short(row["table"], board), "metric": metric_name(row["table"].metric)} for row in gains],
        "gain_tiers": [tier for tier in TIER_STYLES if any(tier in row["cells"] for row in gains)],
        "leaders": [_leader(board, table, ranks[table.key]) for table in tables],
        "finding": _finding(board, tables, ranks),
    }


def _title(board: Leaderboard, table: BoardTable) -> str:
    task = board.tasks[table.task]
    return task.title if len(task.targets) == 1 else f"{task.title}: {table.target}"


def _short(table: BoardTable, board: Leaderboard) -> str:
    name = table.task.removesuffix("-simulated").replace("-", " ")
    return name if len(board.tasks[table.task].targets) == 1 else f"{name}: {table.target.replace('_', ' ')}"


def _leader(board: Leaderboard, table: BoardTable, ranks: Ranks) -> dict[str, Any] | None:
    """The first of a table, and how many others may be as good."""
    ranked = ranks["deployment", middle(table)]
    if not ranked:
        return None
    slug = min(ranked, key=lambda name: ranked[name].rank)
    row = next(row for row in table.rows if row.slug == slug)
    point = row.points[middle(table)]
    return {
        "key": table.key,
        "title": _title(board, table),
        "model": board.entries[slug].model.name,
        "tier": board.entries[slug].model.tier,
        "slug": slug,
        "score": f"{metric_name(table.metric)} {score(point.ood.value if point.ood else None)}",
        "others": sum(place.low == 1 for name, place in ranked.items() if name != slug),
        "of": len(ranked),
    }


def _finding(board: Leaderboard, tables: list[BoardTable], ranks: dict[str, Ranks]) -> str:
    """Which tier comes first most often, on real tasks, and how often the first is alone there beyond chance."""
    firsts: dict[Tier, int] = {}
    alone: dict[Tier, int] = {}
    real = [table for table in tables if not table.simulated and ranks[table.key]["deployment", middle(table)]]
    for table in real:
        ranked = ranks[table.key]["deployment", middle(table)]
        slug = min(ranked, key=lambda name: ranked[name].rank)
        tier = board.entries[slug].model.tier
        firsts[tier] = firsts.get(tier, 0) + 1
        alone[tier] = alone.get(tier, 0) + (len(ranked) > 1 and ranked[slug].high == 1)
    if not firsts:
        return "No real task has a ranked submission yet."
    tier = max(TIERS, key=lambda name: firsts.get(name, 0))
    said = f"So far a model of the tier {tier} comes first on {firsts[tier]} of {len(real)} tables of real data"
    if alone[tier]:
        return f"{said}; on {alone[tier]} of them it is ahead of every other model beyond chance."
    return f"{said}; on none of them is it ahead of every other model beyond chance."
