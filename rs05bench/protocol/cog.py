"""GeoTIFFs: opened as what their name says, and written whole as Cloud Optimized GeoTIFFs with blocks of 512 pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.atomic import hidden_sibling, writing
from rs05bench.protocol.pixel_grid import Grid


@dataclass(frozen=True, slots=True)
class CogLayout:
    """How a Cloud Optimized GeoTIFF is stored.

    Attributes:
        compress: `ZSTD` for data that programs read, `DEFLATE` for maps that any program opens.
        overviews: How coarser levels are made; None for no overviews (a mean of quantised or packed values has no meaning).
        by_band: Whether each band is stored apart.
    """

    compress: Literal["ZSTD", "DEFLATE"] = "ZSTD"
    overviews: Literal["nearest", "average"] | None = None
    by_band: bool = False


_DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".png": "PNG"}


def open_raster_file(path: str | os.PathLike[str]) -> Any:
    """Opens a raster as what its name says.

    GDAL would look at the content and try every driver: a text named `mask.tif` that lists addresses and files (a VRT) would have it ask
    those servers and read those files. Such a name has one driver here. A name of another kind (`.vrt`) is opened as it is.

    Args:
        path: The file.

    Returns:
        The open `rasterio` dataset, a context manager.

    Raises:
        rasterio.errors.RasterioError: It cannot be opened as that.
    """
    import rasterio

    return rasterio.open(path, driver=_DRIVERS.get(os.path.splitext(os.fspath(path))[1].lower()))


def write_cog(
    path: str | os.PathLike[str],
    values: NDArray[Any],
    grid: Grid,
    *,
    nodata: float | None = None,
    band_names: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    layout: CogLayout = CogLayout(),
) -> None:
    """Writes an array as a Cloud Optimized GeoTIFF.

    Args:
        path: The file.
        values: Shape (rows, columns) or (bands, rows, columns).
        grid: Where the pixels are, rows from north to south.
        nodata: Value of pixels without one.
        band_names: A name per band.
        tags: Words kept in the file.
        layout: How it is stored.
    """
    import rasterio
    from rasterio.io import MemoryFile

    bands = values[None] if values.ndim == 2 else values
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    if nodata is not None:
        profile["nodata"] = nodata
    if layout.by_band:
        profile["interleave"] = "band"
    with rasterio.Env(GDAL_NUM_THREADS=1), MemoryFile() as memory:
        with memory.open(**profile, crs=grid.crs, transform=grid.affine) as target:
            target.write(bands)
            if band_names:
                target.descriptions = tuple(band_names)
            if tags:
                target.update_tags(**tags)
        with memory.open() as source:
            copy_to_cog(source, path, layout, bands.dtype)


def copy_to_cog(source: Any, path: str | os.PathLike[str], layout: CogLayout, dtype: np.dtype[Any] | None = None) -> None:
    """Copies a raster (an open one, or its path) to a Cloud Optimized GeoTIFF.

    Args:
        source: The raster.
        path: The file to write.
        layout: How it is stored.
        dtype: Its pixel type, where a predictor that suits it may be used.
    """
    from rasterio.shutil import copy

    options: dict[str, Any] = {"driver": "COG", "compress": layout.compress, "blocksize": 512, "bigtiff": "IF_SAFER"}
    if layout.overviews is None:
        options["overviews"] = "NONE"
    else:
        options |= {"overview_resampling": layout.overviews.upper(), "warp_resampling": layout.overviews.upper()}
    if layout.by_band:
        options["interleave"] = "BAND"
    elif dtype is not None:
        options["predictor"] = "FLOATING_POINT" if np.issubdtype(dtype, np.floating) else "STANDARD"
    with writing(path) as part:
        copy(source, part, **options)
        refuse_full_disk(part.parent)


def refuse_full_disk(folder: Path) -> None:
    """Raises what GDAL keeps to itself: blocks that are written when a file is closed may find no room, and nothing is raised.

    Raises:
        OSError: The disk has no room for 256 KiB more.
    """
    probe = hidden_sibling(folder / "room")
    try:
        probe.write_bytes(bytes(1 << 18))
    finally:
        probe.unlink(missing_ok=True)
