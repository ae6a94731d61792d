"""MGRS 100 km tiles, as the names of HLS and Sentinel-2 files write them (``T10SEH``).

The arithmetic is that of the Military Grid Reference System (NGA.STND.0037, "Universal Grids and Grid Reference Systems"): 60 zones of 6
degrees, latitude bands of 8 degrees, and 100 km squares whose column letters repeat every 3 zones and row letters every 2,000 km.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import floor

from rs05bench.errors import DataError

_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_SQUARE = 100_000.0
_CYCLE = 2_000_000.0
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
            DataError: The column letter does not occur in this zone.
        """
        columns = _COLUMNS[(self.zone - 1) % 3]
        if self.column not in columns:
            raise DataError(
                f"tile {self.name!r} cannot exist: zone {self.zone} has the columns {columns[0]}-{columns[-1]}, not {self.column!r}"
            )
        easting = (columns.index(self.column) + 1) * _SQUARE
        # Even zones start with the letter F at the equator, odd ones with A.
        northing = ((_ROWS.index(self.row) - (5 if self.zone % 2 == 0 else 0)) % len(_ROWS)) * _SQUARE
        lowest = floor(_northing_of_parallel(-80 + 8 * _BANDS.index(self.band), self.zone) / _SQUARE) * _SQUARE
        while northing < lowest:
            northing += _CYCLE
        while northing - _CYCLE >= lowest:
            northing -= _CYCLE
        return easting, northing


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
    lat = round(lat, 9)  # band and row must not fall on two sides of the equator by rounding
    zone = min(int((lon + 180) // 6) + 1, 60)
    if 56 <= lat < 64 and 3 <= lon < 12:  # Norway
        zone = 32
    elif lat >= 72 and 0 <= lon < 42:  # Svalbard
        zone = 31 if lon < 9 else 33 if lon < 21 else 35 if lon < 33 else 37
    band = _BANDS[min(int((lat + 80) // 8), len(_BANDS) - 1)]
    easting, northing = _transformer(zone).transform(lon, lat)
    column = _COLUMNS[(zone - 1) % 3][int(easting // _SQUARE) - 1]
    row = _ROWS[(floor(round(northing, 6) / _SQUARE) + (5 if zone % 2 == 0 else 0)) % len(_ROWS)]
    return Tile(zone, band, column, row)


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


@lru_cache(maxsize=2048)
def _northing_of_parallel(lat: float, zone: int) -> float:
    """Where a parallel is lowest: on the zone's central meridian."""
    northing: float = _transformer(zone).transform(-183 + 6 * zone, lat)[1]
    return northing
