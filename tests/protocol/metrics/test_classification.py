"""Class scores agree with scikit-learn, on random and on awkward input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from rs05bench.errors import DataError
from rs05bench.protocol.metrics import METRICS, area_adjusted_accuracy, classification_scores, confusion_matrix, find_metric

CLASSES = ("corn", "soy", "rice", "fallow", "water")


def one_hot(labels: np.ndarray, k: int = 5) -> np.ndarray:
    return np.eye(k)[labels]


def awkward() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        "random": (rng.integers(0, 5, 500), rng.integers(0, 5, 500)),
        "class never true": (rng.integers(0, 3, 80), rng.integers(0, 5, 80)),
        "class never predicted": (rng.integers(0, 5, 80), rng.integers(1, 3, 80)),
        "class in neither": (rng.integers(0, 3, 80), rng.integers(0, 3, 80)),
        "one unit right": (np.array([2]), np.array([2])),
        "one unit wrong": (np.array([2]), np.array([0])),
        "all one class predicted": (rng.integers(0, 5, 60), np.full(60, 3)),
        "all wrong": (np.array([0, 1, 2, 3]), np.array([1, 2, 3, 0])),
    }


@pytest.mark.parametrize("case", awkward())
def test_scores_equal_scikit_learn(case):
    y, guess = awkward()[case]
    ours = classification_scores(y, one_hot(guess), CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ours["macro_f1"] == pytest.approx(reference.f1_score(y, guess, average="macro"), abs=1e-12)
        assert ours["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(y, guess), abs=1e-12)
        assert ours["overall_accuracy"] == pytest.approx(reference.accuracy_score(y, guess), abs=1e-12)
        precision, recall, f1, _ = reference.precision_recall_fscore_support(y, guess, labels=range(5), zero_division=np.nan)
        kappa = reference.cohen_kappa_score(y, guess)
    assert ours["kappa"] == pytest.approx(kappa, abs=1e-12, nan_ok=True)
    for k, name in enumerate(CLASSES):
        present = bool((y == k).any() or (guess == k).any())
        assert (f"f1_{name}" in ours) == present
        if present:
            assert ours[f"f1_{name}"] == pytest.approx(f1[k], abs=1e-12)
        for stem, values, held in (("precision", precision, (guess == k).any()), ("recall", recall, (y == k).any())):
            assert (f"{stem}_{name}" in ours) == bool(held)
            if held:
                assert ours[f"{stem}_{name}"] == pytest.approx(values[k], abs=1e-12)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16])
@pytest.mark.parametrize("k", [2, 5, 12])
def test_confusion_counts_equal_scikit_learn_for_every_integer_type(dtype, k):
    rng = np.random.default_rng(k)
    y, guess = rng.integers(0, k, (2, 30, 40)).astype(dtype)
    assert (confusion_matrix(y, guess, k) == reference.confusion_matrix(y.ravel(), guess.ravel(), labels=range(k))).all()


@pytest.mark.parametrize("dtype", [np.int64, np.int16])
def test_ignored_units_change_nothing(dtype):
    rng = np.random.default_rng(1)
    y, guess = rng.integers(0, 3, (2, 200)).astype(dtype)
    hidden = rng.random(200) < 0.3
    holed = np.where(hidden, -1, y).astype(dtype)
    assert (confusion_matrix(holed, guess, 3) == confusion_matrix(y[~hidden], guess[~hidden], 3)).all()


def test_nothing_but_ignored_units_gives_no_number():
    scores = classification_scores(np.full(4, -1), one_hot(np.zeros(4, int)), CLASSES)
    assert scores.pop("n") == 0
    assert all(np.isnan(value) for value in scores.values())


@pytest.mark.parametrize("dtype", [np.int64, np.int16])
@pytest.mark.parametrize(("y", "guess"), [([0, 7], [0, 1]), ([0, 1], [0, -2]), ([-3, 1], [0, 1])])
def test_a_label_that_is_no_class_is_refused(y, guess, dtype):
    with pytest.raises(DataError, match="no class index"):
        confusion_matrix(np.array(y, dtype), np.array(guess, dtype), 3)


@pytest.mark.parametrize(
    ("row", "message"),
    [([0.5, np.nan, 0.5, 0, 0], "between 0 and 1"), ([0.2, 0.2, 0.2, 0.2, 0.1], "sum to 1"), ([1.5, -0.5, 0, 0, 0], "between 0 and 1")],
)
def test_broken_probabilities_are_refused(row, message):
    with pytest.raises(DataError, match=message):
        classification_scores(np.array([0]), np.array([row]), CLASSES)


def test_equal_probabilities_fall_to_the_first_class():
    assert classification_scores(np.array([0, 1]), np.full((2, 2), 0.5), ("a", "b"))["recall_a"] == 1


def test_area_adjusted_accuracy_repeats_the_published_example():
    # Olofsson et al. 2014, tables 8 and 9: deforestation, forest gain, stable forest, stable non-forest; rows are the map there.
    by_map = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    pixels = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    found = area_adjusted_accuracy(by_map.T, pixels * 0.09)  # 30 m pixels in hectares
    assert np.round(found.users, 2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert np.round(found.producers, 2).tolist() == [0.75, 0.85, 0.93, 0.96]
    assert np.round(1.96 * found.users_se, 2).tolist() == [0.07, 0.10, 0.04, 0.02]
    assert (round(found.overall, 2), round(1.96 * found.overall_se, 2)) == (0.95, 0.02)
    assert found.area[0] == pytest.approx(21_158, abs=1)
    assert 1.96 * found.area_se[0] == pytest.approx(6_158, abs=1)


def test_the_error_of_the_producers_accuracy_is_the_spread_over_samples():
    by_map = 30 * np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    pixels = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    rng = np.random.default_rng(0)
    drawn = [rng.multinomial(row.sum(), row / row.sum(), size=4000) / row.sum() for row in by_map]
    proportion = np.stack(drawn, axis=1) * (pixels / pixels.sum())[:, None]
    spread = (np.diagonal(proportion, axis1=1, axis2=2) / proportion.sum(1)).std(0)
    assert area_adjusted_accuracy(by_map.T, pixels).producers_se == pytest.approx(spread, rel=0.04)


def test_area_adjusted_accuracy_refuses_a_stratum_without_sample():
    with pytest.raises(DataError, match="no sample"):
        area_adjusted_accuracy(np.array([[5, 0], [1, 0]]), np.array([10.0, 10.0]))


def test_a_class_score_is_found_under_its_family():
    assert find_metric("f1_winter_wheat") is METRICS["f1_<class>"]
    assert find_metric("boundary_f1_burnt") is METRICS["boundary_f1_<class>"]
    assert find_metric("boundary_f1") is METRICS["boundary_f1"]


def test_a_drop_is_positive_for_worse_whatever_the_direction():
    assert METRICS["macro_f1"].drop(0.8, 0.6) == pytest.approx(0.2)
    assert METRICS["rmse"].drop(2.0, 3.0) == pytest.approx(1.0)
    assert METRICS["bias"].drop(-0.5, 1.0) == pytest.approx(0.5)
    assert METRICS["coverage90"].drop(0.9, 0.7) == pytest.approx(0.2)
