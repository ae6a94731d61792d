"""Who holds a rank, and why the others do not."""

from __future__ import annotations

import numpy as np

from rs05bench.protocol.inference.ranking import RankRange, rank_ranges
from rs05bench.protocol.metrics import find_metric
from rs05bench.report.site.records import TRACKS, BoardTable, Leaderboard, Row

Ranks = dict[tuple[str, str], dict[str, RankRange]]
"""(track, budget) -> slug -> rank."""


def why_unranked(table: BoardTable, row: Row, budget: str) -> str:
    """One plain sentence that says why a row has no rank at a budget; empty where it has one."""
    if table.simulated:
        return "Simulated data never rank."
    if row.barred:
        return row.barred
    point = row.points.get(budget)
    if point is None or point.ood is None:
        return f"No result at {budget}."
    return f"Incomplete: {point.missing}." if point.missing else ""


def rank_table(table: BoardTable, board: Leaderboard) -> Ranks:
    """Ranks of a table for every track and budget."""
    turned = find_metric(table.metric)
    found: Ranks = {}
    for track in TRACKS:
        for budget in table.budgets:
            rows = [row for row in table.rows if track in board.entries[row.slug].tracks and not why_unranked(table, row, budget)]
            groups = sorted(set.intersection(*(set(row.points[budget].by_group) for row in rows))) if rows else []
            good = [[turned.goodness(row.points[budget].by_group[group]) for group in groups] for row in rows]
            ranges = rank_ranges(np.asarray(good)) if rows else []
            found[track, budget] = {row.slug: place for row, place in zip(rows, ranges, strict=True)}
    return found
