"""The AlphaEarth annual embedding as a TorchGeo dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchgeo.datasets import GoogleSatelliteEmbedding, UnionDataset
from torchgeo.datasets.utils import disambiguate_timestamp

from rs05bench.embeddings.blocks import DEFAULT_LIMIT, BlockCache
from rs05bench.embeddings.codec import ATTRIBUTION, BANDS, CITATION, LICENCE, MASKED, decode, encode
from rs05bench.embeddings.grid import WGS84, crs_name, crs_of, is_geographic, name_of, transformer
from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.resample import Target, is_native, read_onto
from rs05bench.embeddings.tiles import Source, as_index
from rs05bench.embeddings.window import read_window, read_windows
from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from pyproj import CRS

_UNIT_ID = re.compile(r"(?P<tile>.+)@(?P<row>-?\d+)-(?P<column>-?\d+)-(?P<height>\d+)x(?P<width>\d+)")
_TEN_METRES = 8.983152841195215e-05  # in degrees of latitude: the pixel of the published WGS84 products


@dataclass(slots=True)
class _Lookup:
    """The index as arrays: a query of a GeoDataFrame costs more than cutting a small chip."""

    index: Any
    bounds: NDArray[np.float64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    tile: NDArray[np.int64]
    extent: tuple[slice, slice, slice]


class AlphaEarthEmbedding(GoogleSatelliteEmbedding):
    """AlphaEarth annual embeddings, decoded with the true formula, masked before decoding, never warped silently.

    Reads the published tiles (bottom-up int8 files), top-down copies and float exports from Earth Engine: folders, single files, remote
    files over HTTP and object storage, and the Zarr mosaic (through `rs05bench.embeddings.open_source`).

    The index is in WGS84, because the tiles of an area lie in several UTM zones. Native pixels are read by unit (:meth:`chip`) or around a
    place (:meth:`around`). TorchGeo's samplers and `ds[x, y, t]` need one CRS: say which with `crs=`, or `crs="native"` where all tiles
    have the same. Tiles in that CRS are then copied pixel by pixel; tiles of another CRS are resampled only because you named one.

    Samples hold `image` (bands, height, width), north up; float32 with NaN where masked, or the int8 bytes with `decoded=False`. A batch
    of bytes is a quarter of the size: move it first and decode it on its device with `DecodeEmbedding`.

    Args:
        paths: Folders, files, addresses, the published index (`.parquet`), or a `TileIndex`.
        crs: The CRS that slices are in. None (the index is then in WGS84 and only tiles that are in WGS84 can be sliced), `"native"`, or
            anything pyproj understands.
        res: Pixel size in units of `crs`; None takes the tiles'. Larger pixels are means of unit vectors, scaled to unit length.
        bands: Names of the bands to return; None for all 64.
        transforms: A function of a sample.
        cache: Keep decompressed blocks in memory.
        time_series: Stack years as `(years, bands, height, width)` instead of asking for a single one.
        year: The year of files whose path does not name one.
        decoded: Return float32 components; else int8.
        masked: The value of masked pixels in decoded images.
        memory: Bytes of decompressed blocks kept in memory.
        cache_dir: Folder where decompressed blocks are kept on disk and shared between loader workers.

    Raises:
        DataError: If a file is not an AlphaEarth raster, nothing is found, or the CRS is ambiguous.

    References:
        * https://arxiv.org/abs/2507.22291
        * https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_SATELLITE_EMBEDDING_V1_ANNUAL
    """

    all_bands = BANDS
    licence = LICENCE
    citation = CITATION
    attribution = ATTRIBUTION

    def __init__(
        self,
        paths: Source = "data",
        crs: CRS | str | None = None,
        res: float | tuple[float, float] | None = None,
        bands: Sequence[str] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        cache: bool = True,
        time_series: bool = False,
        *,
        year: int | None = None,
        decoded: bool = True,
        masked: float = float("nan"),
        memory: int = DEFAULT_LIMIT,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.tile_index = as_index(paths, year=year)
        if not len(self.tile_index):
            raise DataError("no tile is left", source=self.tile_index.description)
        unknown = sorted(set(bands or ()) - set(BANDS))
        if unknown:
            raise DataError(f"no band {', '.join(unknown)}", source=self.tile_index.description, remedy="The bands are A00..A63.")
        self.paths = paths
        self.bands = tuple(bands or BANDS)
        self.band_indexes = [BANDS.index(band) + 1 for band in self.bands]
        self.transforms, self.cache, self.time_series = transforms, cache, time_series
        self.decoded, self.masked = decoded, masked
        self._bands = tuple(number - 1 for number in self.band_indexes)
        self._blocks = BlockCache(memory if cache else 0, cache_dir)
        self._tile_of_path = {str(path): position for position, path in enumerate(self.tile_index.frame["path"])}
        self._explicit = crs is not None
        self._set_crs(self._only_crs() if isinstance(crs, str) and crs == "native" else name_of(crs if crs is not None else WGS84))
        self._res = self._native_res() if res is None else ((float(res), float(res)) if isinstance(res, int | float) else tuple(res))

    @property
    def tiles(self) -> gpd.GeoDataFrame:
        """One row a tile: id, path, year, UTM zone, CRS, bounds in that CRS, footprint in WGS84."""
        return self.tile_index.frame

    @property
    def crs(self) -> CRS:
        """The CRS that slices are in."""
        return self.index.crs

    @crs.setter
    def crs(self, new_crs: CRS | str) -> None:
        # TorchGeo sets this when datasets are combined. It moves the index; it does not allow warping, which only the user may.
        if name_of(new_crs) != self._crs:
            self._set_crs(name_of(new_crs))

    @property
    def bounds(self) -> tuple[slice, slice, slice]:
        """Bounds of the index as x, y and t slices."""
        xres, yres = self.res
        x, y, t = self._look().extent
        return slice(x.start, x.stop, xres), slice(y.start, y.stop, yres), t

    def __getitem__(self, index: Any) -> dict[str, Any]:
        """The embedding of a slice `[xmin:xmax:xres, ymin:ymax:yres, tmin:tmax:tres]` in the dataset's CRS.

        Raises:
            IndexError: If nothing lies there.
            DataError: If a tile there has another CRS and none was asked for, or if several years lie there and `time_series` is off.
        """
        x, y, t = self._disambiguate_slice(index)
        found = self._find(x, y, t)
        if not found.size:
            raise IndexError(f"index: {index} not found in dataset with bounds: {self.bounds}")
        target = Target(
            self._crs,
            x.start,
            y.stop,
            x.step,
            y.step,
            max(1, round((y.stop - y.start) / y.step)),
            max(1, round((x.stop - x.start) / x.step)),
        )
        years = self._years_of[found]
        different = np.unique(years) if years.size > 1 else years
        if self.time_series:
            values = np.stack([self._finish(self._mosaic(found[years == year], target)) for year in different[:: t.step]])
        elif different.size > 1:
            raise DataError(
                f"{different.size} years lie in this slice ({', '.join(map(str, different))})",
                source=self.tile_index.description,
                remedy="Slice the time too, or pass time_series=True: embeddings of different years are never merged.",
            )
        else:
            values = self._finish(self._mosaic(found, target))
        sample: dict[str, Any] = {
            "bounds": torch.tensor([x.start, x.stop, x.step, y.start, y.stop, y.step, t.start.timestamp(), t.stop.timestamp(), t.step]),
            "transform": torch.tensor((x.step, 0.0, x.start, 0.0, -y.step, y.stop, 0.0, 0.0, 1.0)),
            "image": torch.from_numpy(values),
        }
        return sample if self.transforms is None else self.transforms(sample)

    def units(
        self, size: int | tuple[int, int] = 256, stride: int | None = None, area: Any = None, years: Iterable[int] | None = None
    ) -> gpd.GeoDataFrame:
        """The native chips that tile every tile.

        Args:
            size: Height and width of a chip in pixels.
            stride: Pixels from one chip to the next; None for no overlap.
            area: Bounds or geometry in WGS84 that a chip must meet.
            years: Years wanted; None for all.

        Returns:
            One row a chip: `unit_id, tile_id, row, column, height, width, year, utm_zone, crs, lon, lat` and its footprint (WGS84).
        """
        import geopandas as gpd
        import shapely

        height, width = (size, size) if isinstance(size, int) else size
        index = self.tile_index.search(area, years)
        records, shapes = [], []
        for position, tile in enumerate(index.frame.itertuples(index=False)):
            grid = index.open(position).grid
            change = transformer(grid.crs, WGS84)
            for row in range(0, grid.height - height + 1, stride or height):
                for column in range(0, grid.width - width + 1, stride or width):
                    west, north = grid.west + column * grid.xres, grid.north - row * grid.yres
                    corners = [west, west + width * grid.xres], [north - height * grid.yres, north]
                    ring_x, ring_y = change.transform([corners[0][i] for i in (0, 1, 1, 0)], [corners[1][i] for i in (0, 0, 1, 1)])
                    lon, lat = change.transform(sum(corners[0]) / 2, sum(corners[1]) / 2)
                    shapes.append(shapely.Polygon(zip(ring_x, ring_y, strict=True)))
                    unit = f"{tile.tile_id}@{row}-{column}-{height}x{width}"
                    records.append((unit, tile.tile_id, row, column, height, width, tile.year, tile.utm_zone, tile.crs, lon, lat))
        columns = ["unit_id", "tile_id", "row", "column", "height", "width", "year", "utm_zone", "crs", "lon", "lat"]
        frame = gpd.GeoDataFrame(records, columns=columns, geometry=shapes, crs=WGS84)
        if area is not None:
            frame = frame[frame.intersects(shapely.box(*area) if isinstance(area, tuple) else area)]
        return frame.sort_values("unit_id", ignore_index=True)

    def chip(self, unit_id: str) -> dict[str, Any]:
        """The native pixels of a unit of :meth:`units`: no resampling, north up, in the tile's own CRS.

        Returns:
            A sample with `image`, `bounds`, `transform`, and the strings `crs` and `unit_id`.
        """
        position, row, column, height, width = self._parse(unit_id)
        return self._native(position, row, column, height, width, unit_id)

    def chips(self, unit_ids: Sequence[str], out: NDArray[Any] | None = None) -> NDArray[np.int8]:
        """The bytes of many units of one shape, `(units, bands, height, width)` int8: the fastest way to a batch.

        Decode the batch on its device with `decode_tensor` (or `decode` for NumPy).
        """
        parsed = [self._parse(unit_id) for unit_id in unit_ids]
        shapes = {(height, width) for *_, height, width in parsed}
        if len(shapes) != 1:
            raise DataError(f"chips of one batch must have one shape, found {sorted(shapes)}")
        ((height, width),) = shapes
        if out is None:
            out = np.empty((len(parsed), len(self.bands), height, width), dtype=np.int8)
        members: dict[int, list[int]] = {}
        for number, (position, *_) in enumerate(parsed):
            members.setdefault(position, []).append(number)
        for position, numbers in members.items():
            raster = self.tile_index.open(position)
            corners = [(parsed[number][1], parsed[number][2]) for number in numbers]
            whole = len(numbers) == len(parsed) and raster.dtype == np.int8
            values = read_windows(raster, self._blocks, corners, height, width, bands=self._bands, out=out if whole else None)
            if not whole:
                out[numbers] = values if values.dtype == np.int8 else encode(values, axis=1)
        return out

    def around(self, lon: float, lat: float, size: int, year: int) -> dict[str, Any]:
        """The native chip whose centre pixel holds a place, from the tile of the place's own UTM zone.

        What lies beyond that tile is filled from its neighbours of the same CRS and grid; where there are none it stays masked.

        Args:
            lon: Degrees east.
            lat: Degrees north.
            size: Height and width in pixels.
            year: The year.

        Raises:
            DataError: If no tile of that year holds the place.
        """
        self.tile_index.require_years([year])
        for position, _ in self.tile_index.candidates([lon], [lat], year):
            grid = self.tile_index.open(position).grid
            x, y = transformer(WGS84, grid.crs).transform(lon, lat)
            row, column = (int(v) for v in grid.rows_columns(x, y))
            if 0 <= row < grid.height and 0 <= column < grid.width:
                return self._native(
                    position, row - size // 2, column - size // 2, size, size, f"{lon:.6f},{lat:.6f},{year}", neighbours=True
                )
        raise DataError(f"no tile of {year} holds longitude {lon:g}, latitude {lat:g}", source=self.tile_index.description)

    def points(self, lon: Any, lat: Any, year: Any, *, decoded: bool = True) -> NDArray[Any]:
        """The embedding at points, see `read_points`."""
        return read_points(self.tile_index, lon, lat, year, decoded=decoded)

    def plot(self, sample: dict[str, Any], show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Plot a sample: the first three principal components of its vectors as red, green and blue.

        Colours are made for each image alone and cannot be compared between images. Masked pixels are hatched grey. A `mask` and a
        `prediction` in the sample are drawn beside it.
        """
        from rs05bench.datasets.embedding_plot import plot_sample

        return plot_sample(sample, show_titles=show_titles, suptitle=suptitle)

    def __or__(self, other: Any) -> UnionDataset:
        """The union with another dataset; two embeddings are merged by their masks (a zero component is a value, not a gap)."""
        if isinstance(other, AlphaEarthEmbedding):
            return UnionDataset(self, other, collate_fn=merge_by_mask)
        return super().__or__(other)

    def _set_crs(self, crs: str) -> None:
        import geopandas as gpd
        import pandas as pd
        import shapely

        tiles = self.tile_index.frame
        shapes = []
        for tile in tiles.itertuples(index=False):
            if tile.crs == crs:
                shapes.append(shapely.box(tile.west, tile.south, tile.east, tile.north))
            elif crs == WGS84:
                shapes.append(tile.geometry)
            else:
                change = transformer(WGS84, crs)
                shapes.append(shapely.transform(tile.geometry, lambda x, y, to=change: to.transform(x, y), interleaved=False))
        spans = [disambiguate_timestamp(str(int(year)), "%Y") for year in tiles["year"]]
        when = pd.IntervalIndex.from_tuples(spans, closed="both", name="datetime")
        self._crs = crs
        self.index = gpd.GeoDataFrame({"filepath": list(tiles["path"])}, index=when, geometry=shapes, crs=crs_of(crs))
        self._lookup: _Lookup | None = None

    def _look(self) -> _Lookup:
        # TorchGeo's splitters replace `index`; whatever it is now is what counts.
        if self._lookup is None or self._lookup.index is not self.index:
            frame = self.index
            bounds = frame.geometry.bounds.to_numpy()
            left, right = frame.index.left, frame.index.right
            tile = np.array([self._tile_of_path[str(path)] for path in frame["filepath"]], dtype=np.int64)
            extent = (
                slice(float(bounds[:, 0].min()), float(bounds[:, 2].max())),
                slice(float(bounds[:, 1].min()), float(bounds[:, 3].max())),
                slice(left.min(), right.max(), 1),
            )
            self._lookup = _Lookup(frame, bounds, _nanoseconds(left), _nanoseconds(right), tile, extent)
        return self._lookup

    @property
    def _years_of(self) -> NDArray[np.int64]:
        return self.tile_index.year_array

    def _find(self, x: slice, y: slice, t: slice) -> NDArray[np.int64]:
        """Tile positions that overlap a slice."""
        look = self._look()
        west, south, east, north = look.bounds.T
        hit = (west < x.stop) & (east > x.start) & (south < y.stop) & (north > y.start)
        hit &= (look.start <= t.stop.as_unit("ns").value) & (look.stop >= t.start.as_unit("ns").value)
        found = look.tile[hit]
        return found if found.size < 2 else np.unique(found)

    def _mosaic(self, positions: NDArray[np.int64], target: Target) -> NDArray[Any]:
        """Tiles of one year on one grid: native ones first, each next one where those before are masked."""
        rasters = [self.tile_index.open(int(position)) for position in positions]
        if len(rasters) > 1:
            rasters.sort(key=lambda raster: not is_native(raster, target))
        out: NDArray[Any] | None = None
        for raster in rasters:
            if not self._explicit and crs_name(raster.grid.crs) != target.crs:
                raise DataError(
                    f"the slice is in {target.crs}, the tile in {raster.grid.crs}: it would have to be warped",
                    source=raster.name,
                    remedy='Pass crs= for the CRS of slices (crs="native" where all tiles share one), or read native chips by unit.',
                )
            values = read_onto(raster, self._blocks, target, self._bands)
            if out is None:
                out = values
            else:
                out = _fill(out, values)
            if not _is_masked(out).any():
                break
        assert out is not None
        return out

    def _native(
        self, position: int, row: int, column: int, height: int, width: int, unit_id: str, *, neighbours: bool = False
    ) -> dict[str, Any]:
        raster = self.tile_index.open(position)
        grid = raster.grid
        values = read_window(raster, self._blocks, row, column, height, width, bands=self._bands)
        if neighbours and (row < 0 or column < 0 or row + height > grid.height or column + width > grid.width):
            values = self._from_neighbours(position, values, row, column)
        west, north = grid.west + column * grid.xres, grid.north - row * grid.yres
        east, south = west + width * grid.xres, north - height * grid.yres
        start, stop = disambiguate_timestamp(str(int(self._years_of[position])), "%Y")
        sample: dict[str, Any] = {
            "bounds": torch.tensor([west, east, grid.xres, south, north, grid.yres, start.timestamp(), stop.timestamp(), 1]),
            "transform": torch.tensor((*grid.transform(row, column), 0.0, 0.0, 1.0)),
            "image": torch.from_numpy(self._finish(values)),
            "crs": grid.crs,
            "unit_id": unit_id,
        }
        return sample if self.transforms is None else self.transforms(sample)

    def _from_neighbours(self, position: int, values: NDArray[Any], row: int, column: int) -> NDArray[Any]:
        frame = self.tile_index.frame
        here, grid = frame.iloc[position], self.tile_index.open(position).grid
        height, width = values.shape[-2:]
        west, north = grid.west + column * grid.xres, grid.north - row * grid.yres
        east, south = west + width * grid.xres, north - height * grid.yres
        near = (frame["crs"] == here["crs"]) & (frame["year"] == here["year"])
        near &= (frame["west"] < east) & (frame["east"] > west) & (frame["south"] < north) & (frame["north"] > south)
        for other in np.flatnonzero(near.to_numpy()):
            raster = self.tile_index.open(int(other))
            target = Target(crs_name(grid.crs), west, north, grid.xres, grid.yres, height, width)
            if other != position and is_native(raster, target):
                values = _fill(values, read_onto(raster, self._blocks, target, self._bands))
        return values

    def _finish(self, values: NDArray[Any]) -> NDArray[Any]:
        """Bytes or floats as the user asked for them."""
        if not self.decoded:
            return values if values.dtype == np.int8 else encode(values, axis=0)
        if values.dtype == np.int8:
            return decode(values, masked=self.masked)
        return values if np.isnan(self.masked) else np.nan_to_num(values, nan=self.masked)

    def _parse(self, unit_id: str) -> tuple[int, int, int, int, int]:
        match = _UNIT_ID.fullmatch(unit_id)
        if match is None:
            raise DataError(
                f"{unit_id!r} is not a unit of this dataset", remedy="Unit ids come from units(), e.g. 2024/10N/x@0-256-256x256."
            )
        position = self.tile_index.position(match["tile"])
        return position, int(match["row"]), int(match["column"]), int(match["height"]), int(match["width"])

    def _only_crs(self) -> str:
        found = sorted(set(self.tile_index.frame["crs"]))
        if len(found) != 1:
            raise DataError(
                f"the tiles have {len(found)} CRSs ({', '.join(found)})", source=self.tile_index.description, remedy="Name one with crs=."
            )
        return found[0]

    def _native_res(self) -> tuple[float, float]:
        """Pixel size of the first tile in the dataset's CRS, else the published ten metres."""
        for position in np.flatnonzero((self.tile_index.frame["crs"] == self._crs).to_numpy())[:1]:
            grid = self.tile_index.open(int(position)).grid
            return grid.xres, grid.yres
        return (_TEN_METRES, _TEN_METRES) if is_geographic(self._crs) else (10.0, 10.0)


def merge_by_mask(samples: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Merge samples of the same place: each next one fills what is masked (NaN, or -128 in bytes) in those before."""
    merged: dict[str, Any] = {}
    for sample in samples:
        for key, value in sample.items():
            if key not in merged:
                merged[key] = value
            elif key == "image":
                gap = merged[key] == MASKED if merged[key].dtype == torch.int8 else torch.isnan(merged[key])
                merged[key] = torch.where(gap, value, merged[key])
    return merged


def _is_masked(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which pixels are masked; one band tells, because all are."""
    return values[0] == MASKED if values.dtype == np.int8 else np.isnan(values[0])


def _fill(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    if first.dtype != second.dtype:  # a float export beside published bytes
        first, second = (decode(values) if values.dtype == np.int8 else values for values in (first, second))
    return np.where(_is_masked(first), second, first)


def _nanoseconds(index: pd.DatetimeIndex) -> NDArray[np.int64]:
    return index.as_unit("ns").asi8
