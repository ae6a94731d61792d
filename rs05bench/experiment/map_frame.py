"""Where a network's map lies: the grid it slides over, and the part of it that is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.experiment.map_grid import coarsened, grid_for_years, in_crs, inside_area, part_of
from rs05bench.models.inference import Window

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from rs05bench.embeddings import TileIndex
    from rs05bench.embeddings.grid import Grid


@dataclass(frozen=True)
class Frame:
    """Where a scene lies, and which part of it is written.

    Attributes:
        grid: What the network slides over.
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
        return part_of(self.grid, window.row, window.column, window.height, window.width)

    def shared(self, block: Window) -> Window | None:
        """What a block and the drawn part have in common; None for nothing."""
        top, left = max(block.row, self.drawn.row), max(block.column, self.drawn.column)
        bottom = min(block.row + block.height, self.drawn.row + self.drawn.height)
        right = min(block.column + block.width, self.drawn.column + self.drawn.width)
        return Window(top, left, bottom - top, right - left) if bottom > top and right > left else None

    def wanted(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window lie in the area."""
        if self.area is None:
            return np.ones((window.height, window.width), dtype=bool)
        return inside_area(self.area, self.part(window))


def tile_frame(index: TileIndex, area: BaseGeometry, years: Sequence[int], *, metres: float | None, margin: int) -> Frame:
    """The frame of a map from tiles: the tiles' grid at the pixel of the training chips, cut to the area, with a margin.

    Args:
        index: The tiles.
        area: Where, in WGS84 degrees.
        years: Years of the map; each must have tiles.
        metres: Pixel of the training chips.
        margin: Pixels around the area.

    Raises:
        DataError: No tile meets the area in one of the years.
    """
    target = coarsened(grid_for_years(index, area, years), metres)
    around = part_of(target, -margin, -margin, target.height + 2 * margin, target.width + 2 * margin)
    return Frame(around, Window(margin, margin, target.height, target.width), in_crs(area, target.crs))


def image_frame(whole: Grid, area: BaseGeometry | None, *, margin: int, source: Path) -> tuple[Window, Frame]:
    """The window of an image that a network sees, and the frame in it.

    Args:
        whole: The image's grid.
        area: What is wanted of it, WGS84 degrees; None for all.
        margin: Pixels that the network sees around that.
        source: The image, for messages.

    Raises:
        DataError: The image lies off the area.
    """
    if area is None:
        everything = Window(0, 0, whole.height, whole.width)
        return everything, Frame(whole, everything)
    import shapely

    here = in_crs(area, whole.crs)
    west, south, east, north = here.bounds
    top, left = max(math.floor((whole.north - north) / whole.yres), 0), max(math.floor((west - whole.west) / whole.xres), 0)
    bottom = min(math.ceil((whole.north - south) / whole.yres), whole.height)
    right = min(math.ceil((east - whole.west) / whole.xres), whole.width)
    if bottom <= top or right <= left or not shapely.intersects(here, shapely.box(*whole.bounds)):
        raise DataError("does not meet the area", source=source, remedy="Leave the image out, or check --area or --bbox.")
    up, aside = max(top - margin, 0), max(left - margin, 0)
    seen = Window(up, aside, min(bottom + margin, whole.height) - up, min(right + margin, whole.width) - aside)
    grid = part_of(whole, seen.row, seen.column, seen.height, seen.width)
    return seen, Frame(grid, Window(top - up, left - aside, bottom - top, right - left), here)
