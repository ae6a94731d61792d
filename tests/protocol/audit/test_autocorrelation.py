"""The fitted range tells smooth fields from noise, and long ranges from short ones."""

import numpy as np
import pytest

from rs05bench.protocol.audit import variogram
from rs05bench.protocol.geodesy import great_circle_m


def gaussian_field(range_km: float, seed: int, n: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random field with an exponential covariance of the given practical range, over 400 km."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(0, 3.6, n), rng.uniform(0, 3.6, n)
    km = great_circle_m(lon[:, None], lat[:, None], lon[None], lat[None]) / 1000
    root = np.linalg.cholesky(np.exp(-3 * km / range_km) + 1e-8 * np.eye(n))
    return root @ rng.normal(size=n), lon, lat


@pytest.mark.parametrize("range_km", [40.0, 100.0])
def test_the_range_of_a_known_field_is_recovered(range_km):
    fitted = [variogram(*gaussian_field(range_km, seed)).range_km for seed in range(3)]
    assert all(value is not None for value in fitted)
    # One realisation over a few ranges varies widely; the median of three is within half of the truth.
    assert np.median(fitted) == pytest.approx(range_km, rel=0.5)


@pytest.mark.parametrize("categorical", [False, True])
def test_noise_has_no_range(categorical):
    rng = np.random.default_rng(7)
    values = rng.integers(0, 4, 1200).astype(float) if categorical else rng.normal(size=1200)
    result = variogram(values, rng.uniform(0, 3, 1200), rng.uniform(0, 3, 1200), categorical=categorical)
    assert result.range_km is None
    np.testing.assert_allclose(result.gamma[-3:], 1.0, atol=0.1)


def test_classes_in_patches_have_a_range():
    field, lon, lat = gaussian_field(100.0, 3)
    result = variogram(np.digitize(field, [-0.5, 0.5]).astype(float), lon, lat, categorical=True)
    assert result.range_km is not None
    assert 20 < result.range_km < 300


def test_the_subsample_is_stated_and_seeded():
    rng = np.random.default_rng(0)
    values, lon, lat = rng.normal(size=5000), rng.uniform(0, 3, 5000), rng.uniform(0, 3, 5000)
    first, again = (variogram(values, lon, lat, sample=300, seed=4) for _ in range(2))
    assert first.n < 5000
    np.testing.assert_array_equal(first.gamma, again.gamma)


def test_one_value_everywhere_has_no_range():
    rng = np.random.default_rng(0)
    assert variogram(np.ones(200), rng.uniform(0, 3, 200), rng.uniform(0, 3, 200)).range_km is None
