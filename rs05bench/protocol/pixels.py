"""How large a pixel is on the ground."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pixel_metres(crs: Any, transform: Any, rows: int) -> tuple[float, float]:
    """Width and height of a pixel in metres, at the middle of a raster without rotation.

    Args:
        crs: What rasterio and pyproj take for a coordinate reference system.
        transform: Affine transform of the raster.
        rows: Its number of rows; the width of a degree follows the latitude.
    """
    from pyproj import CRS

    known = CRS.from_user_input(crs)
    width, height = abs(transform.a), abs(transform.e)
    if known.is_geographic:
        east, north = metres_a_degree(np.array([transform.f + transform.e * rows / 2]))
        return float(width * east[0]), float(height * north[0])
    unit = known.axis_info[0].unit_conversion_factor if known.axis_info else 1.0
    return float(width * unit), float(height * unit)


def metres_a_degree(lat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Length of a degree of longitude and of latitude on WGS84, metres (radii of curvature of the ellipsoid)."""
    phi = np.deg2rad(np.asarray(lat, dtype=np.float64))
    a, e2 = 6_378_137.0, 6.694379990141316e-3
    w = np.sqrt(1 - e2 * np.sin(phi) ** 2)
    return np.deg2rad(1.0) * a / w * np.cos(phi), np.deg2rad(1.0) * a * (1 - e2) / w**3
