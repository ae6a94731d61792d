"""The area of a map: from a box or a vector file, and which pixels lie in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from rs05bench.protocol.pixel_grid import Grid


def parse_bbox(text: str) -> BaseGeometry:
    """A box from `west,south,east,north` in WGS84 degrees.

    Raises:
        DataError: Not four numbers, or not in this order.
    """
    import shapely

    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as error:
        raise DataError(
            f"--bbox {text!r} is not four numbers", remedy="Write west,south,east,north in degrees, e.g. -121.6,38.4,-121.5,38.5."
        ) from error
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise DataError(
            f"--bbox {text!r} is not a box of longitudes and latitudes", remedy="The order is west,south,east,north, in degrees."
        )
    return shapely.box(west, south, east, north)


def read_area(path: str | Path) -> BaseGeometry:
    """The union of the polygons of a vector file, in WGS84 degrees.

    Raises:
        DataError: Unreadable, no polygons, no CRS.
    """
    import shapely

    from rs05bench.embeddings.extraction import read_units

    frame = read_units(path)
    if not frame.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        raise DataError("an area is one or more polygons, and these are points", source=path, remedy="Give polygons, or --bbox.")
    return shapely.union_all(shapely.make_valid(frame.geometry.to_crs(4326).to_numpy()))


def in_crs(area: BaseGeometry, crs: str) -> BaseGeometry:
    """An area given in WGS84 degrees, in another CRS; long edges are bent."""
    import shapely

    from rs05bench.protocol.pixel_grid import WGS84, transformer

    move = transformer(WGS84, crs)
    moved = shapely.transform(shapely.segmentize(area, 0.05), lambda x, y: move.transform(x, y), interleaved=False)
    shapely.prepare(moved)
    return moved


def inside_area(area_here: BaseGeometry, part: Grid) -> NDArray[np.bool_]:
    """Which pixel centres of a rectangle lie in the area (in the rectangle's CRS)."""
    import shapely
    from rasterio.features import geometry_mask

    box = shapely.box(*part.bounds)
    if shapely.contains_properly(area_here, box):
        return np.ones((part.height, part.width), dtype=bool)
    piece = shapely.intersection(area_here, box)
    if piece.is_empty or piece.area == 0:
        return np.zeros((part.height, part.width), dtype=bool)
    return np.asarray(geometry_mask([piece], (part.height, part.width), part.affine, invert=True), dtype=bool)
