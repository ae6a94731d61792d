"""Which tiles there are: from folders, from single files, or from the published index, searched by place and year."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.bytesource import is_remote
from rs05bench.embeddings.products import EmbeddingProduct, product
from rs05bench.embeddings.raster import Raster
from rs05bench.embeddings.raster_files import open_raster, probe
from rs05bench.embeddings.tile_paths import (
    address_below,
    files_below,
    only_local,
    refuse_other_years,
    stem,
    tile_id_of,
    year_in_tags,
    year_of,
)
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import WGS84, Grid, belongs, crs_name, transformer, utm_zone, wrapped, zone_of

if TYPE_CHECKING:
    import geopandas as gpd
    from numpy.typing import ArrayLike, NDArray
    from shapely.geometry.base import BaseGeometry

INDEX_NAME = "aef_index.parquet"
COLUMNS = ["tile_id", "path", "year", "utm_zone", "crs", "west", "south", "east", "north"]
_OPEN_FILES = 64

type Source = TileIndex | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class TileIndex:
    """The tiles of a source.

    Args:
        frame: One row a tile, columns `tile_id, path, year, utm_zone, crs, west, south, east, north` (bounds in the tile's own CRS) and the
            footprint as geometry in WGS84. A zone without a hemisphere (`10`) is for both.
        of: What the tiles hold.
        opener: How a path becomes a `Raster`; the default opens GeoTIFFs.
        description: What the source is, for records of what was read.
        unfilled: UTM zones and years that the source has but has not filled: no neighbouring zone stands in for them.
    """

    def __init__(
        self,
        frame: gpd.GeoDataFrame,
        *,
        of: EmbeddingProduct | None = None,
        opener: Callable[[str], Raster] | None = None,
        description: str = "local files",
        unfilled: Collection[tuple[str, int]] = (),
    ) -> None:
        self.frame = frame.reset_index(drop=True)
        self.unfilled = frozenset(unfilled)
        self.product = of if of is not None else product()
        self.description = description
        self._opener, self._open = opener, OrderedDict[str, Raster]()
        self._pid = os.getpid()

    @classmethod
    def scan(
        cls,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        year: int | None = None,
        of: EmbeddingProduct | None = None,
    ) -> TileIndex:
        """Find the GeoTIFFs below folders (or the given files) and read their headers.

        A folder that holds the published index (`aef_index.parquet`) is not opened file by file.

        Args:
            paths: Folders, files or addresses.
            year: The year of all files; None takes it from each path.
            of: What the files hold.

        Raises:
            DataError: If nothing is found, or a file does not hold the product.
        """
        record = of if of is not None else product()
        roots = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if len(roots) == 1 and not is_remote(roots[0]) and (Path(roots[0]) / INDEX_NAME).is_file():
            return cls.from_parquet(Path(roots[0]) / INDEX_NAME, root=roots[0], of=record)
        files = files_below(roots)
        refuse_other_years(files, year)
        if files and record.dimensions is None:
            with closing(open_raster(files[0], record)) as first:
                record = first.product
        records = [_record(name, year, record) for name in files]
        if not records:
            raise DataError(
                "no GeoTIFF found", source=", ".join(map(str, roots)), remedy="Expected files such as 2024/10N/x….tiff below this folder."
            )
        return cls(_frame(records), of=record, description=", ".join(map(str, roots)))

    @classmethod
    def from_parquet(
        cls,
        path: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        area: BaseGeometry | tuple[float, float, float, float] | None = None,
        years: Iterable[int] | None = None,
        of: EmbeddingProduct | None = None,
        opener: Callable[[str], Raster] | None = None,
    ) -> TileIndex:
        """Read the published index, only the rows of an area and of some years.

        The index lists the whole world. Below a local `root`, what is there counts; how many tiles are not is a warning.

        Args:
            path: The index file.
            root: Folder or address the tiles lie under, as `{year}/{zone}/{file}`; None takes the paths as they are written.
            area: Bounds (west, south, east, north) or a geometry, in WGS84 degrees.
            years: The years wanted; None for all.
            of: What the tiles hold.
            opener: How a path becomes a raster.

        Raises:
            DataError: If the file is not the index.
        """
        import pyarrow.dataset as arrow
        import pyarrow.lib

        wanted = None if years is None else sorted({int(year) for year in years})
        bounds = None if area is None else (area if isinstance(area, tuple) else area.bounds)
        try:
            dataset = arrow.dataset(os.fspath(path), format="parquet")
            missing = {"crs", "year", "utm_zone", "path", "utm_west", "wgs84_west"} - set(dataset.schema.names)
            if missing:
                raise DataError(f"is not a tile index: no column {', '.join(sorted(missing))}", source=os.fspath(path))
            condition: Any = None if wanted is None else arrow.field("year").isin(wanted)
            if bounds is not None:
                west, south, east, north = bounds
                inside = (
                    (arrow.field("wgs84_west") <= east)
                    & (arrow.field("wgs84_east") >= west)
                    & (arrow.field("wgs84_south") <= north)
                    & (arrow.field("wgs84_north") >= south)
                )
                condition = inside if condition is None else condition & inside
            rows = dataset.to_table(filter=condition).to_pandas()
        except (pyarrow.lib.ArrowException, OSError) as error:
            raise DataError(f"cannot be read as the tile index: {str(error).splitlines()[0]}", source=os.fspath(path)) from error
        records = [
            {
                "tile_id": tile_id_of(row.path),
                "path": address_below(root, row.path),
                "year": int(row.year),
                "utm_zone": str(row.utm_zone),
                "crs": crs_name(str(row.crs)),
                "west": float(row.utm_west),
                "south": float(row.utm_south),
                "east": float(row.utm_east),
                "north": float(row.utm_north),
                "geometry": _geometry(row),
            }
            for row in rows.itertuples(index=False)
        ]
        if root is not None and not is_remote(root) and opener is None:
            records = only_local(records, root)
        found = cls(_frame(records), of=of, opener=opener, description=str(root or path))
        return found if area is None or isinstance(area, tuple) else found.search(area)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def years(self) -> list[int]:
        """The years there are tiles of."""
        return sorted(int(year) for year in self.frame["year"].unique())

    @cached_property
    def year_array(self) -> NDArray[np.int64]:
        """The year of each tile."""
        return self.frame["year"].to_numpy(dtype=np.int64)

    @cached_property
    def crs_list(self) -> list[str]:
        """The CRS of each tile."""
        return [str(crs) for crs in self.frame["crs"]]

    @cached_property
    def zone_list(self) -> list[str | None]:
        """The UTM zone of each tile; None where it is in no UTM zone."""
        return [zone if isinstance(zone, str) and zone else None for zone in self.frame["utm_zone"]]

    @cached_property
    def _path_list(self) -> list[str]:
        return [str(path) for path in self.frame["path"]]

    @cached_property
    def _positions(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for position, tile in enumerate(self.frame["tile_id"]):
            found.setdefault(str(tile), []).append(position)
        return found

    def position(self, tile_id: str) -> int:
        """The position of a tile; a `DataError` if there is none, or several by that name."""
        found = self._positions.get(tile_id, [])
        if len(found) != 1:
            raise DataError(f"{len(found) or 'no'} tile{'s' if len(found) > 1 else ''} named {tile_id!r}", source=self.description)
        return found[0]

    def search(self, area: BaseGeometry | tuple[float, float, float, float] | None = None, years: Iterable[int] | None = None) -> TileIndex:
        """The tiles that meet an area (WGS84 bounds or geometry) and are of some years."""
        import shapely

        frame = self.frame
        if years is not None:
            frame = frame[frame["year"].isin({int(year) for year in years})]
        if area is not None:
            frame = frame[frame.geometry.intersects(shapely.box(*area) if isinstance(area, tuple) else area)]
        return TileIndex(frame, of=self.product, opener=self._opener, description=self.description, unfilled=self.unfilled)

    def require_years(self, years: Iterable[int]) -> None:
        """Refuse a year that no tile is of, before anything is read."""
        absent = sorted({int(year) for year in years} - set(self.years))
        if absent:
            raise DataError(
                f"no tile of {', '.join(map(str, absent))} in this area"
                + (f"; there are {', '.join(map(str, self.years))}" if len(self) else ""),
                source=self.description,
            )

    def candidates(self, lon: ArrayLike, lat: ArrayLike, year: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Which tiles may hold which points, best first.

        Tiles of neighbouring UTM zones overlap at their border. A point belongs to the tile of its own zone; the others stand behind it,
        for where that one is masked or absent.

        Args:
            lon: Degrees east.
            lat: Degrees north.
            year: The year.

        Returns:
            (tile position, point positions) pairs in the order in which a point should be tried.
        """
        import shapely

        lon, lat = wrapped(lon), np.asarray(lat, dtype=np.float64)
        positions = np.flatnonzero(self.frame["year"].to_numpy() == year)
        if not positions.size or not lon.size:
            return []
        footprints = self.frame.geometry.to_numpy()[positions]
        # A hair wider than the footprint: whether a pixel is hit is decided exactly, in the tile's own coordinates.
        west, south, east, north = shapely.bounds(footprints).T
        own = zone_of(lon, lat)
        first: list[tuple[int, NDArray[np.int64]]] = []
        behind: list[tuple[int, NDArray[np.int64]]] = []
        order = np.argsort(lon, kind="stable")
        sorted_lon = lon[order]
        for local, position in enumerate(positions):
            # A footprint that crosses the antimeridian goes on beyond 180 degrees.
            turns = [0.0, *((-360.0,) if east[local] > 180 else ()), *((360.0,) if west[local] < -180 else ())]
            near = np.concatenate(
                [order[slice(*np.searchsorted(sorted_lon, [west[local] + turn - 1e-3, east[local] + turn + 1e-3]))] for turn in turns]
            )
            near = np.sort(near[(lat[near] >= south[local] - 1e-3) & (lat[near] <= north[local] + 1e-3)])
            if not near.size:
                continue
            home = belongs(own[near], self.zone_list[position])
            if home.any():
                first.append((int(position), near[home]))
            if not home.all():
                behind.append((int(position), near[~home]))
        if self.product.overlap == "nominal" and first and behind:
            # A neighbour's vectors are no substitute where the point's own zone has a tile.
            at_home = np.unique(np.concatenate([near for _, near in first]))
            behind = [(position, near[~np.isin(near, at_home)]) for position, near in behind]
        for zone in self.unfilled_zones(year):
            behind = [(position, near[~belongs(own[near], zone)]) for position, near in behind]
        return first + [(position, near) for position, near in behind if near.size]

    def unfilled_zones(self, year: int) -> list[str]:
        """The zones that the source has but has not filled in a year."""
        return sorted(zone for zone, waiting in self.unfilled if waiting == year)

    def open(self, position: int) -> Raster:
        """The raster of a tile; the last few stay open.

        Raises:
            DataError: If the index lists a tile whose file is missing or is not what the index says.
        """
        if os.getpid() != self._pid:  # handles of the parent process are not ours
            self._open, self._pid = OrderedDict(), os.getpid()
        path = self._path_list[position]
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        if not is_remote(path) and self._opener is None and not os.path.exists(path):
            tile = self.frame["tile_id"].iloc[position]
            raise DataError(
                f"tile {tile} is listed but its file is missing", source=path, remedy="Download it, or remove it from the index."
            )
        raster = self._opener(path) if self._opener is not None else open_raster(path, self.product)
        if crs_name(raster.grid.crs) != self.crs_list[position]:
            raise DataError(
                f"the index says {self.crs_list[position]}, the file {raster.grid.crs}", source=path, remedy="Rebuild the index."
            )
        self._open[path] = raster
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return raster

    def close(self) -> None:
        """Close every open tile."""
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        kept = {"frame": self.frame, "product": self.product, "description": self.description, "_opener": self._opener}
        kept |= {"unfilled": self.unfilled}
        return kept | {"_open": OrderedDict(), "_pid": -1}


def as_index(source: Source, *, year: int | None = None, of: EmbeddingProduct | None = None) -> TileIndex:
    """A `TileIndex` of whatever names tiles: an index, a folder, files, or the published index's Parquet file."""
    if isinstance(source, TileIndex):
        return source
    if isinstance(source, str | os.PathLike) and str(source).endswith(".parquet"):
        path = Path(source)
        return TileIndex.from_parquet(path, root=path.parent, of=of)
    return TileIndex.scan(source, year=year, of=of)


def footprint(grid: Grid) -> BaseGeometry:
    """The outline of a grid in WGS84 degrees; sides are bent where the projection bends them."""
    import shapely

    outline = shapely.box(*grid.bounds)
    if crs_name(grid.crs) == WGS84:
        return outline
    outline = shapely.segmentize(outline, max(grid.east - grid.west, grid.north - grid.south) / 16)
    change = transformer(grid.crs, WGS84)
    centre = change.transform((grid.west + grid.east) / 2, (grid.south + grid.north) / 2)[0]

    def degrees(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lon, lat = change.transform(x, y)
        # Beyond the antimeridian a footprint goes on instead of around the world.
        return np.where(lon - centre > 180, lon - 360, np.where(lon - centre < -180, lon + 360, lon)), lat

    return shapely.transform(outline, degrees, interleaved=False)


def _record(path: str, year: int | None, of: EmbeddingProduct) -> dict[str, Any]:
    grid = probe(path, of)
    named = year if year is not None else year_of(path)
    stated = None if is_remote(path) else year_in_tags(path, of)
    if named is not None and stated is not None and named != stated:
        raise DataError(
            f"the file's own tags say {stated}, and its {'path says' if year is None else 'year was given as'} {named}",
            source=path,
            remedy="Move it to the folder of its year, or correct the tag (`gdal_edit.py -mo`).",
        )
    named = stated if named is None else named
    if named is None:
        raise DataError(
            "its path does not say which year the embedding is of",
            source=path,
            remedy="Put it into a folder named by the year, or pass year=.",
        )
    return tile_record(tile_id_of(path), path, named, grid, of)


def tile_record(tile_id: str, path: str, year: int, grid: Grid, of: EmbeddingProduct) -> dict[str, Any]:
    """One row of an index."""
    west, south, east, north = grid.bounds
    zone = utm_zone(grid.crs)
    return {
        "tile_id": tile_id,
        "path": path,
        "year": year,
        "utm_zone": zone.rstrip("NS") if zone and of.hemispheres == "north" else zone,
        "crs": crs_name(grid.crs),
        "west": west,
        "south": south,
        "east": east,
        "north": north,
        "geometry": footprint(grid),
    }


def _frame(records: list[dict[str, Any]]) -> gpd.GeoDataFrame:
    """The index of records; tiles whose short names are the same get as much of their path as tells them apart."""
    import geopandas as gpd

    names = Counter(record["tile_id"] for record in records)
    again = [record for record in records if names[record["tile_id"]] > 1]
    if again:
        common = os.path.commonpath([os.path.dirname(record["path"]) for record in again]) if len(again) > 1 else ""
        for record in again:
            record["tile_id"] = stem(os.path.relpath(record["path"], common)).replace(os.sep, "/")
    frame = gpd.GeoDataFrame(records, columns=[*COLUMNS, "geometry"], geometry="geometry", crs=WGS84)
    return frame.sort_values(["year", "tile_id", "path"], kind="stable", ignore_index=True)


def _geometry(row: Any) -> BaseGeometry:
    import shapely

    geometry = getattr(row, "geometry", None)
    if isinstance(geometry, bytes):
        return shapely.from_wkb(geometry)
    return shapely.box(row.wgs84_west, row.wgs84_south, row.wgs84_east, row.wgs84_north)
