"""Who holds a rank, and why the others do not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


def goodness_of(table: BoardTable, board: Leaderboard, track: str, budget: str) -> dict[str, NDArray]:
    """Slug -> held-out score by group, turned so that more is better, of all that may have a rank; on the groups that all of them have."""
    turned = find_metric(table.metric)
    rows = [row for row in table.rows if track in board.entries[row.slug].tracks and not why_unranked(table, row, budget)]
    groups = sorted(set.intersection(*(set(row.points[budget].by_group) for row in rows))) if rows else []
    return {row.slug: np.asarray([turned.goodness(row.points[budget].by_group[group]) for group in groups]) for row in rows}


def rank_table(table: BoardTable, board: Leaderboard) -> Ranks:
    """Ranks of a table for every track and budget."""
    found: Ranks = {}
    for track in TRACKS:
        for budget in table.budgets:
            good = goodness_of(table, board, track, budget)
            ranges = rank_ranges(np.asarray(list(good.values())), of=find_metric(table.metric).over_groups) if good else []
            found[track, budget] = dict(zip(good, ranges, strict=True))
    return found
