"""Zarr groups of embeddings: arrays (time, band, y, x) on one grid, or on one grid a UTM zone.

Two layouts are read. A mosaic is one group with the array `embeddings` and the years along its first axis. A store of the
`geoemb: convention <https://github.com/geo-embeddings/embeddings-zarr-convention>`_ with the spatial layout `utm_zones` has one such group
per zone (`utm01` to `utm60`), its CRS under `proj:code`, and with `per_pixel_scale` a float32 array of factors: one that is NaN (water, or
never embedded) or infinite (land that is not filled yet) marks a pixel without an embedding.
"""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rs05bench.embeddings.bytesource import is_remote, store_for
from rs05bench.embeddings.grid import WGS84, Grid, crs_name, grid_from_affine, transformer
from rs05bench.embeddings.products import EmbeddingProduct, PixelScale, product
from rs05bench.embeddings.raster import block_extent
from rs05bench.embeddings.tiles import COLUMNS, TileIndex, tile_record
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

_X_NAMES, _Y_NAMES, _TIME_NAMES = ("x", "lon", "longitude"), ("y", "lat", "latitude"), ("time", "year", "t")
_ZONE_GROUP = re.compile(r"utm(\d{2})")
_SMALLEST_BLOCK = 128  # pixels: below that, chunks are read together


@dataclass(frozen=True, slots=True)
class _Arrays:
    """What is read of a group: the components and, where they have one, their factor a pixel."""

    name: str
    embeddings: Any
    scales: Any
    grid: Grid
    product: EmbeddingProduct
    years: tuple[int, ...]
    counts: dict[str, Any]


class ZarrRaster:
    """One year of a group as a raster of chunks.

    Args:
        arrays: The group's arrays.
        position: Of the year along the first axis.
    """

    def __init__(self, arrays: _Arrays, position: int) -> None:
        self.name, self.grid, self.product = f"{arrays.name}#{arrays.years[position]}", arrays.grid, arrays.product
        self.dtype: np.dtype[Any] = self.product.codec.dtype
        self._arrays, self._position = arrays, position
        height, width = (int(size) for size in arrays.embeddings.chunks[2:])
        self.block = tuple(size * max(1, -(-_SMALLEST_BLOCK // size)) for size in (height, width))  # type: ignore[assignment]
        # A chunk that was never written reads as the fill value; where that is a zero, a vector of zeros is no vector.
        self._zero_is_empty = int(arrays.embeddings.fill_value or 0) != self.product.codec.fill

    block: tuple[int, int]

    def read_block(self, row: int, column: int, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """The `(bands, height, width)` values of one block: bytes of a table, or decoded float32."""
        top, left, height, width = block_extent(self, row, column)
        return self._read(slice(top, top + height), slice(left, left + width), bands)

    def _read(self, rows: slice, columns: slice, bands: Sequence[int] | None) -> NDArray[Any]:
        try:
            values = np.asarray(self._arrays.embeddings[self._position, :, rows, columns])
            scales = None if self._arrays.scales is None else np.asarray(self._arrays.scales[self._position, rows, columns])
        except Exception as error:  # stores and codecs have their own exceptions
            raise DataError(f"a chunk cannot be read ({type(error).__name__}: {str(error)[:200]})", source=self.name) from error
        if scales is not None:
            values = scaled(values, scales, self.product)
        elif self._zero_is_empty:
            empty = ~values.any(axis=0)
            if empty.any():
                values = np.where(empty, np.asarray(self.product.codec.fill, values.dtype), values)
        return values if bands is None else values[list(bands)]

    def map_bands(self, row: int, column: int, function: Callable[[int, NDArray[Any]], T]) -> list[T]:
        """`function(band, block)` for every band of one block."""
        return [function(band, values) for band, values in enumerate(self.read_block(row, column))]

    def observed(self, lon: NDArray[np.float64], lat: NDArray[np.float64], names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Observation counts at points, by name; NaN outside the grid, no entry where the store has no such array."""
        x, y = transformer(WGS84, self.grid.crs).transform(lon, lat)
        row, column = self.grid.rows_columns(x, y)
        inside = (row >= 0) & (row < self.grid.height) & (column >= 0) & (column < self.grid.width)
        if self.grid.bottom_up:
            row = self.grid.height - 1 - row
        out = {}
        for name in names:
            array = self._arrays.counts.get(name)
            if array is not None:
                out[name] = np.full(lon.size, np.nan, dtype=np.float32)
                where = np.full(int(inside.sum()), self._position), row[inside], column[inside]
                out[name][inside] = array.vindex[where] if inside.any() else 0
        return out

    def close(self) -> None:
        """Nothing is held open."""


class SmallChunks(ZarrRaster):
    """A group whose chunks are a fraction of a window: one request reads them all."""

    def read_region(self, rows: slice, columns: slice, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """The `(bands, rows, columns)` values of a rectangle."""
        return self._read(rows, columns, bands)


def scaled(values: NDArray[np.integer], scales: NDArray[np.float32], record: EmbeddingProduct) -> NDArray[np.float32]:
    """Components `value * scale`; NaN where the scale is not finite, all values are zero, or the record's range is left.

    Args:
        values: `(bands, height, width)` integers.
        scales: `(height, width)` float32.
        record: What they are of.
    """
    missing = ~np.isfinite(scales)
    factor = np.where(missing, np.float32(0), scales).astype(np.float32)
    out = values.astype(np.float32)
    out *= factor
    if record.range is not None:
        lowest, highest = record.range
        # The largest component that a factor can give is enough to pass most blocks unread.
        if float(np.abs(factor).max(initial=0)) * 128 > min(-lowest, highest):
            missing |= (out < lowest).any(axis=0) | (out > highest).any(axis=0)
    # A vector of zeros is no vector; only where the first component is zero can all of them be.
    empty = values[0] == 0
    if empty.any():
        empty[empty] = ~values[:, empty].any(axis=0)
        missing |= empty
    if missing.any():
        out[:, missing] = np.nan
    return out


def open_zarr(
    address: str,
    *,
    of: EmbeddingProduct | None = None,
    array: str = "embeddings",
    unfilled: str = "skip",
    area: tuple[float, float, float, float] | None = None,
) -> TileIndex:
    """Open a mosaic, or a store of the `geoemb:` convention, as an index with one tile a grid and year.

    Args:
        address: Folder or address of the Zarr v3 group (or of the array itself).
        of: What it holds.
        array: Name of the array of components.
        unfilled: What to do with zone-years that a group does not list as complete (`years_complete`): `skip` them with a warning that
            names them, or `refuse` the store.
        area: WGS84 bounds: zones that cannot meet them are not opened.

    Raises:
        DataError: If it is not such a store, or does not state where or when its pixels are.
    """
    import geopandas as gpd

    record = of if of is not None else product()
    root = _open(address)
    groups = {"": root}
    if not hasattr(root, "shape"):
        _check_convention(dict(root.attrs), record, address)
        groups = {name: root[name] for name in _zone_groups(root, area)} or groups
    found: dict[str, _Arrays] = {}
    records, waiting = [], []
    for name, group in groups.items():
        arrays = _arrays(f"{address.rstrip('/')}{'/' if name else ''}{name}", group, record, array)
        attributes = dict(group.attrs) | dict(arrays.embeddings.attrs)
        complete = attributes.get("years_complete")
        for year in arrays.years:
            if complete is not None and year not in {int(done) for done in complete}:
                waiting.append(f"{name or 'store'} {year}")
                continue
            path = f"{arrays.name}#{year}"
            found[path] = arrays
            records.append(tile_record(f"{year}/{name}" if name else str(year), path, year, arrays.grid, arrays.product))
    if waiting:
        text = f"{len(waiting)} zone-years are not filled yet: {', '.join(waiting[:12])}{', …' if len(waiting) > 12 else ''}"
        if unfilled == "refuse" or not records:
            raise DataError(text, source=address, remedy="Read other years or zones; unfilled ones read back as fill values.")
        warnings.warn(f"{address}: {text}; they are left out", UserWarning, stacklevel=2)
    frame = gpd.GeoDataFrame(records, columns=[*COLUMNS, "geometry"], geometry="geometry", crs=WGS84)
    sized = next(iter(found.values())).product
    return TileIndex(frame, of=sized, opener=_Opener(found), description=address)


class _Opener:
    """Opens the tiles of a store; a class, so that an index can be sent to loader workers."""

    def __init__(self, found: dict[str, _Arrays]) -> None:
        self._found = found

    def __call__(self, path: str) -> ZarrRaster:
        arrays = self._found[path]
        kind = SmallChunks if int(arrays.embeddings.chunks[2]) < _SMALLEST_BLOCK else ZarrRaster
        return kind(arrays, arrays.years.index(int(path.rpartition("#")[2])))


def observation_counts(index: TileIndex, lon: Any, lat: Any, year: int) -> dict[str, NDArray[np.float32]]:
    """How many observations went into the vectors at points, by the names of the product's record; empty where the store has none.

    A sensor that saw nothing in a year makes a leave-year-out partly a change of sensor.
    """
    lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    counts: dict[str, NDArray[np.float32]] = {}
    done = np.zeros(lon.size, dtype=bool)
    for position, near in index.candidates(lon, lat, year):
        raster = index.open(position)
        if not isinstance(raster, ZarrRaster):
            return {}
        wanted = near[~done[near]]
        for name, values in raster.observed(lon[wanted], lat[wanted], index.product.observation_counts).items():
            known = np.isfinite(values)
            counts.setdefault(name, np.full(lon.size, np.nan, dtype=np.float32))[wanted[known]] = values[known]
            done[wanted[known]] = True
    return counts


def _open(address: str) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise DataError("reading Zarr needs zarr", source=address, remedy='pip install "rs05bench[remote]"') from error
    store: Any = address.rstrip("/")
    if is_remote(address):
        from zarr.storage import ObjectStore

        store = ObjectStore(store_for(address.rstrip("/")), read_only=True)
    try:
        return zarr.open(store, mode="r")
    except Exception as error:
        raise DataError(f"is not a Zarr group or array ({type(error).__name__}: {str(error)[:200]})", source=address) from error


def _zone_groups(root: Any, area: tuple[float, float, float, float] | None) -> list[str]:
    """Names of the zone groups; a plain web server lists nothing, so each name is asked for."""
    if dict(root.attrs).get("geoemb:spatial_layout") != "utm_zones":
        return []
    wanted = set(range(1, 61))
    if area is not None:
        # A zone's grid goes on a little beyond its six degrees.
        first, last = (int((edge + 180) // 6) for edge in (area[0], area[2]))
        wanted = {zone % 60 + 1 for zone in range(first - 1, last + 2)}
    names = []
    for zone in sorted(wanted):
        try:
            root[f"utm{zone:02d}"]
        except (KeyError, FileNotFoundError):
            continue
        names.append(f"utm{zone:02d}")
    return names


def _check_convention(attributes: dict[str, Any], record: EmbeddingProduct, source: str) -> None:
    """Refuse a store whose own attributes contradict the record."""
    dimensions = attributes.get("geoemb:dimensions")
    if dimensions is not None and record.dimensions is not None and int(dimensions) != record.dimensions:
        raise DataError(f"the store states {dimensions} dimensions, {record.name} has {record.dimensions}", source=source)
    quantisation = attributes.get("geoemb:quantization")
    method = quantisation.get("method") if isinstance(quantisation, dict) else None
    if method is not None and (method == "per_pixel_scale") != isinstance(record.scale, PixelScale):
        raise DataError(f"the store is quantised by {method!r}, {record.name} by {record.scale.kind!r}", source=source)


def _arrays(name: str, group: Any, record: EmbeddingProduct, array: str) -> _Arrays:
    alone = hasattr(group, "shape")
    found = group if alone else _member(group, array)
    if found is None:
        raise DataError(f"is not a Zarr group with an array {array!r}", source=name)
    if found.ndim != 4:
        raise DataError(f"expected (year, components, y, x), found {found.dtype} {found.shape}", source=name)
    if str(found.dtype) != record.dtype:
        raise DataError(f"expected {record.dtype} (year, components, y, x), found {found.dtype} {found.shape}", source=name)
    try:
        sized = record.sized(int(found.shape[1]))
    except DataError as error:
        raise DataError(
            f"expected {record.dtype} (year, {record.dimensions}, y, x), found {found.dtype} {found.shape}", source=name
        ) from error
    scales = None
    if isinstance(record.scale, PixelScale):
        scales = None if alone else _member(group, record.scale.array)
        if scales is None or scales.shape != (found.shape[0], *found.shape[2:]):
            raise DataError(
                f"expected an array {record.scale.array!r} of shape {(found.shape[0], *found.shape[2:])}, "
                f"found {'none' if scales is None else scales.shape}",
                source=name,
                remedy="Integers without their scales are no components.",
            )
    holder = None if alone else group
    crs, affine = _georeference(found, holder, name)
    grid = grid_from_affine(crs, affine, int(found.shape[2]), int(found.shape[3]), name)
    counts = {count: held for count in record.observation_counts if (held := _member(holder, count)) is not None}
    return _Arrays(name, found, scales, grid, sized, tuple(_years(found, holder, name)), counts)


def _georeference(array: Any, group: Any, source: str) -> tuple[str, tuple[float, ...]]:
    """CRS and affine from whichever of the conventions in use the store follows."""
    attributes = (dict(group.attrs) if group is not None else {}) | dict(array.attrs)
    reference = _member(group, str(attributes.get("grid_mapping", "spatial_ref")))
    mapping = dict(reference.attrs) if reference is not None else {}
    found = attributes.get("geo:proj")
    nested: dict[str, Any] = found if isinstance(found, dict) else {}
    crs = (
        attributes.get("proj:code")
        or attributes.get("proj:wkt2")
        or nested.get("code")
        or nested.get("wkt2")
        or mapping.get("crs_wkt")
        or mapping.get("spatial_ref")
        or attributes.get("crs")
    )
    names = _dimensions(array)
    x, y = _member(group, names[3], _X_NAMES), _member(group, names[2], _Y_NAMES)
    if crs is None and names[3] in ("lon", "longitude"):
        crs = WGS84
    if crs is None:
        raise DataError("no coordinate reference system in the store's attributes", source=source)
    affine = attributes.get("spatial:transform") or attributes.get("proj:transform") or nested.get("transform")
    if affine is not None:
        return crs_name(str(crs)), tuple(float(v) for v in affine[:6])
    if "GeoTransform" in mapping:  # GDAL's order: west, width, rotation, north, rotation, height
        c, a, b, f, d, e = (float(v) for v in str(mapping["GeoTransform"]).split())
        return crs_name(str(crs)), (a, b, c, d, e, f)
    if x is None or y is None:
        raise DataError("no transform and no x, y coordinates in the store", source=source)
    (x0, xres), (y0, yres) = _steps(x), _steps(y)
    return crs_name(str(crs)), (xres, 0.0, x0 - xres / 2, 0.0, yres, y0 - yres / 2)


def _steps(coordinate: Any) -> tuple[float, float]:
    """First value and mean step of a coordinate of pixel centres; only its ends are read."""
    count = int(coordinate.shape[0])
    first, last = float(coordinate[0]), float(coordinate[count - 1])
    return first, (last - first) / (count - 1)


def _years(array: Any, group: Any, source: str) -> list[int]:
    count = int(array.shape[0])
    attributes = (dict(group.attrs) if group is not None else {}) | dict(array.attrs)
    listed = attributes.get("years")
    if isinstance(listed, list) and len(listed) == count:
        return [int(year) for year in listed]
    time = _member(group, _dimensions(array)[0], _TIME_NAMES)
    if time is None:
        raise DataError("nothing says which year each slice is of (no time coordinate)", source=source)
    values = np.asarray(time[:])
    if np.issubdtype(values.dtype, np.datetime64):
        years = values.astype("datetime64[Y]").astype(int) + 1970
    elif values.min() >= 1900 and values.max() <= 2200:
        years = values.astype(int)
    else:
        match = re.match(
            r"(days|hours|minutes|seconds|milliseconds|microseconds|nanoseconds) since (\d{4})-(\d{1,2})-(\d{1,2})",
            str(time.attrs.get("units", "")),
        )
        if match is None:
            raise DataError(f"cannot read the time coordinate (units {time.attrs.get('units')!r})", source=source)
        codes = {"days": "D", "hours": "h", "minutes": "m", "seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
        origin = np.datetime64(datetime.date(int(match[2]), int(match[3]), int(match[4])))
        years = (origin.astype(f"datetime64[{codes[match[1]]}]") + values.astype(f"timedelta64[{codes[match[1]]}]")).astype(
            "datetime64[Y]"
        ).astype(int) + 1970
    if len(set(years.tolist())) != count:
        raise DataError(f"the time coordinate does not name one year a slice: {years.tolist()}", source=source)
    return [int(year) for year in years]


def _dimensions(array: Any) -> tuple[str, ...]:
    names = getattr(array.metadata, "dimension_names", None) or ("time", "band", "y", "x")
    return tuple(str(name) for name in names)


def _member(group: Any, name: str, others: Sequence[str] = ()) -> Any:
    if group is None:
        return None
    for candidate in (name, *others):
        try:
            found = group[candidate]
        except (KeyError, FileNotFoundError):
            continue
        if hasattr(found, "shape"):
            return found
    return None
