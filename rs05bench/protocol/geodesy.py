"""Distances on the earth, and how long a degree and how large a pixel is.

Distances between points are great-circle distances on one sphere; lengths of degrees follow the WGS84 ellipsoid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EARTH_RADIUS_M = 6_371_000.0
"""Radius of the sphere every distance is measured on, metres: the mean radius R1 of the IUGG (6,371,008.8 m) rounded, as frozen manifests
were built with it."""
EQUATOR_RADIUS_M, _E2 = 6_378_137.0, 6.694379990141316e-3  # WGS84: semi-major axis, squared eccentricity
DEGREE_M = float(np.deg2rad(1.0) * EQUATOR_RADIUS_M)
"""A degree of longitude at the equator, metres (111,319.5): for sizes in degrees where no latitude is known."""
_SHORTEST_DEGREE_M = float(np.deg2rad(1.0) * EQUATOR_RADIUS_M * (1 - _E2))  # a degree of latitude at the equator


def metres_per_degree(lat: NDArray[np.float64] | float) -> tuple[Floats, Floats]:
    """Length of a degree of longitude and of latitude on WGS84, metres (radii of curvature of the ellipsoid).

    Args:
        lat: Latitudes in degrees, any shape.

    Examples:
        >>> east, north = metres_per_degree(45.0)
        >>> round(float(east)), round(float(north))
        (78847, 111132)
    """
    phi = np.deg2rad(np.asarray(lat, dtype=np.float64))
    w = np.sqrt(1 - _E2 * np.sin(phi) ** 2)
    return np.deg2rad(1.0) * EQUATOR_RADIUS_M / w * np.cos(phi), np.deg2rad(1.0) * EQUATOR_RADIUS_M * (1 - _E2) / w**3


def degrees_around(metres: float, lat: NDArray[np.float64] | float) -> tuple[Floats, float]:
    """Margins in degrees of longitude and latitude that hold everything within some metres of points up to a latitude.

    Args:
        metres: The distance.
        lat: Largest absolute latitude of the points, degrees, any shape.

    Returns:
        Margin of longitude (at most 180), in the shape of `lat`, and of latitude.
    """
    north = metres / _SHORTEST_DEGREE_M
    furthest = np.minimum(np.abs(np.asarray(lat, dtype=np.float64)) + north, 89.9)
    return np.minimum(metres / metres_per_degree(furthest)[0], 180.0), north


def crs_unit_metres(crs: Any) -> float:
    """Length of a CRS's unit in metres; of a degree, that at the equator."""
    from pyproj import CRS

    known = CRS.from_user_input(crs)
    if known.is_geographic:
        return DEGREE_M
    return float(known.axis_info[0].unit_conversion_factor or 1.0) if known.axis_info else 1.0


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
        east, north = metres_per_degree(transform.f + transform.e * rows / 2)
        return float(width * east), float(height * north)
    unit = crs_unit_metres(known)
    return float(width * unit), float(height * unit)


def great_circle_m(lon_a: Floats, lat_a: Floats, lon_b: Floats, lat_b: Floats) -> Floats:
    """Great-circle distance between points, element by element (arrays broadcast), metres.

    Haversine formula of Sinnott, "Virtues of the haversine", Sky and Telescope 68 (1984).

    Args:
        lon_a: Longitudes in degrees.
        lat_a: Latitudes in degrees.
        lon_b: Longitudes in degrees.
        lat_b: Latitudes in degrees.

    >>> float(great_circle_m(np.array([0.0]), np.array([0.0]), np.array([180.0]), np.array([0.0]))[0].round())
    20015087.0
    """
    phi_a, phi_b = np.radians(lat_a), np.radians(lat_b)
    half = np.sin((phi_b - phi_a) / 2) ** 2 + np.cos(phi_a) * np.cos(phi_b) * np.sin(np.radians(np.subtract(lon_b, lon_a)) / 2) ** 2
    # Rounding can push a pair of antipodes just past one.
    distance: Floats = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(half, 1.0)))
    return distance


def unit_vectors(lon: Floats, lat: Floats) -> Floats:
    """Points on the unit sphere, shape (n, 3); straight-line order there is great-circle order, so a k-d tree finds neighbours."""
    lam, phi = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def chord_to_metres(chord: Floats) -> Floats:
    """Great-circle distance in metres from the chord on the unit sphere."""
    return 2.0 * EARTH_RADIUS_M * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))


def sphere_tree(lon: Floats, lat: Floats) -> Any:
    """A k-d tree over points on the sphere; every coordinate must be finite."""
    from scipy.spatial import cKDTree

    # Sliding-midpoint splits build several times faster than median splits and stay shallow on piled-up coordinates.
    return cKDTree(unit_vectors(lon, lat), balanced_tree=False, compact_nodes=False)


def nearest_place(from_lon: Floats, from_lat: Floats, to_lon: Floats, to_lat: Floats) -> tuple[Floats, Integers]:
    """The nearest of some places for every point.

    Args:
        from_lon: Longitudes of the points (n,), degrees; NaN where one is not located.
        from_lat: Latitudes (n,).
        to_lon: Longitudes of the places (m,); NaN where one is not located.
        to_lat: Latitudes (m,).

    Returns:
        Great-circle distance in metres (n,), NaN for a point without a location and infinite where there is no place; and the position
        among the places (n,), -1 where there is none.
    """
    distance = np.full(len(from_lon), np.nan)
    position = np.full(len(from_lon), -1, dtype=np.int64)
    points = np.flatnonzero(np.isfinite(from_lon) & np.isfinite(from_lat))
    places = np.flatnonzero(np.isfinite(to_lon) & np.isfinite(to_lat))
    if len(places) == 0:
        distance[points] = np.inf
        return distance, position
    if len(points) == 0:
        return distance, position
    tree = sphere_tree(to_lon[places], to_lat[places])
    # Queries in spatial order walk the same branches one after another: about twice as fast on a million points.
    order = points[np.lexsort((from_lon[points], np.floor(from_lat[points] * 4)))]
    _, found = tree.query(unit_vectors(from_lon[order], from_lat[order]), k=1, workers=-1)
    position[order] = places[found]
    hit = position[points]
    distance[points] = great_circle_m(to_lon[hit], to_lat[hit], from_lon[points], from_lat[points])
    return distance, position
