"""Blocks of one raster of embeddings, whichever reader decodes them.

Published files are band-planar: each component of one position is a compressed block of its own. Whoever wants one pixel has to
decompress all of them; so the block is the unit of reading, and what is built on this module takes care to decompress each block once.

Readers of one file give the same values: `cog_reader.CogRaster` reads ranges of the file itself, `gdal_raster.GdalRaster` asks GDAL;
`raster_files.open_raster` chooses one.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class Raster(Protocol):
    """A raster of a product's components that is read by block. Blocks and their rows are in the file's own order."""

    name: str
    grid: Grid
    dtype: np.dtype[Any]
    block: tuple[int, int]
    product: EmbeddingProduct

    def read_block(self, row: int, column: int, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """The `(bands, height, width)` values of one block, without padding: as the product's codec holds them, or decoded float32."""

    def map_bands(self, row: int, column: int, function: Callable[[int, NDArray[Any]], T]) -> list[T]:
        """`function(band, block)` for every band of one block, holding few bands in memory at a time."""

    def close(self) -> None:
        """Give back what is held."""


@runtime_checkable
class ReadsRegions(Protocol):
    """A raster of chunks so small that a window is best read at once, and kept by nobody."""

    def read_region(self, rows: slice, columns: slice, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """The `(bands, rows, columns)` values of a rectangle, in the file's own row order."""


@runtime_checkable
class ReadsPixels(Protocol):
    """A raster that gives single pixels without decoding the blocks around them."""

    def read_pixels(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[Any]:
        """The `(bands, n)` values of pixels in the file's own row order, as the product's codec holds them."""


def block_counts(raster: Raster) -> tuple[int, int]:
    """How many blocks lie below and beside each other."""
    (height, width), grid = raster.block, raster.grid
    return -(-grid.height // height), -(-grid.width // width)


def block_extent(raster: Raster, row: int, column: int) -> tuple[int, int, int, int]:
    """First row, first column, height and width of a block, in the file's own row order and without padding."""
    (height, width), grid = raster.block, raster.grid
    top, left = row * height, column * width
    return top, left, min(height, grid.height - top), min(width, grid.width - left)


class NotThisReader(Exception):
    """The file is fine, as far as can be seen, but needs the general reader."""


def band_order(descriptions: Sequence[str | None], record: EmbeddingProduct, source: str) -> tuple[int, ...] | None:
    """Where each component is in a file whose bands carry their names; None where they are in order, or carry other names.

    Raises:
        DataError: Some bands carry the product's names and others do not, or one name occurs twice.
    """
    given = [str(name).strip() if name else "" for name in descriptions]
    for pattern in record.columns:
        wanted = [pattern.format(number) for number in range(len(given))]
        names = [_named(name, pattern) for name in given]
        held = set(names) & set(wanted)
        if not held:
            continue
        if held != set(wanted):
            absent = next(name for name in wanted if name not in held)
            raise DataError(
                f"{len(held)} of {len(names)} bands are named as components of {record.name}, and none is {absent!r}",
                source=source,
                remedy="Name all bands, or none: they are then taken in order.",
            )
        order = tuple(names.index(name) for name in wanted)
        return None if order == tuple(range(len(names))) else order
    return None


def _named(name: str, pattern: str) -> str:
    """The component that a band's name holds as a word of its own, in any case (`a05`, `embedding_A05`, `A05_mean`); empty where none."""
    before = pattern.partition("{")[0]
    match = re.fullmatch(rf"(?i)(?:.*[\W_])?{re.escape(before)}(\d+)(?:[\W_].*)?", name)
    component = pattern.format(int(match[1])) if match else ""
    return component if match and component.casefold() == f"{before}{match[1]}".casefold() else ""


def check_bands(count: int, record: EmbeddingProduct, source: str) -> None:
    """Refuse a raster that does not have the product's number of bands."""
    wanted = record.stored_bands
    if wanted is not None and count != wanted:
        raise DataError(
            f"expected {wanted} bands of {record.name}, found {count}", source=source, remedy="Export all components, and nothing else."
        )


def check_nodata(nodata: float | None, record: EmbeddingProduct, source: str) -> None:
    """Refuse bytes that declare another mask than the product's."""
    if nodata is not None and record.nodata is not None and nodata != record.nodata:
        raise DataError(
            f"expected nodata {record.nodata:g}, found {nodata:g}",
            source=source,
            remedy=f"Any other byte is a component of {record.name}.",
        )


_here = threading.local()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The pool of a process; a forked loader worker has another id and so makes its own."""
    return ThreadPoolExecutor(max_workers=threads, initializer=_join_pool)


def in_threads[V](function: Callable[[int], V], count: int) -> list[V]:
    """`[function(0), .., function(count - 1)]`, shared among the threads that decompress.

    The pool is made once in each process (a forked loader worker needs its own). Called from one of its threads, the work is done in that
    thread: a pool whose threads wait for each other stands still.
    """
    cores = min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if count < 2 or cores < 2 or getattr(_here, "of_the_pool", False):
        return [function(number) for number in range(count)]
    # A few parts for each thread: handing over costs as much as decompressing a small chunk.
    step = -(-count // (4 * cores))
    starts = range(0, count, step)
    parts = _pool(os.getpid(), cores).map(lambda start: [function(number) for number in range(start, min(start + step, count))], starts)
    return [value for part in parts for value in part]


def _join_pool() -> None:
    _here.of_the_pool = True
