"""Moran's I agrees with esda; neighbours agree with haversine distances."""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.errors import DataError
from rs05bench.protocol.metrics import knn_weights, morans_i


def haversine(lonlat):
    lon, lat = np.radians(lonlat).T
    a = np.sin((lat[:, None] - lat) / 2) ** 2 + np.cos(lat[:, None]) * np.cos(lat) * np.sin((lon[:, None] - lon) / 2) ** 2
    return 2 * 6_371_008.8 * np.arcsin(np.sqrt(np.minimum(a, 1)))


@pytest.fixture(scope="module")
def places():
    rng = np.random.default_rng(0)
    return np.stack([rng.uniform(170, 190, 300), rng.uniform(60, 75, 300)], axis=1)  # across the date line, far north


@pytest.fixture(scope="module")
def values(places):
    return np.sin(places[:, 0]) + np.cos(places[:, 1] / 2) + 0.5 * np.random.default_rng(1).normal(size=len(places))


def as_libpysal(weights):
    libpysal = pytest.importorskip("libpysal")
    pytest.importorskip("esda")
    pairs = [slice(a, b) for a, b in zip(weights.start, weights.start[1:], strict=False)]
    neighbours = {i: weights.neighbours[s].tolist() for i, s in enumerate(pairs)}
    return libpysal.weights.W(neighbours, {i: weights.weights[s].tolist() for i, s in enumerate(pairs)}, silence_warnings=True)


def test_nearest_neighbours_are_nearest_on_the_globe(places):
    distance = haversine(np.where(places > 180, places - 360, places))
    np.fill_diagonal(distance, np.inf)
    expected = np.sort(np.argsort(distance, axis=1)[:, :6], axis=1)
    assert (np.sort(knn_weights(places, 6).neighbours.reshape(-1, 6), axis=1) == expected).all()


def test_units_at_one_place_are_neighbours_and_never_their_own():
    weights = knn_weights(np.zeros((5, 2)), 3)
    own = np.repeat(np.arange(5), 3)
    assert (weights.neighbours != own).all()
    assert weights.degree.tolist() == [3] * 5


def test_global_i_equals_esda(places, values):
    weights = knn_weights(places, 8)
    esda = pytest.importorskip("esda")
    theirs = esda.Moran(values, as_libpysal(weights), transformation="O", permutations=0)
    ours = morans_i(values, weights, permutations=0)
    assert ours.value == pytest.approx(theirs.I, abs=1e-12)
    assert ours.expected == pytest.approx(theirs.EI, abs=1e-12)


def test_permutations_have_the_moments_of_randomisation(places, values):
    weights = knn_weights(places, 8)
    esda = pytest.importorskip("esda")
    theirs = esda.Moran(values, as_libpysal(weights), transformation="O", permutations=0)
    ours = morans_i(values, weights, permutations=4999)
    assert ours.z == pytest.approx(theirs.z_rand, rel=0.05)
    assert ours.p == 1 / 5000


def test_the_permutation_test_holds_its_level():
    rng = np.random.default_rng(3)
    weights = knn_weights(rng.uniform(0, 10, (40, 2)), 4)
    p = [morans_i(rng.normal(size=40), weights, permutations=99, rng=rng).p for _ in range(400)]
    assert 0.06 <= np.mean(np.array(p) <= 0.05) <= 0.14  # one-sided towards the nearer tail: 10 % in all


def test_a_constant_has_no_pattern_to_test(places):
    weights = knn_weights(places, 4)
    found = morans_i(np.full(300, 0.1), weights)
    assert np.isnan([found.value, found.p]).all()


def test_missing_residuals_and_places_are_refused(places, values):
    holed = values.copy()
    holed[3] = np.nan
    with pytest.raises(DataError, match="1 values are missing"):
        morans_i(holed, knn_weights(places, 4))
    with pytest.raises(DataError, match="finite longitudes"):
        knn_weights(np.array([[0.0, np.nan], [1.0, 1.0]]))
