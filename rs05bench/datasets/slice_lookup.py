"""Which files a slice of a TorchGeo dataset meets, and the part of it that each can touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio.windows
import shapely
from pyproj import CRS

from rs05bench.errors import DataError
from rs05bench.protocol.geodesy import DEGREE_M

if TYPE_CHECKING:
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


def whole_index(index: gpd.GeoDataFrame, column: str, source: object) -> gpd.GeoDataFrame:
    """An index that still says which file or chip a row is.

    Raises:
        DataError: A splitter dropped the column or the CRS.
    """
    if column not in index.columns or index.crs is None:
        raise DataError(
            f"the index has lost its column {column!r} or its CRS, as after TorchGeo's random_grid_cell_assignment",
            source=str(source),
            remedy="Use random_bbox_assignment, random_bbox_splitting, roi_split, or a manifest of rs05bench.",
        )
    return index


def _nanoseconds(index: pd.DatetimeIndex) -> NDArray[np.int64]:
    return index.as_unit("ns").asi8


def rows_in(index: gpd.GeoDataFrame, window: tuple[slice, slice, slice], bounds: tuple[slice, slice, slice]) -> gpd.GeoDataFrame:
    """The rows of a TorchGeo index whose bounding box a slice touches: samplers draw windows from boxes, not from the shapes in them.

    Args:
        index: Rows with an IntervalIndex of time.
        window: x, y and time of the slice.
        bounds: The same of the whole index.

    Raises:
        IndexError: The slice is outside the bounds.
    """
    if any(part.start > whole.stop or part.stop < whole.start for part, whole in zip(window, bounds, strict=True)):
        raise IndexError(f"index: {window} not found in dataset with bounds: {bounds}")
    x, y, t = window
    rows = index.iloc[index.index.overlaps(pd.Interval(t.start, t.stop, closed="both"))]
    box = rows.bounds
    return rows[((box["minx"] < x.stop) & (box["maxx"] > x.start) & (box["miny"] < y.stop) & (box["maxy"] > y.start)).to_numpy()]


def moved_shapes(shapes: list[Any], source: CRS, target: CRS) -> list[Any]:
    """Shapes in another CRS, with points added along their edges, which are no longer straight there."""
    if source == target or not shapes:
        return shapes
    step = max(shape.length for shape in shapes) / 32
    return list(gpd.GeoSeries(shapely.segmentize(shapes, step), crs=source).to_crs(target))


def touched_window(bounds: tuple[float, float, float, float], transform: Any, shape: tuple[int, int]) -> rasterio.windows.Window:
    """The part of a grid that some bounds can touch: warping a chip onto a whole slice would cost the slice's size for every chip."""
    exact = rasterio.windows.from_bounds(*bounds, transform=transform)
    top, left = max(int(exact.row_off) - 2, 0), max(int(exact.col_off) - 2, 0)
    bottom = min(int(np.ceil(exact.row_off + exact.height)) + 2, shape[0])
    right = min(int(np.ceil(exact.col_off + exact.width)) + 2, shape[1])
    return rasterio.windows.Window(left, top, max(right - left, 1), max(bottom - top, 1))


def default_resolution(crs: CRS, metres: float) -> tuple[float, float]:
    """A pixel of so many metres in the units of a CRS; in degrees, that of the equator."""
    size = metres / DEGREE_M if crs.is_geographic else metres
    return (size, size)
