"""One side of an audit: a list of units with whatever is known of them, checked and brought to one form."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from rs05bench.errors import DataError

# Not "system:index": Earth Engine counts it anew in every export, so two lists would share it by accident.
ID_NAMES = ("unit_id", "id", "ids", "chip_id", "event_id", "sample_id", "parcel_id", "field_id", "GEOID")
LON_NAMES = ("lon", "longitude", "lng", "long", "x_lon", "lon_deg")
LAT_NAMES = ("lat", "latitude", "y_lat", "lat_deg")


class AuditColumns(BaseModel):
    """Which column holds what. Coordinates are WGS84 degrees; anything not named is not checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str | None = None
    lon: str | None = None
    lat: str | None = None
    groups: list[str] = Field(default_factory=list)
    place: list[str] = Field(default_factory=list)
    year: str | None = None
    time: str | None = None
    time_end: str | None = None
    label: str | None = None
    features: list[str] = Field(default_factory=list, description="Column names or patterns such as A??.")
    content: str | None = Field(None, description="A content hash, or the path of the unit's file.")

    def plain(self) -> list[str]:
        """The single columns named, patterns left out."""
        single = [self.id, self.lon, self.lat, self.year, self.time, self.time_end, self.label, self.content]
        return [name for name in single if name] + list(self.groups) + list(self.place)


@dataclass(frozen=True)
class Units:
    """Prepared arrays of one side, all of one length and in file order."""

    source: str
    ids: pd.Series[Any] | None
    lon: npt.NDArray[np.float64]
    lat: npt.NDArray[np.float64]
    groups: dict[str, pd.Series[Any]] = field(default_factory=dict)
    place: pd.Series[Any] | None = None
    place_known: bool = False
    year: npt.NDArray[np.int64] | None = None
    start: npt.NDArray[np.datetime64] | None = None
    end: npt.NDArray[np.datetime64] | None = None
    geometry: Any = None
    label: pd.Series[Any] | None = None
    features: npt.NDArray[np.float32] | None = None
    content: pd.Series[Any] | None = None

    def __len__(self) -> int:
        return len(self.lon)

    @property
    def located(self) -> npt.NDArray[np.bool_]:
        """Whether each unit has a position."""
        return np.isfinite(self.lon) & np.isfinite(self.lat)

    def take(self, rows: npt.NDArray[np.int64], *, source: str | None = None, groups: Sequence[str] | None = None) -> Units:
        """Some of the units, under another name and with some of the group columns."""
        names = list(self.groups) if groups is None else list(groups)

        def series(values: pd.Series[Any] | None) -> pd.Series[Any] | None:
            return None if values is None else values.iloc[rows].reset_index(drop=True)

        def array(values: Any) -> Any:
            return None if values is None else values[rows]

        return replace(
            self,
            source=source or self.source,
            ids=series(self.ids),
            lon=self.lon[rows],
            lat=self.lat[rows],
            groups={name: self.groups[name].iloc[rows].reset_index(drop=True) for name in names},
            place=series(self.place),
            year=array(self.year),
            start=array(self.start),
            end=array(self.end),
            geometry=series(self.geometry),
            label=series(self.label),
            features=array(self.features),
            content=series(self.content),
        )

    def name(self, position: int) -> str:
        """How a unit is called in a message: its id, or its row."""
        return str(self.ids.iloc[position]) if self.ids is not None else f"row {position + 1}"

    def lonlat(self, position: int) -> tuple[float, float] | None:
        """A unit's position, or None."""
        lon, lat = float(self.lon[position]), float(self.lat[position])
        return (lon, lat) if np.isfinite(lon) and np.isfinite(lat) else None


def prepare(frame: pd.DataFrame, columns: AuditColumns, *, source: str) -> Units:
    """Check a table and bring it to one form.

    Args:
        frame: One row a unit; a GeoDataFrame brings footprints.
        columns: Which column holds what.
        source: Its name in messages.

    Raises:
        DataError: The table is empty, a named column is missing, or coordinates, years or dates are not what they should be.
    """
    if len(frame) == 0:
        raise DataError("the list is empty: there is nothing to audit", source=source, remedy="Give a list with at least one unit.")
    _require(frame, columns.plain(), source)
    frame = frame.reset_index(drop=True)
    geometry = _footprints(frame, source)
    lon, lat = _coordinates(frame, columns, geometry, source)
    start, end = _windows(frame, columns, source)
    year = _years(frame, columns, start, source)
    place = _join(frame, columns.place) if columns.place else _rounded_place(lon, lat)
    return Units(
        source=source,
        ids=_identifiers(frame[columns.id], columns.id, source) if columns.id else None,
        lon=lon,
        lat=lat,
        groups={name: as_text(frame[name]) for name in columns.groups},
        place=place,
        place_known=bool(columns.place),
        year=year,
        start=start,
        end=end,
        geometry=geometry,
        label=frame[columns.label] if columns.label else None,
        features=_features(frame, columns.features, source),
        content=as_text(frame[columns.content]) if columns.content else None,
    )


def as_text(values: pd.Series[Any]) -> pd.Series[Any]:
    """Values as strings; blanks and missing ones become missing; whole floats lose their ``.0``."""
    if pd.api.types.is_float_dtype(values.dtype):
        whole = values.dropna()
        if len(whole) and bool((whole == np.floor(whole)).all()):
            values = values.astype("Int64")
    text = values.astype("string")
    return text.mask(text.str.strip() == "")


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


def pick(frame: pd.DataFrame, wanted: Sequence[str]) -> str | None:
    """The first of some usual names that the table has, whatever its case."""
    by_lower = {str(name).lower(): str(name) for name in frame.columns}
    return next((by_lower[name.lower()] for name in wanted if name.lower() in by_lower), None)


def _require(frame: pd.DataFrame, names: Sequence[str], source: str) -> None:
    missing = [name for name in dict.fromkeys(names) if name not in frame.columns]
    if missing:
        have = ", ".join(str(name) for name in list(frame.columns)[:20]) + (", …" if frame.shape[1] > 20 else "")
        raise DataError(
            f"no column {', '.join(repr(name) for name in missing)} (columns: {have})",
            source=source,
            remedy="Name a column that is there, or bring it in with --units.",
        )


def _identifiers(values: pd.Series[Any], column: str, source: str) -> pd.Series[Any]:
    text = as_text(values)
    blank = int(text.isna().sum())
    if blank:
        row = int(np.flatnonzero(text.isna().to_numpy())[0]) + 1
        raise DataError(
            f"column {column!r} holds {blank} blank id{'' if blank == 1 else 's'} (first at row {row}); every unit needs one",
            source=source,
            remedy="Fill them in, or drop those rows.",
        )
    return text


def _coordinates(
    frame: pd.DataFrame, columns: AuditColumns, geometry: Any, source: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if (columns.lon is None) != (columns.lat is None):
        raise DataError("only one of longitude and latitude is named", source=source, remedy="Give both --lon and --lat.")
    if columns.lon is None or columns.lat is None:
        if geometry is None:
            return np.full(len(frame), np.nan), np.full(len(frame), np.nan)
        return _centres(geometry, source)
    lon, lat = _degrees(frame, columns.lon, source), _degrees(frame, columns.lat, source)
    # A unit needs both to be somewhere.
    half = np.isfinite(lon) != np.isfinite(lat)
    lon[half], lat[half] = np.nan, np.nan
    check_degrees(lon, lat, lon_name=columns.lon, lat_name=columns.lat, source=source)
    return lon, lat


def _degrees(frame: pd.DataFrame, column: str, source: str) -> npt.NDArray[np.float64]:
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


def _footprints(frame: pd.DataFrame, source: str) -> Any:
    geometry = getattr(frame, "geometry", None) if hasattr(frame, "crs") and hasattr(frame, "geometry") else None
    if geometry is None:
        return None
    if geometry.crs is None:
        raise DataError("the footprints have no CRS", source=source, remedy="Write the file with its CRS; GeoJSON without one is WGS84.")
    return geometry.reset_index(drop=True)


def _centres(geometry: Any, source: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    import shapely
    from pyproj import Transformer

    centre = shapely.centroid(geometry.to_numpy())
    x, y = shapely.get_x(centre), shapely.get_y(centre)
    lon, lat = Transformer.from_crs(geometry.crs, "OGC:CRS84", always_xy=True).transform(x, y)
    lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    lost = ~(np.isfinite(lon) & np.isfinite(lat))
    if bool((lost & ~np.asarray(shapely.is_empty(centre) | shapely.is_missing(centre))).any()):
        raise DataError(f"footprints lie outside their CRS ({geometry.crs.to_string()})", source=source, remedy="Check the file's CRS.")
    lon[lost], lat[lost] = np.nan, np.nan
    check_degrees(lon, lat, source=source)
    return lon, lat


def _windows(
    frame: pd.DataFrame, columns: AuditColumns, source: str
) -> tuple[npt.NDArray[np.datetime64] | None, npt.NDArray[np.datetime64] | None]:
    if columns.time is None:
        if columns.time_end is not None:
            raise DataError("--time-end without --time", source=source, remedy="Name the column with the window's first day too.")
        return None, None
    start, last = _dates(frame[columns.time], columns.time, source)
    if columns.time_end is not None:
        _, last = _dates(frame[columns.time_end], columns.time_end, source)
        backward = np.flatnonzero(last < start)
        if len(backward):
            raise DataError(
                f"the window at row {backward[0] + 1} ends ({columns.time_end!r}: {last[backward[0]]!s:.10}) before it starts "
                f"({columns.time!r}: {start[backward[0]]!s:.10})",
                source=source,
            )
    return start, last


def _dates(values: pd.Series[Any], column: str, source: str) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.datetime64]]:
    """First and last day meant by each value: a date means itself, a bare year the whole of it."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        # Instants with a zone are put on the UTC calendar; mixed zones would otherwise order wrongly.
        naive = values.dt.tz_convert(None) if getattr(values.dt, "tz", None) is not None else values
        day = naive.to_numpy().astype("datetime64[D]")
        return day, day
    text = as_text(values)
    bare = text.str.fullmatch(r"\d{4}").fillna(False).to_numpy(dtype=bool)
    parsed = pd.to_datetime(text.mask(bare, text + "-01-01"), errors="coerce", format="ISO8601", utc=True)
    wrong = np.flatnonzero((parsed.isna() & text.notna()).to_numpy())
    if len(wrong):
        raise DataError(
            f"column {column!r} should hold dates, found {text.iloc[wrong[0]]!r} at row {wrong[0] + 1}",
            source=source,
            remedy="Write dates as YYYY-MM-DD, or a year as YYYY.",
        )
    first = parsed.dt.tz_convert(None).to_numpy().astype("datetime64[D]")
    last = first.copy()
    last[bare] = (first[bare].astype("datetime64[Y]") + np.timedelta64(1, "Y")).astype("datetime64[D]") - np.timedelta64(1, "D")
    return first, last


def _years(
    frame: pd.DataFrame, columns: AuditColumns, start: npt.NDArray[np.datetime64] | None, source: str
) -> npt.NDArray[np.int64] | None:
    """Years, -1 where unknown; taken from the time column when no year column is named."""
    if columns.year is None:
        if start is None:
            return None
        known = ~np.isnat(start)
        years = np.full(len(start), -1, dtype=np.int64)
        years[known] = start[known].astype("datetime64[Y]").astype(np.int64) + 1970
        return years
    text = as_text(frame[columns.year])
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = np.flatnonzero(((numbers.isna() | (numbers % 1 != 0)) & text.notna()).fillna(True).to_numpy(dtype=bool))
    if len(wrong):
        raise DataError(
            f"column {columns.year!r} should hold years, found {text.iloc[wrong[0]]!r} at row {wrong[0] + 1}",
            source=source,
            remedy="Write years as YYYY; use --time for dates.",
        )
    return numbers.fillna(-1).to_numpy(dtype=np.int64)


def _join(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series[Any]:
    text = as_text(frame[names[0]])
    for name in names[1:]:
        # U+001F (unit separator) cannot stand in a cell, so 'a','bc' and 'ab','c' stay apart.
        text = text + "\x1f" + as_text(frame[name])
    return text


def _rounded_place(lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]) -> pd.Series[Any]:
    """Coordinates to 1e-5 degree (about a metre) packed into one integer: the same place where none is declared."""
    located = np.isfinite(lon) & np.isfinite(lat)
    packed = np.full(len(lon), -1, dtype=np.int64)
    x = np.rint((lon[located] + 180.0) * 1e5).astype(np.int64) % 36_000_000
    packed[located] = x * 18_000_001 + np.rint((lat[located] + 90.0) * 1e5).astype(np.int64)
    return pd.Series(packed).astype("Int64").mask(~located)


def _features(frame: pd.DataFrame, patterns: Sequence[str], source: str) -> npt.NDArray[np.float32] | None:
    names = expand(list(frame.columns), patterns, source)
    if not names:
        return None
    wrong = [name for name in names if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if wrong:
        raise DataError(f"feature column {wrong[0]!r} holds no numbers", source=source, remedy="Name numeric columns with --features.")
    return frame[names].to_numpy(dtype=np.float32, na_value=np.nan)


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
