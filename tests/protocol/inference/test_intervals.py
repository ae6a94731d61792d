"""Intervals resample whole clusters, say what they hold for, and hold the truth as often as they claim."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats as reference

from rs05bench.errors import ProtocolError
from rs05bench.protocol.inference import ood_drop, paired_difference, score_interval
from rs05bench.protocol.inference.contrast import build_contrast, cluster_weights
from rs05bench.protocol.metrics import Clusters, Confusion, Moments

CLASSES = ("wrong", "right")


def accuracy_stats(right, of=20, prefix="b"):
    right = np.asarray(right)
    counts = np.zeros((len(right), 2, 2), np.int64)
    counts[:, 1, 1], counts[:, 1, 0] = right, of - right
    return Confusion(tuple(f"{prefix}{i:03d}" for i in range(len(right))), counts, CLASSES)


@pytest.fixture(scope="module")
def many():
    return accuracy_stats(np.random.default_rng(0).binomial(20, np.random.default_rng(1).beta(7, 3, 60)))


@pytest.mark.parametrize("method", ["percentile", "bca", "studentised", "t"])
def test_every_method_surrounds_the_score(many, method):
    found = score_interval(many, "overall_accuracy", method=method)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(many.evaluate("overall_accuracy"))
    assert (found.scope, found.method, found.n_clusters) == ("between-groups", method, 60)


def test_the_standard_error_of_a_mean_of_equal_clusters_is_the_textbook_one(many):
    means = many.values[:, 1, 1] / 20
    found = score_interval(many, "overall_accuracy", method="t")
    assert found.se == pytest.approx(means.std(ddof=1) / 60**0.5, rel=1e-12)
    ends = reference.t.interval(0.95, 59, means.mean(), found.se)
    assert (found.low, found.high) == pytest.approx(ends, rel=1e-9)


def test_percentile_ends_equal_scipy_bootstrap_on_cluster_means(many):
    means = many.values[:, 1, 1] / 20
    for ours, theirs in (("percentile", "percentile"), ("bca", "BCa")):
        found = score_interval(many, "overall_accuracy", method=ours, draws=20_000)
        ends = reference.bootstrap((means,), np.mean, n_resamples=20_000, method=theirs, rng=np.random.default_rng(0)).confidence_interval
        assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=0.004)


def test_draws_take_whole_clusters_to_the_same_number():
    weights = cluster_weights(np.array([0, 0, 0, 1, 1]), 500, np.random.default_rng(0))
    assert (weights[:, :3].sum(1) == 3).all()
    assert (weights[:, 3:].sum(1) == 2).all()
    assert weights.mean(0) == pytest.approx(np.ones(5), abs=0.15)


def test_the_same_seed_gives_the_same_interval_and_another_does_not(many):
    first, again, other = (score_interval(many, "macro_f1", rng=np.random.default_rng(s)) for s in (5, 5, 6))
    assert first == again
    assert first.low != other.low


def test_few_groups_give_points_and_an_interval_within_them(many):
    groups = {name: f"county {int(name[1:]) % 6}" for name in many.clusters}
    found = score_interval(many, "overall_accuracy", groups=groups)
    assert (found.scope, found.n_groups, found.n_clusters) == ("within-groups", 6, 60)
    assert len(found.points) == 6
    own = many.select([name for name in many.clusters if groups[name] == "county 2"])
    assert found.points["county 2"] == pytest.approx(own.evaluate("overall_accuracy"))
    assert "not for a new one" in found.note


def test_within_groups_the_differences_between_groups_add_no_width():
    # Two counties, each of equal blocks: nothing varies within, everything between.
    stats = accuracy_stats([18, 17, 18, 17] * 3 + [6, 5, 6, 5] * 3)
    groups = {name: "good" if i < 12 else "bad" for i, name in enumerate(stats.clusters)}
    within = score_interval(stats, "overall_accuracy", groups=groups)
    pooled = score_interval(stats, "overall_accuracy")
    assert within.se < 0.2 * pooled.se


def test_twenty_groups_are_resampled_as_groups(many):
    groups = {name: f"county {int(name[1:]) % 20}" for name in many.clusters}
    found = score_interval(many, "overall_accuracy", groups=groups)
    assert (found.scope, found.n_groups, found.n_clusters, found.points) == ("between-groups", 20, 20, {})


def test_few_clusters_without_anything_finer_say_so():
    found = score_interval(accuracy_stats([15, 12, 18, 9, 14]), "overall_accuracy")
    assert (found.scope, found.method) == ("few-clusters", "t")
    assert "Only 5 clusters" in found.note
    assert len(found.points) == 5


def test_one_cluster_has_a_score_but_no_interval():
    found = score_interval(accuracy_stats([15]), "overall_accuracy")
    assert found.value == 0.75
    assert np.isnan([found.low, found.high]).all()
    assert json.loads(json.dumps(found.to_dict()))["low"] is None


def test_clusters_that_all_agree_have_no_width():
    found = score_interval(accuracy_stats([20] * 30), "overall_accuracy")
    assert (found.low, found.value, found.high) == (1, 1, 1)
    assert "no width" in found.note


def test_an_undefined_score_gives_no_interval():
    stats = Moments.of(np.ones(30), np.arange(30.0), clusters=Clusters.of(np.arange(30).astype(str)))
    found = score_interval(stats, "r2")
    assert np.isnan([found.value, found.low]).all()
    assert "not defined" in found.note


def test_ends_stay_inside_the_range_of_the_metric():
    found = score_interval(accuracy_stats([20] * 29 + [2]), "overall_accuracy", method="t")
    assert found.high <= 1


def test_pairing_removes_what_both_share(many):
    better = accuracy_stats(np.minimum(20, many.values[:, 1, 1] + np.random.default_rng(2).integers(0, 3, 60)))
    paired = paired_difference(better, many, "overall_accuracy")
    alone = score_interval(many, "overall_accuracy")
    assert paired.se < 0.3 * alone.se
    assert paired.p < 0.01
    assert paired.low > 0
    turned = paired_difference(many, better, "overall_accuracy", method="t")
    assert turned.value == pytest.approx(-paired.value)


def test_a_paired_t_of_equal_clusters_is_the_textbook_test():
    rng = np.random.default_rng(3)
    a, b = rng.binomial(20, 0.7, 40), rng.binomial(20, 0.65, 40)
    found = paired_difference(accuracy_stats(a), accuracy_stats(b), "overall_accuracy", method="t")
    assert found.p == pytest.approx(reference.ttest_rel(a / 20, b / 20).pvalue, rel=1e-9)


def test_a_model_against_itself_is_no_difference(many):
    found = paired_difference(many, many, "macro_f1")
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_comparison_on_other_clusters_is_refused(many):
    with pytest.raises(ProtocolError, match="b059"):
        paired_difference(many, many.select(many.clusters[:-1]), "macro_f1")


def test_fits_that_differ_widen_the_interval_of_a_difference(many):
    rng = np.random.default_rng(4)
    right = many.values[:, 1, 1]
    quiet = [accuracy_stats(np.clip(right + 1 + rng.integers(-1, 2, 60), 0, 20)) for _ in range(5)]
    loud = [accuracy_stats(np.clip(right + shift, 0, 20)) for shift in (-3, -1, 1, 3, 5)]
    base = [many] * 5
    one, two = (paired_difference(fits, base, "overall_accuracy") for fits in (quiet, loud))
    assert (one.n_seeds, two.n_seeds) == (5, 5)
    assert two.se > 3 * one.se
    single = paired_difference(loud, base, "overall_accuracy", method="percentile")
    assert single.n_seeds == 1
    assert "how fits differ is not in it" in single.note


def test_the_value_over_fits_is_the_mean_of_their_scores(many):
    other = accuracy_stats(np.clip(many.values[:, 1, 1] - 2, 0, 20))
    found = score_interval([many, other], "macro_f1")
    assert found.value == pytest.approx((many.evaluate("macro_f1") + other.evaluate("macro_f1")) / 2)


def test_a_drop_is_positive_for_worse_in_both_directions(many):
    worse = accuracy_stats(np.clip(many.values[:, 1, 1] - 3, 0, 20))
    assert ood_drop(many, worse, "overall_accuracy").value > 0
    rng = np.random.default_rng(5)
    y, cluster = rng.normal(size=600), rng.integers(0, 30, 600).astype(str)
    near, far = (Moments.of(y, y + s * rng.normal(size=600), clusters=Clusters.of(cluster)) for s in (0.5, 1.0))
    found = ood_drop(near, far, "rmse")
    assert found.value == pytest.approx(far.evaluate("rmse") - near.evaluate("rmse"))
    assert found.p < 0.01
    with pytest.raises(ProtocolError, match="best value inside"):
        ood_drop(near, far, "bias")


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
        blocks = score_interval(accuracy_stats(right), "overall_accuracy", draws=400, rng=rng)
        p = right.sum() / 1000
        half = 1.96 * (p * (1 - p) / 1000) ** 0.5
        held["blocks"] += blocks.low <= 0.7 <= blocks.high
        held["units"] += abs(p - 0.7) <= half
    assert 0.91 <= held["blocks"] / repeats <= 0.98
    assert held["units"] / repeats < 0.85


def test_no_difference_is_called_one_about_as_often_as_the_level_says():
    """Small form of studies/paired_tests.py: blocks and fits both vary."""
    found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        skill = 0.8 + 0.5 * rng.standard_normal((2, 1, 40)) + 0.3 * rng.standard_normal((2, 5, 1)) + rng.standard_normal((1, 1, 40))
        a, b = rng.binomial(20, 1 / (1 + np.exp(-skill)))
        found += paired_difference([accuracy_stats(f) for f in a], [accuracy_stats(f) for f in b], "overall_accuracy").p < 0.05
    assert 0.02 <= found / 300 <= 0.09
