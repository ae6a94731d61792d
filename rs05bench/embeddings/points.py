"""Embeddings at points: many points over many tiles, each block decompressed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.raster import Raster, ReadsPixels
from rs05bench.embeddings.tile_index import Source, TileIndex, as_index
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import WGS84, Grid, transformer, wrapped

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def read_points(
    source: Source,
    lon: ArrayLike,
    lat: ArrayLike,
    year: ArrayLike,
    *,
    decoded: bool = True,
    on_tile: Callable[[str, int], None] | None = None,
) -> NDArray[Any]:
    """The embedding of the pixel that holds each point.

    Points are sorted by tile and block; a block is decompressed band by band and forgotten, so memory grows with the points, never with
    the files. No pixel is interpolated. Where tiles of two UTM zones overlap, the tile of the point's own zone is read,
    and the other only where that one is masked or absent.

    Args:
        source: A `TileIndex`, folder, file(s), or the published index.
        lon: Degrees east (WGS84), shape (n,), from -180 or from 0.
        lat: Degrees north (WGS84), shape (n,).
        year: One year, or one a point.
        decoded: Return float32 components; else what the product stores (decoded files are encoded).
        on_tile: Called with each tile's id and the number of points read from it.

    Returns:
        `(n, dimensions)` float32, NaN where missing or where there is no tile; with `decoded=False` as stored, with its fill there.

    Raises:
        DataError: If the arguments do not fit each other, no tile is of a year, or a file is missing or damaged.
    """
    index = as_index(source)
    lon, lat = np.asarray(lon, dtype=np.float64).ravel(), np.asarray(lat, dtype=np.float64).ravel()
    years = np.broadcast_to(np.asarray(year, dtype=np.int64), lon.shape)
    if lon.shape != lat.shape:
        raise DataError(f"{lon.size} longitudes, but {lat.size} latitudes")
    _check_degrees(lon, lat)
    lon = wrapped(lon)
    index.require_years(np.unique(years).tolist())
    codec = index.product.codec
    # Components first: a band of a block is written side by side.
    values: NDArray[Any] = np.full((index.product.size, lon.size), codec.fill, dtype=codec.dtype)
    exact: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for one_year in np.unique(years):
        of_year = np.flatnonzero(years == one_year)
        for position, near in index.candidates(lon[of_year], lat[of_year], int(one_year)):
            wanted = of_year[near]
            wanted = wanted[codec.is_missing(values[0, wanted])]
            if wanted.size:
                hit = _read_tile(index, position, lon, lat, wanted, values, exact if decoded else None)
                if hit and on_tile is not None:
                    on_tile(str(index.frame["tile_id"].iloc[position]), hit)
    if not decoded:
        return np.ascontiguousarray(values.T)
    out = codec.decode(np.ascontiguousarray(values.T))
    for targets, vectors in exact:
        out[targets] = vectors
    return out


def _read_tile(
    index: TileIndex,
    position: int,
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    wanted: NDArray[np.int64],
    values: NDArray[Any],
    exact: list[tuple[NDArray[np.int64], NDArray[np.float32]]] | None,
) -> int:
    """Read the points that a tile holds into `values`; returns how many it holds."""
    raster = index.open(position)
    grid = raster.grid
    x, y = (lon[wanted], lat[wanted]) if grid.crs == WGS84 else transformer(WGS84, grid.crs).transform(lon[wanted], lat[wanted])
    row, column = grid.rows_columns(x, y)
    inside = (row >= 0) & (row < grid.height) & (column >= 0) & (column < grid.width)
    points, row, column = wanted[inside], row[inside], column[inside]
    if grid.bottom_up:
        row = grid.height - 1 - row
    if isinstance(raster, ReadsPixels):
        values[:, points] = raster.read_pixels(row, column)
        return int(points.size)
    for block_row, block_column, members in by_block(grid, raster.block, row, column):
        height, width = raster.block
        inner = (row[members] - block_row * height) * min(width, grid.width - block_column * width) + column[members] - block_column * width
        targets = points[members]
        if raster.dtype == values.dtype:
            _gather(raster, block_row, block_column, inner, targets, values)
        else:
            block = raster.read_block(block_row, block_column).reshape(len(values), -1)[:, inner]
            values[:, targets] = raster.product.codec.encode(block, axis=0)
            if exact is not None:  # a float file keeps its own floats
                exact.append((targets, np.ascontiguousarray(block.T)))
    return int(points.size)


def _gather(
    raster: Raster, block_row: int, block_column: int, inner: NDArray[np.int64], targets: NDArray[np.int64], values: NDArray[Any]
) -> None:
    def take(band: int, block: NDArray[Any]) -> None:
        values[band, targets] = block.reshape(-1)[inner]

    raster.map_bands(block_row, block_column, take)


def by_block(
    grid: Grid, block: tuple[int, int], row: NDArray[np.int64], column: NDArray[np.int64]
) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Group pixels (in the file's row order) by the block that holds them: (block row, block column, positions)."""
    height, width = block
    across = -(-grid.width // width)
    number = (row // height) * across + column // width
    order = np.argsort(number, kind="stable")
    if not order.size:
        return []
    starts = np.flatnonzero(np.r_[True, np.diff(number[order]) > 0])
    return [(int(number[group[0]]) // across, int(number[group[0]]) % across, group) for group in np.split(order, starts[1:])]


def _check_degrees(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> None:
    finite = np.isfinite(lon) & np.isfinite(lat)
    if not finite.all():
        raise DataError(f"{int((~finite).sum())} points have no coordinates (first: number {int(np.argmin(finite))})")
    if lon.size and (np.abs(lat).max() > 90 or np.abs(lon).max() > 360):
        raise DataError(
            f"coordinates reach longitude {np.abs(lon).max():g} and latitude {np.abs(lat).max():g}",
            remedy="Points are given in WGS84 degrees, longitude first.",
        )
