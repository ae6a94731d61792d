from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.embeddings.change import angle, change_features, dot
from rs05bench.embeddings.vectors import decode
from rs05bench.errors import DataError
from tests.embeddings.tiles import vectors


@given(st.floats(0, 180))
def test_the_angle_is_the_angle(degrees):
    a = np.zeros((1, 64))
    b = np.zeros((1, 64))
    a[0, 0] = 1
    b[0, 0], b[0, 1] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    assert angle(a, b)[0] == pytest.approx(degrees, abs=1e-4)
    assert dot(a, b)[0] == pytest.approx(np.cos(np.radians(degrees)), abs=1e-6)


def test_length_does_not_matter():
    a, b = np.random.default_rng(0).standard_normal((2, 10, 64))
    np.testing.assert_allclose(angle(a, b), angle(0.3 * a, 2 * b), atol=1e-3)


def test_no_change_is_zero_and_one():
    a = decode(vectors(5, 5))
    np.testing.assert_allclose(angle(a, a, axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(dot(a, a, axis=0), 1, atol=1e-6)


def test_masked_in_either_year_is_masked():
    a, b = decode(vectors(2, 2, 0)), decode(vectors(2, 2, 1))
    a[:, 0, 0] = np.nan
    b[:, 1, 1] = np.nan
    assert np.isnan(angle(a, b, axis=0)).tolist() == [[True, False], [False, True]]


def test_columns_for_a_learner():
    a, b = np.random.default_rng(0).standard_normal((2, 7, 64)).astype(np.float32)
    values, names = change_features(a, b)
    assert values.shape == (7, 66)
    assert names[:2] + names[-2:] == ["dA00", "dA01", "change_dot", "change_angle"]
    np.testing.assert_array_equal(values[:, 3], b[:, 3] - a[:, 3])
    np.testing.assert_array_equal(values[:, -1], angle(a, b))


def test_bytes_and_other_shapes_are_refused():
    with pytest.raises(DataError, match="decoded"):
        angle(vectors(2, 2), vectors(2, 2), axis=0)
    with pytest.raises(DataError, match="shapes"):
        dot(np.ones((2, 64)), np.ones((3, 64)))
    with pytest.raises(DataError, match="64 components"):
        change_features(np.ones((2, 63)), np.ones((2, 63)))
