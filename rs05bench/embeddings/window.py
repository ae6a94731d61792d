"""Rectangles of pixels cut out of cached blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.block_cache import BlockCache
from rs05bench.embeddings.raster import Raster, ReadsRegions, in_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORTH_A_THREAD = 128 * 128  # pixels of a chip below which handing it to a thread costs more than cutting it


def fill_of(raster: Raster) -> float:
    """The value of masked pixels in a raster's own dtype."""
    return raster.product.codec.fill if raster.dtype == np.int8 else np.nan


def read_window(
    raster: Raster,
    cache: BlockCache,
    row: int,
    column: int,
    height: int,
    width: int,
    *,
    bands: Sequence[int] | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Cut a window out of a raster, north up, without resampling.

    Args:
        raster: What to read from.
        cache: Where decoded blocks are kept.
        row: First row, counted from the north; may be negative.
        column: First column; may be negative.
        height: Rows.
        width: Columns.
        bands: Which components; None for all.
        out: Array to write into.

    Returns:
        `(bands, height, width)` in the raster's dtype; masked outside the raster.
    """
    grid = raster.grid
    first, last = max(row, 0), min(row + height, grid.height)
    left, right = max(column, 0), min(column + width, grid.width)
    whole = last - first == height and right - left == width
    if out is None and whole and not grid.bottom_up and isinstance(raster, ReadsRegions):
        return raster.read_region(slice(first, last), slice(left, right), bands)
    if out is None:
        out = np.empty((raster.product.size if bands is None else len(bands), height, width), dtype=raster.dtype)
    if not whole:
        out[...] = fill_of(raster)
        if first >= last or left >= right:
            return out
    # Rows of the file run either way; the part of `out` that a block covers is turned when they run from the south.
    start, stop = (grid.height - last, grid.height - first) if grid.bottom_up else (first, last)
    block_height, block_width = raster.block
    target = out[:, first - row : last - row, left - column : right - column]
    if grid.bottom_up:
        target = target[:, ::-1]
    if isinstance(raster, ReadsRegions):
        target[...] = raster.read_region(slice(start, stop), slice(left, right), bands)
        return out
    for block_row in range(start // block_height, (stop - 1) // block_height + 1):
        top = block_row * block_height
        a, b = max(start, top), min(stop, top + block_height)
        for block_column in range(left // block_width, (right - 1) // block_width + 1):
            west = block_column * block_width
            c, d = max(left, west), min(right, west + block_width)
            block = cache.block(raster, block_row, block_column, bands)
            target[:, a - start : b - start, c - left : d - left] = block[:, a - top : b - top, c - west : d - west]
    return out


def read_windows(
    raster: Raster,
    cache: BlockCache,
    corners: Sequence[tuple[int, int]] | NDArray[np.int64],
    height: int,
    width: int,
    *,
    bands: Sequence[int] | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Cut a batch of equal windows.

    Args:
        raster: What to read from.
        cache: Where decoded blocks are kept.
        corners: North-western (row, column) of each window.
        height: Rows of each.
        width: Columns of each.
        bands: Which components; None for all.
        out: Array to write into.

    Returns:
        `(windows, bands, height, width)` in the raster's dtype.
    """
    if out is None:
        out = np.empty((len(corners), raster.product.size if bands is None else len(bands), height, width), dtype=raster.dtype)

    def cut(position: int) -> None:
        row, column = corners[position]
        read_window(raster, cache, int(row), int(column), height, width, bands=bands, out=out[position])

    if height * width >= _WORTH_A_THREAD and len(corners) > 1:
        # A block is decompressed by all threads together: touch the blocks first, or two chips decompress the same one side by side.
        for position in range(len(corners)):
            row, column = corners[position]
            _touch(raster, cache, int(row), int(column), height, width, bands)
        in_threads(cut, len(corners))
    else:
        for position in range(len(corners)):
            cut(position)
    return out


def _touch(raster: Raster, cache: BlockCache, row: int, column: int, height: int, width: int, bands: Sequence[int] | None) -> None:
    if isinstance(raster, ReadsRegions):
        return
    grid = raster.grid
    first, last, left, right = max(row, 0), min(row + height, grid.height), max(column, 0), min(column + width, grid.width)
    if first >= last or left >= right:
        return
    start, stop = (grid.height - last, grid.height - first) if grid.bottom_up else (first, last)
    block_height, block_width = raster.block
    for block_row in range(int(start) // block_height, (int(stop) - 1) // block_height + 1):
        for block_column in range(int(left) // block_width, (int(right) - 1) // block_width + 1):
            cache.block(raster, block_row, block_column, bands)
