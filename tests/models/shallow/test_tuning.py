"""Tuning and intervals by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.models.tuning import brier, choose, conformal_radius


def test_ties_go_to_the_earlier_entry():
    assert choose([{"k": 5}, {"k": 1}, {"k": 3}], lambda: [0.5, 0.2, 0.2], 4).parameters == {"k": 1}


def test_without_validation_labels_no_loss_is_computed():
    def never():
        raise AssertionError

    assert choose([{"k": 5}, {"k": 1}], never, 0).index == 0


def test_brier_is_the_squared_distance_to_the_one_hot_label():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    assert brier(probabilities, np.array([0, 1])) == pytest.approx(((0.3**2 + 0.2**2 + 0.1**2) + 2.0) / 2)


@given(st.lists(st.floats(-100, 100), min_size=0, max_size=60))
def test_radius_is_the_smallest_that_covers_nine_tenths_of_n_plus_one(residuals):
    radius = conformal_radius(np.array(residuals))
    n = len(residuals)
    if n < 9:
        assert radius is None
        return
    assert np.sum(np.abs(residuals) <= radius) >= 0.9 * (n + 1) - 1e-9
    assert np.sum(np.abs(residuals) < radius) < 0.9 * (n + 1)


def test_split_conformal_covers_exchangeable_units():
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(2000):
        draws = rng.standard_t(3, size=20)
        hits.append(abs(draws[-1]) <= conformal_radius(draws[:-1]))
    assert 0.88 < np.mean(hits) < 0.93
