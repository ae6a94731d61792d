"""Units: what is predicted, where, when, and in which groups. Never their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.hashing import content_digest
from rs05bench.protocol.intake.keys import as_keys
from rs05bench.protocol.intake.times import EARLIEST, LATEST, parse_times, read_times, readings

_COLUMNS = ("unit_id", "lon", "lat", "place", "year", "time", "official")


@dataclass(frozen=True, slots=True)
class UnitTable:
    """A validated table of units, sorted by `unit_id`.

    Attributes:
        frame: Columns `unit_id` (str), `lon`, `lat` (float64, WGS84 degrees, NaN where the position is not known),
            `place` (str), `year` (Int64), `time` (datetime64[ns]), `official` (str: train, val, test or empty), then the
            group columns (str), then counts of observations (float64). Build it with `UnitTable.build`.
        groups: Names of the group columns.
        source: Where the units come from, for messages.
        observations: Names of the columns that say how many observations of a sensor went into a unit's embedding.
    """

    frame: pd.DataFrame
    groups: tuple[str, ...]
    source: str = "units"
    observations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lacking = [name for name in (*_COLUMNS, *self.groups, *self.observations) if name not in self.frame.columns]
        if lacking:
            raise DataError(
                f"lacks the columns {', '.join(lacking)} of a validated table",
                source=self.source,
                remedy="Build it from your own table: UnitTable.build(frame, groups=[...]).",
            )

    @classmethod
    def build(
        cls,
        frame: pd.DataFrame,
        *,
        groups: Sequence[str] = (),
        crs: str = "EPSG:4326",
        source: str | Path = "units",
        observations: Sequence[str] = (),
    ) -> UnitTable:
        """Validates a table and brings it into the canonical form.

        Args:
            frame: At least `unit_id`; optionally `lon`/`lat` (or x/y in `crs`, under those names), `place`, `year`, `time`,
                `official` and group columns. Row order does not matter.
            groups: Group columns to keep.
            crs: Coordinate reference system of `lon`/`lat` as given; anything but WGS84 is transformed (x = easting, y = northing).
            source: Name for messages.
            observations: Columns of counts of observations to keep.

        Raises:
            DataError: Missing or duplicate ids, non-finite or impossible coordinates, unknown CRS, missing group values.
        """
        source = str(source)
        if "unit_id" not in frame.columns:
            raise DataError("column 'unit_id' is missing", source=source)
        if len(frame) == 0:
            raise DataError("holds no unit", source=source, remedy="Check the file patterns and the filters of the card.")
        ids = as_keys(frame["unit_id"])
        if ids.isna().any():
            raise DataError(f"column 'unit_id' is blank in {int(ids.isna().sum())} rows", source=source)
        duplicated = ids[ids.duplicated()].unique()
        if len(duplicated):
            raise DataError(
                f"{len(duplicated)} unit ids occur more than once, e.g. {', '.join(map(repr, duplicated[:3]))}",
                source=source,
                remedy="Name further columns under `unit` so that they are unique together (e.g. the year).",
            )
        out = pd.DataFrame({"unit_id": ids.to_numpy(dtype=object)})
        out["lon"], out["lat"] = _positions(frame, crs, source)
        out["place"] = (as_keys(frame["place"]).fillna("") if "place" in frame.columns else ids).to_numpy(dtype=object)
        out["year"] = _years(frame, source)
        out["time"] = _times(frame, source)
        out["official"] = frame["official"].fillna("").astype(str).to_numpy(dtype=object) if "official" in frame.columns else ""
        for column in groups:
            if column not in frame.columns:
                raise DataError(f"group column {column!r} is missing", source=source)
            keys = as_keys(frame[column])
            missing = keys.isna()
            if missing.any():
                raise DataError(
                    f"group column {column!r} is blank in {int(missing.sum())} of {len(frame)} rows, e.g. unit {ids[missing].iloc[0]!r}",
                    source=source,
                    remedy="Fill it, or drop those units: a unit without its group cannot be kept out of training.",
                )
            out[column] = keys.to_numpy(dtype=object)
        for column in observations:
            out[column] = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        out = out.sort_values("unit_id", kind="stable").reset_index(drop=True)
        return cls(out, tuple(groups), source, tuple(observations))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def located(self) -> np.ndarray:
        """Boolean (n,): whose position is known."""
        return np.asarray(np.isfinite(self.frame["lon"].to_numpy()))

    @property
    def digest(self) -> str:
        """SHA-256 over ids, positions (to 1e-7 degrees), places, years and groups."""
        frame = self.frame
        columns = [frame["unit_id"], frame["lon"].map("{:.7f}".format), frame["lat"].map("{:.7f}".format), frame["place"]]
        # A blank is an empty text: how pandas spells a missing value differs between its versions.
        blank_safe = [frame[name].astype("string").fillna("") for name in ("year", "time")]
        columns += [*blank_safe, frame["official"], *(frame[name] for name in self.groups)]
        # Plain arrays: a text column held by Arrow is ten times slower to walk through.
        return content_digest("\t".join(row) for row in zip(*(column.to_numpy(dtype=object) for column in columns), strict=True))


def _positions(frame: pd.DataFrame, crs: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    if "lon" not in frame.columns or "lat" not in frame.columns:
        nothing = np.full(len(frame), np.nan)
        return nothing, nothing.copy()
    x = pd.to_numeric(frame["lon"], errors="coerce").to_numpy(dtype=np.float64)
    y = pd.to_numeric(frame["lat"], errors="coerce").to_numpy(dtype=np.float64)
    blank = frame["lon"].isna().to_numpy() & frame["lat"].isna().to_numpy()
    bad = ~blank & ~(np.isfinite(x) & np.isfinite(y))
    if bad.any():
        where = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{int(bad.sum())} units have a coordinate that is not a finite number, first {frame['unit_id'].iloc[where]!r}: "
            f"({frame['lon'].iloc[where]}, {frame['lat'].iloc[where]})",
            source=source,
            remedy="Correct the coordinates, or leave both blank where the position is not known.",
        )
    if crs.upper() not in ("EPSG:4326", "OGC:CRS84", "WGS84"):
        import pyproj

        try:
            transformer = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        except pyproj.exceptions.CRSError as error:
            raise DataError(f"unknown CRS {crs!r}", source=source, remedy="Give an EPSG code (e.g. EPSG:5070) or WKT.") from error
        x, y = transformer.transform(np.where(blank, 0.0, x), np.where(blank, 0.0, y))
        x, y = np.where(blank, np.nan, x), np.where(blank, np.nan, y)
    outside = ~blank & ((np.abs(x) > 180.0 + 1e-9) | (np.abs(y) > 90.0 + 1e-9) | ~np.isfinite(x))
    if outside.any():
        where = int(np.flatnonzero(outside)[0])
        swapped = not np.any(~blank & ((np.abs(y) > 180) | (np.abs(x) > 90)))
        raise DataError(
            f"{int(outside.sum())} units lie outside the earth in {crs}, first {frame['unit_id'].iloc[where]!r}: "
            f"x {frame['lon'].iloc[where]}, y {frame['lat'].iloc[where]}",
            source=source,
            remedy="x and y look swapped (x is longitude or easting)." if swapped else "Declare the true CRS under coordinates.crs.",
        )
    return x, y


def _years(frame: pd.DataFrame, source: str) -> pd.Series:
    if "year" not in frame.columns:
        return pd.Series(pd.array([pd.NA] * len(frame), dtype="Int64"))
    years = pd.to_numeric(frame["year"], errors="coerce")
    if not years.between(EARLIEST, LATEST).all():  # a column of dates holds the year too
        times, unread = parse_times(frame["year"])
        years = times.first.dt.year.where(~unread).set_axis(frame.index) if not unread.any() else years
    wrong = ~years.between(EARLIEST, LATEST) | (years % 1 != 0)
    if wrong.any():
        raise DataError(
            f"the year is not a whole number from {EARLIEST} to {LATEST} in {int(wrong.sum())} rows, "
            f"e.g. {readings(frame['year'][wrong].iloc[0])}",
            source=source,
            remedy="Correct those rows or drop them; a unit without its year cannot be kept out of training.",
        )
    return years.astype("Int64").reset_index(drop=True)


def _times(frame: pd.DataFrame, source: str) -> pd.Series:
    if "time" not in frame.columns:
        return pd.Series(pd.array([pd.NaT] * len(frame), dtype="datetime64[ns]"))
    return read_times(frame["time"], "time", source=source).first
