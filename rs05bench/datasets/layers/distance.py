"""Metres to the nearest road, water or urban area."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs05bench.datasets.layers.layer_sources import DistanceSampling, LayerSource
from rs05bench.datasets.layers.sampler import Layer, note_missing, positions
from rs05bench.datasets.layers.vector_layers import Features, cells, to_edge
from rs05bench.protocol.geodesy import metres_per_degree
from rs05bench.protocol.pixel_grid import WGS84, Grid, transformer

_FIRST_M = 2_000.0
"""How far is looked first; four times as far each time that finds nothing."""


class DistanceSampler(Layer):
    """Distance to the nearest feature, measured in a local metric plane, 0 inside a polygon.

    A distance is exact or missing: where nothing lies within `max_m`, or the position lies outside of what the files cover, there is no
    number. Near the border of the covered area the nearest feature may lie beyond it; how many units that may touch is noted.
    A polygon gets the mean over a lattice of about 100 points inside it. A window in a true metric CRS (UTM) is answered by a distance
    transform of the rasterised features: good to 0.75 of a pixel.

    Args:
        source: The layer.
        features: The lines or polygons, and the area that they cover.
        name: Names the column, `dist_<name>_m`; default the source's.
        simulated: Whether the files are the simulator's.
    """

    def __init__(self, source: LayerSource, features: Features, *, name: str = "", simulated: bool = False) -> None:
        assert isinstance(source.sampler, DistanceSampling)
        self.features, self.max_m = features, float(source.sampler.max_m)
        super().__init__(source, name or source.name, [f"dist_{name or source.name}_m"], simulated=simulated)

    def at_points(self, lon: ArrayLike, lat: ArrayLike) -> pd.DataFrame:
        """Distances of positions in degrees."""
        values, outside, beyond = self._measure(lon, lat)
        table = pd.DataFrame({self.columns[0]: values})
        unsure = int(beyond.sum())
        table.attrs["notes"] = [
            *note_missing(self.name, outside, "no position, or outside of the area that the files cover"),
            *note_missing(self.name, np.isnan(values) & ~outside, f"nothing within {self.max_m:,.0f} m"),
            *([f"{self.name}: {unsure:,} units lie nearer to the edge of the files than to what was found"] if unsure else []),
        ]
        return table

    def absent_over_polygons(self) -> str:
        """Why a polygon may have no value."""
        return f"not covered, or nothing within {self.max_m:,.0f} m"

    def on_window(self, grid: Grid) -> NDArray[np.float32]:
        """At the pixel centres of a grid, (1, rows, columns)."""
        lon, lat = grid.centres()
        if not _metric(grid, lon, lat):
            return super().on_window(grid)
        out = self._transform(grid, (lon.min(), lat.min(), lon.max(), lat.max()))
        # What is nearer to the border of the padded window than to a feature in it is measured exactly.
        open_ = np.flatnonzero(np.isnan(out.ravel()))
        if len(open_):
            out.ravel()[open_] = self._measure(lon[open_], lat[open_])[0]
        out.ravel()[~self.features.covers(lon, lat)] = np.nan
        return out[None].astype(np.float32)

    def _measure(self, lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Distances; which lie outside of the covered area; which lie nearer to its edge than to what was found."""
        import shapely

        x, y, known = positions(lon, lat)
        inside = known.copy()
        inside[known] = self.features.covers(x[known], y[known])
        values, beyond = np.full(len(x), np.nan), np.zeros(len(x), dtype=bool)
        here = np.flatnonzero(inside)
        for rows, plane, box in cells(x[here], y[here]):
            points = shapely.points(plane.xy(x[here[rows]], y[here[rows]]))
            found = self._nearest(points, plane, box)
            values[here[rows]] = found
            reach = np.where(np.isnan(found), self.max_m, found)
            beyond[here[rows]] = to_edge(self.features, plane, points, box, float(reach.max())) < found
        return values, ~inside, beyond

    def _nearest(self, points: NDArray[Any], plane: Any, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
        import shapely

        found = np.full(len(points), np.nan)
        reach = min(_FIRST_M, self.max_m)
        while True:
            near = self.features.near(box, reach)
            if len(near):
                todo = np.flatnonzero(np.isnan(found))
                tree = shapely.STRtree(plane.project(self.features.shapes[near]))
                pairs, distance = tree.query_nearest(points[todo], max_distance=reach, return_distance=True, all_matches=False)
                found[todo[pairs[0]]] = distance
            if reach >= self.max_m or not np.isnan(found).any():
                return found
            reach = min(4 * reach, self.max_m)

    def _transform(self, grid: Grid, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
        """Distances by rasterised features; NaN where a feature beyond the padding could be nearer."""
        import cv2
        import shapely
        from rasterio.features import rasterize

        pixel, shape = grid.xres, (grid.height, grid.width)
        pad = min(int(np.ceil(min(_FIRST_M, self.max_m) / pixel)), 512)
        padded = grid.part(-pad, -pad, grid.height + 2 * pad, grid.width + 2 * pad)
        near = self.features.near(box, 1.5 * pad * pixel)
        out = np.full(shape, np.nan)
        if not len(near):
            return out
        to = transformer(WGS84, grid.crs)
        shapes = shapely.transform(self.features.shapes[near], lambda xy: np.column_stack(to.transform(xy[:, 0], xy[:, 1])))
        size = padded.height, padded.width
        burnt = rasterize(shapes, out_shape=size, transform=padded.affine, fill=0, default_value=1, all_touched=True, dtype="uint8")
        if not burnt.any():
            return out
        distance = cv2.distanceTransform(1 - burnt, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64) * pixel
        inner = distance[pad : pad + shape[0], pad : pad + shape[1]]
        sure = inner <= min(pad * pixel, self.max_m)
        out[sure] = inner[sure]
        return out


def _metric(grid: Grid, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> bool:
    """Whether pixels are square and as large on the ground as they say, to 1 in 500."""
    shape = grid.height, grid.width
    if not np.isclose(grid.xres, grid.yres) or min(shape) < 2:
        return False
    x, y = lon.reshape(shape), lat.reshape(shape)
    row, col = shape[0] // 2 - 1, shape[1] // 2 - 1
    east, north = (float(v) for v in metres_per_degree(y[row, col]))
    across = np.hypot((x[row, col + 1] - x[row, col]) * east, (y[row, col + 1] - y[row, col]) * north)
    down = np.hypot((x[row + 1, col] - x[row, col]) * east, (y[row + 1, col] - y[row, col]) * north)
    return bool(abs(across / grid.xres - 1) < 2e-3 and abs(down / grid.xres - 1) < 2e-3)
