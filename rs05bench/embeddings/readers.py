"""What everything that reads embeddings asks of a source: one protocol, and the reader of tiles that most sources share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rs05bench.embeddings.block_cache import BlockCache
from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.polygons import read_polygons
from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.embeddings.resample import is_native, read_onto
from rs05bench.embeddings.tile_index import TileIndex
from rs05bench.embeddings.window import read_window
from rs05bench.embeddings.zarr_raster import observation_counts
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import WGS84, GeoBoxLike, Grid, belongs, crs_name, transformer, zone_of

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

type OnTile = Callable[[str, int], None]
type Bounds = tuple[float, float, float, float]


class EmbeddingReader(Protocol):
    """A source of one embedding product."""

    product: EmbeddingProduct
    description: str
    portion: int

    @property
    def years(self) -> list[int] | None:
        """The years there are; None where the source cannot tell."""

    def tiles(self, bounds: Bounds | None, year: int) -> gpd.GeoDataFrame:
        """The tiles of a year that meet WGS84 bounds: `tile_id, year, crs` and the footprint."""

    def read(self, geobox: GeoBoxLike | Grid, year: int) -> NDArray[np.float32]:
        """The components on a grid, `(dimensions, rows, columns)` float32, north up; NaN where there is no embedding."""

    def points(self, lon: ArrayLike, lat: ArrayLike, year: int, *, on_tile: OnTile | None = None) -> NDArray[np.float32]:
        """The embedding at points, `(n, dimensions)` float32, NaN where there is none."""

    def polygons(self, polygons: gpd.GeoSeries, year: int, *, stats: Sequence[str], on_tile: OnTile | None = None) -> pd.DataFrame:
        """Statistics of polygons, one row each."""

    def chip(self, lon: float, lat: float, size: int, year: int, *, on_tile: OnTile | None = None) -> tuple[NDArray[Any], Grid]:
        """The native chip around a place: values as the product stores them (decoded where it has scales), and their grid."""

    def observation_counts(self, lon: ArrayLike, lat: ArrayLike, year: int) -> dict[str, NDArray[np.float32]]:
        """How many observations went into the embedding at points, by the names of the product's record; empty where none is recorded."""

    def portions_of(self, lon: ArrayLike, lat: ArrayLike, year: int) -> NDArray[np.int64]:
        """A number for each point; points of one number are cheap to read together."""


class TileReader:
    """Tiles of a folder, a web server, a bucket or a store.

    Args:
        index: The tiles.
        memory: Bytes of decompressed blocks kept between chips.
    """

    portion = 250_000

    def __init__(self, index: TileIndex, *, memory: int = 1 << 30) -> None:
        self.index, self.description, self.product = index, index.description, index.product
        self._blocks = BlockCache(memory)

    @property
    def years(self) -> list[int]:
        """The years there are tiles of."""
        return self.index.years

    def tiles(self, bounds: Bounds | None, year: int) -> gpd.GeoDataFrame:
        """The tiles of a year that meet WGS84 bounds."""
        return self.index.search(bounds, [year]).frame

    def read(self, geobox: GeoBoxLike | Grid, year: int) -> NDArray[np.float32]:
        """The components on a grid, decoded.

        Pixels of tiles on that grid are copied; others are resampled (see `rs05bench.embeddings.resample`). See `mosaic` for overlaps.
        """
        grid = Grid.of(geobox)
        self.index.require_years([year])
        west, south, east, north = grid.bounds_in(WGS84)
        if west > east:  # over the antimeridian
            west, east = west - 360 if self.index.frame.geometry.bounds["minx"].min() < -180 else west, east + 360 if west > 0 else east
        positions = [
            int(position)
            for position in np.flatnonzero(self.index.year_array == year)
            if _meets(self.index.frame.geometry.iloc[position].bounds, (west, south, east, north))
        ]
        return mosaic(self.index, self._blocks, positions, grid)

    def points(self, lon: ArrayLike, lat: ArrayLike, year: int, *, on_tile: OnTile | None = None) -> NDArray[np.float32]:
        """The embedding at points, see `read_points`."""
        return read_points(self.index, lon, lat, year, on_tile=on_tile)

    def polygons(self, polygons: gpd.GeoSeries, year: int, *, stats: Sequence[str], on_tile: OnTile | None = None) -> pd.DataFrame:
        """Statistics of polygons, see `read_polygons`."""
        return read_polygons(self.index, polygons, year, stats=stats, on_tile=on_tile)

    def chip(self, lon: float, lat: float, size: int, year: int, *, on_tile: OnTile | None = None) -> tuple[NDArray[Any], Grid]:
        """The native chip whose centre pixel holds a place; neighbours of the same grid fill what is beyond its tile."""
        position, row, column = holding(self.index, lon, lat, year)
        raster = self.index.open(position)
        grid = raster.grid
        top, left = row - size // 2, column - size // 2
        self._tell(position, on_tile)
        values = self.product.codec.as_stored(read_window(raster, self._blocks, top, left, size, size), axis=0)
        target = grid.part(top, left, size, size)
        if top < 0 or left < 0 or top + size > grid.height or left + size > grid.width:
            values = self._fill(values, replace(target, crs=crs_name(grid.crs)), position, year, on_tile)
        return values, target

    def observation_counts(self, lon: ArrayLike, lat: ArrayLike, year: int) -> dict[str, NDArray[np.float32]]:
        """How many observations went into the embedding at points, see `zarr_raster.observation_counts`."""
        return observation_counts(self.index, lon, lat, year) if self.product.observation_counts else {}

    def portions_of(self, lon: ArrayLike, lat: ArrayLike, year: int) -> NDArray[np.int64]:
        """The position of the first tile tried for each point, -1 where there is none."""
        out = np.full(np.size(lon), -1, dtype=np.int64)
        for position, members in self.index.candidates(lon, lat, year):
            out[members] = np.where(out[members] < 0, position, out[members])
        return out

    def _tell(self, position: int, on_tile: OnTile | None) -> None:
        if on_tile is not None:
            on_tile(str(self.index.frame["tile_id"].iloc[position]), 1)

    def _fill(self, values: NDArray[Any], target: Grid, position: int, year: int, on_tile: OnTile | None) -> NDArray[Any]:
        codec = self.product.codec
        for other in neighbours(self.index, target, year):
            raster = self.index.open(other)
            if other != position and is_native(raster, target):
                self._tell(other, on_tile)
                more = codec.as_stored(read_onto(raster, self._blocks, target), axis=0)
                values = np.where(codec.is_missing(values[0]), more, values)
        return values


def holding(index: TileIndex, lon: float, lat: float, year: int) -> tuple[int, int, int]:
    """The tile that holds a place, by preference that of the place's own zone, and the row and column there.

    Raises:
        DataError: No tile of the year does.
    """
    for position, _ in index.candidates([lon], [lat], year):
        grid = index.open(position).grid
        x, y = transformer(WGS84, grid.crs).transform(lon, lat)
        row, column = (int(v) for v in grid.rows_columns(x, y))
        if 0 <= row < grid.height and 0 <= column < grid.width:
            return position, row, column
    raise DataError(f"no tile of {year} holds longitude {lon:g}, latitude {lat:g}", source=index.description)


def neighbours(index: TileIndex, target: Grid, year: int) -> list[int]:
    """Positions of the tiles of a year and of the target's CRS that meet it."""
    west, south, east, north = target.bounds
    frame = index.frame
    near = (frame["crs"] == target.crs) & (frame["year"] == year) & (frame["west"] < east) & (frame["east"] > west)
    near &= (frame["south"] < north) & (frame["north"] > south)
    return [int(position) for position in np.flatnonzero(near.to_numpy())]


def mosaic(
    index: TileIndex, cache: BlockCache, positions: Sequence[int], grid: Grid, bands: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Tiles of one year on one grid, decoded.

    Pixels of tiles on that grid are copied first, and others fill in. Where the vectors of overlapping zones differ (`overlap: nominal` in
    the record), each pixel is of the tile of its own UTM zone, and of another only where its own has no
    tile and is not one that waits to be filled.
    """
    codec = index.product.codec
    out: NDArray[np.float32] | None = None
    open_ = np.ones((grid.height, grid.width), dtype=bool)
    for position, allowed in _in_order(index, positions, grid):
        wanted = open_ if allowed is None else open_ & allowed
        if not wanted.any():
            continue
        values = read_onto(index.open(position), cache, grid, bands)
        decoded = codec.decode(values) if values.dtype == codec.dtype else values
        if out is None and wanted.all():
            out = decoded
        else:
            out = np.full(decoded.shape, np.nan, dtype=np.float32) if out is None else out
            out[:, wanted] = decoded[:, wanted]
        open_ = np.isnan(out[0])
    if out is None:
        layers = index.product.size if bands is None else len(bands)
        out = np.full((layers, grid.height, grid.width), np.nan, dtype=np.float32)
    return out


def _in_order(index: TileIndex, positions: Sequence[int], grid: Grid) -> list[tuple[int, NDArray[np.bool_] | None]]:
    """Tiles in the order in which they are read, each with the pixels it may give; None for all."""
    zones = {index.zone_list[position] for position in positions}
    zones |= {zone for year in {int(index.year_array[position]) for position in positions} for zone in index.unfilled_zones(year)}
    if index.product.overlap == "any" or len(zones) == 1:
        return [(position, None) for position in sorted(positions, key=lambda position: not is_native(index.open(position), grid))]
    own = _zones_on(grid)
    homeless = ~np.any([belongs(own, zone) for zone in zones], axis=0)
    return [(position, belongs(own, index.zone_list[position]) | homeless) for position in positions]


def _zones_on(grid: Grid) -> NDArray[np.str_]:
    """The UTM zone that each pixel's centre is in."""
    x = grid.west + (np.arange(grid.width) + 0.5) * grid.xres
    y = grid.north - (np.arange(grid.height) + 0.5) * grid.yres
    lon, lat = transformer(grid.crs, WGS84).transform(*np.meshgrid(x, y))
    return zone_of(lon, lat)


def _meets(footprint: Bounds, wanted: Bounds) -> bool:
    west, south, east, north = footprint
    return (
        any(west <= wanted[2] + turn and east >= wanted[0] + turn for turn in (0, 360, -360)) and south <= wanted[3] and north >= wanted[1]
    )
