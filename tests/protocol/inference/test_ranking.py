"""Ranks and what the groups leave possible, against paired t-tests of scipy."""

from __future__ import annotations

import numpy as np
from scipy import stats

from rs05bench.protocol.inference.ranking import rank_ranges


def test_models_far_apart_have_one_possible_rank():
    folds = np.linspace(0, 0.1, 6)
    noise = np.random.default_rng(1).normal(0, 1e-4, (3, 6))
    ranges = rank_ranges(np.array([folds + 0.1, folds + 0.9, folds + 0.5]) + noise)
    assert [(r.rank, r.low, r.high) for r in ranges] == [(3, 3, 3), (1, 1, 1), (2, 2, 2)]


def test_models_alike_may_hold_any_rank():
    table = np.random.default_rng(0).normal(0.5, 0.1, (4, 5))
    assert {(r.low, r.high) for r in rank_ranges(table)} == {(1, 4)}


def test_equal_models_share_a_rank():
    ranges = rank_ranges(np.array([[0.5, 0.6, 0.4], [0.5, 0.6, 0.4], [0.1, 0.1, 0.1]]))
    assert [r.rank for r in ranges] == [1, 1, 3]


def test_two_models_are_told_apart_exactly_where_the_paired_t_test_does():
    rng = np.random.default_rng(3)
    seen = set()
    for gap in np.linspace(0, 0.15, 40):
        table = np.stack([rng.normal(0.5, 0.05, 6), rng.normal(0.5 + gap, 0.05, 6)])
        apart = stats.ttest_rel(table[1], table[0]).pvalue <= 0.05
        low, high = rank_ranges(table)[1].low, rank_ranges(table)[1].high
        assert (low == high) == apart
        seen.add(bool(apart))
    assert seen == {True, False}


def test_rank_ranges_of_many_equal_models_rarely_exclude_a_rank():
    rng = np.random.default_rng(5)
    excluded = sum(any(r.high - r.low < 9 for r in rank_ranges(rng.normal(0, 1, (10, 8)))[:1]) for _ in range(300))
    assert excluded / 300 <= 0.06


def test_two_groups_give_ranks_without_a_range():
    ranges = rank_ranges(np.array([[0.2, 0.3], [0.9, 0.8]]))
    assert [(r.rank, r.low, r.high) for r in ranges] == [(2, None, None), (1, None, None)]
