"""HLS granules as they are published: one GeoTIFF a band, one a quality mask, named by sensor, tile and moment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rs05bench.datasets.rasters import RasterHeader, read_header, same_grid
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file

BANDS = ("B02", "B03", "B04", "B8A", "B11", "B12")
# HLS user guide v2.0, table of spectral bands: the names that the same wavelengths have on each sensor.
_NAMES = {
    "S30": dict(zip(BANDS, BANDS, strict=True)),
    "L30": {"B02": "B02", "B03": "B03", "B04": "B04", "B8A": "B05", "B11": "B06", "B12": "B07"},
}
_FILE = re.compile(
    r"^HLS\.(?P<sensor>[SL]30)\.T(?P<tile>\d{2}[A-Z]{3})\.(?P<date>\d{7})T(?P<time>\d{6})\.v\d\.\d\.(?P<layer>B\w\w|Fmask)\.tif$"
)
SCALE, FILL, QUALITY_FILL = 1e-4, -9999, 255
# HLS user guide v2.0, table of Fmask bits, from the least significant.
CLOUD, ADJACENT, SHADOW, SNOW = 1 << 1, 1 << 2, 1 << 3, 1 << 4


@dataclass(frozen=True, slots=True)
class Granule:
    """One acquisition over one tile.

    Attributes:
        sensor: `S30` or `L30`.
        tile: MGRS tile without the T.
        date: Day of acquisition.
        layers: Our band name (Sentinel-2's) or `Fmask` -> file.
        header: Of the first band; all others lie on it.
    """

    sensor: str
    tile: str
    date: pd.Timestamp
    layers: dict[str, Path] = field(hash=False)
    header: RasterHeader

    def read(self, window: Window, *, mask: int = CLOUD | ADJACENT | SHADOW) -> NDArray[np.float32]:
        """Reflectance (6, rows, columns), NaN where filled, hidden or beyond the tile.

        Args:
            window: In the granule's own pixels.
            mask: Bits of Fmask that hide a pixel.
        """
        image = np.stack([self._layer(self.layers[band], window, FILL) for band in BANDS]).astype(np.float32)
        image[image == FILL] = np.nan
        image *= SCALE
        quality = self.quality(window)
        image[:, (quality == QUALITY_FILL) | (quality & mask > 0)] = np.nan
        image[:, np.isnan(image).any(axis=0)] = np.nan
        return image

    def quality(self, window: Window) -> NDArray[np.uint8]:
        """Fmask bits; 255 where there is nothing."""
        return self._layer(self.layers["Fmask"], window, QUALITY_FILL).astype(np.uint8)

    def _layer(self, path: Path, window: Window, fill: int) -> NDArray[np.generic]:
        try:
            with open_raster_file(path) as src:
                return src.read(1, window=window, boundless=True, fill_value=fill)
        except RasterioError as error:
            raise DataError(f"its pixels cannot be read ({error})", source=path, remedy="It was cut short: fetch it again.") from None


def find_granules(paths: Sequence[Path]) -> list[Granule]:
    """Granules of a list of files, by tile, sensor, date and time: two passes of one day are two granules.

    Raises:
        DataError: A name that is not HLS's, a band that is missing, or bands on different grids.
    """
    layers: dict[tuple[str, str, str, str], dict[str, Path]] = {}
    for path in paths:
        match = _FILE.match(path.name)
        if match is None:
            raise DataError(
                "expected a name like HLS.S30.T10SEH.2020190T184919.v2.0.B02.tif",
                source=path,
                remedy="Keep the published names, or move the file out of hls/.",
            )
        wanted = {theirs: ours for ours, theirs in _NAMES[match["sensor"]].items()} | {"Fmask": "Fmask"}
        if match["layer"] in wanted:
            layers.setdefault((match["tile"], match["date"], match["sensor"], match["time"]), {})[wanted[match["layer"]]] = path
    return [_granule(key, found) for key, found in sorted(layers.items())]


def _granule(key: tuple[str, str, str, str], found: dict[str, Path]) -> Granule:
    tile, date, sensor, time = key
    some = next(iter(found.values()))
    if missing := [_NAMES[sensor].get(name, name) for name in (*BANDS, "Fmask") if name not in found]:
        raise DataError(
            f"granule T{tile} {date} ({sensor}, {time}) lacks {', '.join(missing)}",
            source=some.parent,
            remedy="Fetch the missing bands, or remove it.",
        )
    headers = {name: read_header(path, bands=1, whole=False) for name, path in found.items()}
    for name in BANDS:
        if headers[name].dtype != "int16":
            raise DataError(f"expected int16 (reflectance times 1e4), found {headers[name].dtype}", source=found[name])
        same_grid(headers["B02"], headers[name])
    same_grid(headers["B02"], headers["Fmask"])
    return Granule(sensor, tile, pd.to_datetime(date, format="%Y%j"), found, headers["B02"])
