"""MGRS 100 km tiles, as the names of HLS and Sentinel-2 files write them (``T10SEH``).

The arithmetic (60 zones of 6 degrees with their exceptions, latitude bands, repeating letters; NGA.STND.0037, "Universal Grids and Grid
Reference Systems") is that of the `mgrs` package, NGA's own GeoTrans code.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from math import floor

from rs05bench.errors import DataError

_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_SQUARE = 100_000.0
_NAME = re.compile(r"^T?(?P<zone>\d{2})(?P<band>[C-HJ-NP-X])(?P<column>[A-HJ-NP-Z])(?P<row>[A-HJ-NP-V])$")


@dataclass(frozen=True, slots=True)
class Tile:
    """One 100 km square.

    Attributes:
        zone: UTM zone, 1-60.
        band: Latitude band letter.
        column: Letter of the column (easting).
        row: Letter of the row (northing).
    """

    zone: int
    band: str
    column: str
    row: str

    @property
    def name(self) -> str:
        """The name without the leading T, e.g. ``10SEH``."""
        return f"{self.zone:02d}{self.band}{self.column}{self.row}"

    @property
    def epsg(self) -> int:
        """The EPSG code of the zone's *northern* UTM system, which HLS uses on both hemispheres (HLS user guide 2.0, section 5)."""
        return 32600 + self.zone

    @property
    def crs(self) -> str:
        """The same as an authority string, e.g. ``EPSG:32610``."""
        return f"EPSG:{self.epsg}"

    @property
    def corner(self) -> tuple[float, float]:
        """Lower left corner of the square, easting and northing in metres, in `crs` (negative northing in the south).

        Raises:
            DataError: There is no such square in this zone and band.
        """
        from mgrs import MGRS
        from mgrs.core import MGRSError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # the corner of a square may be in the next band
                _, hemisphere, easting, northing = MGRS().MGRSToUTM(f"{self.name}0000000000")
        except MGRSError:
            raise DataError(
                f"tile {self.name!r} cannot exist: zone {self.zone}, band {self.band} has no square {self.column}{self.row}"
            ) from None
        south = hemisphere in ("S", b"S")
        # Some versions give the middle of the last metre.
        return float(floor(easting + 1e-3)), float(floor(northing + 1e-3)) - (10_000_000.0 if south else 0.0)


def parse_tile(name: str) -> Tile:
    """Read a tile name.

    Args:
        name: ``T10SEH`` or ``10SEH``.

    Raises:
        DataError: Not a tile name.
    """
    match = _NAME.match(name)
    if match is None or not 1 <= int(match["zone"]) <= 60:
        raise DataError(f"{name!r} is not an MGRS tile; expected something like '10SEH' (zone, band, column, row)")
    return Tile(int(match["zone"]), match["band"], match["column"], match["row"])


def tile_of(lon: float, lat: float) -> Tile:
    """The 100 km square that holds a position.

    Neighbouring Sentinel-2 and HLS tiles overlap by about 10 km, so a file over the position may be named after a neighbour.

    Args:
        lon: Longitude in degrees (WGS84).
        lat: Latitude in degrees, -80 to 84.

    Raises:
        DataError: Outside the area that MGRS divides into UTM zones.
    """
    if not (-80 <= lat < 84 and -180 <= lon <= 180):
        raise DataError(f"lon {lon}, lat {lat} has no UTM square: expected -180..180 and -80..84 degrees")
    from mgrs import MGRS

    name = MGRS().toMGRS(lat, lon, MGRSPrecision=0)
    return parse_tile((name.decode() if isinstance(name, bytes) else name).zfill(5))


def centre_of(name: str) -> tuple[float, float]:
    """Longitude and latitude of the centre of an HLS tile (109.8 km), degrees WGS84.

    Args:
        name: ``T10SEH`` or ``10SEH``.

    Raises:
        DataError: Not a tile name.
    """
    return _centre(parse_tile(name))


def nearest_tile(lon: float, lat: float) -> Tile:
    """The HLS tile whose centre is nearest, by plain distance in degrees.

    Files over a position need not be named after the square that holds it: tiles overlap. The makers of the multi-temporal crop set chose
    the tile with the nearest centroid in degrees, so this names their tiles where a table of them is missing.

    Args:
        lon: Longitude in degrees (WGS84).
        lat: Latitude in degrees.
    """
    around = {
        _as_named(tile)
        for tile in (
            tile_of(_wrap(lon + dx), min(max(lat + dy, -80.0), 83.99))
            for dx in (-1.2, -0.6, 0.0, 0.6, 1.2)
            for dy in (-0.8, -0.4, 0.0, 0.4, 0.8)
        )
    }

    def distance(tile: Tile) -> tuple[float, str]:
        x, y = _centre(tile)
        return (_wrap(x - lon) ** 2 + (y - lat) ** 2, tile.name)

    return min(around, key=distance)


@lru_cache(maxsize=4096)
def _centre(tile: Tile) -> tuple[float, float]:
    """Centre of the 109.8 km tile, which reaches 9.8 km beyond its square to the east and south."""
    easting, northing = tile.corner
    lon, lat = _transformer(tile.zone).transform(easting + 54_900.0, northing + 45_100.0, direction="INVERSE")
    return lon, lat


def _as_named(tile: Tile) -> Tile:
    """A square that two latitude bands share is one Sentinel-2 tile, named after the upper band."""
    easting, northing = tile.corner
    lat = _transformer(tile.zone).transform(easting + 50_000.0, northing + _SQUARE, direction="INVERSE")[1]
    return Tile(tile.zone, _BANDS[max(0, min(int((lat + 80) // 8), len(_BANDS) - 1))], tile.column, tile.row)


def _wrap(lon: float) -> float:
    return (lon + 180.0) % 360.0 - 180.0


@lru_cache(maxsize=64)
def _transformer(zone: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
    from pyproj import Transformer

    return Transformer.from_crs("EPSG:4326", f"EPSG:{32600 + zone}", always_xy=True)
