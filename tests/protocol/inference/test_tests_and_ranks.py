"""Rank tests, corrections, ranks, curves and variance parts agree with scipy or with the definition worked by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as reference

from rs05bench.errors import ProtocolError
from rs05bench.protocol.inference import (
    average_ranks,
    holm,
    improvability,
    label_budget_area,
    leaderboard,
    ranks_within,
    split_variance,
    wilcoxon_signed_rank,
    win_rate,
)
from rs05bench.protocol.metrics import ClusterConfusion, ClusterMoments


@pytest.mark.parametrize("n", [1, 5, 12, 40])
def test_wilcoxon_equals_scipy_exactly_without_ties(n):
    d = np.random.default_rng(n).normal(0.3, 1, n)
    theirs = reference.wilcoxon(d, method="exact")
    assert wilcoxon_signed_rank(d).p == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("d", [[1, 1, -1, 2, 2, 3], [0.5, 0.5, 0.5, -0.5], [1, -2, 2, -3, 4, 4, 4]])
def test_wilcoxon_with_ties_counts_every_sign(d):
    d = np.array(d, float)
    ranks = reference.rankdata(np.abs(d))
    sums = np.array([(ranks * np.array(s)).sum() for s in itertools.product((0, 1), repeat=len(d))])
    seen = ranks[d > 0].sum()
    expected = min(1, 2 * min((sums <= seen + 1e-9).mean(), (sums >= seen - 1e-9).mean()))
    assert wilcoxon_signed_rank(d).p == pytest.approx(expected, abs=1e-12)


def test_wilcoxon_of_many_pairs_equals_scipys_approximation():
    d = np.random.default_rng(0).normal(0.1, 1, 200).round(1)
    theirs = reference.wilcoxon(d[d != 0], correction=True, method="approx")
    ours = wilcoxon_signed_rank(d)
    assert (ours.p, ours.exact) == (pytest.approx(theirs.pvalue, abs=1e-12), False)


def test_wilcoxon_counts_a_fold_once_unless_told_otherwise():
    table = np.random.default_rng(1).normal(0.5, 1, (8, 1)) + 0.01 * np.random.default_rng(2).normal(size=(8, 5))
    table[0, 2] = np.nan
    assert wilcoxon_signed_rank(table).p == wilcoxon_signed_rank(np.nanmean(table, axis=1)).p
    assert wilcoxon_signed_rank(table, unit="fold-seed").n == 39


def test_wilcoxon_of_nothing_but_zeros_finds_nothing():
    found = wilcoxon_signed_rank(np.zeros(6))
    assert (found.p, found.n) == (1.0, 0)


def test_holm_by_hand_and_with_missing_comparisons():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, np.nan, 0.9])[[0, 2]] == pytest.approx([0.02, 0.9])
    assert np.isnan(holm([0.01, np.nan])[1])
    assert holm([]).size == 0
    with pytest.raises(ProtocolError, match="between 0 and 1"):
        holm([1.2])


def test_average_ranks_repeat_demsars_example():
    # Demšar 2006, table 6: AUC of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on 14 data sets; the critical difference and chi square are
    # printed there.
    table = np.array(
        [
            [0.763, 0.768, 0.771, 0.798],
            [0.599, 0.591, 0.590, 0.569],
            [0.954, 0.971, 0.968, 0.967],
            [0.628, 0.661, 0.654, 0.657],
            [0.882, 0.888, 0.886, 0.898],
            [0.936, 0.931, 0.916, 0.931],
            [0.661, 0.668, 0.609, 0.685],
            [0.583, 0.583, 0.563, 0.625],
            [0.775, 0.838, 0.866, 0.875],
            [1.000, 1.000, 1.000, 1.000],
            [0.940, 0.962, 0.965, 0.962],
            [0.619, 0.666, 0.614, 0.669],
            [0.972, 0.981, 0.9751, 0.975],
            [0.957, 0.978, 0.946, 0.970],
        ]
    )
    found = average_ranks(table)
    assert found.ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=0.01)
    assert found.friedman_p == pytest.approx(reference.friedmanchisquare(*table.T).pvalue, rel=1e-9)
    assert found.tied(1, 3)


def test_bars_join_models_that_cannot_be_told_apart():
    rng = np.random.default_rng(0)
    table = np.array([4.0, 3.9, 1.0, 0.9]) + 0.2 * rng.normal(size=(30, 4))
    assert [set(run) for run in average_ranks(table).cliques()] == [{0, 1}, {2, 3}]


def test_ranks_need_every_score():
    with pytest.raises(ProtocolError, match="1 scores are missing"):
        average_ranks(np.array([[1.0, np.nan], [1.0, 2.0]]))


def test_ranks_within_equal_scipy_with_ties():
    scores = np.random.default_rng(1).integers(0, 4, (20, 6)).astype(float)
    assert (ranks_within(scores, higher_is_better=False) == reference.rankdata(scores, axis=1)).all()
    assert (ranks_within(scores, higher_is_better=True) == reference.rankdata(-scores, axis=1)).all()


def test_win_rate_counts_ties_half_and_skips_missing_duels():
    table = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, np.nan]])
    assert win_rate(table) == pytest.approx([2.5 / 3, 1.5 / 3, 0])
    assert win_rate(table, higher_is_better=False) == pytest.approx([0.5 / 3, 1.5 / 3, 1])


def test_improvability_by_hand():
    errors = np.array([[0.2, 0.4, 0.2], [0.5, 0.5, 0.25]])
    assert improvability(errors) == pytest.approx([25, 50, 0])
    assert improvability(np.array([[0.0, 1.0]])) == pytest.approx([0, 100])
    with pytest.raises(ProtocolError, match="not negative"):
        improvability(np.array([[-0.1, 1.0]]))


def test_area_under_the_curve_weighs_every_doubling_alike():
    assert label_budget_area(np.array([10, 20, 40]), np.array([0.2, 0.4, 0.6])) == pytest.approx(0.4)
    assert label_budget_area(np.array([40, 10, 20]), np.array([0.6, 0.2, 0.4])) == pytest.approx(0.4)
    assert label_budget_area(np.array([10, 1000]), np.full((3, 2), 0.7)) == pytest.approx([0.7] * 3)
    assert np.isnan(label_budget_area(np.array([10, 20]), np.array([0.5, np.nan])))
    with pytest.raises(ProtocolError, match="all different"):
        label_budget_area(np.array([10, 10]), np.array([0.1, 0.2]))


def test_variance_parts_are_those_that_were_put_in():
    rng = np.random.default_rng(0)
    folds, seeds, sample = 3000, 5, 0.02**2
    table = 0.7 + 0.05 * rng.normal(size=(folds, 1)) + 0.02 * rng.normal(size=(folds, 1)) + 0.03 * rng.normal(size=(folds, seeds))
    table[::7, 4] = np.nan
    found = split_variance(table, np.full(folds, sample))
    assert found.seed == pytest.approx(0.03**2, rel=0.05)
    assert found.fold == pytest.approx(0.05**2, rel=0.08)
    assert sum(found.shares().values()) == pytest.approx(1)


def test_variance_parts_need_folds_and_seeds():
    with pytest.raises(ProtocolError, match="two folds"):
        split_variance(np.ones((1, 3)))
    with pytest.raises(ProtocolError, match="two seeds"):
        split_variance(np.ones((3, 1)))


def stats_of(share, seed):
    rng = np.random.default_rng(seed)
    right = rng.binomial(50, share, 40)
    counts = np.zeros((40, 2, 2), np.int64)
    counts[:, 1, 1], counts[:, 1, 0] = right, 50 - right
    return ClusterConfusion(tuple(f"b{i:02d}" for i in range(40)), ("no", "yes"), counts)


def test_leaderboard_ranks_clear_winners_surely_and_equals_unsurely():
    entries = {
        "best": stats_of(0.9, 0),
        "twin": stats_of(0.7, 1),
        "other twin": [stats_of(0.7, 2), stats_of(0.7, 3)],
        "worst": stats_of(0.3, 4),
    }
    table = leaderboard(entries, "overall_accuracy", draws=500)
    assert table.models == tuple(entries)
    assert (table.rank_low[0], table.rank_high[0], table.best[0]) == (1, 1, 1)
    assert (table.rank_low[1], table.rank_high[1]) == (2, 3)
    assert (table.rank_low[3], table.rank_high[3]) == (4, 4)
    assert table.draws.shape == (500, 4)


def test_leaderboard_ranks_errors_and_biases_by_their_goodness():
    rng = np.random.default_rng(0)
    y, cluster = rng.normal(size=900), rng.integers(0, 30, 900).astype(str)
    entries = {"low": ClusterMoments.from_values(cluster, y, y - 1), "fair": ClusterMoments.from_values(cluster, y, y + 0.1)}
    for metric in ("rmse", "bias"):
        assert leaderboard(entries, metric, draws=100).ranks.tolist() == [2, 1]


def test_leaderboard_needs_the_same_clusters_for_all():
    with pytest.raises(ProtocolError, match="late was not scored"):
        leaderboard({"first": stats_of(0.5, 0), "late": stats_of(0.5, 1).select(["b00", "b01"])}, "overall_accuracy")
