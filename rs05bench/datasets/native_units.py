"""Native chips of tiles as units: no resampling, north up, named by tile, first row and column, and size."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.tile_index import TileIndex
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import WGS84, transformer

if TYPE_CHECKING:
    import geopandas as gpd

_UNIT_ID = re.compile(r"(?P<tile>.+)@(?P<row>-?\d+)-(?P<column>-?\d+)-(?P<height>\d+)x(?P<width>\d+)")
_MOST_UNITS = 2_000_000  # of one tile: a whole UTM zone has many times that


def native_units(
    index: TileIndex,
    size: int | tuple[int, int] = 256,
    stride: int | None = None,
    area: Any = None,
    years: Iterable[int] | None = None,
) -> gpd.GeoDataFrame:
    """The native chips that tile every tile.

    Args:
        index: The tiles.
        size: Height and width of a chip in pixels.
        stride: Pixels from one chip to the next; None for no overlap.
        area: Bounds or geometry in WGS84 that a chip must meet.
        years: Years wanted; None for all.

    Returns:
        One row a chip: `unit_id, tile_id, row, column, height, width, year, utm_zone, crs, lon, lat` and its footprint (WGS84).
    """
    import geopandas as gpd
    import pandas as pd
    import shapely

    height, width = (size, size) if isinstance(size, int) else size
    index = index.search(area, years)
    shape = None if area is None else shapely.box(*area) if isinstance(area, tuple) else area
    parts = []
    for position, tile in enumerate(index.frame.itertuples(index=False)):
        grid = index.open(position).grid
        change = transformer(grid.crs, WGS84)
        rows, columns = np.arange(0, grid.height - height + 1, stride or height), np.arange(0, grid.width - width + 1, stride or width)
        if shape is not None:
            lonlat: tuple[float, float, float, float] = shape.bounds
            west, south, east, north = transformer(WGS84, grid.crs).transform_bounds(*lonlat, densify_pts=21)
            top, bottom = (grid.north - north) / grid.yres - height - 2, (grid.north - south) / grid.yres + 2
            left, right = (west - grid.west) / grid.xres - width - 2, (east - grid.west) / grid.xres + 2
            rows, columns = rows[(rows >= top) & (rows <= bottom)], columns[(columns >= left) & (columns <= right)]
        if rows.size * columns.size > _MOST_UNITS:
            raise DataError(
                f"tile {tile.tile_id} has {rows.size * columns.size:,} chips of {height} x {width}",
                source=index.description,
                remedy="Name an area: units(size, area=(west, south, east, north)).",
            )
        row, column = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
        x0, y1 = grid.west + column * grid.xres, grid.north - row * grid.yres
        x1, y0 = x0 + width * grid.xres, y1 - height * grid.yres
        corners = np.stack(change.transform(np.stack([x0, x1, x1, x0]), np.stack([y0, y0, y1, y1])), axis=-1)
        lon, lat = change.transform((x0 + x1) / 2, (y0 + y1) / 2)
        names = [f"{tile.tile_id}@{r}-{c}-{height}x{width}" for r, c in zip(row.tolist(), column.tolist(), strict=True)]
        facts = {"unit_id": names, "tile_id": tile.tile_id, "row": row, "column": column, "height": height, "width": width}
        facts |= {"year": tile.year, "utm_zone": tile.utm_zone, "crs": tile.crs, "lon": lon, "lat": lat}
        parts.append(pd.DataFrame(facts).assign(geometry=shapely.polygons(corners.transpose(1, 0, 2))))
    columns_of = ["unit_id", "tile_id", "row", "column", "height", "width", "year", "utm_zone", "crs", "lon", "lat", "geometry"]
    joined = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns_of)
    frame = gpd.GeoDataFrame(joined[columns_of], geometry="geometry", crs=WGS84)
    if shape is not None:
        frame = frame[frame.intersects(shape)]
    return frame.sort_values("unit_id", ignore_index=True)


def parse_unit(index: TileIndex, unit_id: str) -> tuple[int, int, int, int, int]:
    """Position of the tile, first row and column, height and width of a unit.

    Raises:
        DataError: Not a unit of these tiles.
    """
    match = _UNIT_ID.fullmatch(unit_id)
    if match is None:
        raise DataError(f"{unit_id!r} is not a unit of this dataset", remedy="Unit ids come from units(), e.g. 2024/10N/x@0-256-256x256.")
    return index.position(match["tile"]), int(match["row"]), int(match["column"]), int(match["height"]), int(match["width"])
