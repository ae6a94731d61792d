"""The fast reader: byte ranges of a tiled, band-planar GeoTIFF, decompressed in threads, for local and remote files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np

from rs05bench.embeddings.bytesource import ByteSource, is_remote
from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.embeddings.raster import NotThisReader, band_order, block_counts, block_extent, check_bands, check_nodata, in_threads
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import crs_name, grid_from_affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

_COMPRESSIONS = {1: "none", 8: "deflate", 32946: "deflate", 50000: "zstd"}


class CogRaster:
    """A tiled, band-planar int8 GeoTIFF, read in byte ranges.

    Args:
        source: The file's bytes.
        record: What it holds.
    """

    dtype = np.dtype(np.int8)

    def __init__(self, source: ByteSource, record: EmbeddingProduct) -> None:
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
                nodata, names = page.tags.valueof(42113), _descriptions(page.tags.valueof(42112), count)
                masks = os.path.exists(f"{source.name}.msk") or any(other.subfiletype & 4 for other in tiff.pages[1:])
                geo = dict(page.geotiff_tags or {})
        except DataError:
            raise
        except Exception as error:  # a parser meets anything in a broken file
            raise DataError(
                f"is not a readable GeoTIFF: {str(error).splitlines()[0] if str(error) else error!r}", source=source.name
            ) from error
        if not (tiled and planar and compression in _COMPRESSIONS and predictor in (1, 2)) or dtype != np.int8:
            raise NotThisReader(f"tiled={tiled}, band-planar={planar}, compression={compression}, predictor={predictor}, dtype={dtype}")
        if masks:
            raise NotThisReader("it says by a mask of its own what is missing")
        check_bands(count, record, source.name)
        check_nodata(None if nodata is None else float(str(nodata).strip("\x00 ")), record, source.name)
        self.product = record.sized(count)
        self._order = band_order(names, self.product, source.name) or tuple(range(count))
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

    def read_block(self, row: int, column: int, bands: Sequence[int] | None = None) -> NDArray[np.int8]:
        """The `(bands, height, width)` bytes of one block."""
        bands = range(len(self._order)) if bands is None else bands
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

        return self._each(row, column, range(len(self._order)), work)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def _each(self, row: int, column: int, bands: Sequence[int], work: Callable[[int, int, bytes | None], T]) -> list[T]:
        stored = [self._order[band] for band in bands]
        places = [(int(self._offsets[band, row, column]), int(self._lengths[band, row, column])) for band in stored]
        if is_remote(self.name):
            # All ranges at once, then decompress: the wire waits once, not once a band.
            present = [place for place in places if place[1]]
            fetched = iter(self._source.read(present))
            pieces = [next(fetched) if place[1] else None for place in places]
            return in_threads(lambda number: work(number, bands[number], pieces[number]), len(bands))

        def read_and_work(position: int) -> T:
            place = places[position]
            return work(position, bands[position], self._source.read([place])[0] if place[1] else None)

        return in_threads(read_and_work, len(bands))

    def _decompress(self, piece: bytes | None, out: NDArray[np.int8]) -> None:
        import imagecodecs

        if piece is None:  # a sparse block was never written: nothing was observed there
            out[...] = self.product.codec.fill
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


def _descriptions(metadata: Any, count: int) -> list[str | None]:
    """The names of the bands in GDAL's metadata (tag 42112)."""
    from xml.etree import ElementTree

    names: list[str | None] = [None] * count
    if not isinstance(metadata, str | bytes):
        return names
    text = metadata.decode("utf-8", "replace") if isinstance(metadata, bytes) else metadata
    for item in ElementTree.fromstring(text.strip("\x00 \n")):
        sample = item.get("sample")
        if item.get("role") == "description" and sample is not None and int(sample) < count:
            names[int(sample)] = item.text
    return names


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Hold back what a library logs: what matters of it becomes an exception here."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _geokeys_crs(geo: dict[str, Any]) -> str | None:
    for key in ("ProjectedCSTypeGeoKey", "GeographicTypeGeoKey"):
        code = geo.get(key)
        if code is not None:
            code = int(code)
            if code == 32767:  # user-defined: GDAL can put it together
                raise NotThisReader("a user-defined coordinate reference system")
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
        raise DataError("no georeferencing and no coordinate reference system", source=source)
    if int(geo.get("GTRasterTypeGeoKey", 1)) == 2:  # the coordinates are those of pixel centres
        a, b, c, d, e, f = affine
        affine = (a, b, c - a / 2 - b / 2, d, e, f - d / 2 - e / 2)
    return tuple(float(v) for v in affine)
