"""Which tiles a slice of a TorchGeo dataset meets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from numpy.typing import NDArray


class SliceLookup:
    """A TorchGeo index as arrays: a query of a GeoDataFrame costs more than cutting a small chip.

    Args:
        index: The index, one row a file, with `filepath` and the interval of its time.
        tile_of_path: The number of the tile in each file.

    Attributes:
        index: The index that the arrays are of.
        extent: Its bounds as x, y and t slices.
    """

    def __init__(self, index: gpd.GeoDataFrame, tile_of_path: Mapping[str, int]) -> None:
        self.index = index
        self._bounds = index.geometry.bounds.to_numpy()
        left, right = index.index.left, index.index.right
        self._start, self._stop = _nanoseconds(left), _nanoseconds(right)
        self._tile = np.array([tile_of_path[str(path)] for path in index["filepath"]], dtype=np.int64)
        self.extent = (
            slice(float(self._bounds[:, 0].min()), float(self._bounds[:, 2].max())),
            slice(float(self._bounds[:, 1].min()), float(self._bounds[:, 3].max())),
            slice(left.min(), right.max(), 1),
        )

    def find(self, x: slice, y: slice, t: slice) -> NDArray[np.int64]:
        """The tiles that overlap a slice, each once, in order."""
        west, south, east, north = self._bounds.T
        hit = (west < x.stop) & (east > x.start) & (south < y.stop) & (north > y.start)
        start, stop = t.start.as_unit("ns").value, t.stop.as_unit("ns").value
        # A year that only begins where the slice ends is not in it.
        hit &= ((self._start < stop) | ((start == stop) & (self._start == stop))) & (self._stop >= start)
        found = self._tile[hit]
        return found if found.size < 2 else np.unique(found)


def _nanoseconds(index: pd.DatetimeIndex) -> NDArray[np.int64]:
    return index.as_unit("ns").asi8
