"""One group: whole blocks are resampled, fits are part of the error, and the truth is held as often as claimed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats as reference

from rs05bench.errors import ProtocolError
from rs05bench.protocol.inference.contrast import build_contrast, cluster_weights
from rs05bench.protocol.inference.over_blocks import over_blocks
from rs05bench.protocol.metrics import Clusters, Confusion, Moments

CLASSES = ("wrong", "right")


def accuracy_stats(right, of=20, prefix="b"):
    right = np.asarray(right)
    counts = np.zeros((len(right), 2, 2), np.int64)
    counts[:, 1, 1], counts[:, 1, 0] = right, of - right
    return Confusion(tuple(f"{prefix}{i:03d}" for i in range(len(right))), counts, CLASSES)


def score(*fits, metric="overall_accuracy", **options):
    return over_blocks([[(1.0, fit)] for fit in fits], metric, **options)


def gap(a, b, metric="overall_accuracy", **options):
    return over_blocks([[(1.0, one), (-1.0, other)] for one, other in zip(a, b, strict=True)], metric, test=True, **options)


@pytest.fixture(scope="module")
def many():
    return accuracy_stats(np.random.default_rng(0).binomial(20, np.random.default_rng(1).beta(7, 3, 60)))


def test_the_interval_surrounds_the_score_and_names_what_it_is_over(many):
    found = score(many)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(many.evaluate("overall_accuracy"))
    assert (found.over, found.n_groups, found.n_blocks) == ("blocks", 1, 60)
    assert "nothing about a new group" in found.note


def test_the_standard_error_of_a_mean_of_equal_blocks_is_the_textbook_one(many):
    means = many.values[:, 1, 1] / 20
    assert score(many).se == pytest.approx(means.std(ddof=1) / 60**0.5, rel=1e-12)


def test_few_blocks_get_students_interval():
    right = np.array([15, 12, 18, 9, 14])
    found = score(accuracy_stats(right))
    assert (found.low, found.high) == pytest.approx(reference.t.interval(0.95, 4, right.mean() / 20, right.std(ddof=1) / 20 / 5**0.5))


def test_draws_take_whole_clusters_to_the_same_number():
    weights = cluster_weights(5, 500, np.random.default_rng(0))
    assert (weights.sum(1) == 5).all()
    assert weights.mean(0) == pytest.approx(np.ones(5), abs=0.15)


def test_the_same_seed_gives_the_same_interval_and_another_does_not(many):
    first, again, other = (score(many, metric="macro_f1", rng=np.random.default_rng(s)) for s in (5, 5, 6))
    assert first == again
    assert first.low != other.low


@pytest.mark.parametrize("blocks", [1, 2])
def test_one_or_two_blocks_have_a_score_but_no_interval(blocks):
    found = score(accuracy_stats([15] * blocks))
    assert found.value == 0.75
    assert np.isnan([found.low, found.high]).all()
    assert json.loads(json.dumps(found.to_dict()))["low"] is None


def test_blocks_that_all_agree_have_no_width():
    found = score(accuracy_stats([20] * 30))
    assert (found.low, found.value, found.high) == (1, 1, 1)
    assert "no width" in found.note


def test_few_blocks_that_all_agree_do_not_make_sure():
    """Five that agree do so by chance with 2 ** -4 (more than 5 %), six with 2 ** -5."""
    assert np.isnan(score(accuracy_stats([20] * 5)).low)
    assert score(accuracy_stats([20] * 6)).low == 1


def test_an_undefined_score_gives_no_interval():
    stats = Moments.of(np.ones(30), np.arange(30.0), clusters=Clusters.of(np.arange(30).astype(str)))
    found = score(stats, metric="r2")
    assert np.isnan([found.value, found.low]).all()
    assert "not defined" in found.note


def test_ends_stay_inside_the_range_of_the_metric():
    assert score(accuracy_stats([20] * 29 + [2]), within=(0.0, 1.0)).high <= 1


def test_pairing_removes_what_both_share(many):
    better = accuracy_stats(np.minimum(20, many.values[:, 1, 1] + np.random.default_rng(2).integers(0, 3, 60)))
    paired = gap([better], [many])
    assert paired.se < 0.3 * score(many).se
    assert paired.p < 0.01
    turned = gap([many], [better])
    assert turned.value == pytest.approx(-paired.value)


def test_a_paired_t_of_equal_blocks_is_the_textbook_test():
    a, b = np.array([15, 12, 18, 9, 14, 17]), np.array([13, 12, 15, 10, 11, 15])
    assert gap([accuracy_stats(a)], [accuracy_stats(b)]).p == pytest.approx(reference.ttest_rel(a, b).pvalue)


def test_a_model_against_itself_is_no_difference(many):
    found = gap([many], [many], metric="macro_f1")
    assert (found.value, found.p) == (0, 1)


def test_a_comparison_on_other_blocks_is_refused(many):
    with pytest.raises(ProtocolError, match="the same blocks"):
        gap([many], [many.select(many.clusters[:-1])], metric="macro_f1")


def test_fits_that_differ_widen_the_interval_of_a_difference(many):
    rng = np.random.default_rng(4)
    right = many.values[:, 1, 1]
    quiet = [accuracy_stats(np.clip(right + 1 + rng.integers(-1, 2, 60), 0, 20)) for _ in range(5)]
    loud = [accuracy_stats(np.clip(right + shift, 0, 20)) for shift in (-3, -1, 1, 3, 5)]
    one, two = (gap(fits, [many] * 5) for fits in (quiet, loud))
    assert (one.n_seeds, two.n_seeds) == (5, 5)
    assert two.se > 3 * one.se
    assert "how draws differ is not in the interval" in gap(loud[:2], [many] * 2).note


def test_the_value_over_fits_is_the_mean_of_their_scores(many):
    other = accuracy_stats(np.clip(many.values[:, 1, 1] - 2, 0, 20))
    found = score(many, other, metric="macro_f1")
    assert found.value == pytest.approx((many.evaluate("macro_f1") + other.evaluate("macro_f1")) / 2)


def test_influence_is_the_change_when_a_cluster_counts_a_little_more(many):
    contrast = build_contrast("macro_f1", [(1.0, many)])
    step = np.ones(60)
    step[7] += 1e-6
    by_hand = (contrast.value(step) - contrast.value(np.ones(60))) / 1e-6
    assert contrast.influence(np.ones((1, 60)))[0, 7] == pytest.approx(float(by_hand), rel=1e-4)


def test_blocks_hold_the_truth_where_single_units_do_not():
    """Small form of studies/coverage.py: blocks whose units share their luck."""
    held = {"blocks": 0, "units": 0}
    repeats = 300
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        right = rng.binomial(20, rng.beta(7, 3, 50))  # truth: .7
        blocks = score(accuracy_stats(right), draws=400, rng=rng)
        p = right.sum() / 1000
        half = 1.96 * (p * (1 - p) / 1000) ** 0.5
        held["blocks"] += blocks.low <= 0.7 <= blocks.high
        held["units"] += abs(p - 0.7) <= half
    assert 0.91 <= held["blocks"] / repeats <= 0.98
    assert held["units"] / repeats < 0.85


def test_no_difference_is_called_one_about_as_often_as_the_level_says():
    """Blocks and fits both vary."""
    found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        skill = 0.8 + 0.5 * rng.standard_normal((2, 1, 40)) + 0.3 * rng.standard_normal((2, 5, 1)) + rng.standard_normal((1, 1, 40))
        a, b = rng.binomial(20, 1 / (1 + np.exp(-skill)))
        found += gap([accuracy_stats(f) for f in a], [accuracy_stats(f) for f in b]).p < 0.05
    assert 0.02 <= found / 300 <= 0.09
