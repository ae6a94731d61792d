"""One year of a Zarr group of embeddings as a raster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rs05bench.embeddings.points import by_block
from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.embeddings.raster import block_extent, in_threads
from rs05bench.embeddings.tile_index import TileIndex
from rs05bench.embeddings.zarr_chunks import Span, chunk_reader
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import WGS84, Grid, transformer

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

SMALLEST_BLOCK = 128  # pixels: below that, chunks are read together
_BANDS_A_THREAD = 16


class AxisArray:
    """An array read with its axes in the order that is asked for, whatever the order in which they are stored.

    Args:
        array: A `zarr.Array`.
        order: Where in the array each wanted axis is.
        store: Folder or address of the store.
    """

    def __init__(self, array: Any, order: Sequence[int], store: str) -> None:
        self._array, self._order, self._reader = array, tuple(order), chunk_reader(array, store)
        self.shape: tuple[int, ...] = tuple(int(array.shape[axis]) for axis in order)
        self.chunks: tuple[int, ...] = tuple(int(array.chunks[axis]) for axis in order)
        self.fill_value = array.fill_value

    def read(self, spans: Sequence[Span]) -> NDArray[Any]:
        """The values of a rectangle.

        Args:
            spans: First and last (exclusive) index along every wanted axis.

        Raises:
            DataError: A chunk cannot be read.
        """
        stored = [spans[self._order.index(axis)] for axis in range(len(spans))]
        if self._reader is not None:
            return self._reader.read(stored).transpose(self._order)
        try:
            return np.asarray(self._array[tuple(slice(*span) for span in stored)]).transpose(self._order)
        except Exception as error:  # stores and codecs have their own exceptions
            where = f"{self._array.store}/{self._array.path}"
            raise DataError(f"a chunk cannot be read ({type(error).__name__}: {str(error)[:200]})", source=where) from error

    def at(self, *positions: NDArray[np.int64]) -> NDArray[Any]:
        """The values at single positions, one array of indices for every wanted axis."""
        return np.asarray(self._array.vindex[tuple(positions[self._order.index(axis)] for axis in range(len(positions)))])


@dataclass(frozen=True, slots=True)
class GroupArrays:
    """What is read of a group.

    Attributes:
        name: Address of the group.
        embeddings: (time, band, y, x).
        scales: The factor of each pixel (time, y, x), where the product has one.
        grid: Where the pixels are.
        product: What is held.
        years: Along the time axis.
        counts: Observation counts (time, y, x) by name.
    """

    name: str
    embeddings: AxisArray
    scales: AxisArray | None
    grid: Grid
    product: EmbeddingProduct
    years: tuple[int, ...]
    counts: dict[str, AxisArray]


class ZarrRaster:
    """One year of a group as a raster of chunks.

    Args:
        arrays: The group's arrays.
        position: Of the year along the first axis.
    """

    def __init__(self, arrays: GroupArrays, position: int) -> None:
        self.name, self.grid, self.product = f"{arrays.name}#{arrays.years[position]}", arrays.grid, arrays.product
        self.dtype: np.dtype[Any] = self.product.codec.dtype
        self._arrays, self._year = arrays, (position, position + 1)
        height, width = arrays.embeddings.chunks[2:]
        self._chunk = height, width
        self.block = tuple(size * max(1, -(-SMALLEST_BLOCK // size)) for size in (height, width))  # type: ignore[assignment]
        # A chunk that was never written reads as the fill value; where that is a zero, a vector of zeros is no vector.
        self._zero_is_empty = int(arrays.embeddings.fill_value or 0) != self.product.codec.fill

    block: tuple[int, int]

    def read_block(self, row: int, column: int, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """The `(bands, height, width)` values of one block: bytes of a table, or decoded float32."""
        top, left, height, width = block_extent(self, row, column)
        return self._read((top, top + height), (left, left + width), bands)

    def read_pixels(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[Any]:
        """The `(bands, n)` values of single pixels, given in the file's own row order; every chunk is decompressed once."""
        out = np.empty((self.product.size, row.size), dtype=self.dtype)

        groups = by_block(self.grid, self._chunk, row, column)

        def take(number: int) -> None:
            chunk_row, chunk_column, members = groups[number]
            top, left = chunk_row * self._chunk[0], chunk_column * self._chunk[1]
            rows, columns = (
                (start, min(start + size, limit))
                for start, size, limit in zip((top, left), self._chunk, (self.grid.height, self.grid.width), strict=True)
            )
            inside = row[members] - top, column[members] - left
            values = self._arrays.embeddings.read([self._year, (0, self.product.size), rows, columns])[0][:, *inside]
            scales = None if self._arrays.scales is None else self._arrays.scales.read([self._year, rows, columns])[0][inside]
            out[:, members] = self._finished(values, scales)

        in_threads(take, len(groups))
        return out

    def _read(self, rows: Span, columns: Span, bands: Sequence[int] | None) -> NDArray[Any]:
        scales = None if self._arrays.scales is None else self._arrays.scales.read([self._year, rows, columns])[0]
        values = self._finished(self._arrays.embeddings.read([self._year, (0, self.product.size), rows, columns])[0], scales)
        return values if bands is None else values[list(bands)]

    def _finished(self, values: NDArray[Any], scales: NDArray[np.float32] | None) -> NDArray[Any]:
        if scales is not None:
            return scaled(values, scales, self.product)
        if self._zero_is_empty:
            empty = ~values.any(axis=0)
            if empty.any():
                values = np.where(empty, np.asarray(self.product.codec.fill, values.dtype), values)
        return values

    def map_bands(self, row: int, column: int, function: Callable[[int, NDArray[Any]], T]) -> list[T]:
        """`function(band, block)` for every band of one block."""
        return [function(band, values) for band, values in enumerate(self.read_block(row, column))]

    def observed(self, lon: NDArray[np.float64], lat: NDArray[np.float64], names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Observation counts at points, by name; NaN outside the grid, no entry where the store has no such array."""
        x, y = transformer(WGS84, self.grid.crs).transform(lon, lat)
        row, column = self.grid.rows_columns(x, y)
        inside = (row >= 0) & (row < self.grid.height) & (column >= 0) & (column < self.grid.width)
        if self.grid.bottom_up:
            row = self.grid.height - 1 - row
        out = {}
        for name in names:
            array = self._arrays.counts.get(name)
            if array is not None:
                out[name] = np.full(lon.size, np.nan, dtype=np.float32)
                if inside.any():
                    out[name][inside] = array.at(np.full(int(inside.sum()), self._year[0]), row[inside], column[inside])
        return out

    def close(self) -> None:
        """Nothing is held open."""


class SmallChunks(ZarrRaster):
    """A group whose chunks are a fraction of a window: all that a window needs are read at once, and none is kept."""

    def read_region(self, rows: slice, columns: slice, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """The `(bands, rows, columns)` values of a rectangle."""
        return self._read((rows.start, rows.stop), (columns.start, columns.stop), bands)


def scaled(values: NDArray[np.integer], scales: NDArray[np.float32], record: EmbeddingProduct) -> NDArray[np.float32]:
    """Components `value * scale`; NaN where the scale is not finite, all values are zero, or the record's range is left.

    Args:
        values: `(bands, ...)` integers.
        scales: A factor for every vector, or for every component.
        record: What they are of.
    """
    per_component = scales.ndim == values.ndim
    unknown = ~np.isfinite(scales)
    missing = unknown.any(axis=0) if per_component else unknown.copy()
    factor = np.where(unknown, np.float32(0), scales).astype(np.float32)
    out = np.empty(values.shape, dtype=np.float32)

    def multiply(part: int) -> None:
        here = slice(part * _BANDS_A_THREAD, (part + 1) * _BANDS_A_THREAD)
        out[here] = values[here]
        out[here] *= factor[here] if per_component else factor

    in_threads(multiply, -(-len(values) // _BANDS_A_THREAD))
    if record.range is not None:
        lowest, highest = record.range
        # The largest component that a factor can give is enough to pass most blocks unread.
        if float(np.abs(factor).max(initial=0)) * -int(np.iinfo(values.dtype).min) > min(-lowest, highest):
            missing |= (out < lowest).any(axis=0) | (out > highest).any(axis=0)
    # A vector of zeros is no vector; only where the first component is zero can all of them be.
    empty = values[0] == 0
    if empty.any():
        empty[empty] = ~values[:, empty].any(axis=0)
        missing |= empty
    if missing.any():
        out[:, missing] = np.nan
    return out


def observation_counts(index: TileIndex, lon: Any, lat: Any, year: int) -> dict[str, NDArray[np.float32]]:
    """How many observations went into the vectors at points, by the names of the product's record; empty where the store has none.

    A sensor that saw nothing in a year makes a leave-year-out partly a change of sensor.
    """
    lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    counts: dict[str, NDArray[np.float32]] = {}
    done = np.zeros(lon.size, dtype=bool)
    for position, near in index.candidates(lon, lat, year):
        raster = index.open(position)
        if not isinstance(raster, ZarrRaster):
            return {}
        wanted = near[~done[near]]
        for name, values in raster.observed(lon[wanted], lat[wanted], index.product.observation_counts).items():
            known = np.isfinite(values)
            counts.setdefault(name, np.full(lon.size, np.nan, dtype=np.float32))[wanted[known]] = values[known]
            done[wanted[known]] = True
    return counts
