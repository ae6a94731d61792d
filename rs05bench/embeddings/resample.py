"""Other pixel grids than the tile's own, only where somebody asked for them.

A larger pixel is the mean of its parts: decode, mean, and length one again where the product has unit vectors. A pixel of about the same
size is the nearest one, so that it stays a vector the model gave. Bytes are never averaged.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.block_cache import BlockCache
from rs05bench.embeddings.raster import Raster
from rs05bench.embeddings.vectors import normalise, pool
from rs05bench.embeddings.window import fill_of, read_window
from rs05bench.protocol.pixel_grid import Grid, crs_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_AVERAGE_FROM = 1.5  # target pixels this many times larger than the source's are means, others the nearest pixel
_LARGEST_SOURCE = 1 << 26  # pixels a single resampled chip may need


def is_native(raster: Raster, target: Grid) -> bool:
    """Whether the target has the raster's CRS and pixel size; a shift of less than a pixel is not a resampling."""
    grid = raster.grid
    close = math.isclose(target.xres, grid.xres, rel_tol=1e-6) and math.isclose(target.yres, grid.yres, rel_tol=1e-6)
    return close and target.crs == crs_name(grid.crs)


def read_onto(raster: Raster, cache: BlockCache, target: Grid, bands: Sequence[int] | None = None) -> NDArray[Any]:
    """Read a raster onto a target grid.

    Args:
        raster: What to read from.
        cache: Where decoded blocks are kept.
        target: The wanted grid.
        bands: Which components; None for all. Means are normalised over all of them first, so that a subset is the same as of the whole.

    Returns:
        `(bands, height, width)`: bytes where pixels were copied from a raster of bytes, else float32; missing outside the raster.
    """
    grid = raster.grid
    same_crs = target.crs == crs_name(grid.crs)
    if is_native(raster, target):
        column, row = round((target.west - grid.west) / grid.xres), round((grid.north - target.north) / grid.yres)
        return read_window(raster, cache, row, column, target.height, target.width, bands=bands)
    factor = _whole_factor(target, raster) if same_crs else None
    if factor is not None:
        column, row = round((target.west - grid.west) / grid.xres), round((grid.north - target.north) / grid.yres)
        values = read_window(raster, cache, row, column, target.height * factor, target.width * factor)
        return _chosen(pool(values, factor, of=raster.product), bands)
    return _warp(raster, cache, target, bands)


def _whole_factor(target: Grid, raster: Raster) -> int | None:
    across, down = target.xres / raster.grid.xres, target.yres / raster.grid.yres
    factor = round(across)
    if factor >= 2 and math.isclose(across, factor, rel_tol=1e-6) and math.isclose(down, factor, rel_tol=1e-6):
        return factor
    return None


def _warp(raster: Raster, cache: BlockCache, target: Grid, bands: Sequence[int] | None = None) -> NDArray[Any]:
    from affine import Affine
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    grid = raster.grid
    source_bounds = target.bounds_in(grid.crs)
    top, left, height, width = _covering(raster, source_bounds)
    fill, layers = fill_of(raster), raster.product.size if bands is None else len(bands)
    if height <= 0 or width <= 0:
        return np.full((layers, target.height, target.width), fill, dtype=raster.dtype)
    if height * width > _LARGEST_SOURCE:
        raise MemoryError(f"one chip would be resampled from {height} x {width} pixels of {raster.name}")
    # How many source pixels a target pixel covers, along a side.
    ratio = math.sqrt((source_bounds[2] - source_bounds[0]) * (source_bounds[3] - source_bounds[1]))
    ratio /= math.sqrt(target.height * target.width * grid.xres * grid.yres)
    averaged = ratio >= _AVERAGE_FROM
    values = read_window(raster, cache, top, left, height, width, bands=None if averaged else bands)
    if averaged and values.dtype == np.int8:
        values = raster.product.codec.decode(values)
    out = np.full((len(values), target.height, target.width), np.nan if averaged else fill, dtype=values.dtype)
    reproject(
        values,
        out,
        src_transform=Affine(*grid.transform(top, left)),
        src_crs=grid.crs,
        src_nodata=np.nan if values.dtype != np.int8 else fill,
        dst_transform=target.affine,
        dst_crs=target.crs,
        dst_nodata=np.nan if values.dtype != np.int8 else fill,
        resampling=Resampling.average if averaged else Resampling.nearest,
    )
    if not averaged:
        return out
    return _chosen(normalise(out) if raster.product.unit_norm else out, bands)


def _chosen(values: NDArray[Any], bands: Sequence[int] | None) -> NDArray[Any]:
    return values if bands is None else values[list(bands)]


def _covering(raster: Raster, bounds: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """The pixels (first row, first column, height, width) that cover bounds with a margin, clipped to the raster."""
    grid = raster.grid
    west, south, east, north = bounds
    top, left = math.floor((grid.north - north) / grid.yres) - 2, math.floor((west - grid.west) / grid.xres) - 2
    bottom, right = math.ceil((grid.north - south) / grid.yres) + 2, math.ceil((east - grid.west) / grid.xres) + 2
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, grid.height), min(right, grid.width)
    return top, left, bottom - top, right - left
