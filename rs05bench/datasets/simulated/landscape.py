"""A landscape: a grid in its own UTM zone, terrain, roads and water, and what every kind of landscape must answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rs05bench.datasets.simulated.places import Climate
from rs05bench.datasets.simulated.randomness import FloatArray, generator, smooth_field
from rs05bench.protocol.pixel_grid import WGS84, Grid, transformer

PIXEL = 30.0  # metres; the ground resolution of every landscape


def utm_grid(zone: int, west: float, north: float, height: int, width: int) -> Grid:
    """A north-up grid of 30 m pixels in one UTM zone of the northern hemisphere; `west` and `north` are its outer edges in metres."""
    return Grid(f"EPSG:{32600 + zone}", west, north, PIXEL, PIXEL, height, width)


def grid_around(lon: float, lat: float, zone: int, side: int) -> Grid:
    """A square grid of `side` pixels centred on a position, snapped to 60 m as the embedding's cells need."""
    x, y = transformer(WGS84, f"EPSG:{32600 + zone}").transform(lon, lat)
    half = side * PIXEL / 2
    return utm_grid(zone, round((x - half) / 60) * 60.0, round((y + half) / 60) * 60.0, side, side)


def zone_of(grid: Grid) -> int:
    """The UTM zone of a landscape's grid."""
    return int(grid.crs.removeprefix("EPSG:")) - 32600


@dataclass(frozen=True)
class LandscapeTerrain:
    """Static rasters of a landscape: metres, radians and metres."""

    elevation: FloatArray
    slope: FloatArray
    aspect: FloatArray
    road: FloatArray
    water: FloatArray
    is_water: NDArray[np.bool_]


class Landscape(Protocol):
    """What tables and files ask of a landscape, whatever grows or stands on it."""

    name: str
    seed: int
    grid: Grid
    climate: Climate

    @property
    def terrain(self) -> LandscapeTerrain:
        """Static rasters."""

    def reflectance(self, year: int, day: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        """Return true reflectance (n, 6) of pixels on a day of a year."""

    def structure(self, year: int, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        """Return canopy and building height (n, 2), scaled to about 0-1: what radar and lidar add."""


def make_terrain(seed: int, name: str, grid: Grid, elevation: float, relief: float, wet: float) -> LandscapeTerrain:
    """Build terrain, roads and water.

    Args:
        seed: The world's seed.
        name: The landscape's name.
        grid: Its grid.
        elevation: Mean elevation in metres.
        relief: Standard deviation of elevation in metres.
        wet: Share of the area under water, taken at the lowest places.
    """
    from scipy.ndimage import distance_transform_edt

    shape = (grid.height, grid.width)
    rng = generator(seed, "terrain", name)
    height = elevation + relief * smooth_field(rng, shape, 0.09 * grid.width, rough=0.12)
    down, right = np.gradient(height, PIXEL)
    slope = np.arctan(np.hypot(down, right))
    aspect = np.arctan2(-right, down) % (2 * np.pi)
    low = height + 0.6 * relief * smooth_field(rng, shape, 0.03 * grid.width)
    is_water = low < np.quantile(low, wet)
    roads = np.abs(smooth_field(rng, shape, 0.16 * grid.width)) < 0.02
    roads[rng.integers(0, grid.height), :] = True
    roads[:, rng.integers(0, grid.width)] = True
    return LandscapeTerrain(
        height.astype(np.float32),
        slope.astype(np.float32),
        aspect.astype(np.float32),
        (distance_transform_edt(~roads) * PIXEL).astype(np.float32),
        (distance_transform_edt(~is_water) * PIXEL if is_water.any() else np.full(shape, 9_000.0)).astype(np.float32),
        np.asarray(is_water),
    )


class Gaps:
    """Where the embedding is masked: a few blobs a year, as persistent cloud leaves them."""

    def __init__(self, seed: int, name: str, grid: Grid, share: float = 0.012) -> None:
        self._seed, self._name, self._share = seed, name, share
        self._shape = ((grid.height + 1) // 2, (grid.width + 1) // 2)
        self._masks: dict[int, NDArray[np.bool_]] = {}

    def at(self, year: int, cell_rows: NDArray[Any], cell_cols: NDArray[Any]) -> NDArray[np.bool_]:
        """Return True where the 60 m cell has no embedding in that year."""
        if year not in self._masks:
            field = smooth_field(generator(self._seed, "gaps", self._name, year), self._shape, 8)
            self._masks[year] = field > np.quantile(field, 1 - self._share)
        return np.asarray(self._masks[year][cell_rows, cell_cols])


class Base:
    """Common state of the three kinds of landscape."""

    name: str
    seed: int
    grid: Grid
    climate: Climate

    @cached_property
    def gaps(self) -> Gaps:
        """The embedding's gaps."""
        return Gaps(self.seed, self.name, self.grid)

    def places(self, rows: NDArray[Any], cols: NDArray[Any]) -> IntArrayLike:
        """Return the index of pixels inside the landscape, the key of their noise."""
        return np.asarray(rows, dtype=np.int64) * self.grid.width + np.asarray(cols, dtype=np.int64)


IntArrayLike = NDArray[np.int64]
