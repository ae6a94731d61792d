"""The general reader: whatever GDAL reads (strips, pixel-interleaved files, float exports from Earth Engine)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rs05bench.embeddings.products import CodeScale, EmbeddingProduct
from rs05bench.embeddings.raster import band_order, block_extent, check_bands, check_nodata
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.pixel_grid import crs_name, grid_from_affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class GdalRaster:
    """Any raster of a product that GDAL reads: bytes of a table, integers of codes, or decoded floats.

    Args:
        path: A local path (or anything else GDAL opens).
        record: What it holds.
    """

    def __init__(self, path: str, record: EmbeddingProduct) -> None:
        import rasterio

        self.name, self._local, self._lock = path, threading.local(), threading.Lock()
        self._handles: list[Any] = []
        self.dtype: np.dtype[Any]
        with self._errors():
            dataset = self._handle()
            kinds = set(dataset.dtypes)
            _check_tags(dataset.tags(), record, path)
            codes = isinstance(record.scale, CodeScale) and all(kind.startswith(("uint", "int")) for kind in kinds)
            if codes:
                check_bands(dataset.count, record, path)
            elif record.dimensions is not None and dataset.count != record.dimensions:
                raise DataError(
                    f"expected {record.dimensions} bands of {record.name}, found {dataset.count}",
                    source=path,
                    remedy="Export all components, and nothing else.",
                )
            self._codes = record.scale if isinstance(record.scale, CodeScale) and codes else None
            self.product = record.sized(dataset.count * (len(self._codes.levels) if self._codes else 1))
            if kinds == {"int8"} and record.scale.kind == "table":
                self.dtype = np.dtype(np.int8)
                check_nodata(dataset.nodata, record, path)
            elif codes or kinds <= {"float16", "float32", "float64"}:
                self.dtype = np.dtype(np.float32)
            else:
                raise DataError(
                    f"expected {record.dtype} (as published) or float (decoded) bands of {record.name}, found {', '.join(sorted(kinds))}",
                    source=path,
                    remedy="Bytes read as unsigned lose their sign, and bytes without their scales are no components: export it again.",
                )
            self._order = None if codes else band_order(dataset.descriptions, self.product, path)
            self._count, self._nodata = dataset.count, dataset.nodata
            scaled = [(scale, offset) != (1.0, 0.0) for scale, offset in zip(dataset.scales, dataset.offsets, strict=True)]
            self._scaling = np.array([dataset.scales, dataset.offsets]) if any(scaled) else None
            self._masked = any(rasterio.enums.MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums)
            crs = crs_name(dataset.crs.to_wkt()) if dataset.crs else None
            self.grid = grid_from_affine(crs, tuple(dataset.transform)[:6], dataset.height, dataset.width, path)
            height, width = dataset.block_shapes[0]
            # Strips and tiny blocks are gathered: a block is what is worth one call.
            self.block = (height, width) if min(height, width) >= 128 else (min(1024, dataset.height), min(1024, dataset.width))

    def read_block(self, row: int, column: int, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """The `(bands, height, width)` values of one block."""
        from rasterio.windows import Window

        top, left, height, width = block_extent(self, row, column)
        chosen = range(self.product.size) if bands is None else list(bands)
        window = Window(left, top, width, height)
        # Whether a float pixel is masked shows only in all of its bands.
        wanted = range(self._count) if self.dtype != np.int8 else chosen
        with self._errors():
            places = [self._order[band] if self._order else band for band in wanted]
            values = self._handle().read([place + 1 for place in places], window=window)
            absent = self._handle().dataset_mask(window=window) == 0 if self._masked else None
        if self.dtype == np.int8:
            if absent is not None:
                values[:, absent] = self.product.codec.fill
            return values
        decoded = self._decode_codes(values) if self._codes else self._mask_floats(values, places)
        if absent is not None:
            decoded[:, absent] = np.nan
        return decoded if bands is None else decoded[list(bands)]

    def map_bands(self, row: int, column: int, function: Callable[[int, NDArray[Any]], T]) -> list[T]:
        """`function(band, block)` for every band of one block."""
        block = self.read_block(row, column)
        return [function(band, values) for band, values in enumerate(block)]

    def close(self) -> None:
        """Close every thread's handle."""
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()
        self._local = threading.local()

    def _mask_floats(self, values: NDArray[Any], places: Sequence[int]) -> NDArray[np.float32]:
        """What floats mean: the file's scale and offset applied, NaN where no vector is."""
        decoded = values.astype(np.float32)
        if self._scaling is not None:
            scales, offsets = self._scaling[:, list(places), None, None].astype(np.float32)
            decoded = decoded * scales + offsets
        if self._nodata is not None and not np.isnan(self._nodata):
            decoded[:, (values == self._nodata).all(axis=0)] = np.nan
        blank, missing = self.product.blank(decoded, axis=0), self.product.missing(decoded, axis=0)
        # A few pixels out of range are missing; where all are, the numbers are no components.
        if self.product.scale.kind == "table" and missing.all() and not blank.all():
            raise DataError(
                f"expected decoded components in {self.product.range}, found {float(np.abs(decoded[:, ~blank]).max()):g}",
                source=self.name,
                remedy="Quantised values must stay as published; decoded ones must not be rescaled.",
            )
        decoded[:, missing] = np.nan
        return decoded

    def _decode_codes(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """The codes that each integer holds, the first level varying fastest, each scaled to about -1..1."""
        assert self._codes is not None
        whole, basis = values.astype(np.int64), 1
        parts = np.empty((values.shape[0], len(self._codes.levels), *values.shape[1:]), dtype=np.float32)
        for number, level in enumerate(self._codes.levels):
            parts[:, number] = ((whole // basis) % level - level // 2) / (level // 2)
            basis *= level
        missing = ((values < 0) | (values >= basis)).any(axis=0)
        if self._nodata is not None:
            missing |= (values == self._nodata).any(axis=0)
        decoded = parts.reshape(-1, *values.shape[1:])
        decoded[:, missing] = np.nan
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


def _check_tags(tags: dict[str, str], record: EmbeddingProduct, source: str) -> None:
    """Refuse a file that states another version or variant than the record."""
    for what, wanted in (("version", record.version), ("variant", record.variant)):
        stated = tags.get(record.tags.get(what, ""))  # type: ignore[call-overload]
        if stated and wanted and stated != wanted:
            raise DataError(
                f"the file states {what} {stated}, expected {wanted} of {record.name}",
                source=source,
                remedy="Vectors of two variants are not comparable: name the product that the file holds.",
            )


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
