"""Where units are: geometries to points, and coordinate columns against Earth Engine's own geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.datasets.tables.wording import some_columns
from rs05bench.errors import DataError
from rs05bench.protocol.card import Coordinates
from rs05bench.protocol.intake.tablefile import GEO_COLUMN, parse_geojson

_NEAR = 0.01  # degrees; exports round to a few metres
_LOOKED_AT = 200  # rows: columns are swapped in all of them or in none


def representative_points(frame: pd.DataFrame, *, source: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of a point inside each geometry (n,), NaN where there is none.

    Inside: the centroid of a horseshoe may lie in the neighbour's.

    Raises:
        DataError: The table has no geometry.
    """
    import shapely

    if "geometry" in frame.columns:
        shapes: Any = frame["geometry"].to_numpy(dtype=object)
    elif GEO_COLUMN in frame.columns:
        shapes = parse_geojson(frame[GEO_COLUMN], source=source)
    else:
        raise DataError(
            f"coordinates.geometry is true, and the table has no geometry (columns: {some_columns(frame)})",
            source=source,
            remedy="Join a file with geometries, export `.geo`, or name the columns x and y.",
        )
    shapes = np.where(shapely.is_geometry(shapes), shapes, None)
    points = shapely.point_on_surface(np.where(shapely.is_empty(shapes), None, shapes))
    return shapely.get_x(points), shapely.get_y(points)


def refuse_swapped(frame: pd.DataFrame, where: Coordinates, *, source: str) -> None:
    """Swapped columns may lie in range; Earth Engine's own `.geo` beside them tells.

    Raises:
        DataError: x and y are the other way round in `.geo`.
    """
    if GEO_COLUMN not in frame.columns or where.crs.upper() != "EPSG:4326" or frame.empty:
        return
    import shapely

    some = frame.iloc[:: max(1, len(frame) // _LOOKED_AT)]
    shapes = parse_geojson(some[GEO_COLUMN], source=source)
    is_point = np.array([item is not None and item.geom_type == "Point" for item in shapes])
    if not is_point.any():
        return
    x, y = (pd.to_numeric(some[name], errors="coerce").to_numpy(np.float64)[is_point] for name in (where.x, where.y))
    true_x, true_y = shapely.get_x(shapes[is_point]), shapely.get_y(shapes[is_point])
    if np.all(np.abs(x - true_y) < _NEAR) and np.all(np.abs(y - true_x) < _NEAR) and np.any(np.abs(x - true_x) > _NEAR):
        raise DataError(
            f"coordinates look swapped: x {where.x!r} and y {where.y!r} are the other way round in {GEO_COLUMN!r}",
            source=source,
            remedy="x is longitude or easting, y latitude or northing.",
        )
