"""Projected coordinates: which CRS they can be of, and where they lie in degrees."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError

#: National and continental CRS whose metres people keep tables in, tried within their area of use.
_KNOWN = (
    "EPSG:3035",
    "EPSG:2154",
    "EPSG:27700",
    "EPSG:5070",
    "EPSG:2056",
    "EPSG:28992",
    "EPSG:3067",
    "EPSG:3006",
    "EPSG:25832",
)


_MOST_TILES = 200


def named_crs(text: str) -> str:
    """`33N`, `32633`, `EPSG:32633` or WKT as a CRS that pyproj knows.

    Raises:
        DataError: Not a CRS.
    """
    import pyproj

    word = text.strip()
    if match := re.fullmatch(r"(?i)(?:utm\s*)?(\d{1,2})\s*([ns])", word):
        word = f"EPSG:{(32600 if match[2].lower() == 'n' else 32700) + int(match[1])}"
    elif word.isdigit():
        word = f"EPSG:{word}"
    try:
        pyproj.CRS.from_user_input(word)
    except pyproj.exceptions.CRSError as error:
        raise DataError(f"unknown CRS {text[:60]!r}", remedy="Give a UTM zone such as 33N, or an EPSG code such as EPSG:5070.") from error
    return word


_MGRS = re.compile(r"T?(\d{1,2})([C-HJ-NP-X])[A-HJ-NP-Z]{2}")


def zone_of_tiles(frame: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """The CRS (`EPSG:32632`) that a column of MGRS tiles (`T32UNB`), zones or EPSG codes gives for every row; None where none does."""
    for column in columns:
        values = {str(value).strip().upper() for value in frame[column].dropna().unique()[:_MOST_TILES]}
        if tiles := [_MGRS.fullmatch(value) for value in values]:
            zones = {f"{int(tile[1])}{'N' if tile[2] >= 'N' else 'S'}" for tile in tiles if tile}
            if all(tiles) and len(zones) == 1:
                return named_crs(zones.pop())
        if len(values) == 1 and re.fullmatch(r"(?i)(utm_?)?zone|epsg|crs|srid", column):
            try:
                return named_crs(values.pop())
            except DataError:
                continue
    return None


def candidate_crs(x: pd.Series, y: pd.Series) -> list[str]:
    """CRS under which positions lie inside the CRS's own area of use; UTM zones stand for all of their hemisphere.

    Nothing in the numbers tells one UTM zone from another, so there is one candidate only where a national CRS alone fits.
    """
    import pyproj

    xs, ys = (pd.to_numeric(values, errors="coerce").to_numpy(np.float64) for values in (x, y))
    ok = np.isfinite(xs) & np.isfinite(ys)
    if not ok.any():
        return []
    found: list[str] = []
    if xs[ok].min() > 100_000 and xs[ok].max() < 900_000 and ys[ok].min() > 0 and ys[ok].max() < 10_000_000:
        found += ["32601..32660 (UTM north)", "32701..32760 (UTM south)"]
    for code in _KNOWN:
        crs = pyproj.CRS.from_user_input(code)
        area = crs.area_of_use
        lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(xs[ok], ys[ok])
        if area is None or not np.isfinite(lon).all():
            continue
        if area.west <= lon.min() and lon.max() <= area.east and area.south <= lat.min() and lat.max() <= area.north:
            found.append(code)
    return found


def to_degrees(x: pd.Series, y: pd.Series, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude, NaN where a coordinate is missing or leads nowhere."""
    xs, ys = (pd.to_numeric(values, errors="coerce").to_numpy(np.float64) for values in (x, y))
    if crs.upper() in ("EPSG:4326", "OGC:CRS84", "WGS84"):
        return xs, ys
    import pyproj

    lon, lat = pyproj.Transformer.from_crs(named_crs(crs), "OGC:CRS84", always_xy=True).transform(xs, ys)
    lon, lat = np.asarray(lon), np.asarray(lat)
    bad = ~(np.isfinite(lon) & np.isfinite(lat))
    return np.where(bad, np.nan, lon), np.where(bad, np.nan, lat)
