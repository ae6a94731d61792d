"""Blocks in space and time, and the buffers around them.

Units close together are alike (spatial autocorrelation), so a test unit beside a training unit measures memory, not
generalisation; see Roberts et al. 2017, "Cross-validation strategies for data with temporal, spatial, hierarchical, or
phylogenetic structure", Ecography 40, https://doi.org/10.1111/ecog.02881. Blocks move whole, and nobody uses what lies
within the buffer around a test block.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EARTH_RADIUS_M = 6_371_000.0
"""Mean radius of the spherical earth used for every distance, metres."""


def unit_vectors(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the unit sphere, shape (n, 3), from degrees."""
    phi, lam = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def chord_to_metres(chord: NDArray[np.float64]) -> NDArray[np.float64]:
    """Great-circle distance in metres from the chord on the unit sphere."""
    return 2.0 * EARTH_RADIUS_M * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))


def nearest_distance(
    lon: NDArray[np.float64], lat: NDArray[np.float64], to_lon: NDArray[np.float64], to_lat: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Great-circle distance from each point to the nearest of others, metres; NaN for points without position.

    Args:
        lon: Longitudes, shape (n,), degrees.
        lat: Latitudes, shape (n,), degrees.
        to_lon: Longitudes of the others, shape (m,).
        to_lat: Latitudes of the others, shape (m,).

    Returns:
        Shape (n,); infinite where there is no other with a position.
    """
    from scipy.spatial import cKDTree

    out = np.full(len(lon), np.nan)
    known, others = np.isfinite(lon), np.isfinite(to_lon)
    if not others.any():
        out[known] = np.inf
        return out
    tree = cKDTree(unit_vectors(to_lon[others], to_lat[others]))
    chord, _ = tree.query(unit_vectors(lon[known], lat[known]))
    out[known] = chord_to_metres(chord)
    return out


def spatial_blocks(lon: NDArray[np.float64], lat: NDArray[np.float64], size_m: float) -> NDArray[np.object_]:
    """Names of the square blocks points lie in, shape (n,); empty text without position.

    Rows are bands of latitude of `size_m`; columns are cut on each band's central parallel, so that a block is `size_m`
    wide there. Every block is the same for every set of points: nothing depends on what else is in the table.
    """
    known = np.isfinite(lon)
    row = np.floor(np.radians(np.where(known, lat, 0.0)) * EARTH_RADIUS_M / size_m).astype(np.int64)
    middle = (row + 0.5) * size_m / EARTH_RADIUS_M
    width = np.maximum(np.cos(middle), 1e-6) * EARTH_RADIUS_M
    column = np.floor(np.radians(np.where(known, lon, 0.0)) * width / size_m).astype(np.int64)
    names = np.char.add(np.char.add("s", row.astype(str)), np.char.add("_", column.astype(str))).astype(object)
    names[~known] = ""
    return names


def time_blocks(time: pd.Series, days: float) -> NDArray[np.object_]:
    """Names of the spans of `days` days dates lie in (counted from 1970-01-01), shape (n,); empty text without date."""
    day = time.to_numpy(dtype="datetime64[s]").astype("int64") / 86_400.0
    known = time.notna().to_numpy()
    names = np.char.add("t", np.floor(np.where(known, day, 0.0) / days).astype(np.int64).astype(str)).astype(object)
    names[~known] = ""
    return names


def near_in_time(time: pd.Series, place: NDArray[np.object_], of: NDArray[np.bool_], days: float) -> NDArray[np.bool_]:
    """Which units lie within `days` days of a marked unit of the same place, shape (n,); marked units themselves are not.

    Args:
        time: Dates, shape (n,).
        place: What must be equal, shape (n,).
        of: The marked units, shape (n,).
        days: Half-width, days.
    """
    day = time.to_numpy(dtype="datetime64[s]").astype("int64") / 86_400.0
    near = np.zeros(len(day), dtype=bool)
    frame = pd.DataFrame({"place": place, "day": day, "of": of, "known": time.notna().to_numpy()})
    for _, rows in frame[frame["known"]].groupby("place", sort=False):
        marked = np.sort(rows.loc[rows["of"], "day"].to_numpy())
        if len(marked) == 0:
            continue
        days_here = rows["day"].to_numpy()
        after = np.searchsorted(marked, days_here)
        left = np.abs(days_here - marked[np.maximum(after - 1, 0)])
        right = np.abs(marked[np.minimum(after, len(marked) - 1)] - days_here)
        near[rows.index.to_numpy()] = np.minimum(left, right) < days
    return near & ~of
