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

from rs05bench.protocol.geodesy import EARTH_RADIUS_M


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
