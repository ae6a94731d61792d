"""Public embeddings of any product as a TorchGeo dataset."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import torch
from torchgeo.datasets import RasterDataset, UnionDataset
from torchgeo.datasets.utils import disambiguate_timestamp

from rs05bench.datasets.absent import MissingDatasetError
from rs05bench.datasets.files import refuse_unknown
from rs05bench.datasets.given_tiles import index_of_tiles
from rs05bench.datasets.native_units import native_units, parse_unit
from rs05bench.datasets.slice_lookup import SliceLookup, whole_index
from rs05bench.embeddings.block_cache import DEFAULT_LIMIT, BlockCache
from rs05bench.embeddings.points import read_points
from rs05bench.embeddings.products import EmbeddingProduct, product
from rs05bench.embeddings.readers import holding, mosaic, neighbours
from rs05bench.embeddings.resample import is_native, read_onto
from rs05bench.embeddings.tile_index import Source
from rs05bench.embeddings.window import read_window, read_windows
from rs05bench.errors import DataError
from rs05bench.protocol.pixel_grid import WGS84, Grid, crs_name, crs_of, is_geographic, name_of, transformer

if TYPE_CHECKING:
    import geopandas as gpd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from pyproj import CRS

_DEGREES_PER_METRE = 8.983152841195215e-06  # of latitude


class TileReading(TypedDict, total=False):
    """How the tiles of an embedding are read: keywords of `EmbeddingRasters`, described there."""

    of: str | os.PathLike[str] | EmbeddingProduct | None
    year: int | None
    unfilled: str
    decoded: bool
    masked: float
    memory: int
    cache_dir: str | os.PathLike[str] | None


class EmbeddingRasters(RasterDataset):
    """A public embedding product: decoded as its record states, missing pixels masked before decoding, never warped silently.

    Reads whatever `rs05bench.embeddings.open_source` opens: folders, single files, remote files over HTTP and object storage, Zarr stores.

    The index is in the tiles' own CRS where all of them share one, else in WGS84. Tiles in the CRS of a slice are copied pixel by pixel;
    tiles of another one are resampled, with a warning where nobody named that CRS. Native pixels are read by unit (:meth:`chip`) or around
    a place (:meth:`around`).

    Samples hold `image` (bands, height, width), north up; float32 with NaN where missing, or with
    `decoded=False` what the product stores.
    A batch of bytes is a quarter of the size: move it first and decode it on its device with `DecodeEmbedding`.

    Args:
        paths: Folders, files, addresses, a store, the published index (`.parquet`), or a `TileIndex`.
        crs: The CRS that slices are in: anything pyproj understands, an EPSG number, `"native"` to insist on the tiles' own, or None.
        res: Pixel size in units of `crs`; None takes the tiles'. Larger pixels are means (scaled to unit length where the product is).
        bands: Names of the components to return; None for all.
        transforms: A function of a sample.
        cache: Keep decompressed blocks in memory.
        time_series: Stack years as `(years, bands, height, width)` instead of asking for a single one.
        **reading: `of`, the product, by name or record (YAML), default that of the class; `year` of all files, by default taken
            from each path; `unfilled`, what to do with zone-years that a store does not list as complete, `skip` (with a warning that
            names them) or `refuse`; `decoded=False` returns what the product stores instead of float32 components; `masked`, the value
            of missing pixels in decoded images, default NaN; `memory`, bytes of decompressed blocks kept in memory; `cache_dir`, a
            folder where decompressed blocks are kept on disk and shared between loader workers.

    Raises:
        MissingDatasetError: Nothing is found (also a `DatasetNotFoundError`).
        DataError: If a file does not hold the product, or the CRS is ambiguous.
    """

    product_name: str = ""
    index: gpd.GeoDataFrame
    _lookup: SliceLookup | None

    def __init__(
        self,
        paths: Source = "data",
        crs: CRS | str | None = None,
        res: float | tuple[float, float] | None = None,
        bands: Sequence[str] | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        cache: bool = True,
        time_series: bool = False,
        **reading: Unpack[TileReading],
    ) -> None:
        refuse_unknown(reading, TileReading)
        of = reading.get("of")
        record = of if isinstance(of, EmbeddingProduct) else product(*filter(None, [os.fspath(of) if of else self.product_name]))
        self.tile_index = index_of_tiles(paths, record, reading.get("year"), reading.get("unfilled", "skip"))
        if not len(self.tile_index):
            raise MissingDatasetError("no tile is left", source=self.tile_index.description)
        self.product = self.tile_index.product
        self.all_bands = self.product.bands
        unknown = sorted(set(bands or ()) - set(self.all_bands))
        if unknown:
            remedy = f"The bands are {self.all_bands[0]} to {self.all_bands[-1]}."
            raise UnknownBandError(f"no band {', '.join(unknown)}", source=self.tile_index.description, remedy=remedy)
        self.paths = paths
        self.bands = tuple(bands or self.all_bands)
        self._bands = tuple(self.all_bands.index(band) for band in self.bands)
        self.band_indexes = [number + 1 for number in self._bands]
        self.transforms, self.cache, self.time_series = transforms, cache, time_series
        self.decoded, self.masked = reading.get("decoded", True), reading.get("masked", float("nan"))
        self._blocks = BlockCache(reading.get("memory", DEFAULT_LIMIT) if cache else 0, reading.get("cache_dir"))
        self._tile_of_path = {str(path): position for position, path in enumerate(self.tile_index.frame["path"])}
        own = sorted(set(self.tile_index.frame["crs"]))
        if isinstance(crs, str) and crs == "native" and len(own) != 1:
            raise DataError(
                f"the tiles have {len(own)} CRSs ({', '.join(own)})", source=self.tile_index.description, remedy="Name one with crs=."
            )
        # Where nobody named a CRS and the tiles have several, slices warp: they say so once.
        self._warn_of_warping = crs is None and len(own) > 1
        self._crs = (own[0] if len(own) == 1 else WGS84) if crs is None or (isinstance(crs, str) and crs == "native") else name_of(crs)
        spans = [disambiguate_timestamp(str(int(year)), "%Y") for year in self.tile_index.frame["year"]]
        self._make_index([str(path) for path in self.tile_index.frame["path"]], spans)
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
    def crs(self, new_crs: CRS | str | int) -> None:
        """Move the index to another CRS, as TorchGeo does when datasets are combined; the tiles of a split stay its own."""
        target = name_of(new_crs)
        if target == self._crs:
            return
        before, index = self._crs, self._rows()
        moved = index.geometry.to_crs(crs_of(target)).to_numpy()
        positions = [self._tile_of_path[str(path)] for path in index["filepath"]]
        # Whole tiles get their exact footprint in the new CRS; what a splitter cut out of one stays as it was cut.
        for row, (shape, position) in enumerate(zip(index.geometry.to_numpy(), positions, strict=True)):
            if shape.equals_exact(self._outline(position, before), 1e-9):
                moved[row] = self._outline(position, target)
        self._crs, self._warn_of_warping = target, False
        self.index = index.assign(geometry=moved).set_geometry("geometry", crs=crs_of(target))
        self._lookup = None

    @property
    def dtype(self) -> torch.dtype:
        """Of `image`: float32, or what the product stores."""
        return torch.float32 if self.decoded or self.product.codec.dtype != np.int8 else torch.int8

    @property
    def files(self) -> list[str]:
        """The raster files (or addresses) of the tiles."""
        return [str(path) for path in self._rows()["filepath"]]

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
            DataError: If several years are there and `time_series` is off.
        """
        x, y, t = self._disambiguate_slice(index)
        found = self._look().find(x, y, t)
        if not found.size:
            raise IndexError(f"index: {index} not found in dataset with bounds: {self.bounds}")
        target = Grid(
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
        """The native chips that tile every tile, see `rs05bench.datasets.native_units.native_units`."""
        return native_units(self.tile_index, size, stride, area, years)

    def chip(self, unit_id: str) -> dict[str, Any]:
        """The native pixels of a unit of :meth:`units`: no resampling, north up, in the tile's own CRS.

        Returns:
            A sample with `image`, `bounds`, `transform`, and the strings `crs` and `unit_id`.
        """
        position, row, column, height, width = parse_unit(self.tile_index, unit_id)
        return self._native(position, row, column, height, width, unit_id)

    def chips(self, unit_ids: Sequence[str], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The stored values of many units of one shape, `(units, bands, height, width)`: the fastest way to a batch.

        Decode the batch on its device with `decode_tensor` (or `decode` for NumPy).
        """
        parsed = [parse_unit(self.tile_index, unit_id) for unit_id in unit_ids]
        shapes = {(height, width) for *_, height, width in parsed}
        if len(shapes) != 1:
            raise DataError(f"chips of one batch must have one shape, found {sorted(shapes)}")
        ((height, width),) = shapes
        if out is None:
            out = np.empty((len(parsed), len(self.bands), height, width), dtype=self.product.codec.dtype)
        members: dict[int, list[int]] = {}
        for number, (position, *_) in enumerate(parsed):
            members.setdefault(position, []).append(number)
        for position, numbers in members.items():
            raster = self.tile_index.open(position)
            corners = [(parsed[number][1], parsed[number][2]) for number in numbers]
            whole = len(numbers) == len(parsed) and raster.dtype == out.dtype
            values = read_windows(raster, self._blocks, corners, height, width, bands=self._bands, out=out if whole else None)
            if not whole:
                out[numbers] = self.product.codec.as_stored(values, axis=1)
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
        position, row, column = holding(self.tile_index, lon, lat, year)
        name = f"{lon:.6f},{lat:.6f},{year}"
        return self._native(position, row - size // 2, column - size // 2, size, size, name, neighbours=True)

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
        if isinstance(other, EmbeddingRasters):
            if other.product.name != self.product.name:
                raise DataError(
                    f"{self.product.name} | {other.product.name}: vectors of two products cannot fill each other's gaps",
                    remedy="Combine them with & and take the image of each.",
                )
            return UnionDataset(self, other, collate_fn=partial(merge_by_mask, fill=self.product.codec.fill))
        return super().__or__(other)

    def observation_counts(self, lon: Any, lat: Any, year: int) -> dict[str, NDArray[np.float32]]:
        """How many observations went into the vectors at points; empty where the product records none."""
        from rs05bench.embeddings.zarr_raster import observation_counts

        return observation_counts(self.tile_index, lon, lat, year)

    def _make_index(self, paths: list[str], spans: list[Any]) -> None:
        import geopandas as gpd
        import pandas as pd

        shapes = [self._outline(position, self._crs) for position in range(len(self.tile_index))]
        when = pd.IntervalIndex.from_tuples(spans, closed="both", name="datetime")
        self.index = gpd.GeoDataFrame({"filepath": paths}, index=when, geometry=shapes, crs=crs_of(self._crs))
        self._lookup = None

    def _outline(self, position: int, crs: str) -> Any:
        """The footprint of a tile in a CRS."""
        import shapely

        tile = self.tile_index.frame.iloc[position]
        if tile["crs"] == crs:
            return shapely.box(tile["west"], tile["south"], tile["east"], tile["north"])
        if crs == WGS84:
            return tile["geometry"]
        change = transformer(WGS84, crs)
        return shapely.transform(tile["geometry"], lambda x, y: change.transform(x, y), interleaved=False)

    def __getstate__(self) -> dict[str, Any]:
        # A copy may be edited in place, as TorchGeo's splitters do: it looks its index up again.
        return self.__dict__ | {"_lookup": None}

    def _look(self) -> SliceLookup:
        # TorchGeo's splitters replace `index`; whatever it is now is what counts.
        if self._lookup is None or self._lookup.index is not self.index:
            self._lookup = SliceLookup(self._rows(), self._tile_of_path)
        return self._lookup

    def _rows(self) -> gpd.GeoDataFrame:
        """The index, with the column that says which file a row is."""
        return whole_index(self.index, "filepath", self.tile_index.description)

    @property
    def _years_of(self) -> NDArray[np.int64]:
        return self.tile_index.year_array

    def _mosaic(self, positions: NDArray[np.int64], target: Grid) -> NDArray[Any]:
        """Tiles of one year on one grid: a single native one as it is stored, else each pixel from the tile of its own zone."""
        rasters = [self.tile_index.open(int(position)) for position in positions]
        if self._warn_of_warping and any(crs_name(raster.grid.crs) != target.crs for raster in rasters):
            self._warn_of_warping = False
            warnings.warn(
                f"{self.tile_index.description}: the tiles have several CRSs, so slices are in {target.crs} and take the nearest pixel; "
                "pass crs= for another one, or read native chips by unit",
                UserWarning,
                stacklevel=4,
            )
        several = len({self.tile_index.zone_list[int(position)] for position in positions}) > 1
        if self.product.overlap == "nominal" and (several or self.tile_index.unfilled):
            return mosaic(self.tile_index, self._blocks, [int(position) for position in positions], target, self._bands)
        if len(rasters) > 1:
            rasters.sort(key=lambda raster: not is_native(raster, target))
        out: NDArray[Any] | None = None
        for raster in rasters:
            values = read_onto(raster, self._blocks, target, self._bands)
            out = values if out is None else self._fill(out, values)
            if not self.product.codec.is_missing(out[0]).any():
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
        grid = self.tile_index.open(position).grid
        height, width = values.shape[-2:]
        target = Grid(crs_name(grid.crs), grid.west + column * grid.xres, grid.north - row * grid.yres, grid.xres, grid.yres, height, width)
        for other in neighbours(self.tile_index, target, int(self._years_of[position])):
            raster = self.tile_index.open(other)
            if other != position and is_native(raster, target):
                values = self._fill(values, read_onto(raster, self._blocks, target, self._bands))
        return values

    def _fill(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
        codec = self.product.codec
        if first.dtype != second.dtype:  # a float export beside published bytes
            first, second = (codec.decode(values) if values.dtype == np.int8 else values for values in (first, second))
        return np.where(codec.is_missing(first[0]), second, first)

    def _finish(self, values: NDArray[Any]) -> NDArray[Any]:
        """Stored values or components, as the user asked for them."""
        codec = self.product.codec
        if not self.decoded:
            return codec.as_stored(values, axis=0)
        if values.dtype == codec.dtype:
            return codec.decode(values, masked=self.masked)
        return values if np.isnan(self.masked) else np.nan_to_num(values, nan=self.masked)

    def _native_res(self) -> tuple[float, float]:
        """Pixel size of the first tile in the dataset's CRS, else that of the first tile, in degrees where the CRS is in degrees."""
        same = np.flatnonzero((self.tile_index.frame["crs"] == self._crs).to_numpy())
        grid = self.tile_index.open(int(same[0]) if same.size else 0).grid
        if same.size or is_geographic(self._crs) == is_geographic(grid.crs):
            return grid.xres, grid.yres
        scale = _DEGREES_PER_METRE if is_geographic(self._crs) else 1 / _DEGREES_PER_METRE
        return grid.xres * scale, grid.yres * scale


class UnknownBandError(DataError, AssertionError):
    """A band that a product does not have; also an `AssertionError`, which TorchGeo raises for it."""


def merge_by_mask(samples: Iterable[dict[str, Any]], fill: float = float("nan")) -> dict[str, Any]:
    """Merge samples of one product and place: each next one fills what is missing in those before."""
    merged: dict[str, Any] = {}
    for sample in samples:
        for key, value in sample.items():
            if key not in merged:
                merged[key] = value
            elif key == "image":
                held = merged[key]
                gap = held == fill if held.dtype == torch.int8 else torch.isnan(held)
                merged[key] = torch.where(gap, value, held)
    return merged
