"""What every layer answers, and the parts they share: positions, polygons by a lattice of points, windows by their pixel centres."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs05bench.datasets.layers.layer_sources import LayerSource
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import Grid

if TYPE_CHECKING:
    import geopandas as gpd

LATTICE = 100
"""About how many points stand for a polygon."""


class Layer(ABC):
    """Values of one public source at places.

    Every table carries `attrs["notes"]`: sentences on what is missing and why, for people.

    Args:
        source: The documented source.
        name: The layer's name, which its columns begin with.
        columns: The columns of numbers.
        simulated: Whether the files are the simulator's.
        text: A further column of names, for splits; empty for none.
    """

    def __init__(self, source: LayerSource, name: str, columns: list[str], *, simulated: bool = False, text: str = "") -> None:
        self.source, self.name, self.columns, self.simulated, self.text = source, name, columns, simulated, text

    @abstractmethod
    def at_points(self, lon: ArrayLike, lat: ArrayLike) -> pd.DataFrame:
        """Values at WGS84 positions in degrees, one row a position; NaN where the source says nothing."""

    @abstractmethod
    def absent_over_polygons(self) -> str:
        """Why a polygon may have no value, for a note."""

    def on_polygons(self, polygons: gpd.GeoDataFrame) -> pd.DataFrame:
        """Means over polygons of any CRS, one row a polygon."""
        rows, lon, lat = lattice(polygons)
        means = self.at_points(lon, lat)[self.columns].groupby(rows).mean().reindex(range(len(polygons)))
        means.index = pd.RangeIndex(len(polygons))
        means.attrs["notes"] = note_missing(self.name, means[self.columns[0]].isna(), self.absent_over_polygons())
        return means

    def on_window(self, grid: Grid) -> NDArray[np.float32]:
        """Values at the pixel centres of a grid, (columns, rows, columns of pixels), NaN where missing."""
        values = self.at_points(*grid.centres())[self.columns].to_numpy(dtype=np.float32)
        return np.ascontiguousarray(values.T).reshape(len(self.columns), grid.height, grid.width)

    def window_columns(self) -> list[str]:
        """What the bands of `on_window` are."""
        return list(self.columns)


def positions(lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Longitude in [-180, 180), latitude, and which positions are known at all.

    Raises:
        DataError: Not degrees.
    """
    x, y = np.atleast_1d(np.asarray(lon, dtype=np.float64)), np.atleast_1d(np.asarray(lat, dtype=np.float64))
    if x.shape != y.shape or x.ndim != 1:
        raise DataError(f"expected as many longitudes as latitudes, found {x.shape} and {y.shape}")
    known = np.isfinite(x) & np.isfinite(y)
    if known.any() and (np.abs(y[known]).max() > 90 or np.abs(x[known]).max() > 360):
        row = int(np.flatnonzero(known & ((np.abs(y) > 90) | (np.abs(x) > 360)))[0])
        raise DataError(
            f"positions must be WGS84 degrees, found lon {x[row]:g}, lat {y[row]:g} (row {row})",
            remedy="Give the CRS of the coordinates with --crs, or swap x and y.",
        )
    return (x + 180.0) % 360.0 - 180.0, y, known


def lattice(polygons: gpd.GeoDataFrame, count: int = LATTICE) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """A regular lattice of about `count` points inside each polygon, even on the ground.

    A polygon too thin for any gets one point inside it, so every polygon has at least one.

    Returns:
        Row of the polygon, longitude and latitude of each point, sorted by row.
    """
    import shapely

    if polygons.crs is None:
        raise DataError("the polygons have no coordinate reference system (CRS)", remedy="Set it, e.g. with `frame.set_crs(...)`.")
    shapes = polygons.geometry.to_crs(4326).to_numpy()
    rows, xs, ys = [], [], []
    for row, shape in enumerate(shapes):
        if shape is None or shape.is_empty or shape.geom_type not in ("Polygon", "MultiPolygon"):
            raise DataError(f"expected a polygon, found {'none' if shape is None else shape.geom_type} (row {row})")
        west, south, east, north = shape.bounds
        narrow = max(np.cos(np.deg2rad((south + north) / 2)), 1e-3)
        step = np.sqrt(max(shape.area * narrow, 1e-18) / count)
        # A long thin polygon on a slant fills little of its box: the lattice of the box is bounded, not the one inside.
        step = max(step, np.sqrt((east - west) * narrow * (north - south) / (100 * count)))
        # A whole number of steps each way: no side of the polygon is favoured.
        across, up = max(round((east - west) * narrow / step), 1), max(round((north - south) / step), 1)
        x, y = np.meshgrid(west + (np.arange(across) + 0.5) * (east - west) / across, south + (np.arange(up) + 0.5) * (north - south) / up)
        shapely.prepare(shape)
        inside = shapely.contains_xy(shape, x.ravel(), y.ravel())
        if inside.any():
            xs.append(x.ravel()[inside])
            ys.append(y.ravel()[inside])
        else:
            point = shape.representative_point()
            xs.append(np.array([point.x]))
            ys.append(np.array([point.y]))
        rows.append(np.full(len(xs[-1]), row))
    if not rows:
        return np.empty(0, np.int64), np.empty(0), np.empty(0)
    return np.concatenate(rows), np.concatenate(xs), np.concatenate(ys)


def note_missing(name: str, values: NDArray[np.bool_] | pd.Series, why: str) -> list[str]:
    """One sentence where something is missing, none else."""
    missing = int(np.asarray(values).sum())
    return [f"{name}: {missing:,} of {len(values):,} units have no value ({why})"] if missing else []
