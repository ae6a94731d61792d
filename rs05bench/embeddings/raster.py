"""Blocks of one AlphaEarth raster, whichever reader decodes them.

A published tile is band-planar: the 64 bands of one 1,024 x 1,024 position are 64 compressed blocks. Whoever wants one pixel has to
decompress all 64; so the block is the unit of reading, and what is built on this module takes care to decompress each block once.

Two readers give the same bytes: `cog.CogRaster` reads ranges of the file itself, `gdal_raster.GdalRaster` asks GDAL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from rs05bench.embeddings.bytesource import is_remote, open_bytes
from rs05bench.embeddings.codec import BANDS, MASKED
from rs05bench.embeddings.grid import Grid
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

ALL_BANDS: tuple[int, ...] = tuple(range(len(BANDS)))


class Raster(Protocol):
    """A raster of 64 embedding bands that is read by block. Blocks and their rows are in the file's own order."""

    name: str
    grid: Grid
    dtype: np.dtype[Any]
    block: tuple[int, int]

    def read_block(self, row: int, column: int, bands: Sequence[int] = ALL_BANDS) -> NDArray[Any]:
        """The `(bands, height, width)` values of one block, without padding: int8 (-128 masked) or float32 (NaN masked)."""

    def map_bands(self, row: int, column: int, function: Callable[[int, NDArray[Any]], T]) -> list[T]:
        """`function(band, block)` for every band of one block, holding few bands in memory at a time."""

    def close(self) -> None:
        """Give back what is held."""


def block_counts(raster: Raster) -> tuple[int, int]:
    """How many blocks lie below and beside each other."""
    (height, width), grid = raster.block, raster.grid
    return -(-grid.height // height), -(-grid.width // width)


def block_extent(raster: Raster, row: int, column: int) -> tuple[int, int, int, int]:
    """First row, first column, height and width of a block, in the file's own row order and without padding."""
    (height, width), grid = raster.block, raster.grid
    top, left = row * height, column * width
    return top, left, min(height, grid.height - top), min(width, grid.width - left)


def open_raster(path: str | os.PathLike[str], **options: Any) -> Raster:
    """Open an AlphaEarth raster with the fastest reader that understands it.

    Args:
        path: A GeoTIFF, or the address of one.
        **options: Passed to the object store for addresses.

    Raises:
        DataError: If the file is not an AlphaEarth raster: which property, what was expected and what was found.
    """
    from rs05bench.embeddings.gdal_raster import GdalRaster

    name = os.fspath(path)
    try:
        import imagecodecs  # noqa: F401
        import tifffile  # noqa: F401
    except ImportError as error:
        if is_remote(name):
            raise DataError(
                "reading over the network needs tifffile and imagecodecs", source=name, remedy='pip install "rs05bench[remote]"'
            ) from error
        return GdalRaster(name)
    from rs05bench.embeddings.cog import CogRaster

    source = open_bytes(name, **options)
    try:
        return CogRaster(source)
    except NotThisReader as reason:
        source.close()
        if is_remote(name):
            raise DataError(
                f"cannot be read in ranges: {reason}", source=name, remedy="Download the file, or rewrite it with `gdal_translate -of COG`."
            ) from reason
        return GdalRaster(name)
    except BaseException:
        source.close()
        raise


class NotThisReader(Exception):
    """The file is fine, as far as can be seen, but needs the general reader."""


def check_bands(count: int, source: str) -> None:
    """Refuse a raster that does not have 64 bands."""
    if count != len(BANDS):
        raise DataError(
            f"expected {len(BANDS)} bands, found {count}", source=source, remedy="An AlphaEarth embedding has the bands A00..A63."
        )


def check_nodata(nodata: float | None, source: str) -> None:
    """Refuse an int8 raster that declares another mask than -128."""
    if nodata is not None and nodata != MASKED:
        raise DataError(
            f"expected nodata {MASKED}, found {nodata:g}", source=source, remedy="0 is a valid component; only -128 marks a masked pixel."
        )


_pools: dict[int, ThreadPoolExecutor] = {}


def threads() -> ThreadPoolExecutor:
    """The threads that decompress, made once in each process (a forked loader worker needs its own)."""
    pid = os.getpid()
    if pid not in _pools:
        _pools[pid] = ThreadPoolExecutor(
            max_workers=min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        )
    return _pools[pid]


def probe(path: str | os.PathLike[str], **options: Any) -> tuple[Grid, str]:
    """Grid and dtype of a raster, closed again."""
    with closing(open_raster(path, **options)) as raster:
        return raster.grid, str(raster.dtype)
