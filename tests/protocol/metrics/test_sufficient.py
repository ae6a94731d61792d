"""Kept sums give the same scores as the predictions, add up, and survive packing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rs05bench.errors import ProtocolError
from rs05bench.protocol.metrics import (
    Calibration,
    Clusters,
    Confusion,
    Moments,
    classification_scores,
    find_metric,
    regression_scores,
)
from rs05bench.protocol.metrics.sums import complex_step

CLASSES = ("a", "b", "c")


def sample(kind, n=400, seed=0):
    rng = np.random.default_rng(seed)
    clusters = np.char.add("block", rng.integers(0, 12, n).astype(str))
    if kind == "moments":
        y = 1000 + rng.normal(size=n)
        p = y + rng.normal(size=n)
        y[::17] = np.nan
        ends = np.stack([p - 1.6, p + 1.6], axis=1)
        return clusters, Moments.of(y, p, ends, clusters=Clusters.of(clusters)), regression_scores(y, p, ends), (y, p, ends)
    y, p = rng.integers(-1, 3, n), rng.dirichlet(np.ones(3), n)
    scores = classification_scores(y, p, CLASSES)
    if kind == "confusion":
        return clusters, Confusion.of(y, p.argmax(1), CLASSES, clusters=Clusters.of(clusters)), scores, (y, p)
    return clusters, Calibration.of(y, p, clusters=Clusters.of(clusters)), scores, (y, p)


NAMES = {
    "confusion": ("macro_f1", "balanced_accuracy", "overall_accuracy", "kappa", "f1_b", "precision_c", "recall_a"),
    "moments": ("r2", "mae", "rmse", "bias", "pearson", "coverage90"),
    "calibration": ("ece", "brier", "nll"),
}
EACH = [(kind, name) for kind, names in NAMES.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_sums_give_the_score_of_the_predictions(kind, name):
    _, stats, scores, _ = sample(kind)
    assert stats.evaluate(name) == pytest.approx(scores[name], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_weights_are_the_score_with_clusters_taken_that_often(kind, name):
    clusters, stats, _, data = sample(kind)
    taken = np.random.default_rng(1).integers(0, 3, (4, len(stats.clusters)))
    got = stats.evaluate(name, np.asarray(taken, dtype=np.float64) @ stats.vectors)
    for weights, value in zip(taken, got, strict=True):
        times = dict(zip(stats.clusters, weights, strict=True))
        rows = np.repeat(np.arange(len(clusters)), [times[c] for c in clusters])
        repeated = [column[rows] for column in data]
        if not len(rows):
            continue
        expected = regression_scores(*repeated) if kind == "moments" else classification_scores(*repeated, CLASSES)
        assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", NAMES)
def test_halves_add_up_to_the_whole(kind):
    _, stats, _, _ = sample(kind)
    left, right = stats.select(stats.clusters[:5]), stats.select(stats.clusters[5:])
    for name in NAMES[kind]:
        assert (left + right).evaluate(name) == pytest.approx(stats.evaluate(name), rel=1e-12)
        whole = stats.regroup(["all"] * len(stats.clusters))
        assert whole.evaluate(name) == pytest.approx(stats.evaluate(name), rel=1e-12)


@pytest.mark.parametrize("kind", NAMES)
def test_packing_keeps_ten_digits(kind):
    _, stats, _, _ = sample(kind)
    back = type(stats).unpack(json.loads(json.dumps(stats.pack())), stats.clusters)
    assert back.clusters == stats.clusters
    np.testing.assert_allclose(back.vectors, stats.vectors, rtol=1e-9)


@pytest.mark.parametrize("kind", NAMES)
def test_what_sums_give_is_declared(kind):
    _, stats, _, _ = sample(kind)
    for name in stats.metrics:
        assert stats.gives(name)
        assert find_metric(name).sums is type(stats)
    assert set(NAMES[kind]) <= set(stats.metrics)


def test_moments_from_different_origins_add_up():
    rng = np.random.default_rng(2)
    y = np.concatenate([rng.normal(0, 1, 50), rng.normal(500, 1, 50)])
    p = y + rng.normal(size=100)
    parts = [Moments.of(y[50 * i : 50 * i + 50], p[50 * i : 50 * i + 50], clusters=Clusters.of(np.full(50, str(i)))) for i in range(2)]
    assert parts[0].origin != parts[1].origin
    for name, value in regression_scores(y, p).items():
        if name in ("r2", "mae", "rmse", "bias", "pearson"):
            assert (parts[0] + parts[1]).evaluate(name) == pytest.approx(value, rel=1e-9), name


def test_a_constant_truth_has_no_r2_even_away_from_the_origin():
    stats = Moments.of(np.array([0.1, 0.1, 0.1, 7.3]), np.arange(4.0), clusters=Clusters.of(["a", "a", "a", "b"]))
    assert np.isnan(stats.select(["a"]).evaluate("r2"))
    assert np.isnan(stats.select(["b"]).evaluate("pearson"))


@pytest.mark.parametrize("name", ["macro_f1", "balanced_accuracy", "overall_accuracy", "miou", "kappa", "f1_b"])
def test_slopes_are_the_derivatives(name):
    _, stats, _, _ = sample("confusion")
    totals = stats.vectors.sum(0)
    absent = Confusion(("x",), np.pad(stats.values.sum(0), ((0, 1), (0, 1)))[None], (*CLASSES, "never"))
    for held, at in ((stats, totals), (absent, absent.vectors[0])):
        expected = complex_step(lambda t, held=held: held.evaluate(name, t), at)
        present = at > 0
        assert held.gradient(name, at)[present] == pytest.approx(expected[present], abs=1e-14)


def test_a_score_that_was_not_kept_is_named():
    _, stats, _, _ = sample("moments")
    with pytest.raises(ProtocolError, match="They give: r2"):
        stats.evaluate("spearman")


def test_sums_of_other_classes_do_not_add():
    _, stats, _, _ = sample("confusion")
    with pytest.raises(ProtocolError, match="different classes"):
        stats + Confusion(("x",), np.zeros((1, 2, 2)), ("a", "b"))
