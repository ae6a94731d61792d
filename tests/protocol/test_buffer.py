"""Which units are too near a marked one, against the definition written out for every pair."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from rs05bench.protocol.ground import Ground
from rs05bench.protocol.split_options import SplitOptions
from rs05bench.protocol.units import UnitTable

R = 6_371_000.0
DAY = pd.Timedelta(days=1)


def metres(a: pd.Series, b: pd.Series) -> float:
    """Great-circle distance by the angle between two vectors (Vincenty's special case for a sphere): not the code under test."""
    p, q, turn = np.radians(a["lat"]), np.radians(b["lat"]), np.radians(b["lon"] - a["lon"])
    across = np.hypot(np.cos(q) * np.sin(turn), np.cos(p) * np.sin(q) - np.sin(p) * np.cos(q) * np.cos(turn))
    return float(R * np.arctan2(across, np.sin(p) * np.sin(q) + np.cos(p) * np.cos(q) * np.cos(turn)))


def is_near(frame: pd.DataFrame, marked: np.ndarray, in_time: np.ndarray, i: int, options: SplitOptions) -> bool:
    """The definition, for one unit that is not marked."""
    unit = frame.iloc[i]
    for j in np.flatnonzero(marked):
        other = frame.iloc[j]
        same = unit["region"] == other["region"]
        if not in_time[i] and not in_time[j] and unit["place"] == other["place"]:
            return True
        if in_time[i] and in_time[j] and same and abs((unit["time"] - other["time"]) / DAY) < options.buffer_days:
            return True
        if in_time[i] and same:
            continue
        if np.isfinite([unit["lon"], other["lon"]]).all() and metres(unit, other) < options.buffer_m:
            return True
    return False


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 40),
    regions=st.integers(1, 7),
    middle=st.sampled_from([(-100.0, 40.0), (180.0, 0.0), (180.0, -70.0), (15.0, 89.99)]),
)
def test_the_buffer_is_the_units_near_a_marked_one(seed, n, regions, middle):
    rng = np.random.default_rng(seed)
    # A coarse lattice: many units share a position, many pairs a distance.
    lon = middle[0] + rng.integers(-4, 5, n) * 0.01
    lat = np.minimum(middle[1] + rng.integers(-4, 5, n) * 0.01, 90.0)
    nowhere = rng.random(n) < 0.1
    region = rng.integers(0, regions, n)
    frame = pd.DataFrame(
        {
            "unit_id": [f"u{i:03d}" for i in range(n)],
            "lon": np.where(nowhere, np.nan, np.where(lon > 180, lon - 360, lon)),
            "lat": np.where(nowhere, np.nan, lat),
            "place": [f"p{value}" for value in rng.integers(0, n, n)],
            "time": pd.Timestamp("2020-01-01") + rng.integers(0, 60, n) * DAY,
            "region": [f"r{value}" for value in region],
        }
    )
    units = UnitTable.build(frame, groups=["region"])
    in_time, marked, none = (rng.random(regions) < 0.5)[region], rng.random(n) < 0.3, np.zeros(n, dtype=bool)
    options = SplitOptions(block_size_m=10_000, buffer_m=float(rng.uniform(1, 4000)), block_days=30, buffer_days=9.5)
    ground = Ground(units, frame["region"].to_numpy(object), frame["region"].to_numpy(object), in_time, none, none, options, None)
    expected = [not marked[i] and is_near(frame, marked, in_time, i, options) for i in range(n)]
    np.testing.assert_array_equal(ground.near(marked), expected)
