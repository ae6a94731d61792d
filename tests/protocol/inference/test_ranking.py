"""Ranks and what the groups leave possible, against paired t-tests of scipy."""

from __future__ import annotations

import numpy as np
from scipy import stats

from rs05bench.protocol.inference.ranking import rank_ranges, ranks_across


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


def test_a_mean_rank_over_two_tables_has_the_means_of_ranges_that_hold_together():
    rng = np.random.default_rng(3)
    levels = {"a": 0.9, "b": 0.6, "c": 0.59}
    tables = [{name: level + rng.normal(0, 0.01, 12) for name, level in levels.items()} for _ in range(2)]
    tables.append({"c": np.array([0.1, 0.2, 0.1]), "d": np.array([0.5, 0.6, 0.4])})
    found = ranks_across(tables, ["mean"] * 3)
    # `a` is far ahead in both tables; `b` and `c` differ by less than their spread; `d` is alone with `c` in the third.
    assert (found["a"].mean, found["a"].low, found["a"].high, found["a"].tables) == (1.0, 1.0, 1.0, 2)
    assert found["c"].tables == 3
    each = [rank_ranges(np.array(list(table.values())), 1 - 0.05 / 3)[list(table).index("c")] for table in tables]
    assert (found["c"].low, found["c"].high) == (np.mean([r.low for r in each]), np.mean([r.high for r in each]))
    assert found["b"].low <= found["b"].mean <= found["b"].high


def test_a_range_at_a_higher_level_is_at_least_as_wide():
    table = np.random.default_rng(5).normal([[0.5], [0.52], [0.55], [0.4]], 0.03, (4, 8))
    for wide, narrow in zip(rank_ranges(table, 0.999), rank_ranges(table, 0.9), strict=True):
        assert wide.low <= narrow.low
        assert wide.high >= narrow.high


def test_ranks_by_signs_take_no_notice_of_one_group_far_off():
    good = np.array([[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, -9.0], [0.4, 0.4, 0.4, 0.4, 0.4, 0.4, -14.0]])
    assert [(r.low, r.high) for r in rank_ranges(good)] == [(1, 2), (1, 2)]
    assert [(r.low, r.high) for r in rank_ranges(good, of="median")] == [(1, 1), (2, 2)]
