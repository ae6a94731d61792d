"""Tuning and intervals by their definitions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.models.tuning import brier, choose, conformal_radius
from rs05bench.protocol.tuning_blocks import Tuning


def seen(fits: list[tuple[list[int], list[int]]], how: str = "held-out", why: str = "") -> Any:
    """What `choose` asks of data: on which rows to fit and to judge."""
    pairs = [(np.array(fitted), np.array(judged)) for fitted, judged in fits]
    return SimpleNamespace(tuning_fits=lambda: pairs, budget=SimpleNamespace(tuning=Tuning(how, (), why)))


def test_ties_go_to_the_earlier_entry():
    data = seen([([0, 1], [2, 3])])
    assert choose([{"k": 5}, {"k": 1}, {"k": 3}], data, lambda _, judged: [0.5, 0.2, 0.2]).parameters == {"k": 1}


def test_without_labels_to_judge_no_loss_is_computed():
    def never(fitted, judged):
        raise AssertionError

    choice = choose([{"k": 5}, {"k": 1}], seen([], "none", "the validation labels hold one class"), never)
    assert choice.index == 0
    assert choice.reason.startswith("the validation labels hold one class")


def test_parts_of_a_cross_validation_count_by_their_labels():
    data = seen([([1, 2, 3], [0]), ([0], [1, 2, 3])], "blocks", "2 of 20 labels validate")
    choice = choose([{"k": 5}, {"k": 1}], data, lambda _, judged: [0.0, 0.3] if len(judged) == 1 else [0.2, 0.1])
    assert choice.losses == pytest.approx([0.15, 0.15])
    assert "2 of 20 labels validate" in choice.reason


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
