"""Opening one raster file of embeddings with the fastest reader that understands it."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

from rs05bench.embeddings.bytesource import is_remote, open_bytes
from rs05bench.embeddings.cog_reader import CogRaster
from rs05bench.embeddings.gdal_raster import GdalRaster
from rs05bench.embeddings.products import EmbeddingProduct, product
from rs05bench.embeddings.raster import NotThisReader, Raster
from rs05bench.errors import DataError
from rs05bench.extras import MissingExtraError, require
from rs05bench.protocol.pixel_grid import Grid


def open_raster(path: str | os.PathLike[str], of: EmbeddingProduct | None = None, **options: Any) -> Raster:
    """Open a GeoTIFF with the fastest reader that understands it.

    Args:
        path: A GeoTIFF, or the address of one.
        of: What it holds.
        **options: Passed to the object store for addresses.

    Raises:
        DataError: If the file does not hold the product: which property, what was expected and what was found.
    """
    name, record = os.fspath(path), of if of is not None else product()
    if record.scale.kind != "table" and not is_remote(name):
        return GdalRaster(name, record)  # the range reader is for bytes
    try:
        for module in ("imagecodecs", "tifffile"):
            require(module, purpose=f"reading {name}")
    except MissingExtraError:
        if is_remote(name):
            raise
        return GdalRaster(name, record)
    source = open_bytes(name, **options)
    try:
        return CogRaster(source, record)
    except NotThisReader as reason:
        source.close()
        if is_remote(name):
            raise DataError(
                f"cannot be read in ranges: {reason}", source=name, remedy="Download the file, or rewrite it with `gdal_translate -of COG`."
            ) from reason
        return GdalRaster(name, record)
    except BaseException:
        source.close()
        raise


def probe(path: str | os.PathLike[str], of: EmbeddingProduct | None = None) -> Grid:
    """Where a raster's pixels are; it is closed again."""
    with closing(open_raster(path, of)) as raster:
        return raster.grid
