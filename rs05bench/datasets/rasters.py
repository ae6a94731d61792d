"""Reading one georeferenced raster, or saying exactly why not.

A raster that is not what its dataset promises (cut short, another band count, another type, no CRS, turned axes) raises `DataError` with
the
file, what was expected, what was found and how to fix it. No pixel of such a file is returned.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.pixel_grid import Grid

_DAMAGED = "The file is damaged or was cut short: delete it and download it again (`rs05bench download`)."


@dataclass(frozen=True, slots=True)
class RasterHeader:
    """What a raster says about itself, without its pixels.

    Attributes:
        path: The file.
        grid: Where its pixels are; its CRS is the written one (WKT), empty where it has no georeferencing.
        count: Bands.
        dtype: NumPy name of the pixel type.
        nodata: The declared missing value, or None.
        bands: Descriptions of the bands, empty where one has none.
        further: Files on the same grid whose bands follow, for instance of later dates; `count` is that of all.
    """

    path: Path
    grid: Grid
    count: int
    dtype: str
    nodata: float | None
    bands: tuple[str, ...] = ()
    further: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files, in the order of the bands."""
        return (self.path, *self.further)

    @property
    def height(self) -> int:
        """Rows."""
        return self.grid.height

    @property
    def width(self) -> int:
        """Columns."""
        return self.grid.width

    @property
    def transform(self) -> Affine:
        """Pixel to coordinate in the file's own order of rows."""
        up = self.grid.bottom_up
        return Affine(self.grid.xres, 0.0, self.grid.west, 0.0, self.grid.yres, self.grid.south) if up else self.grid.affine


def read_header(
    path: str | Path,
    *,
    bands: int | None = None,
    dtypes: Collection[str] | None = None,
    size: tuple[int, int] | None = None,
    north_up: bool = True,
    whole: bool = True,
) -> RasterHeader:
    """Open a raster and check what can be checked without its pixels.

    Args:
        path: The file.
        bands: Number of bands it must have.
        dtypes: Pixel types it may have.
        size: Rows and columns it must have.
        north_up: Rows must run from north to south; False allows bottom-up rows. Columns always run from west to east.
        whole: An uncompressed GeoTIFF must be as long as its pixels need: some readers fill a cut file with zeros. False allows sparse
        files.

    Raises:
        DataError: Not a raster, or not the expected one.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("the file does not exist", source=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # said better below
            with open_raster_file(path) as src:
                crs, step = "" if src.crs is None else src.crs.to_wkt(), src.transform
                dtype = src.dtypes[0] if src.count else "none"
                named = tuple(src.descriptions) if all(src.descriptions) else ()
                header = RasterHeader(path, grid_as_written(crs, step, src.height, src.width), src.count, dtype, src.nodata, named)
                plain = src.driver == "GTiff" and src.compression is None
    except RasterioError as error:
        raise DataError(f"cannot be opened as a raster ({error})", source=path, remedy=_DAMAGED) from None
    if whole and plain and path.stat().st_size < header.height * header.width * header.count * np.dtype(header.dtype).itemsize:
        raise DataError("is shorter than its own header says", source=path, remedy=_DAMAGED)
    if bands is not None and header.count != bands:
        raise DataError(
            f"expected {bands} band{'s' if bands != 1 else ''}, found {header.count}", source=path, remedy="Is it another product?"
        )
    if dtypes is not None and header.dtype not in dtypes:
        raise DataError(f"expected pixels of type {' or '.join(sorted(dtypes))}, found {header.dtype}", source=path)
    if size is not None and (header.height, header.width) != size:
        raise DataError(f"expected {size[0]} x {size[1]} pixels, found {header.height} x {header.width}", source=path)
    if not crs:
        raise DataError(
            "has no coordinate reference system (CRS)",
            source=path,
            remedy="Its position cannot be trusted: take the published file, or write the CRS with `rio edit-info --crs`.",
        )
    if step.is_identity or step.determinant == 0:
        raise DataError(f"has no usable position (transform {tuple(step)[:6]})", source=path, remedy="Take the published file.")
    if step.b != 0 or step.d != 0 or step.a < 0 or (north_up and step.e > 0):
        raise DataError(
            f"expected north-up rows and columns (positive x step, negative y step), found transform {tuple(step)[:6]}",
            source=path,
            remedy="Its axes were swapped or flipped: rewrite it with `gdalwarp` onto a north-up grid.",
        )
    return header


def grid_as_written(crs: str, step: Affine, height: int, width: int) -> Grid:
    """The grid of a raster whose axes are neither turned nor swapped, unchecked."""
    return Grid(crs, step.c, step.f + height * step.e if step.e > 0 else step.f, step.a, abs(step.e), height, width, step.e > 0)


def read_pixels(header: RasterHeader, indexes: Sequence[int] | None = None) -> NDArray[np.generic]:
    """All pixels of the chosen bands, shape (bands, rows, columns), in the file's own type.

    Args:
        header: From `read_header`.
        indexes: Band numbers from 1, of each file; default all.

    Raises:
        DataError: The pixels cannot be read in full.
    """
    parts: list[NDArray[np.generic]] = []
    for path in header.paths:
        try:
            with open_raster_file(path) as src:
                parts.append(src.read(list(indexes) if indexes is not None else None))
        except RasterioError as error:
            raise DataError(f"its pixels cannot be read ({error})", source=path, remedy=_DAMAGED) from None
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def same_grid(first: RasterHeader, second: RasterHeader) -> None:
    """Make sure two rasters lie on one grid, to a hundredth of a pixel.

    Raises:
        DataError: Another size or another position.
    """
    if (first.height, first.width) != (second.height, second.width):
        raise DataError(
            f"has {second.height} x {second.width} pixels, but {first.path.name} has {first.height} x {first.width}", source=second.path
        )
    tolerance = 0.01 * abs(first.transform.a)
    offsets = [abs(a - b) for a, b in zip(tuple(first.transform)[:6], tuple(second.transform)[:6], strict=True)]
    if max(offsets) > tolerance:
        raise DataError(
            f"does not lie on the grid of {first.path.name}: transform {tuple(second.transform)[:6]} against {tuple(first.transform)[:6]}",
            source=second.path,
            remedy="Image and mask must be of the same download.",
        )


def missing_pixels(
    image: NDArray[np.floating],
    *,
    anywhere: Collection[float] = (-9999.0, 9999.0),
    everywhere: Collection[float] = (0.0,),
) -> NDArray[np.bool_]:
    """Where an image of several bands holds no data, whatever convention the copy available uses.

    Args:
        image: Shape (..., bands, rows, columns).
        anywhere: Values that no sensor delivers: one band that holds one of them makes the pixel missing (as NaN and infinity do).
        everywhere: Values that are also real measurements (0 over dark water, 9999 in scaled integers over a cloud): the pixel is missing
            only where *every* band holds the same one.

    Returns:
        Shape (..., rows, columns), True where missing.
    """
    bad = ~np.isfinite(image)
    for value in anywhere:
        bad |= image == value
    missing: NDArray[np.bool_] = bad.any(axis=-3)
    for value in everywhere:
        missing |= (image == value).all(axis=-3)
    return missing


def read_meant(src: rasterio.DatasetReader, indexes: Sequence[int] | None = None, *, window: Window | None = None) -> NDArray[np.float64]:
    """What the pixels of an open raster mean: its scale and offset applied, NaN where its nodata value or mask says that nothing is known.

    Args:
        src: The open raster.
        indexes: Band numbers from 1; default all.
        window: Part to read; default all.

    Returns:
        Shape (bands, rows, columns).
    """
    bands = list(indexes) if indexes is not None else list(src.indexes)
    values = src.read(bands, window=window).astype(np.float64)
    values[src.read_masks(bands, window=window) == 0] = np.nan
    for row, band in enumerate(bands):
        scale, offset = src.scales[band - 1], src.offsets[band - 1]
        if (scale, offset) != (1.0, 0.0):
            values[row] = values[row] * scale + offset
    return values
