"""Kept sums give the same scores as the predictions, add up, and survive JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.metrics import (
    ClusterCalibration,
    ClusterConfusion,
    ClusterMoments,
    classification_scores,
    metric_from_stats,
    regression_scores,
    stats_from_dict,
)
from rs05bench.protocol.metrics.cluster_sums import complex_step

CLASSES = ("a", "b", "c")


def sample(kind, n=400, seed=0):
    rng = np.random.default_rng(seed)
    clusters = np.char.add("block", rng.integers(0, 12, n).astype(str))
    if kind == "moments":
        y = 1000 + rng.normal(size=n)
        p = y + rng.normal(size=n)
        y[::17] = np.nan
        ends = np.stack([p - 1.6, p + 1.6], axis=1)
        return clusters, ClusterMoments.from_values(clusters, y, p, ends), regression_scores(y, p, ends), (y, p, ends)
    y, p = rng.integers(-1, 3, n), rng.dirichlet(np.ones(3), n)
    scores = classification_scores(y, p, CLASSES)
    if kind == "confusion":
        return clusters, ClusterConfusion.from_labels(clusters, y, p.argmax(1), CLASSES), scores, (y, p)
    return clusters, ClusterCalibration.from_probabilities(clusters, y, p), scores, (y, p)


NAMES = {
    "confusion": ("macro_f1", "balanced_accuracy", "overall_accuracy", "kappa", "f1_b", "precision_c", "recall_a"),
    "moments": ("r2", "mae", "rmse", "bias", "pearson", "coverage90"),
    "calibration": ("ece", "brier", "nll"),
}
EACH = [(kind, name) for kind, names in NAMES.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_sums_give_the_score_of_the_predictions(kind, name):
    _, stats, scores, _ = sample(kind)
    assert metric_from_stats(stats, name) == pytest.approx(scores[name], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_weights_are_the_score_with_clusters_taken_that_often(kind, name):
    clusters, stats, _, data = sample(kind)
    taken = np.random.default_rng(1).integers(0, 3, (4, len(stats.clusters)))
    got = metric_from_stats(stats, name, taken)
    for weights, value in zip(taken, got, strict=True):
        times = dict(zip(stats.clusters, weights, strict=True))
        rows = np.repeat(np.arange(len(clusters)), [times[c] for c in clusters])
        repeated = [column[rows] for column in data]
        expected = regression_scores(*repeated) if kind == "moments" else classification_scores(*repeated, CLASSES)
        assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", NAMES)
def test_halves_add_up_to_the_whole(kind):
    _, stats, _, _ = sample(kind)
    left, right = stats.select(stats.clusters[:5]), stats.select(stats.clusters[5:])
    for name in NAMES[kind]:
        assert metric_from_stats(left + right, name) == pytest.approx(metric_from_stats(stats, name), rel=1e-12)
        whole = stats.regroup(["all"] * len(stats.clusters))
        assert metric_from_stats(whole, name) == pytest.approx(metric_from_stats(stats, name), rel=1e-12)


@pytest.mark.parametrize("kind", NAMES)
def test_json_keeps_every_digit(kind):
    _, stats, _, _ = sample(kind)
    back = stats_from_dict(json.loads(json.dumps(stats.to_dict())))
    assert back.clusters == stats.clusters
    assert (back.vectors == stats.vectors).all()


def test_an_unknown_record_is_refused():
    with pytest.raises(DataError, match="pickle"):
        stats_from_dict({"kind": "pickle"})


def test_moments_from_different_origins_add_up():
    rng = np.random.default_rng(2)
    y = np.concatenate([rng.normal(0, 1, 50), rng.normal(500, 1, 50)])
    p = y + rng.normal(size=100)
    parts = [ClusterMoments.from_values(np.full(50, str(i)), y[50 * i : 50 * i + 50], p[50 * i : 50 * i + 50]) for i in range(2)]
    assert parts[0].origin != parts[1].origin
    for name, value in regression_scores(y, p).items():
        if name in ("r2", "mae", "rmse", "bias", "pearson"):
            assert metric_from_stats(parts[0] + parts[1], name) == pytest.approx(value, rel=1e-9), name


def test_a_constant_truth_has_no_r2_even_away_from_the_origin():
    stats = ClusterMoments.from_values(np.array(["a", "a", "a", "b"]), np.array([0.1, 0.1, 0.1, 7.3]), np.arange(4.0))
    assert np.isnan(metric_from_stats(stats.select(["a"]), "r2"))
    assert np.isnan(metric_from_stats(stats.select(["b"]), "pearson"))


@pytest.mark.parametrize("name", ["macro_f1", "balanced_accuracy", "overall_accuracy", "miou", "kappa", "f1_b"])
def test_slopes_are_the_derivatives(name):
    _, stats, _, _ = sample("confusion")
    totals = stats.vectors.sum(0)
    absent = ClusterConfusion(("x",), (*CLASSES, "never"), np.pad(stats.counts.sum(0), ((0, 1), (0, 1)))[None])
    for held, at in ((stats, totals), (absent, absent.vectors[0])):
        expected = complex_step(lambda t, held=held: held.evaluate(name, t), at)
        present = at > 0
        assert held.gradient(name, at)[present] == pytest.approx(expected[present], abs=1e-14)


def test_a_score_that_was_not_kept_is_named():
    _, stats, _, _ = sample("moments")
    with pytest.raises(ProtocolError, match="They give: r2"):
        metric_from_stats(stats, "spearman")


def test_sums_of_other_classes_do_not_add():
    _, stats, _, _ = sample("confusion")
    with pytest.raises(ProtocolError, match="different classes"):
        stats + ClusterConfusion(("x",), ("a", "b"), np.zeros((1, 2, 2)))
