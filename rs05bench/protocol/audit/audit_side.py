"""One side of an audit: a list of units with whatever is known of them, checked and brought to one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from rs05bench.errors import DataError
from rs05bench.protocol.audit.values import as_text, check_degrees, dates, degrees, expand
from rs05bench.protocol.intake import wgs84

# Not "system:index": Earth Engine counts it again in every export, so two lists would share it by accident.
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
    feature_names: tuple[str, ...] = ()
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
    features = expand(list(frame.columns), columns.features, source)
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
        features=_features(frame, features, source),
        feature_names=tuple(features),
        content=as_text(frame[columns.content]) if columns.content else None,
    )


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
        return centres(geometry, source)
    lon, lat = degrees(frame, columns.lon, source), degrees(frame, columns.lat, source)
    # A unit needs both to be somewhere.
    half = np.isfinite(lon) != np.isfinite(lat)
    lon[half], lat[half] = np.nan, np.nan
    check_degrees(lon, lat, lon_name=columns.lon, lat_name=columns.lat, source=source)
    return lon, lat


def _footprints(frame: pd.DataFrame, source: str) -> Any:
    geometry = getattr(frame, "geometry", None) if hasattr(frame, "crs") and hasattr(frame, "geometry") else None
    if geometry is None:
        return None
    if geometry.crs is None:
        raise DataError("the footprints have no CRS", source=source, remedy="Write the file with its CRS; GeoJSON without one is WGS84.")
    geometry = geometry.reset_index(drop=True)
    if geometry.crs.is_geographic:  # one ring over the antimeridian would be taken for one around the earth
        geometry = type(geometry)(wgs84.split_at_180(geometry.to_numpy()), crs=geometry.crs)
    return geometry


def centres(geometry: Any, source: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Longitude and latitude of the centroids of a GeoSeries, NaN where a footprint is missing or empty.

    Raises:
        DataError: They lie outside their CRS.
    """
    import shapely
    from pyproj import Transformer

    if geometry.crs.is_geographic:
        x, y = wgs84.centres(geometry.to_numpy())
    else:
        middles = shapely.centroid(geometry.to_numpy())
        x, y = shapely.get_x(middles), shapely.get_y(middles)
    lon, lat = Transformer.from_crs(geometry.crs, "OGC:CRS84", always_xy=True).transform(x, y)
    lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    lost = ~(np.isfinite(lon) & np.isfinite(lat))
    if bool((lost & ~np.asarray(geometry.is_empty | geometry.isna())).any()):
        raise DataError(f"footprints lie outside their CRS ({geometry.crs.to_string()})", source=source, remedy="Check the file's CRS.")
    lon[lost], lat[lost] = np.nan, np.nan
    check_degrees(lon, lat, source=source)
    return lon, lat


def _windows(
    frame: pd.DataFrame, columns: AuditColumns, source: str
) -> tuple[npt.NDArray[np.datetime64] | None, npt.NDArray[np.datetime64] | None]:
    if columns.time is None:
        if columns.time_end is not None:
            raise DataError("a column with the last day of a window, and none with the first", source=source, remedy="Name both.")
        return None, None
    start, last = dates(frame[columns.time], columns.time, source)
    if columns.time_end is not None:
        _, last = dates(frame[columns.time_end], columns.time_end, source)
        backward = np.flatnonzero(last < start)
        if len(backward):
            raise DataError(
                f"the window at row {backward[0] + 1} ends ({columns.time_end!r}: {last[backward[0]]!s:.10}) before it starts "
                f"({columns.time!r}: {start[backward[0]]!s:.10})",
                source=source,
            )
    return start, last


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


def _features(frame: pd.DataFrame, names: Sequence[str], source: str) -> npt.NDArray[np.float32] | None:
    if not names:
        return None
    wrong = [name for name in names if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if wrong:
        raise DataError(f"feature column {wrong[0]!r} holds no numbers", source=source, remedy="Name numeric columns with --features.")
    return frame[list(names)].to_numpy(dtype=np.float32, na_value=np.nan)
