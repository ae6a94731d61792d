"""Intervals and rank ranges, against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rs05bench.report.site.uncertainty import rank_ranges, spread


def test_interval_over_folds_is_students_when_seeds_add_nothing():
    scores = np.array([0.5, 0.6, 0.8, 0.55])
    found = spread(scores[:, None])
    low, high = stats.t.interval(0.95, 3, scores.mean(), stats.sem(scores))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.value, found.folds, found.seeds) == (pytest.approx(scores.mean()), 4, 1)


def test_a_shift_common_to_all_folds_of_a_seed_widens_the_interval():
    folds = np.array([0.5, 0.6, 0.8, 0.55])[:, None]
    steady = spread(folds + np.zeros((1, 3)))
    moving = spread(folds + np.array([[-0.2, 0.0, 0.2]]))
    assert moving.value == pytest.approx(steady.value)
    assert moving.high - moving.low > steady.high - steady.low


def test_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        table = 0.6 + rng.normal(0, 0.08, (6, 1)) + rng.normal(0, 0.05, (1, 5)) + rng.normal(0, 0.04, (6, 5))
        found = spread(table)
        held += found.low <= 0.6 <= found.high
    assert 0.92 <= held / 600 <= 0.985


def test_one_fold_has_a_score_and_no_interval():
    found = spread(np.array([[0.5, 0.7]]))
    assert found.value == pytest.approx(0.6)
    assert found.low is None
    assert found.high is None


def test_no_score_is_nothing():
    assert spread(np.full((3, 2), np.nan)) is None


def test_a_missing_seed_does_not_weigh_its_fold_down():
    found = spread(np.array([[0.2, np.nan], [0.6, 0.8]]))
    assert found.value == pytest.approx((0.2 + 0.7) / 2)


def test_models_far_apart_have_one_possible_rank():
    folds = np.linspace(0, 0.1, 6)
    noise = np.random.default_rng(1).normal(0, 1e-4, (3, 6))
    ranges = rank_ranges(np.array([folds + 0.1, folds + 0.9, folds + 0.5]) + noise)
    assert [(r.rank, r.low, r.high) for r in ranges] == [(3, 3, 3), (1, 1, 1), (2, 2, 2)]


def test_models_alike_may_hold_any_rank():
    table = np.random.default_rng(0).normal(0.5, 0.1, (4, 5))
    assert {(r.low, r.high) for r in rank_ranges(table)} == {(1, 4)}


def test_equal_models_share_a_rank():
    ranges = rank_ranges(np.array([[0.5, 0.6], [0.5, 0.6], [0.1, 0.1]]))
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


def test_a_single_fold_gives_ranks_without_a_range():
    assert [(r.rank, r.low, r.high) for r in rank_ranges(np.array([[0.2], [0.9]]))] == [(2, None, None), (1, None, None)]
