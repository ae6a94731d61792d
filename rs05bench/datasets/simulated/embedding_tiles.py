"""AlphaEarth tiles of the simulated landscapes, and the index that lists them.

The files are built as the published ones are: the product's bytes and bands, 10 m pixels in the zone's own UTM grid, rows from
south to north (positive y step), ZSTD, band-planar, Cloud Optimized with overviews of decoded, averaged and re-normalised vectors.
Two things are smaller: a tile has at most 1,024 pixels a side instead of 8,192, and its blocks 256 instead of 1,024.
The simulated embedding tells 60 m cells apart; a cell is written as 6 x 6 equal pixels.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.datasets.simulated.embedding import CELL, PRODUCT, quantised
from rs05bench.datasets.simulated.landscape import PIXEL, utm_grid, zone_of
from rs05bench.protocol.pixel_grid import Grid

if TYPE_CHECKING:
    from rs05bench.datasets.simulated.landscape import Base

STEP = 10.0
TILE = 1024
BLOCK = 256
BUCKET = "gs://alphaearth_foundations/satellite_embedding/v1/annual"
_ZONE_WIDTH = 6.0  # degrees

Window = tuple[int, int, int, int]
"""First and last row, first and last column of a landscape's pixels, half-open and even."""


@dataclass(frozen=True)
class WrittenTile:
    """One written tile: where it lies, and its path below the root."""

    path: str
    year: int
    zone: int
    west: float
    south: float
    east: float
    north: float


def write_landscape(root: Path, landscape: Base, year: int, window: Window | None = None) -> list[WrittenTile]:
    """Write the tiles of a landscape in a year, in every UTM zone it reaches.

    A landscape across a zone border is written in both zones, each masked beyond the border, so that neither file alone holds the place.

    Args:
        root: Folder that stands for ``.../annual``.
        landscape: What to write.
        year: The embedding's year.
        window: Which pixels of the landscape to cover; None covers all.
    """
    r0, r1, c0, c1 = (edge // CELL for edge in window or (0, landscape.grid.height, 0, landscape.grid.width))
    rows, cols = np.mgrid[r0:r1, c0:c1]
    cells = quantised(landscape, year, rows.ravel(), cols.ravel()).T.reshape(PRODUCT.size, *rows.shape)
    size = CELL * PIXEL
    # The covered part is a landscape's grid of its own.
    grid = utm_grid(
        zone_of(landscape.grid), landscape.grid.west + c0 * size, landscape.grid.north - r0 * size, (r1 - r0) * CELL, (c1 - c0) * CELL
    )
    zones = _zones(grid)
    if zones == [zone_of(grid)]:
        return _write_zone(root, landscape, year, zone_of(grid), cells, grid.west, grid.north)
    tiles = []
    for zone in zones:
        west, north, turned = _in_zone(grid, cells, zone)
        tiles += _write_zone(root, landscape, year, zone, turned, west, north)
    return tiles


def write_index(root: Path, tiles: list[WrittenTile]) -> Path:
    """Write ``aef_index.parquet`` with the columns of the published index; paths are written as the bucket's, and read from the root."""
    import geopandas as gpd
    import shapely
    from pyproj import Transformer

    records = []
    for fid, tile in enumerate(sorted(tiles, key=lambda tile: tile.path), start=1):
        box = shapely.segmentize(shapely.box(tile.west, tile.south, tile.east, tile.north), (tile.east - tile.west) / 8)
        change = Transformer.from_crs(32600 + tile.zone, 4326, always_xy=True)
        outline = shapely.transform(box, lambda xy, change=change: np.column_stack(change.transform(xy[:, 0], xy[:, 1])))
        west, south, east, north = outline.bounds
        records.append(
            {
                "fid": fid,
                "crs": f"EPSG:{32600 + tile.zone}",
                "year": tile.year,
                "utm_zone": f"{tile.zone}N",
                "utm_west": tile.west,
                "utm_south": tile.south,
                "utm_east": tile.east,
                "utm_north": tile.north,
                "wgs84_west": west,
                "wgs84_south": south,
                "wgs84_east": east,
                "wgs84_north": north,
                "path": f"{BUCKET}/{tile.path}",
                "geometry": outline,
            }
        )
    frame = gpd.GeoDataFrame(records, geometry="geometry", crs="EPSG:4326")
    path = root / "aef_index.parquet"
    frame.to_parquet(path, index=False)
    return path


def _zones(grid: Grid) -> list[int]:
    lon, _ = grid.lonlat(np.array([0, 0, grid.height - 1, grid.height - 1]), np.array([0, grid.width - 1, 0, grid.width - 1]))
    return sorted({int((value + 180) // _ZONE_WIDTH) + 1 for value in lon} | {zone_of(grid)})


def _in_zone(grid: Grid, cells: NDArray[np.int8], zone: int) -> tuple[float, float, NDArray[np.int8]]:
    """Return west, north and the cells on the 60 m grid of a zone, masked beyond the zone's border and outside the landscape."""
    from pyproj import Transformer

    size = CELL * PIXEL
    corners_r, corners_c = np.array([0, 0, grid.height, grid.height]) - 0.5, np.array([0, grid.width, 0, grid.width]) - 0.5
    lon, lat = grid.lonlat(corners_r, corners_c)
    x, y = Transformer.from_crs(4326, 32600 + zone, always_xy=True).transform(lon, lat)
    west, north = np.floor(min(x) / size) * size, np.ceil(max(y) / size) * size
    height, width = int(np.ceil((north - min(y)) / size)), int(np.ceil((max(x) - west) / size))
    xs, ys = np.meshgrid(west + (np.arange(width) + 0.5) * size, north - (np.arange(height) + 0.5) * size)
    lon, _ = Transformer.from_crs(32600 + zone, 4326, always_xy=True).transform(xs, ys)
    own_x, own_y = Transformer.from_crs(32600 + zone, grid.crs, always_xy=True).transform(xs, ys)
    rows, cols = grid.rows_columns(np.asarray(own_x), np.asarray(own_y))
    inside = (rows >= 0) & (rows < grid.height) & (cols >= 0) & (cols < grid.width)
    inside &= ((np.asarray(lon) + 180) // _ZONE_WIDTH + 1).astype(int) == zone
    turned = np.full((PRODUCT.size, height, width), PRODUCT.codec.fill, dtype=np.int8)
    turned[:, inside] = cells[:, rows[inside] // CELL, cols[inside] // CELL]
    keep_r, keep_c = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    r0, r1, c0, c1 = keep_r[0], keep_r[-1] + 1, keep_c[0], keep_c[-1] + 1
    return float(west + c0 * size), float(north - r0 * size), turned[:, r0:r1, c0:c1]


def _write_zone(root: Path, landscape: Base, year: int, zone: int, cells: NDArray[np.int8], west: float, north: float) -> list[WrittenTile]:
    repeat = int(CELL * PIXEL / STEP)
    step = TILE // (2 * repeat) * 2  # whole cells, an even number of them
    name = f"sim{zlib.crc32(f'{landscape.seed}/{landscape.name}/{zone}/{year}/{west:.0f}/{north:.0f}'.encode()):08x}"
    tiles = []
    for top in range(0, cells.shape[1], step):
        for left in range(0, cells.shape[2], step):
            part = cells[:, top : top + step, left : left + step]
            pixels_y, pixels_x = top * repeat, left * repeat
            path = f"{year}/{zone}N/{name}-{pixels_y:010d}-{pixels_x:010d}.tiff"
            tile_west, tile_north = west + pixels_x * STEP, north - pixels_y * STEP
            height, width = part.shape[1] * repeat, part.shape[2] * repeat
            south = tile_north - height * STEP
            write_cog(root / path, part, repeat, zone, tile_west, south)
            tiles.append(WrittenTile(path, year, zone, tile_west, south, tile_west + width * STEP, tile_north))
    return tiles


def write_cog(path: Path, cells: NDArray[np.int8], repeat: int, zone: int, west: float, south: float) -> None:
    """Write one bottom-up Cloud Optimized GeoTIFF.

    GDAL would build overviews by averaging the int8 codes, which is wrong for them; so they are made here and handed over through a VRT
    that names them, from which GDAL lays out the file.

    Args:
        path: Where to; folders are made.
        cells: Quantised cells (components, rows, columns), first row in the north.
        repeat: Pixels along a cell's side.
        zone: UTM zone.
        west: Western edge, metres.
        south: Southern edge, metres.
    """
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.shutil import copy
    from rasterio.transform import Affine

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = cells[:, ::-1]
    full = cells.repeat(repeat, axis=1).repeat(repeat, axis=2)
    levels = [full, *_overviews(cells, repeat)]
    transform = Affine(STEP, 0, west, 0, STEP, south)
    memory = []
    try:
        for i, level in enumerate(levels):
            file = MemoryFile(ext=".tif")
            memory.append(file)
            scale = 2**i
            with file.open(
                driver="GTiff",
                width=level.shape[2],
                height=level.shape[1],
                count=PRODUCT.size,
                dtype="int8",
                nodata=PRODUCT.codec.fill,
                crs=f"EPSG:{32600 + zone}",
                transform=Affine(STEP * scale, 0, west, 0, STEP * scale, south),
                interleave="band",
            ) as target:
                target.write(level)
        vrt = _vrt([file.name for file in memory], full.shape[2], full.shape[1], f"EPSG:{32600 + zone}", transform)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            copy(
                vrt,
                path,
                driver="GTiff",
                TILED="YES",
                BLOCKXSIZE=BLOCK,
                BLOCKYSIZE=BLOCK,
                COMPRESS="ZSTD",
                ZSTD_LEVEL=9,
                INTERLEAVE="BAND",
                COPY_SRC_OVERVIEWS="YES",
            )
    finally:
        for file in memory:
            file.close()


def _overviews(cells: NDArray[np.int8], repeat: int) -> list[NDArray[np.int8]]:
    """Return levels 2, 4, ... down to one block: mean of the decoded full-resolution pixels, re-normalised, quantised."""
    half = repeat // 2
    vectors = PRODUCT.codec.decode(cells)
    total = np.nan_to_num(vectors).repeat(half, axis=1).repeat(half, axis=2)
    count = (cells[0] != PRODUCT.codec.fill).astype(np.float32).repeat(half, axis=0).repeat(half, axis=1)
    levels = []
    while True:
        levels.append(_quantise(total, count))
        if max(count.shape) <= BLOCK or count.shape[0] % 2 or count.shape[1] % 2:
            return levels
        total = total[:, ::2, ::2] + total[:, ::2, 1::2] + total[:, 1::2, ::2] + total[:, 1::2, 1::2]
        count = count[::2, ::2] + count[::2, 1::2] + count[1::2, ::2] + count[1::2, 1::2]


def _quantise(total: NDArray[np.float32], count: NDArray[np.float32]) -> NDArray[np.int8]:
    norm = np.sqrt(np.einsum("brc,brc->rc", total, total))
    level: NDArray[np.int8] = np.asarray(PRODUCT.codec.encode(total / np.maximum(norm, 1e-6)), dtype=np.int8)
    level[:, count == 0] = PRODUCT.codec.fill
    return level


def _vrt(names: list[str], width: int, height: int, crs: str, transform: Any) -> str:
    geo = ", ".join(repr(float(value)) for value in transform.to_gdal())
    bands = []
    for i, band in enumerate(PRODUCT.bands, start=1):
        overviews = "".join(
            f'<Overview><SourceFilename relativeToVRT="0">{name}</SourceFilename><SourceBand>{i}</SourceBand></Overview>'
            for name in names[1:]
        )
        bands.append(
            f'<VRTRasterBand dataType="Int8" band="{i}"><Description>{band}</Description>'
            f"<NoDataValue>{PRODUCT.codec.fill}</NoDataValue>{overviews}"
            f'<SimpleSource><SourceFilename relativeToVRT="0">{names[0]}</SourceFilename><SourceBand>{i}</SourceBand></SimpleSource>'
            "</VRTRasterBand>"
        )
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{crs}</SRS><GeoTransform>{geo}</GeoTransform>'
        f'<Metadata><MDI key="AREA_OR_POINT">Area</MDI><MDI key="SIMULATED">YES</MDI></Metadata>{"".join(bands)}</VRTDataset>'
    )
