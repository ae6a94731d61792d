"""Geometries in longitude and latitude, on both sides of the antimeridian; polygons that cross themselves made valid."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd
    from pyproj import CRS

_HALF = 180.0  # degrees


def to_wgs84(shapes: Any, crs: str | None, *, source: str | Path) -> Any:
    """Geometries in longitude and latitude (n,), a ring that crosses the antimeridian cut there as RFC 7946 asks.

    Raises:
        DataError: The file does not say its CRS, or says one nobody knows.
    """
    import pyproj
    import shapely

    if not crs:
        raise DataError(
            "does not say its CRS", source=source, remedy="Assign it in QGIS or with ogr2ogr -a_srs EPSG:.., and save it again."
        )
    try:
        known = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise DataError(f"unknown CRS {str(crs)[:60]!r}", source=source, remedy="Give an EPSG code (e.g. EPSG:5070) or WKT.") from error
    refuse_impossible(shapes, known, source=source)
    if not (known.is_geographic and known.to_epsg() in (4326, None) and "WGS 84" in known.name):
        transformer = pyproj.Transformer.from_crs(known, "OGC:CRS84", always_xy=True)
        shapes = shapely.transform(shapes, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
    return split_at_180(shapes)


def refuse_impossible(shapes: Any, crs: CRS, *, source: str | Path) -> None:
    """Refuses geometries that cannot be in their CRS: latitudes beyond 90, and degrees that are called metres.

    Raises:
        DataError: Names the bounds and what they look like.
    """
    import shapely

    west, south, east, north = shapely.total_bounds(shapes)
    bounds = f"x {west:.10g} to {east:.10g}, y {south:.10g} to {north:.10g}"
    if crs.is_geographic and max(abs(south), abs(north)) > 90 + 1e-9:
        swapped = max(abs(west), abs(east)) <= 90 and max(abs(south), abs(north)) <= 360
        raise DataError(
            f"its geometries lie beyond the poles ({bounds})",
            source=source,
            remedy="x and y look swapped: x is longitude." if swapped else "Assign the CRS the coordinates are in; these are no degrees.",
        )
    if crs.is_projected and max(abs(west), abs(east)) <= 360 and max(abs(south), abs(north)) <= 90:
        raise DataError(
            f"its coordinates look like degrees ({bounds}), and its CRS {crs.name} is in {crs.axis_info[0].unit_name}s",
            source=source,
            remedy="Assign the CRS they are in (ogr2ogr -a_srs EPSG:4326); reprojecting does not fix it.",
        )


def split_at_180(shapes: Any) -> Any:
    """Geometries (n,) with longitudes from -180 to 180: those of 0 to 360 degrees, and rings that jump from 179 to -179, are cut at 180."""
    import shapely

    shapes = np.array(shapes, dtype=object)
    bounds = shapely.bounds(shapes)
    with np.errstate(invalid="ignore"):
        beyond = (bounds[:, 2] > _HALF + 1e-9) | (bounds[:, 0] < -_HALF - 1e-9)
        wide = (bounds[:, 2] - bounds[:, 0]) > _HALF
    for row in np.flatnonzero(beyond | wide):
        shapes[row] = _cut(shapes[row])
    return shapes


def centres(shapes: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of the middle (centroid) of WGS84 geometries (n,), those on both sides of 180 taken as one; NaN where none."""
    import shapely

    shapes = np.array(shapes, dtype=object)
    bounds = shapely.bounds(shapes)
    with np.errstate(invalid="ignore"):
        both = np.flatnonzero((bounds[:, 2] - bounds[:, 0]) > _HALF)
    for row in both:
        shapes[row] = _together(shapes[row])
    points = shapely.centroid(shapes)
    lon = shapely.get_x(points)
    with np.errstate(invalid="ignore"):
        lon = np.where(lon > _HALF, lon - 360.0, lon)
    return lon, shapely.get_y(points)


def make_polygons(shapes: Any) -> tuple[Any, NDArray[np.int64]]:
    """Polygons (n,) made valid with all their area, and the rows that were not valid.

    A figure of eight keeps both lobes, overlapping parts are united; the lines and points that making valid leaves over, here or before in
    a collection, are dropped. A polygon without any area becomes None.
    """
    import shapely

    shapes = np.array(shapes, dtype=object)
    collections = shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION
    rows = np.flatnonzero((~shapely.is_valid(shapes) | collections) & ~shapely.is_missing(shapes))
    for row in rows:
        parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(shapes[row], method="structure", keep_collapsed=False)))
        areas = parts[shapely.get_dimensions(parts) == 2]
        whole = shapely.union_all(areas) if len(areas) else None
        shapes[row] = None if whole is None or whole.is_empty else whole
    return shapes, rows


def usable_geometries(frame: gpd.GeoDataFrame, unit: str | None, *, source: str | Path) -> gpd.GeoDataFrame:
    """The rows with a geometry, under their own index: polygons made valid, and cut at the antimeridian; others are named in a warning.

    Args:
        frame: Geometries in their own CRS.
        unit: Column that names rows in the warning; None for their numbers.
        source: For messages.

    Raises:
        DataError: No row has a geometry, or they cannot be in their CRS.
    """
    import shapely

    shapes = frame.geometry.to_numpy()
    refuse_impossible(shapes, frame.crs, source=source)
    shapes, broken = make_polygons(split_at_180(shapes) if frame.crs.is_geographic else shapes)
    absent = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    if absent.all():
        raise DataError(f"none of its {len(frame)} rows has a geometry with a place", source=source, remedy="Export it with geometries.")
    names = [str(row + 1) for row in range(len(frame))] if unit is None else [repr(value) for value in frame[unit]]
    crossed = [row for row in broken if not absent[row]]
    for rows, what in (
        (crossed, "polygons cross themselves and were made valid"),
        (np.flatnonzero(absent).tolist(), f"of {len(frame)} rows have no geometry, or a polygon without area, and are left out"),
    ):
        if rows:
            shown = f"{unit or 'row'} {', '.join(names[row] for row in rows[:5])}{', …' if len(rows) > 5 else ''}"
            warnings.warn(f"{source}: {len(rows)} {what}: {shown}", UserWarning, stacklevel=3)
    return frame.set_geometry(list(shapes), crs=frame.crs)[~absent]


def _together(shape: Any) -> Any:
    """A geometry in two parts beside the antimeridian as one of 0 to 360 degrees; one that is truly wide stays."""
    import shapely

    moved = shapely.transform(shape, lambda xy: np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360.0, xy[:, 0]), xy[:, 1]]))
    west, _, east, _ = moved.bounds
    return moved if east - west < _HALF else shape


def _cut(shape: Any) -> Any:
    """A geometry in the range -180 to 180, parts beyond it moved by a turn."""
    import shapely

    parts: list[Any] = []
    for part in shapely.get_parts(shape):
        west, _, east, _ = part.bounds
        if _HALF < east - west < 2 * _HALF and west >= -_HALF and east <= _HALF:
            part = _unrolled(part)
            west, _, east, _ = part.bounds
        if west >= -_HALF - 1e-9 and east <= _HALF + 1e-9:
            parts.append(part)
            continue
        if not part.is_valid:
            part = shapely.make_valid(part)
        for turn in (-1, 0, 1):
            inside = shapely.intersection(part, shapely.box(-_HALF + 360.0 * turn, -90.0, _HALF + 360.0 * turn, 90.0))
            if not inside.is_empty:
                parts.append(shapely.transform(inside, lambda xy, by=360.0 * turn: xy - [by, 0.0]))
    whole = [piece for part in parts for piece in shapely.get_parts(part) if shapely.get_dimensions(piece) == shapely.get_dimensions(shape)]
    return whole[0] if len(whole) == 1 else shapely.union_all(whole)


def _unrolled(part: Any) -> Any:
    """A ring that jumps by more than 180 degrees, with the far side moved by a turn; one without a jump stays."""
    import shapely

    xy = shapely.get_coordinates(part)
    if not (np.abs(np.diff(xy[:, 0])) > _HALF).any():
        return part
    return shapely.transform(part, lambda at: np.column_stack([np.where(at[:, 0] < 0, at[:, 0] + 360.0, at[:, 0]), at[:, 1]]))
