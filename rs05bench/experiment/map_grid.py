"""Where a map lies: the area, the pixel grid it is drawn on, and the embeddings of its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.geodesy import crs_unit_metres

if TYPE_CHECKING:
    from affine import Affine
    from shapely.geometry.base import BaseGeometry

    from rs05bench.embeddings import BlockCache, TileIndex
    from rs05bench.embeddings.grid import Grid

BLOCK = 256
"""Side of a block of the map: 64 components of it are 16 MB as float32."""
GATHERED = 1024
"""Blocks are visited in squares of this side, so that a tile's own blocks are decompressed once."""
CACHE_BYTES = 256 << 20
LARGEST = 200_000
"""Rows or columns of one map; more is a continent, and a wrong unit of coordinates."""


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
        raise DataError(f"--bbox {text!r} is no box of longitudes and latitudes", remedy="The order is west,south,east,north, in degrees.")
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


def choose_grid(index: TileIndex, area: BaseGeometry, year: int) -> Grid:
    """The grid a map of an area is drawn on: that of the tiles that cover most of it, cut to the area.

    Pixels of those tiles are copied; tiles of other grids (another UTM zone) fill in by the nearest pixel.

    Raises:
        DataError: No tile of that year meets the area.
    """
    from rs05bench.embeddings.grid import Grid

    near = index.search(area, [year])
    if not len(near):
        raise DataError(
            f"no tile of {index.product.name} of {year} meets the area",
            source=index.description,
            remedy=f"There are tiles of {', '.join(map(str, index.years)) or 'other places'}; check --area, --years and --from.",
        )
    covered: dict[tuple[str, float, float], tuple[float, int]] = {}
    for position in range(len(near)):
        grid = near.open(position).grid
        key = (near.crs_list[position], round(grid.xres, 9), round(grid.yres, 9))
        share = near.frame.geometry.iloc[position].intersection(area).area
        total, first = covered.get(key, (0.0, position))
        covered[key] = (total + share, first)
    (crs, _, _), (_, first) = max(covered.items(), key=lambda item: item[1][0])
    grid = near.open(first).grid
    west, south, east, north = in_crs(area, crs).bounds
    left, top = math.floor((west - grid.west) / grid.xres + 1e-6), math.floor((grid.north - north) / grid.yres + 1e-6)
    right, bottom = math.ceil((east - grid.west) / grid.xres - 1e-6), math.ceil((grid.north - south) / grid.yres - 1e-6)
    width, height = max(right - left, 1), max(bottom - top, 1)
    if max(width, height) > LARGEST:
        raise DataError(f"the map would be {width:,} x {height:,} pixels", remedy="Map it in parts.")
    return Grid(crs, grid.west + left * grid.xres, grid.north - top * grid.yres, grid.xres, grid.yres, height, width)


def grid_for_years(index: TileIndex, area: BaseGeometry, years: Sequence[int]) -> Grid:
    """The grid of `choose_grid` in the first year, once there are tiles in every year.

    Raises:
        DataError: No tile of one of the years meets the area.
    """
    for year in years[1:]:
        if not len(index.search(area, [year])):
            choose_grid(index, area, year)  # says which year and what there is
    return choose_grid(index, area, years[0])


def coarsened(target: Grid, metres: float | None) -> Grid:
    """A grid with the pixel nearest to so many metres that is a whole number of its own; finer ones are not made.

    A network has learnt shapes at the pixel of its chips: at another one the same field or fire has another size.
    """
    from rs05bench.embeddings.grid import Grid

    own = _metres(target)
    factor = 1 if metres is None else max(round(metres / own), 1)
    height, width = -(-target.height // factor), -(-target.width // factor)
    return Grid(target.crs, target.west, target.north, target.xres * factor, target.yres * factor, height, width)


def _metres(target: Grid) -> float:
    return target.yres * crs_unit_metres(target.crs)


def in_crs(area: BaseGeometry, crs: str) -> BaseGeometry:
    """An area given in WGS84 degrees, in another CRS; long edges are bent."""
    import shapely

    from rs05bench.embeddings.grid import WGS84, transformer

    move = transformer(WGS84, crs)
    moved = shapely.transform(shapely.segmentize(area, 0.05), lambda x, y: move.transform(x, y), interleaved=False)
    shapely.prepare(moved)
    return moved


def grid_record(target: Grid) -> dict[str, Any]:
    """A grid as plain data."""
    return {"crs": target.crs, "height": target.height, "width": target.width, "pixel": [target.xres, target.yres]}


def affine_of(target: Grid) -> Affine:
    """The affine transform of a grid."""
    from affine import Affine

    return Affine(target.xres, 0, target.west, 0, -target.yres, target.north)


def part_of(target: Grid, row: int, column: int, height: int, width: int) -> Grid:
    """A rectangle of a grid."""
    from rs05bench.embeddings.grid import Grid

    west, north = target.west + column * target.xres, target.north - row * target.yres
    return Grid(target.crs, west, north, target.xres, target.yres, height, width)


def blocks_of(height: int, width: int, block: int = BLOCK, gathered: int = GATHERED) -> Iterator[tuple[int, int, int, int]]:
    """Row, column, height and width of the blocks of a map, square of blocks by square.

    Examples:
        >>> list(blocks_of(3, 5, block=2, gathered=4))
        [(0, 0, 2, 2), (0, 2, 2, 2), (2, 0, 1, 2), (2, 2, 1, 2), (0, 4, 2, 1), (2, 4, 1, 1)]
    """
    for outer_row in range(0, height, gathered):
        for outer_column in range(0, width, gathered):
            for row in range(outer_row, min(outer_row + gathered, height), block):
                for column in range(outer_column, min(outer_column + gathered, width), block):
                    yield row, column, min(block, height - row), min(block, width - column)


class EmbeddingBlocks:
    """Embeddings of one year on a map's grid, block by block.

    Args:
        index: The tiles.
        target: The map's grid.
        year: Which year.
        memory: Bytes of decompressed blocks kept.
    """

    def __init__(self, index: TileIndex, target: Grid, year: int, *, memory: int = CACHE_BYTES) -> None:
        from rs05bench.embeddings import BlockCache
        from rs05bench.embeddings.grid import transformer

        self.index = index.search(transformer(target.crs, "EPSG:4326").transform_bounds(*target.bounds, densify_pts=21), [year])
        self.cache: BlockCache = BlockCache(memory)
        grids = [self.index.open(position).grid for position in range(len(self.index))]
        self.bounds = [
            grid.bounds if grid.crs == target.crs else transformer(grid.crs, target.crs).transform_bounds(*grid.bounds, densify_pts=21)
            for grid in grids
        ]

    def read(self, part: Grid) -> NDArray[np.float32]:
        """Decoded embedding of a rectangle, (dimensions, h, w); NaN where there is none."""
        from rs05bench.embeddings.readers import mosaic

        west, south, east, north = part.bounds
        near = [number for number, (a, b, c, d) in enumerate(self.bounds) if a < east and c > west and b < north and d > south]
        return mosaic(self.index, self.cache, near, part)


class LayerBlocks:
    """One band of any raster on a map's grid, block by block (bilinear): a further column such as elevation.

    Args:
        path: The raster.
        column: The column it stands for, for messages.
    """

    def __init__(self, path: str | Path, column: str) -> None:
        from rasterio.errors import RasterioIOError

        try:
            self.dataset: Any = open_raster_file(path)
        except RasterioIOError as error:
            raise DataError(f"the layer of column {column!r} cannot be read: {error}", source=path) from error
        if self.dataset.count != 1 or self.dataset.crs is None:
            what = f"{self.dataset.count} bands" if self.dataset.count != 1 else "no coordinate reference system"
            raise DataError(f"the layer of column {column!r} has {what}; one georeferenced band was expected", source=path)

    def read(self, part: Grid) -> NDArray[np.float32]:
        """Values of a rectangle, (h, w); NaN outside the raster and where it has no data."""
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        with WarpedVRT(
            self.dataset,
            crs=part.crs,
            transform=affine_of(part),
            height=part.height,
            width=part.width,
            resampling=Resampling.bilinear,
            nodata=np.nan,
            dtype="float32",
        ) as view:
            return np.asarray(view.read(1), dtype=np.float32)

    def close(self) -> None:
        """Closes the file."""
        self.dataset.close()


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
    return np.asarray(geometry_mask([piece], (part.height, part.width), affine_of(part), invert=True), dtype=bool)
