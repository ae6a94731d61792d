"""Blocks of one AlphaEarth raster.

A published tile is band-planar: the 64 bands of one 1,024 x 1,024 position are 64 compressed blocks. Whoever wants one pixel has to
decompress all 64; so the block is the unit of reading, and what is built on this module takes care to decompress each block once.

Two readers give the same bytes. `CogRaster` reads ranges of the file itself and decompresses them in threads, for local and remote files.
`GdalRaster` asks GDAL and reads whatever GDAL reads (strips, pixel-interleaved files, float exports from Earth Engine).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

import numpy as np

from rs05bench.datasets.alphaearth.bytesource import ByteSource, is_remote, open_bytes
from rs05bench.datasets.alphaearth.codec import BANDS, MASKED
from rs05bench.datasets.alphaearth.grid import Grid, crs_name, grid_from_affine
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

ALL_BANDS: tuple[int, ...] = tuple(range(len(BANDS)))
_COMPRESSIONS = {1: "none", 8: "deflate", 32946: "deflate", 50000: "zstd"}
_LARGEST_COMPONENT = 1.01  # decoded components end at (127 / 127.5) ** 2; a mean never exceeds that


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
    source = open_bytes(name, **options)
    try:
        return CogRaster(source)
    except _NotThisReader as reason:
        source.close()
        if is_remote(name):
            raise DataError(
                f"cannot be read in ranges: {reason}", source=name, remedy="Download the file, or rewrite it with `gdal_translate -of COG`."
            ) from reason
        return GdalRaster(name)
    except BaseException:
        source.close()
        raise


class _NotThisReader(Exception):
    """The file is fine, as far as can be seen, but needs the general reader."""


class CogRaster:
    """A tiled, band-planar int8 GeoTIFF, read in byte ranges.

    Args:
        source: The file's bytes.
    """

    dtype = np.dtype(np.int8)

    def __init__(self, source: ByteSource) -> None:
        import tifffile

        self.name, self._source = source.name, source
        try:
            with _quiet("tifffile"), source.stream() as stream, tifffile.TiffFile(stream, name=os.path.basename(source.name)) as tiff:
                page: Any = tiff.pages[0]
                _check_tags(stream, page, tiff.tiff, source.name)
                shape = int(page.imagelength), int(page.imagewidth)
                count, dtype = int(page.samplesperpixel), page.dtype
                planar, tiled = int(page.planarconfig) == 2, bool(page.is_tiled)
                compression, predictor = int(page.compression), int(page.predictor)
                block = (int(page.tilelength), int(page.tilewidth)) if tiled else (0, 0)
                offsets, lengths = np.array(page.dataoffsets, dtype=np.int64), np.array(page.databytecounts, dtype=np.int64)
                nodata = page.tags.valueof(42113)
                geo = dict(page.geotiff_tags or {})
        except DataError:
            raise
        except Exception as error:  # a parser meets anything in a broken file
            raise DataError(
                f"is not a readable GeoTIFF: {str(error).splitlines()[0] if str(error) else error!r}", source=source.name
            ) from error
        if not (tiled and planar and compression in _COMPRESSIONS and predictor in (1, 2)) or dtype != np.int8:
            raise _NotThisReader(f"tiled={tiled}, band-planar={planar}, compression={compression}, predictor={predictor}, dtype={dtype}")
        check_bands(count, source.name)
        check_nodata(None if nodata is None else float(str(nodata).strip("\x00 ")), source.name)
        self.block = block
        self.grid = grid_from_affine(_geokeys_crs(geo), _geokeys_affine(geo, source.name), *shape, source.name)
        rows, columns = block_counts(self)
        if offsets.size != count * rows * columns:
            raise DataError(f"expected {count * rows * columns} blocks, found {offsets.size}", source=source.name)
        self._offsets, self._lengths = offsets.reshape(count, rows, columns), lengths.reshape(count, rows, columns)
        self._codec, self._predictor = _COMPRESSIONS[compression], predictor
        end = int((offsets + lengths).max())
        if end > source.size:
            raise DataError(f"ends at byte {source.size}, but its blocks reach to {end}: the file is truncated", source=source.name)

    @property
    def compressed_bytes(self) -> int:
        """Size of the full-resolution blocks in the file."""
        return int(self._lengths.sum())

    def read_block(self, row: int, column: int, bands: Sequence[int] = ALL_BANDS) -> NDArray[np.int8]:
        """The `(bands, height, width)` bytes of one block."""
        height, width = block_extent(self, row, column)[2:]
        out = np.empty((len(bands), height, width), dtype=np.int8)
        self._each(row, column, bands, lambda position, _band, piece: self._decompress(piece, out[position]))
        return out

    def map_bands(self, row: int, column: int, function: Callable[[int, NDArray[Any]], T]) -> list[T]:
        """`function(band, block)` for every band of one block, in threads."""
        height, width = block_extent(self, row, column)[2:]

        def work(_position: int, band: int, piece: bytes | None) -> T:
            out = np.empty((height, width), dtype=np.int8)
            self._decompress(piece, out)
            return function(band, out)

        return self._each(row, column, ALL_BANDS, work)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def _each(self, row: int, column: int, bands: Sequence[int], work: Callable[[int, int, bytes | None], T]) -> list[T]:
        places = [(int(self._offsets[band, row, column]), int(self._lengths[band, row, column])) for band in bands]
        if is_remote(self.name):
            # All ranges at once, then decompress: the wire waits once, not 64 times.
            present = [place for place in places if place[1]]
            fetched = iter(self._source.read(present))
            pieces = [next(fetched) if place[1] else None for place in places]
            return list(threads().map(work, range(len(bands)), bands, pieces))

        def read_and_work(position: int) -> T:
            place = places[position]
            return work(position, bands[position], self._source.read([place])[0] if place[1] else None)

        return list(threads().map(read_and_work, range(len(bands))))

    def _decompress(self, piece: bytes | None, out: NDArray[np.int8]) -> None:
        import imagecodecs

        if piece is None:  # a sparse block was never written: nothing was observed there
            out[...] = MASKED
            return
        height, width = self.block
        whole = out.shape == self.block
        target: NDArray[np.uint8] = (out if whole else np.empty(self.block, dtype=np.int8)).reshape(-1).view(np.uint8)
        try:
            if self._codec == "zstd":
                found = len(imagecodecs.zstd_decode(piece, out=target))
            elif self._codec == "deflate":
                found = len(imagecodecs.zlib_decode(piece, out=target))
            else:
                found = len(piece)
                target[...] = np.frombuffer(piece, dtype=np.uint8)
        except Exception as error:  # each codec has its own exception
            raise DataError(
                f"a block cannot be decompressed ({type(error).__name__}: {error}): the file is damaged", source=self.name
            ) from error
        if found != height * width:
            raise DataError(f"a block holds {found} bytes, expected {height * width}: the file is damaged", source=self.name)
        block = target.view(np.int8).reshape(height, width)
        if self._predictor == 2:
            np.cumsum(block, axis=1, dtype=np.int8, out=block)
        if not whole:
            out[...] = block[: out.shape[0], : out.shape[1]]


def _check_tags(stream: BinaryIO, page: Any, layout: Any, source: str) -> None:
    """Refuse a directory of which the parser dropped entries: it goes on without them, and a lost nodata or CRS would not be noticed."""
    stream.seek(page.offset)
    written = int.from_bytes(stream.read(layout.tagnosize), "little" if layout.byteorder == "<" else "big")
    if len(page.tags) != written:
        raise DataError(
            f"{written - len(page.tags)} of its {written} TIFF tags cannot be read: the file is truncated or damaged", source=source
        )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Hold back what a library logs: what matters of it becomes an exception here."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


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
        import rasterio

        key = os.getpid()
        if getattr(self._local, "pid", None) != key:
            handle = rasterio.open(self.name)
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


def _geokeys_crs(geo: dict[str, Any]) -> str | None:
    for key in ("ProjectedCSTypeGeoKey", "GeographicTypeGeoKey"):
        code = geo.get(key)
        if code is not None:
            code = int(code)
            if code == 32767:  # user-defined: GDAL can put it together
                raise _NotThisReader("a user-defined coordinate reference system")
            return crs_name(f"EPSG:{code}")
    return None


def _geokeys_affine(geo: dict[str, Any], source: str) -> tuple[float, ...]:
    matrix = geo.get("ModelTransformation")
    if matrix is not None:
        (a, b, _, c), (d, e, _, f) = np.asarray(matrix, dtype=float).reshape(4, 4)[:2]
        affine = (a, b, c, d, e, f)
    elif "ModelPixelScale" in geo and "ModelTiepoint" in geo:
        xres, yres = (float(v) for v in geo["ModelPixelScale"][:2])
        column, row, _, x, y, _ = (float(v) for v in geo["ModelTiepoint"][:6])
        affine = (xres, 0.0, x - column * xres, 0.0, -yres, y + row * yres)
    else:
        raise DataError(
            "no georeferencing and no coordinate reference system", source=source, remedy="The file says nowhere where its pixels lie."
        )
    if int(geo.get("GTRasterTypeGeoKey", 1)) == 2:  # the coordinates are those of pixel centres
        a, b, c, d, e, f = affine
        affine = (a, b, c - a / 2 - b / 2, d, e, f - d / 2 - e / 2)
    return tuple(float(v) for v in affine)


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
