"""The front page: what the board is, what it has found, and every model over all tasks."""

from __future__ import annotations

from typing import Any

from rs05bench.protocol.result import TIERS, Tier
from rs05bench.report.site.rank_words import Ranks
from rs05bench.report.site.records import BoardTable, Leaderboard
from rs05bench.report.site.view import budget_words, rank_words, score
from rs05bench.report.style import metric_name, split_title


def home_view(board: Leaderboard, ranks: dict[str, Ranks]) -> dict[str, Any]:
    """Everything the front page shows: a row a model, a column a table that counts, ordered by the mean rank."""
    tables = [table for table in board.tables if table.main]
    models = _rows(board, tables, ranks)
    return {
        "columns": [
            {"key": table.key, "title": _short(table, board), "split": split_title(table.split), "budget": budget_words(_middle(table))}
            for table in tables
        ],
        "models": models,
        "leaders": [_leader(board, table, ranks[table.key]) for table in tables],
        "finding": _finding(board, tables, ranks),
    }


def _middle(table: BoardTable) -> str:
    return table.budgets[len(table.budgets) // 2]


def _title(board: Leaderboard, table: BoardTable) -> str:
    task = board.tasks[table.task]
    return task.title if len(task.targets) == 1 else f"{task.title}: {table.target}"


def _short(table: BoardTable, board: Leaderboard) -> str:
    name = table.task.removesuffix("-simulated").replace("-", " ")
    return name if len(board.tasks[table.task].targets) == 1 else f"{name}: {table.target.replace('_', ' ')}"


def _rows(board: Leaderboard, tables: list[BoardTable], ranks: dict[str, Ranks]) -> list[dict[str, Any]]:
    """A submission is a model on some tasks; here all submissions of one model are one row."""
    found: dict[str, dict[str, Any]] = {}
    for place, table in enumerate(tables):
        ranked = ranks[table.key]["deployment", _middle(table)]
        for row in table.rows:
            model = board.entries[row.slug].model
            rank = ranked.get(row.slug)
            entry = found.setdefault(model.name, {"name": model.name, "tier": model.tier, "slug": row.slug, "cells": {}, "ranks": []})
            if rank is None or place in entry["cells"]:
                continue
            entry["cells"][place] = (*rank_words(rank), row.slug)
            entry["ranks"].append(rank)
    rows = [entry for entry in found.values() if entry["ranks"]]
    for entry in rows:
        ends = [(rank.rank, rank.low or rank.rank, rank.high or rank.rank) for rank in entry["ranks"]]
        entry["mean"], entry["low"], entry["high"] = (sum(values) / len(ends) for values in zip(*ends, strict=True))
        entry["cells"] = [entry["cells"].get(place) for place in range(len(tables))]
    # A model of one task is not compared with one of all: those of more tasks come first.
    return sorted(rows, key=lambda entry: (-len(entry["ranks"]), entry["mean"], entry["name"]))


def _leader(board: Leaderboard, table: BoardTable, ranks: Ranks) -> dict[str, Any] | None:
    """The first of a table, and how many others may be as good."""
    ranked = ranks["deployment", _middle(table)]
    if not ranked:
        return None
    slug = min(ranked, key=lambda name: ranked[name].rank)
    row = next(row for row in table.rows if row.slug == slug)
    point = row.points[_middle(table)]
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
    real = [table for table in tables if not table.simulated and ranks[table.key]["deployment", _middle(table)]]
    for table in real:
        ranked = ranks[table.key]["deployment", _middle(table)]
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
