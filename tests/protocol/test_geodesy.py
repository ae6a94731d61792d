"""Distances equal an independent brute force, everywhere on the sphere; degrees are as long as pyproj says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.protocol.audit import nearest_train
from rs05bench.protocol.geodesy import degrees_around, great_circle_m, metres_per_degree, nearest_place


def arc_km(lon_a: float, lat_a: float, lon_b: float, lat_b: float) -> float:
    """Vincenty's arctangent form on the sphere: another formula than the package's, exact for near and far points."""
    a, b, d = math.radians(lat_a), math.radians(lat_b), math.radians(lon_b - lon_a)
    across = math.hypot(math.cos(b) * math.sin(d), math.cos(a) * math.sin(b) - math.sin(a) * math.cos(b) * math.cos(d))
    return 6371.0 * math.atan2(across, math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(d))


degrees = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@given(degrees, degrees)
def test_haversine_equals_another_formula(a, b):
    ours = float(great_circle_m(*(np.array(v) for v in (*a, *b)))) / 1000
    # Near the antipode the haversine loses half its digits: a metre in 20,000 km.
    assert ours == pytest.approx(arc_km(*a, *b), abs=1e-3 if ours > 20_000 else 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_nearest_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    n, m = 60, 40
    # Seeds 2 and 3 lie around the pole and across the date line, where flat distances go wrong.
    lon = [(-180, 180), (-100, -99), (-180, 180), (179, 181)][seed]
    lat = [(-90, 90), (40, 41), (88, 90), (-1, 1)][seed]
    train, test = (np.column_stack([(rng.uniform(*lon, k) + 180) % 360 - 180, rng.uniform(*lat, k)]) for k in (n, m))
    train[3] = test[5]
    km, at = nearest_train(*train.T, *test.T)
    for i in range(m):
        every = [arc_km(*train[j], *test[i]) for j in range(n)]
        assert km[i] == pytest.approx(min(every), abs=1e-6)
        assert every[at[i]] == pytest.approx(min(every), abs=1e-6)
    assert km[5] == 0.0


def test_units_without_a_position_have_no_distance():
    km, at = nearest_train(np.array([np.nan, 10.0]), np.array([np.nan, 50.0]), np.array([10.0, np.nan]), np.array([50.0, np.nan]))
    assert km[0] == 0.0
    assert at[0] == 1
    assert np.isnan(km[1])
    assert at[1] == -1


def test_a_place_among_none_is_infinitely_far():
    metres, at = nearest_place(np.array([5.0, np.nan]), np.array([50.0, 50.0]), np.array([]), np.array([]))
    assert metres[0] == np.inf
    assert np.isnan(metres[1])
    assert at.tolist() == [-1, -1]


@pytest.mark.parametrize("lat", [0.0, 33.0, -61.0, 80.0])
def test_degrees_are_as_long_as_the_geodesic(lat):
    from pyproj import Geod

    geod, step = Geod(ellps="WGS84"), 1e-4
    east = geod.inv(10, lat, 10 + step, lat)[2] / step
    north = geod.inv(10, lat - step / 2, 10, lat + step / 2)[2] / step
    assert [float(v) for v in metres_per_degree(lat)] == pytest.approx([east, north], rel=1e-6)


@pytest.mark.parametrize("lat", [0.0, 45.0, -70.0])
def test_a_margin_in_degrees_holds_the_whole_circle(lat):
    from pyproj import Geod

    azimuth = np.arange(0.0, 360.0, 5.0)
    lon, around, _ = Geod(ellps="WGS84").fwd(np.full(72, 20.0), np.full(72, lat), azimuth, np.full(72, 30_000.0))
    wide, high = degrees_around(30_000.0, abs(lat))
    assert np.abs(lon - 20.0).max() <= wide <= 1.02 * np.abs(lon - 20.0).max()
    assert np.abs(around - lat).max() <= high <= 1.02 * np.abs(around - lat).max()
