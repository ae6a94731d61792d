"""Embeddings of image patches: (Geo)Parquet with one row a patch and a list-valued column of components.

A patch has a footprint (`geometry`), a centre (`centre_lat`, `centre_lon`), or both, and perhaps a time. What is asked for at a place is
the patch that holds it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.embeddings.tile_paths import year_of
from rs05bench.errors import DataError
from rs05bench.protocol.geodesy import metres_per_degree
from rs05bench.protocol.pixel_grid import WGS84, GeoBoxLike, Grid, transformer, wrapped

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

type OnTile = Callable[[str, int], None]

LIST_COLUMNS = ("embedding", "embeddings", "vector")
_CENTRES = (("centre_lon", "centre_lat"), ("center_lon", "center_lat"), ("lon", "lat"), ("longitude", "latitude"))
_TIMES = ("year", "timestamp", "datetime", "date", "start_datetime")


class PatchReader:
    """Patches as a source of embeddings.

    Args:
        path: A Parquet file or a folder of them.
        record: The product.

    Raises:
        DataError: No list-valued column, another number of components, no place, or a file that cannot be read.
    """

    portion = 250_000

    def __init__(self, path: str | os.PathLike[str], record: EmbeddingProduct) -> None:
        self.description = os.fspath(path)
        files = [Path(path)] if Path(path).is_file() else sorted(Path(path).rglob("*.parquet"))
        if not files:
            raise DataError("no Parquet file found", source=self.description)
        tables = [_read(file, record) for file in files]
        sizes = {values.shape[1] for values, _ in tables}
        if len(sizes) > 1:
            raise DataError(f"the files have vectors of {', '.join(map(str, sorted(sizes)))} components", source=self.description)
        self.product = record.sized(sizes.pop())
        import geopandas as gpd
        import pandas as pd

        self._values = np.concatenate([values for values, _ in tables])
        self.frame: gpd.GeoDataFrame = gpd.GeoDataFrame(pd.concat([frame for _, frame in tables], ignore_index=True), crs=WGS84)
        self._warn_of_several()
        missing = self.product.missing(self._values)
        self._values[missing] = np.nan
        self.missing = int(missing.sum())

    def _warn_of_several(self) -> None:
        """Several vectors of one place and year (scenes of a season): one is given for a place, and it is the first."""
        import shapely

        again = self.frame.assign(shape=shapely.to_wkb(self.frame.geometry.to_numpy())).duplicated(["shape", "year"])
        if again.any():
            warnings.warn(
                f"{self.description}: {int(again.sum())} patches have the footprint and year of another; the first of each is read",
                UserWarning,
                stacklevel=3,
            )

    @property
    def years(self) -> list[int] | None:
        """The years of the patches; None where they have no time."""
        found = sorted({int(year) for year in self.frame["year"] if year > 0})
        return found or None

    def tiles(self, bounds: tuple[float, float, float, float] | None, year: int) -> gpd.GeoDataFrame:
        """The patches of a year that meet WGS84 bounds."""
        import shapely

        frame = self._of_year(year)
        return frame if bounds is None else frame[frame.intersects(shapely.box(*bounds))]

    def read(self, geobox: GeoBoxLike | Grid, year: int) -> NDArray[np.float32]:
        """The components on a grid: each pixel takes the patch that holds its centre."""
        grid = Grid.of(geobox)
        x = grid.west + (np.arange(grid.width) + 0.5) * grid.xres
        y = grid.north - (np.arange(grid.height) + 0.5) * grid.yres
        lon, lat = transformer(grid.crs, WGS84).transform(*(axis.ravel() for axis in np.meshgrid(x, y)))
        return np.ascontiguousarray(self.points(lon, lat, year).T).reshape(self.product.size, grid.height, grid.width)

    def points(self, lon: ArrayLike, lat: ArrayLike, year: int, *, on_tile: OnTile | None = None) -> NDArray[np.float32]:
        """The embedding of the patch that holds each point, of several the one whose centre is nearest; NaN where there is none."""
        import shapely

        lon, lat = wrapped(lon).ravel(), np.asarray(lat, dtype=np.float64).ravel()
        out = np.full((lon.size, self.product.size), np.nan, dtype=np.float32)
        frame = self._of_year(year)
        shapes = frame.geometry.to_numpy()
        point, patch = shapely.STRtree(shapes).query(shapely.points(lon, lat), predicate="intersects")
        centres = shapely.centroid(shapes[patch])
        away = ((shapely.get_x(centres) - lon[point]) * np.cos(np.radians(lat[point]))) ** 2 + (shapely.get_y(centres) - lat[point]) ** 2
        order = np.lexsort((patch, away, point))
        point, patch = point[order], patch[order]
        first = np.r_[True, point[1:] != point[:-1]] if point.size else np.zeros(0, dtype=bool)
        rows = frame.index.to_numpy()[patch[first]]
        out[point[first]] = self._values[rows]
        if on_tile is not None and rows.size:
            on_tile(self.description, int(rows.size))
        return out

    def polygons(self, polygons: gpd.GeoSeries, year: int, *, stats: Sequence[str], on_tile: OnTile | None = None) -> pd.DataFrame:
        """Statistics of polygons: every patch counts with the area it shares with the polygon.

        Returns:
            One row a polygon, columns as `read_polygons` names them; `pixels` counts patches.
        """
        import pandas as pd
        import shapely

        shapes = shapely.make_valid(polygons.to_crs(WGS84).to_numpy())
        frame = self._of_year(year)
        patches, rows = frame.geometry.to_numpy(), frame.index.to_numpy()
        polygon, patch = shapely.STRtree(patches).query(shapes, predicate="intersects")
        weight = shapely.area(shapely.intersection(shapes[polygon], patches[patch]))
        usable = (weight > 0) & ~np.isnan(self._values[rows[patch], 0])
        polygon, patch, weight = polygon[usable], patch[usable], weight[usable]
        count, size = len(shapes), self.product.size
        total = np.bincount(polygon, weight, count)
        x = self._values[rows[patch]].astype(np.float64)
        first, second = np.zeros((count, size)), np.zeros((count, size))
        low, high = np.full((count, size), np.inf), np.full((count, size), -np.inf)
        np.add.at(first, polygon, x * weight[:, None])
        np.add.at(second, polygon, x**2 * weight[:, None])
        np.minimum.at(low, polygon, x)
        np.maximum.at(high, polygon, x)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = first / total[:, None]
            spread = np.sqrt(np.maximum(second / total[:, None] - mean**2, 0))
        columns: dict[str, NDArray[Any]] = {}
        for stat, values in (("mean", mean), ("min", low), ("max", high), ("std", spread)):
            if stat in stats:
                shown = np.where(total[:, None] > 0, values, np.nan).astype(np.float32)
                columns |= {band if stat == "mean" else f"{band}_{stat}": shown[:, i] for i, band in enumerate(self.product.bands)}
        columns["pixels"] = np.bincount(polygon, minlength=count).astype(float)
        columns["covered"] = np.minimum(total / np.maximum(shapely.area(shapes), 1e-300), 1.0)
        if on_tile is not None:
            on_tile(self.description, count)
        return pd.DataFrame(columns, index=polygons.index)

    def chip(self, lon: float, lat: float, size: int, year: int, *, on_tile: OnTile | None = None) -> Any:
        """Patches are no pixels.

        Raises:
            DataError: Always.
        """
        raise DataError(f"{self.product.name} has one vector a patch and no chips", remedy="Extract points or polygons.")

    def observation_counts(self, lon: ArrayLike, lat: ArrayLike, year: int) -> dict[str, NDArray[np.float32]]:
        """None is recorded."""
        return {}

    def portions_of(self, lon: ArrayLike, lat: ArrayLike, year: int) -> NDArray[np.int64]:
        """All alike: the table is in memory."""
        return np.zeros(np.size(lon), dtype=np.int64)

    def _of_year(self, year: int) -> gpd.GeoDataFrame:
        known = self.frame["year"] > 0
        frame = self.frame[~known | (self.frame["year"] == year)]
        if not len(frame):
            raise DataError(f"no patch of {year}; there are {', '.join(map(str, self.years or []))}", source=self.description)
        return frame


def list_column(columns: Sequence[str]) -> str | None:
    """The list-valued column of components among names; None where there is none."""
    return next((name for name in LIST_COLUMNS if name in columns), None)


def stacked(lists: Sequence[Any], *, source: str) -> NDArray[np.float32]:
    """A list-valued column as an array `(rows, components)`; a missing list is a row of NaN.

    Raises:
        DataError: Lists of different lengths.
    """
    absent = np.array([value is None or (isinstance(value, float) and np.isnan(value)) for value in lists], dtype=bool)
    lengths = {len(value) for value, gone in zip(lists, absent, strict=True) if not gone}
    if len(lengths) != 1:
        what = f"lists of {', '.join(map(str, sorted(lengths)))} numbers" if lengths else "no list at all"
        raise DataError(f"expected lists of one length, found {what}", source=source)
    size = lengths.pop()
    out = np.full((len(absent), size), np.nan, dtype=np.float32)
    if not absent.all():
        out[~absent] = np.stack([np.asarray(value, dtype=np.float32) for value, gone in zip(lists, absent, strict=True) if not gone])
    return out


def _read(path: Path, record: EmbeddingProduct) -> tuple[NDArray[np.float32], gpd.GeoDataFrame]:
    import geopandas as gpd
    import pandas as pd
    import pyarrow.parquet as parquet

    try:
        names = parquet.read_schema(path).names
        geographic = b"geo" in (parquet.read_schema(path).metadata or {})
        table: pd.DataFrame = gpd.read_parquet(path) if geographic else pd.read_parquet(path)
    except Exception as error:  # parsers have their own exceptions
        raise DataError(f"cannot be read as Parquet: {str(error).splitlines()[0]}", source=path) from error
    column, spread = list_column(names), record.find_columns(names)
    if column is not None:
        values = stacked(table[column].tolist(), source=f"{path}, column {column!r}")
    elif spread:
        values = table[spread].to_numpy(dtype=np.float32, na_value=np.nan)
    else:
        raise DataError(f"no list-valued column ({', '.join(LIST_COLUMNS)}) among {', '.join(names[:12])}", source=path)
    if record.dimensions is not None and values.shape[1] != record.dimensions:
        raise DataError(f"expected {record.dimensions} components of {record.name}, found {values.shape[1]}", source=path)
    frame = gpd.GeoDataFrame(
        {"tile_id": [f"{path.stem}/{row}" for row in range(len(table))], "crs": WGS84}, geometry=_shapes(table, path, record)
    )
    frame["year"] = _years(table, path)
    return values, frame.set_crs(WGS84, allow_override=True)


def _shapes(table: pd.DataFrame, path: Path, record: EmbeddingProduct) -> Any:
    """Footprints in WGS84: those of the file, or squares of the record's size around the centres."""
    import geopandas as gpd
    import shapely

    shapes = None
    if isinstance(table, gpd.GeoDataFrame):
        if table.crs is None:
            raise DataError("the geometries have no coordinate reference system", source=path)
        shapes = table.geometry.to_crs(WGS84).to_numpy()
        if not (shapely.get_type_id(shapes) == 0).all():
            return shapes
    elif "geometry" in table and len(table) and isinstance(table["geometry"].iloc[0], bytes):
        shapes = shapely.from_wkb(table["geometry"].to_numpy())
        if not (shapely.get_type_id(shapes) == 0).all():
            return shapes
    names = next((pair for pair in _CENTRES if set(pair) <= set(table.columns)), None)
    if shapes is not None:
        lon, lat = shapely.get_x(shapes), shapely.get_y(shapes)
    elif names is not None:
        lon, lat = (table[name].to_numpy(dtype=np.float64) for name in names)
    else:
        raise DataError("no geometry and no centre_lon, centre_lat", source=path)
    if record.pixel_m is None:
        raise DataError(
            f"patches are given by their centres, and the record of {record.name} does not state how large they are",
            source=path,
            remedy="Give a record with pixel_m.",
        )
    half = record.pixel_m / 2
    wide, high = (half / np.maximum(metres, 1.0) for metres in metres_per_degree(lat))
    return shapely.box(lon - wide, lat - high, lon + wide, lat + high)


def _years(table: pd.DataFrame, path: Path) -> NDArray[np.int64]:
    """The year of each patch from its time, else from the path; 0 where neither states one."""
    import pandas as pd

    column = next((name for name in _TIMES if name in table), None)
    if column is None:
        return np.full(len(table), year_of(path) or 0, dtype=np.int64)
    if column == "year":
        return table[column].to_numpy(dtype=np.int64)
    when = pd.to_datetime(table[column], errors="coerce", utc=True)
    if when.isna().any():
        raise DataError(f"column {column!r} is no time in {int(when.isna().sum())} rows", source=path)
    return when.dt.year.to_numpy(dtype=np.int64)
