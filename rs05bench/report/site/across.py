"""The view over all tasks: models and tiers by their mean rank, and what more labels buy."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.inference.over_groups import over_groups
from rs05bench.protocol.inference.ranking import RankAcross, rank_ranges, ranks_across
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.metrics.declaration import Centre
from rs05bench.protocol.tiers import TIER_STYLES
from rs05bench.report.site.rank_words import goodness_of
from rs05bench.report.site.records import BoardTable, Leaderboard, Row, Spread
from rs05bench.report.site.view import budget_words, interval, rank_words
from rs05bench.report.style import signed

TRACK = "deployment"


def middle(table: BoardTable) -> str:
    """The budget that a table is shown at."""
    return table.budgets[len(table.budgets) // 2]


def by_model(board: Leaderboard, tables: list[BoardTable]) -> list[dict[str, Any]]:
    """A row per model: a submission is a model on some tasks; here all submissions of one model are one row, the better where two meet."""
    slugs: list[dict[str, str]] = []
    scores: list[dict[str, NDArray]] = []
    for table in tables:
        good = goodness_of(table, board, TRACK, middle(table))
        best: dict[str, str] = {}
        for slug in sorted(good, key=lambda slug: good[slug].mean()):
            best[board.entries[slug].model.name] = slug
        slugs.append(best)
        scores.append({name: good[slug] for name, slug in best.items()})
    rows = _rows(scores, tables)
    for row in rows:
        chosen = [found.get(row["name"]) for found in slugs]
        row["slugs"] = chosen
        row["slug"] = next(slug for slug in chosen if slug)
        row["tier"] = board.entries[row["slug"]].model.tier
    return rows


def by_tier(board: Leaderboard, tables: list[BoardTable]) -> list[dict[str, Any]]:
    """A row per tier: its score in a group is the mean over its models, so that a tier does not win by having many."""
    scores = []
    for table in tables:
        members: dict[str, list[NDArray]] = defaultdict(list)
        for slug, good in goodness_of(table, board, TRACK, middle(table)).items():
            members[board.entries[slug].model.tier].append(good)
        scores.append({tier: np.mean(found, axis=0) for tier, found in members.items()})
    return _rows(scores, tables)


def _rows(scores: list[dict[str, NDArray]], tables: list[BoardTable]) -> list[dict[str, Any]]:
    of = [find_metric(table.metric).over_groups for table in tables]
    across = ranks_across(scores, of)
    ranges = [
        dict(zip(table, rank_ranges(np.asarray(list(table.values())), of=centre), strict=True)) if table else {}
        for table, centre in zip(scores, of, strict=True)
    ]
    rows = []
    for name, found in across.items():
        cells = [rank_words(table[name]) if name in table else None for table in ranges]
        rows.append(
            {"name": name, "tier": name, "slug": "", "mean": found.mean, "range": _ends(found), "tables": found.tables, "cells": cells}
        )
    # Ranks among other opponents are not comparable, so what takes part in more tables comes first.
    return sorted(rows, key=lambda row: (-row["tables"], row["mean"], row["name"]))


def _ends(found: RankAcross) -> str:
    return "" if found.low is None or found.high is None else f"{found.low:.1f}–{found.high:.1f}"


def label_gains(board: Leaderboard, tables: list[BoardTable]) -> list[dict[str, Any]]:
    """What more labels buy: a row per table and step between two budgets, a cell per tier, per doubling of the labels, held out."""
    rows = []
    for table in tables:
        for fewer, more in zip(table.budgets, table.budgets[1:], strict=False):
            steps = {
                tier: _gain(found, fewer, more, find_metric(table.metric).over_groups)
                for tier, found in _members(board, table, fewer, more).items()
            }
            if steps:
                rows.append({"table": table, "step": f"{budget_words(fewer)} to {budget_words(more)}", "cells": steps})
    return rows


def _members(board: Leaderboard, table: BoardTable, fewer: str, more: str) -> dict[str, list[Row]]:
    """Tier -> its rows that hold both budgets."""
    found: dict[str, list[Row]] = {tier: [] for tier in TIER_STYLES}
    both = goodness_of(table, board, TRACK, fewer).keys() & goodness_of(table, board, TRACK, more).keys()
    for row in table.rows:
        if row.slug in both:
            found[board.entries[row.slug].model.tier].append(row)
    return {tier: rows for tier, rows in found.items() if rows}


def _gain(rows: list[Row], fewer: str, more: str, of: Centre) -> dict[str, str]:
    """Difference of the score between two budgets per doubling of the labels: mean (or median) over groups of the tier's mean."""
    by_group: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        one, other = row.points[fewer], row.points[more]
        doublings = np.log2((other.labels or np.nan) / (one.labels or np.nan))
        for group in one.by_group.keys() & other.by_group.keys():
            by_group[group].append((other.by_group[group] - one.by_group[group]) / doublings)
    names = sorted(by_group)
    found = over_groups(np.array([[np.mean(by_group[name])] for name in names]), names, of=of)
    return {"gain": signed(found.value, 3), "interval": interval(Spread.of(found, 1))}
