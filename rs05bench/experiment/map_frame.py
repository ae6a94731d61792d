"""The pixel grid of a map, what a network sees around it, and the blocks in which it is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.experiment.map_area import in_crs, inside_area
from rs05bench.models.sliding_windows import Window
from rs05bench.protocol.geodesy import crs_unit_metres
from rs05bench.protocol.pixel_grid import Grid

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from rs05bench.embeddings import TileIndex

BLOCK = 256
"""Side of a block of a table's map: 64 components of it are 16 MB as float32."""
GATHERED = 1024
"""Blocks are visited in squares of this side, so that a tile's own blocks are decompressed once."""
LARGEST = 200_000
"""Rows or columns of one map; more is a continent, and a wrong unit of coordinates."""


@dataclass(frozen=True)
class Frame:
    """Where a scene is, and which part of it is written.

    Attributes:
        grid: What is read.
        drawn: The part that is written, in pixels of the grid. Around it is a margin: a network that saw nothing beyond the edge of an
            area would draw another map there than over a larger area.
        area: What is wanted, in the grid's CRS; None for all of it.
    """

    grid: Grid
    drawn: Window
    area: BaseGeometry | None = None

    @property
    def target(self) -> Grid:
        """The grid of what is written."""
        return self.part(self.drawn)

    def part(self, window: Window) -> Grid:
        """A window of the grid."""
        return self.grid.part(window.row, window.column, window.height, window.width)

    def shared(self, block: Window) -> Window | None:
        """What a block and the drawn part have in common; None for nothing."""
        top, left = max(block.row, self.drawn.row), max(block.column, self.drawn.column)
        bottom = min(block.row + block.height, self.drawn.row + self.drawn.height)
        right = min(block.column + block.width, self.drawn.column + self.drawn.width)
        return Window(top, left, bottom - top, right - left) if bottom > top and right > left else None

    def wanted(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window are in the area."""
        if self.area is None:
            return np.ones((window.height, window.width), dtype=bool)
        return inside_area(self.area, self.part(window))


def tile_frame(index: TileIndex, area: BaseGeometry, years: Sequence[int], *, metres: float | None = None, margin: int = 0) -> Frame:
    """The frame of a map from tiles: the grid of the tiles that cover most of the area, cut to it.

    Pixels of those tiles are copied; tiles of other grids (another UTM zone) fill in by the nearest pixel.

    Args:
        index: The tiles.
        area: Where, in WGS84 degrees.
        years: Years of the map; the grid is that of the first.
        metres: Pixel of the training chips. The map's is the nearest whole multiple of the tiles': at another one the same field or fire
            has another size than the network has learnt. None for the tiles' own.
        margin: Pixels around the area.

    Raises:
        DataError: No tile meets the area in one of the years.
    """
    near, *_ = [_tiles_of(index, area, year) for year in years]
    covered: dict[tuple[str, float, float], tuple[float, int]] = {}
    for position in range(len(near)):
        grid = near.open(position).grid
        key = (near.crs_list[position], round(grid.xres, 9), round(grid.yres, 9))
        share = near.frame.geometry.iloc[position].intersection(area).area
        total, first = covered.get(key, (0.0, position))
        covered[key] = (total + share, first)
    (crs, _, _), (_, first) = max(covered.items(), key=lambda item: item[1][0])
    grid, here = near.open(first).grid, in_crs(area, crs)
    top, left, height, width = _covering(grid, here)
    factor = 1 if metres is None else max(round(metres / (grid.yres * crs_unit_metres(crs))), 1)
    height, width = -(-max(height, 1) // factor), -(-max(width, 1) // factor)
    if max(width, height) > LARGEST:
        raise DataError(f"the map would be {width:,} x {height:,} pixels", remedy="Map it in parts.")
    corner = grid.part(top, left, 1, 1)
    target = Grid(crs, corner.west, corner.north, grid.xres * factor, grid.yres * factor, height, width)
    around = target.part(-margin, -margin, height + 2 * margin, width + 2 * margin)
    return Frame(around, Window(margin, margin, height, width), here)


def image_frame(whole: Grid, area: BaseGeometry | None, *, margin: int, source: Path) -> tuple[Window, Frame]:
    """The window of an image that a network sees, and the frame in it.

    Args:
        whole: The image's grid.
        area: What is wanted of it, WGS84 degrees; None for all.
        margin: Pixels that the network sees around that.
        source: The image, for messages.

    Raises:
        DataError: The image does not meet the area.
    """
    if area is None:
        everything = Window(0, 0, whole.height, whole.width)
        return everything, Frame(whole, everything)
    import shapely

    here = in_crs(area, whole.crs)
    top, left, height, width = _covering(whole, here)
    bottom, right = min(top + height, whole.height), min(left + width, whole.width)
    top, left = max(top, 0), max(left, 0)
    if bottom <= top or right <= left or not shapely.intersects(here, shapely.box(*whole.bounds)):
        raise DataError("does not meet the area", source=source, remedy="Leave the image out, or check --area or --bbox.")
    up, aside = max(top - margin, 0), max(left - margin, 0)
    seen = Window(up, aside, min(bottom + margin, whole.height) - up, min(right + margin, whole.width) - aside)
    grid = whole.part(seen.row, seen.column, seen.height, seen.width)
    return seen, Frame(grid, Window(top - up, left - aside, bottom - top, right - left), here)


def blocks_of(height: int, width: int, block: int = BLOCK, gathered: int = GATHERED) -> Iterator[Window]:
    """The blocks of a map, square of blocks by square.

    Examples:
        >>> [(block.row, block.column, block.height, block.width) for block in blocks_of(3, 5, block=2, gathered=4)]
        [(0, 0, 2, 2), (0, 2, 2, 2), (2, 0, 1, 2), (2, 2, 1, 2), (0, 4, 2, 1), (2, 4, 1, 1)]
    """
    for outer_row in range(0, height, gathered):
        for outer_column in range(0, width, gathered):
            for row in range(outer_row, min(outer_row + gathered, height), block):
                for column in range(outer_column, min(outer_column + gathered, width), block):
                    yield Window(row, column, min(block, height - row), min(block, width - column))


def _tiles_of(index: TileIndex, area: BaseGeometry, year: int) -> TileIndex:
    near = index.search(area, [year])
    if not len(near):
        raise DataError(
            f"no tile of {index.product.name} of {year} meets the area",
            source=index.description,
            remedy=f"There are tiles of {', '.join(map(str, index.years)) or 'other places'}; check --area, --years and --from.",
        )
    return near


def _covering(grid: Grid, area_here: BaseGeometry) -> tuple[int, int, int, int]:
    """First row, first column, rows and columns of the pixels that cover an area in the grid's CRS; they may lie beyond the grid."""
    west, south, east, north = area_here.bounds
    left, top = math.floor((west - grid.west) / grid.xres + 1e-6), math.floor((grid.north - north) / grid.yres + 1e-6)
    right, bottom = math.ceil((east - grid.west) / grid.xres - 1e-6), math.ceil((grid.north - south) / grid.yres - 1e-6)
    return top, left, bottom - top, right - left
