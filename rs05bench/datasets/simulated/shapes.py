"""Outlines of parcels and tracts in longitude and latitude."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rs05bench.datasets.simulated.landscape import PIXEL
from rs05bench.datasets.simulated.sampled_tables import parcel_id, sampled_parcels
from rs05bench.protocol.pixel_grid import Grid

if TYPE_CHECKING:
    from shapely import Polygon
    from shapely.geometry.base import BaseGeometry

    from rs05bench.datasets.simulated.farmland import Parcel
    from rs05bench.datasets.simulated.world import World


def parcel_polygon(grid: Grid, parcel: Parcel) -> Polygon:
    """Return a parcel's outline in UTM metres: its rectangle, or the circle of a centre pivot."""
    import shapely

    west, east = (grid.west + col * PIXEL for col in parcel.cols)
    north, south = (grid.north - row * PIXEL for row in parcel.rows)
    if parcel.round:
        return shapely.Point((west + east) / 2, (north + south) / 2).buffer(min(east - west, north - south) / 2, quad_segs=8)
    return shapely.box(west, south, east, north)


def to_lonlat(shape: BaseGeometry, grid: Grid) -> BaseGeometry:
    """Return a UTM shape in WGS84 degrees, rounded to 1e-7 (about a centimetre)."""
    import shapely
    from pyproj import Transformer

    transformer = Transformer.from_crs(grid.crs, 4326, always_xy=True)
    return shapely.transform(shape, lambda xy: np.round(np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])), 7))


def parcel_shapes(world: World) -> dict[str, BaseGeometry]:
    """Return the outline of every labelled parcel by its id, in WGS84."""
    return {
        parcel_id(farm, int(number)): to_lonlat(parcel_polygon(farm.grid, farm.parcels[number]), farm.grid)
        for farm in world.farmlands
        for number in sampled_parcels(farm, world.counts.parcels)
    }


def tract_shapes(world: World) -> dict[str, BaseGeometry]:
    """Return the outline of every tract by its id, in WGS84."""
    return {
        f"{city.place.fips}{number:04d}00": to_lonlat(shape, city.grid)
        for city in world.cities
        for number, shape in enumerate(city.tract_shapes, start=1)
    }
