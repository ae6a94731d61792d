"""The area of applicability against an independent brute force, and against what it must mean."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rs05bench.errors import DataError
from rs05bench.models.applicability import PAIRS_FROM, Applicability, permutation_importance, upper_whisker


@pytest.fixture
def training() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    X = generator.normal([0, 5, -2, 100], [1, 2, 0.5, 30], (70, 4))
    return X, generator.integers(0, 6, 70).astype(str).astype(object), np.array([0.2, 1.0, 0.0, 0.6])


def brute_force(X, folds, weights, places):
    """The definitions of Meyer & Pebesma 2021, one distance at a time."""
    mean, deviation = X.mean(axis=0), X.std(axis=0, ddof=1)
    weights = weights / weights.max()

    def distance(a, b):
        return sum((((p - m) / s - (q - m) / s) * w) ** 2 for p, q, m, s, w in zip(a, b, mean, deviation, weights, strict=True)) ** 0.5

    pairs = [distance(X[i], X[j]) for i in range(len(X)) for j in range(len(X)) if i != j]
    mean_distance = sum(pairs) / len(pairs)
    training_di = [min(distance(X[i], X[j]) for j in range(len(X)) if folds[i] != folds[j]) / mean_distance for i in range(len(X))]
    return mean_distance, training_di, [min(distance(place, x) for x in X) / mean_distance for place in places]


def test_it_equals_an_independent_brute_force(training):
    X, folds, weights = training
    places = np.random.default_rng(1).normal([0, 5, -2, 100], [2, 4, 1, 60], (25, 4))
    area = Applicability.fit(X, folds=folds, weights=weights)
    mean_distance, training_di, di = brute_force(X, folds, weights, places)
    assert area.mean_distance == pytest.approx(mean_distance)
    assert_allclose(area.training_di, training_di, rtol=1e-9)
    assert_allclose(area.dissimilarity(places), di, rtol=1e-6)
    import matplotlib.cbook

    # Another implementation of the whisker; its hinges are percentiles, which agree for 4k + 1 values.
    assert upper_whisker(np.array(training_di)[:69]) == pytest.approx(matplotlib.cbook.boxplot_stats(training_di[:69])[0]["whishi"])
    assert area.threshold == pytest.approx(upper_whisker(np.array(training_di)))
    assert (area.inside(area.dissimilarity(places)) == (np.array(di) <= area.threshold)).all()


def test_training_points_are_at_no_distance_from_themselves(training):
    X, folds, weights = training
    area = Applicability.fit(X, folds=folds, weights=weights)
    assert (area.dissimilarity(X) == 0).all()


def test_places_far_from_all_training_are_outside_and_missing_ones_unknown(training):
    X, folds, _ = training
    area = Applicability.fit(X, folds=folds)
    di = area.dissimilarity(np.vstack([X.mean(axis=0), X.mean(axis=0) + 50 * X.std(axis=0), [np.nan, 0, 0, 0]]))
    assert area.inside(di).tolist() == [True, False, False]
    assert np.isnan(di[2])


def test_a_predictor_the_model_does_not_use_moves_nothing(training):
    X, folds, weights = training  # the third weighs 0
    moved = X + [0, 0, 1e6, 0]
    assert_allclose(Applicability.fit(X, folds=folds, weights=weights).dissimilarity(moved), 0)


def test_larger_folds_widen_the_area():
    generator = np.random.default_rng(3)
    centres = generator.normal(0, 10, (5, 3))
    group = np.repeat(np.arange(5), 20)
    X = centres[group] + generator.normal(0, 0.1, (100, 3))
    alone, grouped = Applicability.fit(X), Applicability.fit(X, folds=group.astype(object))
    assert alone.threshold < 0.1 < grouped.threshold


def test_one_fold_falls_back_to_single_points(training):
    X, _, weights = training
    one = Applicability.fit(X, folds=np.full(len(X), "a", dtype=object), weights=weights)
    assert one.threshold == Applicability.fit(X, weights=weights).threshold


def test_many_points_give_the_mean_distance_of_a_sample():
    X = np.random.default_rng(0).normal(size=(PAIRS_FROM + 500, 2))
    exact = 2 / np.sqrt(np.pi) * np.sqrt(2) * np.sqrt(np.pi) / 2 * np.sqrt(np.pi / 2)  # mean distance of two standard normal points in 2-D
    assert Applicability.fit(X, seed=1).mean_distance == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("X", [np.zeros((1, 3)), np.full((5, 3), np.nan), np.ones((6, 2))])
def test_data_that_can_say_nothing_are_refused(X):
    with pytest.raises(DataError):
        Applicability.fit(X)


def test_importance_is_the_growth_of_the_loss():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(400, 3))
    y = 3 * X[:, 0] + X[:, 1]
    importance = permutation_importance(
        lambda Z: 3 * Z[:, 0] + Z[:, 1], X, y, lambda out, labels: float(np.mean((out - labels) ** 2)), repeats=20
    )
    # Shuffling a standard normal predictor with coefficient b adds 2 b^2 to the squared error.
    assert_allclose(importance, [18, 2, 0], rtol=0.15, atol=1e-12)
