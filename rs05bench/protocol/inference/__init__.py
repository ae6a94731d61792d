"""Intervals, tests, ranks: how far a number can be trusted. Vectorised NumPy over sums per cluster; no predictions needed."""

from __future__ import annotations

from rs05bench.protocol.inference.budget_curve import label_budget_area
from rs05bench.protocol.inference.hypothesis_tests import SignedRank, holm, wilcoxon_signed_rank
from rs05bench.protocol.inference.intervals import FEW_GROUPS, Estimate, ood_drop, paired_difference, relative_drop, score_interval
from rs05bench.protocol.inference.ranking import (
    AverageRanks,
    Leaderboard,
    average_ranks,
    improvability,
    leaderboard,
    ranks_within,
    win_rate,
)
from rs05bench.protocol.inference.variance import VarianceSplit, split_variance

__all__ = [
    "FEW_GROUPS",
    "AverageRanks",
    "Estimate",
    "Leaderboard",
    "SignedRank",
    "VarianceSplit",
    "average_ranks",
    "holm",
    "improvability",
    "label_budget_area",
    "leaderboard",
    "ood_drop",
    "paired_difference",
    "ranks_within",
    "relative_drop",
    "score_interval",
    "split_variance",
    "wilcoxon_signed_rank",
    "win_rate",
]
