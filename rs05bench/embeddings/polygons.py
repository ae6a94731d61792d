"""Embeddings of polygons: parcels, tracts, counties.

How much of each pixel a polygon covers is computed once (exactextract) and applied to all components, instead of once a band. Work goes
block by block, so the memory needed is that of one block, also for a county.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.embeddings.raster import Raster, block_counts, block_extent
from rs05bench.embeddings.tile_index import Source, TileIndex, as_index
from rs05bench.embeddings.vectors import normalise
from rs05bench.errors import DataError
from rs05bench.protocol.intake.wgs84 import make_polygons
from rs05bench.protocol.pixel_grid import WGS84, belongs, crs_of, name_of, transformer, zone_of

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray
    from shapely.geometry.base import BaseGeometry

STATISTICS = ("mean", "min", "max", "std")
_CELLS_AT_ONCE = 1 << 21


@dataclass(slots=True)
class _Totals:
    """Running sums over blocks and tiles, one row a polygon."""

    weight: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64] | None
    largest: NDArray[np.float32] | None
    smallest: NDArray[np.float32] | None


def read_polygons(
    source: Source,
    polygons: gpd.GeoDataFrame | gpd.GeoSeries,
    year: ArrayLike,
    *,
    stats: Sequence[str] = ("mean", "max", "std"),
    unit_length: bool = False,
    on_tile: Callable[[str, int], None] | None = None,
) -> pd.DataFrame:
    """Mean, smallest and largest component and standard deviation of the embedding over polygons.

    Every pixel counts with the share of it that the polygon covers (minimum and maximum: any share); missing pixels count for nothing. A
    polygon may cross tiles and UTM zones: each part is read from the tiles of its own zone, others fill in where those are
    absent, except for a zone that waits to be filled.

    Args:
        source: A `TileIndex`, folder, file(s), or the published index.
        polygons: Polygons with a CRS.
        year: One year, or one a polygon.
        stats: Which of `mean`, `std`, `min`, `max`.
        unit_length: Scale the mean to length one. The plain mean of unit vectors is shorter, the more so the more mixed the polygon.
        on_tile: Called with each tile's id and the number of polygons read from it.

    Returns:
        One row a polygon, in order and with its index: the product's columns (the mean), `<column>_min`, `_max`, `_std` (population
        standard deviation, weighted), `pixels` (pixels covered that are not missing) and `covered` (their share of the polygon's area).
        NaN where nothing is covered.

    Raises:
        DataError: If a geometry is missing or not a polygon, the CRS is missing, or a file is missing or damaged.
    """
    import geopandas as gpd
    import pandas as pd

    index = as_index(source)
    unknown = sorted(set(stats) - set(STATISTICS))
    if unknown or not stats:
        raise DataError(f"no statistic {', '.join(unknown) or '(none given)'}", remedy=f"There are {', '.join(STATISTICS)}.")
    series: gpd.GeoSeries = polygons.geometry if isinstance(polygons, gpd.GeoDataFrame) else polygons
    shapes = _checked(series)
    years = np.broadcast_to(np.asarray(year, dtype=np.int64), (len(series),))
    index.require_years(np.unique(years).tolist())
    count = len(series)
    totals = _Totals(
        np.zeros(count),
        np.zeros((count, index.product.size)),
        np.zeros((count, index.product.size)) if "std" in stats else None,
        np.full((count, index.product.size), -np.inf, dtype=np.float32) if "max" in stats else None,
        np.full((count, index.product.size), np.inf, dtype=np.float32) if "min" in stats else None,
    )
    area_in_pixels, outside = np.zeros(count), np.ones(count)
    for one_year in np.unique(years):
        of_year = np.flatnonzero(years == one_year)
        for position, members, pieces in _pieces(index, shapes, name_of(series.crs), of_year, int(one_year), outside):
            raster = index.open(position)
            _add_tile(raster, members, pieces, totals)
            grid = raster.grid
            np.add.at(area_in_pixels, members, _areas(pieces) / (grid.xres * grid.yres))
            if on_tile is not None:
                on_tile(str(index.frame["tile_id"].iloc[position]), len(members))
    # A part that no tile holds counts as not covered.
    with np.errstate(divide="ignore", invalid="ignore"):
        area_in_pixels = np.where(outside < 1, area_in_pixels / (1 - outside), np.inf)
    return _table(totals, area_in_pixels, index.product, stats, unit_length).set_axis(pd.Index(series.index))


def _checked(series: gpd.GeoSeries) -> NDArray[Any]:
    import shapely

    if series.crs is None:
        raise DataError("the polygons have no coordinate reference system", remedy="Set it, e.g. frame.set_crs('EPSG:4326').")
    shapes = series.to_numpy()
    empty = np.array([shape is None or shape.is_empty for shape in shapes], dtype=bool)
    if empty.any():
        raise DataError(f"{int(empty.sum())} geometries are missing or empty (first: row {series.index[int(np.argmax(empty))]})")
    kinds = shapely.get_type_id(shapes)
    other = ~np.isin(kinds, (3, 6))
    if other.any():
        first = shapes[int(np.argmax(other))]
        raise DataError(
            f"expected polygons, found {first.geom_type} (row {series.index[int(np.argmax(other))]})",
            remedy="Points are read with read_points.",
        )
    valid, broken = make_polygons(shapes)
    lost = [int(row) for row in broken if valid[row] is None]
    if lost:
        raise DataError(f"{len(lost)} polygons have no area (first: row {series.index[lost[0]]})", remedy="Correct or remove them.")
    return valid


def _pieces(
    index: TileIndex, shapes: NDArray[Any], crs: str, wanted: NDArray[np.int64], year: int, outside: NDArray[np.float64]
) -> Iterable[tuple[int, NDArray[np.int64], NDArray[Any]]]:
    """Which part of which polygon is read from which tile: (tile position, polygon positions, parts in the tile's CRS).

    Writes into `outside` which share of each polygon no tile holds.
    """
    import shapely

    tiles = np.flatnonzero(index.year_array == year)
    footprints = index.frame.geometry.to_numpy()[tiles]
    in_degrees = shapes[wanted] if crs == WGS84 else _transform(shapes[wanted], crs, WGS84)
    polygon_of, tile_of = shapely.STRtree(footprints).query(in_degrees, predicate="intersects")
    gathered: dict[int, tuple[list[int], list[BaseGeometry]]] = {}

    def add(tile: int, polygon: int, part: BaseGeometry) -> None:
        members, parts = gathered.setdefault(tile, ([], []))
        members.append(polygon)
        parts.append(part)

    west, south, east, north = shapely.bounds(in_degrees).T
    zone_a, zone_b = zone_of(west, south), zone_of(east, north)
    order = np.argsort(polygon_of, kind="stable")
    groups = np.split(tile_of[order], np.flatnonzero(np.diff(polygon_of[order])) + 1) if order.size else []
    whole: dict[int, list[int]] = {}
    for polygon, near in zip(np.unique(polygon_of), groups, strict=True):
        zones = [index.zone_list[int(tiles[tile])] for tile in near]
        home = [int(tile) for tile, zone in zip(near, zones, strict=True) if belongs(zone_a[polygon], zone)]
        one_zone = zone_a[polygon] == zone_b[polygon]
        if one_zone and len(home) == 1 and shapely.contains_properly(footprints[home[0]], in_degrees[polygon]):
            whole.setdefault(int(tiles[home[0]]), []).append(int(polygon))
            outside[wanted[polygon]] = 0.0
        else:
            parts, left_over = _divide(index, in_degrees[polygon], [int(tiles[t]) for t in near], index.unfilled_zones(year))
            outside[wanted[polygon]] = min(left_over.area / in_degrees[polygon].area, 1.0)
            for tile, part in parts:
                add(tile, int(wanted[polygon]), part)
    for tile, inside in whole.items():
        # Straight from the polygons' own CRS: the way through degrees would only add rounding.
        native = _transform(shapes[wanted[inside]], crs, index.crs_list[tile])
        for polygon, part in zip(inside, native, strict=True):
            add(tile, int(wanted[polygon]), part)
    for tile in sorted(gathered):
        members, parts = gathered[tile]
        yield tile, np.array(members, dtype=np.int64), np.array(parts, dtype=object)


def _divide(
    index: TileIndex, shape: BaseGeometry, tiles: list[int], unfilled: Sequence[str]
) -> tuple[list[tuple[int, BaseGeometry]], BaseGeometry]:
    """Share a polygon (WGS84) out among tiles, each part once, the tiles of a part's own zone first; and what is left over.

    Parts in a zone that is not filled are left over: no other zone stands in for it.
    """
    import shapely

    waiting = shapely.intersection(shape, shapely.union_all([_strip(zone) for zone in unfilled]))
    left_over, parts = shapely.difference(shape, waiting), list[tuple[int, Any]]()
    by_zone: dict[str | None, list[int]] = {}
    for tile in tiles:
        by_zone.setdefault(index.zone_list[tile], []).append(tile)
    for own in (True, False):
        for zone, members in by_zone.items():
            part = left_over
            if own and zone is not None:
                part = shapely.intersection(part, _strip(zone))
            rest_of_zone = part
            for crs in dict.fromkeys(index.crs_list[tile] for tile in members):
                remaining = _polygonal(_transform(np.array([rest_of_zone], dtype=object), WGS84, crs)[0])
                for tile in (tile for tile in members if index.crs_list[tile] == crs):
                    if remaining.is_empty:
                        break
                    bounds = shapely.box(*index.open(tile).grid.bounds)
                    piece = _polygonal(shapely.intersection(remaining, bounds))
                    if not piece.is_empty:
                        parts.append((tile, piece))
                        remaining = _polygonal(shapely.difference(remaining, bounds))
                rest_of_zone = _polygonal(_transform(np.array([remaining], dtype=object), crs, WGS84)[0])
            left_over = _polygonal(shapely.union(shapely.difference(left_over, part), rest_of_zone))
    return parts, shapely.union(left_over, waiting)


def _strip(zone: str) -> BaseGeometry:
    import shapely

    west = -180 + 6 * (int(zone.rstrip("NS")) - 1)
    return shapely.box(west, 0 if zone[-1] == "N" else -90, west + 6, 0 if zone[-1] == "S" else 90)


def _polygonal(shape: BaseGeometry) -> BaseGeometry:
    """Only the polygons of a geometry: cutting may leave lines and points, which cover nothing."""
    import shapely

    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    parts = [part for part in shapely.get_parts(shape) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if parts else shapely.Polygon()


def _transform(shapes: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    import shapely

    if source == target or not len(shapes):
        return shapes
    change = transformer(source, target)
    return shapely.transform(shapes, lambda x, y: change.transform(x, y), interleaved=False)


def _add_tile(raster: Raster, members: NDArray[np.int64], pieces: NDArray[Any], totals: _Totals) -> None:
    """Add what one tile says about its polygons."""
    import shapely

    grid = raster.grid
    tree = shapely.STRtree(pieces)
    for block_row, block_column in _blocks_near(raster, pieces):
        top, left, height, width = block_extent(raster, block_row, block_column)
        north_row = grid.height - top - height if grid.bottom_up else top
        west, north = grid.west + left * grid.xres, grid.north - north_row * grid.yres
        extent = (west, north - height * grid.yres, west + width * grid.xres, north)
        near = np.sort(tree.query(shapely.box(*extent), predicate="intersects"))
        for chosen, cells, weights in _coverage(pieces[near], grid.crs, extent, height, width):
            if grid.bottom_up:
                cells = (height - 1 - cells // width) * width + cells % width
            _add_cells(raster, block_row, block_column, members[near[chosen]], cells, weights, totals)


def _blocks_near(raster: Raster, pieces: NDArray[Any]) -> list[tuple[int, int]]:
    """The blocks that the bounds of any piece meet, in order: a mosaic of a continent has millions of others."""
    import shapely

    grid, (height, width) = raster.grid, raster.block
    rows, columns = block_counts(raster)
    west, south, east, north = shapely.bounds(pieces).T
    top, bottom = (grid.north - north) / grid.yres, (grid.north - south) / grid.yres
    if grid.bottom_up:
        top, bottom = grid.height - bottom, grid.height - top
    first, last = (np.clip(edge // height, 0, rows - 1).astype(np.int64) for edge in (top, bottom))
    left, right = (np.clip((edge - grid.west) / grid.xres // width, 0, columns - 1).astype(np.int64) for edge in (west, east))
    found = {
        (int(row), int(column))
        for a, b, c, d in set(zip(first.tolist(), last.tolist(), left.tolist(), right.tolist(), strict=True))
        for row in range(a, b + 1)
        for column in range(c, d + 1)
    }
    return sorted(found)


def _coverage(
    shapes: NDArray[Any], crs: str, extent: tuple[float, float, float, float], height: int, width: int
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """The pixels of a block that polygons cover: (polygon of each pixel, sorted; pixel number; share covered), in bounded portions."""
    import geopandas as gpd
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource

    if not len(shapes):
        return
    west, south, east, north = extent
    blank = NumPyRasterSource(
        np.zeros((height, width), dtype=np.uint8), xmin=west, ymin=south, xmax=east, ymax=north, srs_wkt=crs_of(crs).to_wkt()
    )
    pixel = (east - west) / width * (north - south) / height
    # Polygons are taken in portions of a bounded number of pixels.
    portion = np.cumsum(np.minimum(_areas(shapes) / pixel, height * width) + 8) // _CELLS_AT_ONCE
    for number in np.unique(portion):
        chosen = np.flatnonzero(portion == number)
        found = exact_extract(blank, gpd.GeoDataFrame(geometry=shapes[chosen], crs=crs_of(crs)), ["cell_id", "coverage"], output="pandas")
        sizes = np.array([len(cells) for cells in found["cell_id"]], dtype=np.int64)
        if sizes.sum():
            yield (
                np.repeat(chosen, sizes),
                np.concatenate(found["cell_id"].to_numpy()).astype(np.int64),
                np.concatenate(found["coverage"].to_numpy()).astype(np.float64),
            )


def _add_cells(
    raster: Raster,
    block_row: int,
    block_column: int,
    owners: NDArray[np.int64],
    cells: NDArray[np.int64],
    weights: NDArray[np.float64],
    totals: _Totals,
) -> None:
    """Add the pixels of one block: `owners` are sorted runs, one a polygon part."""
    starts = np.flatnonzero(np.r_[True, np.diff(owners) != 0])
    rows = owners[starts]

    def reduce(band: int, block: NDArray[Any]) -> NDArray[np.bool_] | None:
        values = block.reshape(-1)[cells]
        codec = raster.product.codec
        masked = codec.is_missing(values)
        x = codec.decode(values, masked=0.0) if values.dtype == codec.dtype else np.where(masked, 0, values).astype(np.float32)
        any_masked = bool(masked.any())
        weighted = x * (np.where(masked, 0, weights) if any_masked else weights)
        # Two runs may belong to one polygon (a part on either side of another): add.at, not assignment.
        np.add.at(totals.first[:, band], rows, np.add.reduceat(weighted, starts))
        if totals.second is not None:
            np.add.at(totals.second[:, band], rows, np.add.reduceat(weighted * x, starts))
        if totals.largest is not None:
            if any_masked:
                x[masked] = -np.inf
            np.maximum.at(totals.largest[:, band], rows, np.maximum.reduceat(x, starts))
        if totals.smallest is not None:
            if any_masked:
                x[masked] = np.inf
            np.minimum.at(totals.smallest[:, band], rows, np.minimum.reduceat(x, starts))
        return masked if band == 0 else None

    masked = raster.map_bands(block_row, block_column, reduce)[0]
    assert masked is not None
    np.add.at(totals.weight, rows, np.add.reduceat(np.where(masked, 0, weights), starts))


def _areas(shapes: NDArray[Any]) -> NDArray[np.float64]:
    import shapely

    return shapely.area(shapes)


def _table(
    totals: _Totals, area_in_pixels: NDArray[np.float64], record: EmbeddingProduct, stats: Sequence[str], unit_length: bool
) -> pd.DataFrame:
    import pandas as pd

    nothing = totals.weight <= 0
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = totals.first / totals.weight[:, None]
        columns: dict[str, NDArray[Any]] = {}
        if "mean" in stats:
            shown = normalise(mean, axis=1) if unit_length else mean.astype(np.float32)
            columns |= {band: shown[:, number] for number, band in enumerate(record.bands)}
        for stat, values in (("min", totals.smallest), ("max", totals.largest)):
            if values is not None:
                columns |= {f"{band}_{stat}": np.where(nothing, np.nan, values[:, number]) for number, band in enumerate(record.bands)}
        if totals.second is not None:
            spread = np.sqrt(np.maximum(totals.second / totals.weight[:, None] - mean**2, 0)).astype(np.float32)
            columns |= {f"{band}_std": spread[:, number] for number, band in enumerate(record.bands)}
        columns["pixels"] = totals.weight
        columns["covered"] = np.where(area_in_pixels > 0, np.minimum(totals.weight / area_in_pixels, 1.0), 0.0)
    return pd.DataFrame(columns)
