"""The general reader: whatever GDAL reads (strips, pixel-interleaved files, float exports from Earth Engine)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rs05bench.embeddings.grid import crs_name, grid_from_affine
from rs05bench.embeddings.raster import ALL_BANDS, block_extent, check_bands, check_nodata
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

_LARGEST_COMPONENT = 1.01  # decoded components end at (127 / 127.5) ** 2; a mean never exceeds that


class GdalRaster:
    """Any 64-band raster that GDAL reads, int8 or decoded float.

    Args:
        path: A local path (or anything else GDAL opens).
    """

    def __init__(self, path: str) -> None:
        import rasterio

        self.name, self._local, self._lock = path, threading.local(), threading.Lock()
        self._handles: list[Any] = []
        self.dtype: np.dtype[Any]
        with self._errors():
            dataset = self._handle()
            check_bands(dataset.count, path)
            kinds = set(dataset.dtypes)
            if kinds == {"int8"}:
                self.dtype = np.dtype(np.int8)
                check_nodata(dataset.nodata, path)
            elif kinds <= {"float32", "float64"}:
                self.dtype = np.dtype(np.float32)
            else:
                raise DataError(
                    f"expected int8 (quantised) or float (decoded) bands, found {', '.join(sorted(kinds))}",
                    source=path,
                    remedy="Bytes read as unsigned lose their sign: export the embedding again.",
                )
            self._nodata = dataset.nodata
            crs = crs_name(dataset.crs.to_wkt()) if dataset.crs else None
            self.grid = grid_from_affine(crs, tuple(dataset.transform)[:6], dataset.height, dataset.width, path)
            height, width = dataset.block_shapes[0]
            # Strips and tiny blocks are gathered: a block is what is worth one call.
            self.block = (height, width) if min(height, width) >= 128 else (min(1024, dataset.height), min(1024, dataset.width))
        del rasterio

    def read_block(self, row: int, column: int, bands: Sequence[int] = ALL_BANDS) -> NDArray[Any]:
        """The `(bands, height, width)` values of one block."""
        from rasterio.windows import Window

        top, left, height, width = block_extent(self, row, column)
        # Whether a float pixel is masked shows only in all of its bands.
        wanted = list(bands) if self.dtype == np.int8 else list(ALL_BANDS)
        with self._errors():
            values = self._handle().read([band + 1 for band in wanted], window=Window(left, top, width, height))
        if self.dtype == np.int8:
            return values
        return self._mask_floats(values)[list(bands)]

    def map_bands(self, row: int, column: int, function: Callable[[int, NDArray[Any]], T]) -> list[T]:
        """`function(band, block)` for every band of one block."""
        block = self.read_block(row, column)
        return [function(band, block[band]) for band in ALL_BANDS]

    def close(self) -> None:
        """Close every thread's handle."""
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()
        self._local = threading.local()

    def _mask_floats(self, values: NDArray[Any]) -> NDArray[np.float32]:
        decoded = values.astype(np.float32)
        invalid = ~np.isfinite(decoded).all(axis=0)
        if self._nodata is not None and not np.isnan(self._nodata):
            invalid |= (values == self._nodata).all(axis=0)
        # Earth Engine writes masked pixels as zeros where no other value was asked for; a unit vector is never zero.
        invalid |= (decoded == 0).all(axis=0)
        decoded[:, invalid] = np.nan
        largest = float(np.nanmax(np.abs(decoded), initial=0.0)) if not invalid.all() else 0.0
        if largest > _LARGEST_COMPONENT:
            raise DataError(
                f"expected decoded components in -1..1, found {largest:g}",
                source=self.name,
                remedy="Quantised values must stay int8; decoded ones must not be rescaled.",
            )
        return decoded

    def _handle(self) -> Any:

        key = os.getpid()
        if getattr(self._local, "pid", None) != key:
            handle = open_raster_file(self.name)
            self._local.handle, self._local.pid = handle, key
            with self._lock:
                self._handles.append(handle)
        return self._local.handle

    def _errors(self) -> _AsDataError:
        return _AsDataError(self.name)


class _AsDataError:
    """Turn what GDAL raises into the one family of errors."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import rasterio.errors

        if isinstance(error, rasterio.errors.RasterioError | OSError):
            raise DataError(
                f"cannot be read: {str(error).splitlines()[0]}", source=self.source, remedy="The file is damaged or not a raster."
            ) from error
