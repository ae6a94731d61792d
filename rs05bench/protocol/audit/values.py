"""Columns read as what they mean: text, degrees, dates; and how two columns are compared fast."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.intake.keys import as_keys
from rs05bench.protocol.intake.times import read_times


def as_text(values: pd.Series[Any]) -> pd.Series[Any]:
    """Values as keys (`rs05bench.protocol.intake.keys.as_keys`), of dtype string."""
    return as_keys(values).astype("string")


def common_codes(theirs: pd.Series[Any], ours: pd.Series[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], pd.Index[Any]]:
    """Both columns as codes into one list of values, -1 where missing.

    One factorisation, then everything is integers: on a million strings several times faster than ``isin``.
    """
    codes, values = pd.factorize(pd.concat([theirs, ours], ignore_index=True))
    return codes[: len(theirs)].astype(np.int64), codes[len(theirs) :].astype(np.int64), pd.Index(values)


def members(theirs: pd.Series[Any], ours: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    """Which of our values occur among theirs; missing ones never do."""
    there, here, values = common_codes(theirs, ours)
    return code_members(there, here, len(values))


def code_members(there: npt.NDArray[np.int64], here: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.bool_]:
    """`members` for codes below ``n``."""
    seen = np.zeros(n + 1, dtype=bool)
    seen[there[there >= 0]] = True
    # Code -1 reads the last place, which is never seen.
    hit: npt.NDArray[np.bool_] = seen[here]
    return hit


def expand(have: Sequence[str], patterns: Sequence[str], source: str) -> list[str]:
    """Column names meant by names and patterns, in table order.

    Raises:
        DataError: A name or pattern matches nothing.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        hits = [name for name in have if fnmatch.fnmatchcase(name, pattern)]
        if not hits:
            raise DataError(f"no feature column matches {pattern!r}", source=source, remedy="Patterns use * and ?; for example 'A??'.")
        chosen.update(hits)
    return [name for name in have if name in chosen]


def degrees(frame: pd.DataFrame, column: str, source: str) -> npt.NDArray[np.float64]:
    """A column as decimal degrees, NaN where blank.

    Raises:
        DataError: It holds something else.
    """
    raw = frame[column]
    if pd.api.types.is_numeric_dtype(raw.dtype):
        numbers = raw.to_numpy(dtype=np.float64, na_value=np.nan).copy()
    else:
        text = as_text(raw)
        parsed = pd.to_numeric(text, errors="coerce")
        wrong = np.flatnonzero((parsed.isna() & text.notna()).to_numpy())
        if len(wrong):
            raise DataError(
                f"column {column!r} should hold degrees, found {text.iloc[wrong[0]]!r} at row {wrong[0] + 1}",
                source=source,
                remedy="Write coordinates as decimal degrees (WGS84); leave a cell blank where the position is unknown.",
            )
        numbers = parsed.to_numpy(dtype=np.float64, na_value=np.nan).copy()
    if bool(np.isinf(numbers).any()):
        raise DataError(f"column {column!r} holds an infinite coordinate", source=source, remedy="Leave unknown positions blank.")
    return numbers


def check_degrees(
    lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64], *, lon_name: str = "lon", lat_name: str = "lat", source: str
) -> None:
    """Refuse coordinates that cannot be WGS84 degrees.

    Raises:
        DataError: Latitudes beyond 90 or longitudes beyond 180 degrees; says so when the two look swapped or projected.
    """
    with np.errstate(invalid="ignore"):
        bad_lat, bad_lon = np.flatnonzero(np.abs(lat) > 90), np.flatnonzero(np.abs(lon) > 180)
    if len(bad_lat) == 0 and len(bad_lon) == 0:
        return
    if len(bad_lon) == 0 and bool(np.nanmax(np.abs(lon)) <= 90):
        at = int(bad_lat[0])
        raise DataError(
            f"latitude {lat[at]:g} at row {at + 1} (column {lat_name!r}) lies beyond ±90, while every value of "
            f"{lon_name!r} would be a latitude: the two look swapped",
            source=source,
            remedy=f"Try --lat {lon_name} --lon {lat_name}.",
        )
    column, at, value = (lat_name, int(bad_lat[0]), lat[bad_lat[0]]) if len(bad_lat) else (lon_name, int(bad_lon[0]), lon[bad_lon[0]])
    largest = float(max(np.nanmax(np.abs(lon)), np.nanmax(np.abs(lat))))
    if largest > 360:
        remedy = "These look like projected metres: give the footprints with their CRS (GeoPackage, GeoParquet, GeoJSON), or degrees."
    elif len(bad_lat) == 0:
        remedy = "Longitudes run from -180 to 180 here: subtract 360 from those above 180."
    else:
        remedy = "Coordinates are WGS84 degrees: longitude within ±180, latitude within ±90."
    raise DataError(f"{value:g} at row {at + 1} of column {column!r} is no WGS84 degree", source=source, remedy=remedy)


def dates(values: pd.Series[Any], column: str, source: str) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.datetime64]]:
    """First and last day meant by each value: a date means itself, a bare year the whole of it.

    Raises:
        DataError: It holds something else, or dates that may be read two ways.
    """
    times = read_times(values, column, source=source)
    return times.first.to_numpy().astype("datetime64[D]"), times.last


def are_numbers(labels: pd.Series) -> bool:
    """Whether labels are quantities: whole numbers in few values are class codes."""
    numeric = pd.api.types.is_numeric_dtype(labels.dtype) and not pd.api.types.is_bool_dtype(labels.dtype)
    return bool(numeric and not ((labels.dropna() % 1 == 0).all() and labels.nunique() <= 30))
