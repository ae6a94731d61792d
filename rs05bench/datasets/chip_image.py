"""What a chip is before it is read, and how the pixels of an image become values with one kind of missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import rasterio.warp
from numpy.typing import NDArray

from rs05bench.datasets.rasters import RasterHeader, missing_pixels, read_pixels
from rs05bench.errors import DataError

IGNORE = -1
"""Label of a pixel that is neither trained on nor scored."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One image with its mask, not yet read.

    Attributes:
        unit_id: Unique id.
        image: Header of the image; its grid has the CRS that the pixels truly are in, which may correct what the file says.
        mask: Header of the mask.
        start: First moment the image shows.
        end: Last moment.
        official: The published split it belongs to: train, val, test or empty.
    """

    unit_id: str
    image: RasterHeader
    mask: RasterHeader
    start: pd.Timestamp
    end: pd.Timestamp
    official: str = ""

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of its middle, degrees WGS84."""
        west, south, east, north = self.image.grid.bounds
        lon, lat = rasterio.warp.transform(self.image.grid.crs, "EPSG:4326", [(west + east) / 2], [(south + north) / 2])
        return lon[0], lat[0]


@dataclass(frozen=True, slots=True)
class ChipImage:
    """The image of a chip, not yet read, without any way to its mask: what a model is shown of a test chip.

    Attributes:
        unit_id: Unique id.
        header: Header of the image, as of `Chip`.
        dates: A date for each date of the image.
        lonlat: Longitude and latitude of its middle, degrees WGS84.
    """

    unit_id: str
    header: RasterHeader
    dates: tuple[pd.Timestamp, ...]
    lonlat: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """How the pixels of a data set's images are read.

    Attributes:
        bands: Names, in channel order.
        dates: Dates one after another in the file.
        scale: Times a pixel value gives reflectance.
        nodata_anywhere: Values that no sensor delivers in these units: one band that holds one makes the pixel missing.
        nodata_everywhere: Values that are also measurements: missing only where all bands of a date hold the same one.
        plausible: Beyond these a valid pixel is in other units or not an image at all.
    """

    bands: tuple[str, ...]
    dates: int
    scale: float
    nodata_anywhere: tuple[float, ...]
    nodata_everywhere: tuple[float, ...]
    plausible: tuple[float, float]

    def read(self, header: RasterHeader) -> NDArray[np.float32]:
        """The pixels of an image, checked.

        Returns:
            float32 (bands, H, W), or (dates, bands, H, W) with several dates; NaN in all bands of a date where that date has no data.

        Raises:
            DataError: Damaged pixels, or values in other units.
        """
        image = self.mark_missing(read_pixels(header).astype(np.float32), header.nodata)
        if np.isnan(image).all():
            return image
        low, high = float(np.nanmin(image)), float(np.nanmax(image))
        if low < self.plausible[0] or high > self.plausible[1]:
            raise DataError(
                f"expected values from {self.plausible[0]:g} to {self.plausible[1]:g} (times {self.scale:g} is reflectance), "
                f"found {low:g} to {high:g}",
                source=header.path,
                remedy="Is it in other units, or does it mark missing data by a value of its own? Declare that value as the file's nodata.",
            )
        return image

    def mark_missing(self, pixels: NDArray[np.float32], nodata: float | None) -> NDArray[np.float32]:
        """Every convention for missing data as NaN.

        Args:
            pixels: (dates x bands, H, W) as in the file; changed in place.
            nodata: What the file declares.

        Returns:
            (bands, H, W) or (dates, bands, H, W).
        """
        image = pixels.reshape(self.dates, len(self.bands), *pixels.shape[-2:]) if self.dates > 1 else pixels
        declared = () if nodata is None or nodata == 0 else (float(nodata),)
        # A declared 0 is also what dark water measures: missing only where all bands are 0.
        zero = (0.0,) if nodata == 0 else ()
        missing = missing_pixels(image, anywhere=(*self.nodata_anywhere, *declared), everywhere=(*self.nodata_everywhere, *zero))
        image[np.broadcast_to(missing[..., None, :, :], image.shape)] = np.nan
        return image


@dataclass(frozen=True, slots=True)
class Reading:
    """The pixels of one chip.

    Attributes:
        image: float32, shape (bands, H, W) or (dates, bands, H, W), NaN where there is no data (all bands of that date).
        labels: int16, shape (H, W): class index, `IGNORE` where there is no label or no image at all.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int16]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Where the image holds data: the image's shape without its bands."""
        return ~np.isnan(self.image[..., 0, :, :])

    @property
    def any_valid(self) -> NDArray[np.bool_]:
        """Where any date holds data, shape (H, W)."""
        return self.valid if self.image.ndim == 3 else self.valid.any(axis=0)


def with_labels(image: NDArray[Any], labels: NDArray[np.int16]) -> Reading:
    """Image and labels of a chip: a pixel without any image cannot be predicted, so its label is neither trained on nor scored."""
    reading = Reading(image, labels)
    labels[~reading.any_valid] = IGNORE
    return reading
