"""Regression scores agree with scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from rs05bench.errors import DataError
from rs05bench.protocol.metrics import regression_scores


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    return {
        "random": (y, y + rng.normal(size=300)),
        "ties": (rng.integers(0, 5, 100).astype(float), rng.integers(0, 5, 100).astype(float)),
        "far from zero": (1e6 + y, 1e6 + y + 0.1 * rng.normal(size=300)),
        "tiny": (1e-9 * y, 1e-9 * (y + rng.normal(size=300))),
        "two units": (np.array([1.0, 2.0]), np.array([3.0, 1.0])),
        "worse than the mean": (y, -3 * y),
    }


@pytest.mark.parametrize("case", cases())
def test_scores_equal_the_references(case):
    y, p = cases()[case]
    ours = regression_scores(y, p)
    expected = {
        "r2": reference.r2_score(y, p),
        "mae": reference.mean_absolute_error(y, p),
        "rmse": reference.root_mean_squared_error(y, p),
        "spearman": stats.spearmanr(y, p).statistic,
        "pearson": stats.pearsonr(y, p).statistic,
        "bias": (p - y).mean(),
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_a_constant_truth_has_errors_but_no_r2_and_no_correlation():
    scores = regression_scores(np.full(5, 0.1), np.arange(5.0))
    assert np.isnan([scores["r2"], scores["pearson"], scores["spearman"]]).all()
    assert scores["mae"] == pytest.approx(np.abs(np.arange(5) - 0.1).mean())


def test_a_single_unit_has_an_error_but_no_r2():
    scores = regression_scores(np.array([1.0]), np.array([3.0]))
    assert scores["mae"] == 2
    assert np.isnan(scores["r2"])


def test_suppressed_truth_is_left_out():
    y, p = np.array([1.0, np.nan, 3.0, 4.0]), np.array([1.5, 9.0, 2.0, 4.0])
    keep = ~np.isnan(y)
    assert regression_scores(y, p) == pytest.approx(regression_scores(y[keep], p[keep]), abs=0, rel=0, nan_ok=True)


def test_no_truth_at_all_gives_no_number():
    scores = regression_scores(np.full(3, np.nan), np.zeros(3))
    assert scores.pop("n") == 0
    assert all(np.isnan(value) for value in scores.values())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_may_not_abstain(bad):
    with pytest.raises(DataError, match="1 predictions are missing"):
        regression_scores(np.array([1.0, 2.0]), np.array([bad, 2.0]))


def test_interval_coverage_counts_the_ends_and_needs_ordered_ends():
    y = np.array([1.0, 2.0, 3.0, np.nan])
    ends = np.array([[1.0, 2.0], [2.5, 3.0], [0.0, 3.0], [np.nan, np.nan]])
    scores = regression_scores(y, np.zeros(4), ends)
    assert scores["coverage90"] == pytest.approx(2 / 3)
    assert scores["width90"] == pytest.approx((1 + 0.5 + 3) / 3)
    with pytest.raises(DataError, match="lower end above"):
        regression_scores(y[:1], np.zeros(1), np.array([[2.0, 1.0]]))
