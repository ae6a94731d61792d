"""The quantisation rule, and what the simulated embedding is."""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.datasets.simulated.embedding import at_pixels, quantised
from rs05bench.datasets.simulated.randomness import normal_at
from rs05bench.embeddings import decode, encode


def test_every_code_survives_decoding_and_encoding():
    codes = np.arange(-127, 128, dtype=np.int8)
    assert np.array_equal(encode(decode(codes)), codes)


def test_masked_is_nan_and_not_a_number_below_minus_one():
    assert np.isnan(decode(np.array([-128], dtype=np.int8))).all()


def test_the_code_is_not_linear():
    assert decode(encode(np.array([0.25])))[0] == pytest.approx(0.25, abs=0.003)
    assert decode(np.array([64], dtype=np.int8))[0] != pytest.approx(64 / 127.5, abs=0.1)


def test_decoded_vectors_have_unit_norm(tiny):
    city = tiny.cities[0]
    rows, cols = (index.ravel() for index in np.mgrid[0:48, 0:48])
    vectors = decode(quantised(city, 2021, rows, cols))
    norms = np.linalg.norm(vectors[~np.isnan(vectors[:, 0])], axis=1)
    assert norms.min() > 0.99
    assert norms.max() < 1.01


def test_a_masked_cell_is_masked_in_all_bands(tiny):
    farm = tiny.farmlands[0]
    rows, cols = (index.ravel() for index in np.mgrid[0:144, 0:144])
    gone = quantised(farm, 2021, rows, cols) == -128
    assert 0 < gone[:, 0].mean() < 0.05
    assert (gone.all(axis=1) == gone.any(axis=1)).all()


def test_a_pixel_has_one_embedding_whoever_asks(tiny):
    wild = tiny.wildlands[0]
    few = at_pixels(wild, 2020, np.array([100, 101]), np.array([200, 201]))
    many = at_pixels(wild, 2020, np.arange(90, 110).repeat(20), np.tile(np.arange(190, 210), 20)).reshape(20, 20, 64)
    assert np.array_equal(few[0], many[10, 10])
    assert np.array_equal(few[1], many[11, 11])


def test_years_and_places_differ(tiny):
    wild = tiny.wildlands[0]
    rows = cols = np.arange(0, 500, 20)
    first, other = at_pixels(wild, 2019, rows, cols), at_pixels(wild, 2020, rows, cols)
    similarity = np.nanmedian(np.sum(first * other, axis=1))
    assert 0.9 < similarity < 0.999
    elsewhere = at_pixels(tiny.wildlands[1], 2019, rows, cols)
    assert np.nanmedian(np.sum(first * elsewhere, axis=1)) < similarity - 0.1


def test_noise_of_a_place_is_standard_normal():
    noise = normal_at(0, ("test",), np.arange(20_000), 4)
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert abs(np.corrcoef(noise.T) - np.eye(4)).max() < 0.02
