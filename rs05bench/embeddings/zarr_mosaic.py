"""The Zarr mosaic: all tiles of a year on one WGS84 grid, read chunk by chunk."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rs05bench.embeddings.bytesource import is_remote, store_for
from rs05bench.embeddings.codec import BANDS, MASKED
from rs05bench.embeddings.grid import WGS84, Grid, crs_name, grid_from_affine, utm_zone
from rs05bench.embeddings.raster import ALL_BANDS, block_extent
from rs05bench.embeddings.tiles import COLUMNS, TileIndex, footprint
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

_X_NAMES, _Y_NAMES, _TIME_NAMES = ("x", "lon", "longitude"), ("y", "lat", "latitude"), ("time", "year", "t")


class ZarrRaster:
    """One year of the mosaic as a raster of chunks.

    Args:
        name: The store and year, for messages.
        array: Zarr array (year, band, y, x), int8.
        year: Position along the first axis.
        grid: Where its pixels lie.
    """

    dtype = np.dtype(np.int8)

    def __init__(self, name: str, array: Any, year: int, grid: Grid) -> None:
        self.name, self.grid = name, grid
        self._array, self._year = array, year
        self.block = int(array.chunks[2]), int(array.chunks[3])
        # A chunk that was never written reads as the fill value; a unit vector is never zero, so zeros can be told from data.
        self._zero_is_empty = int(array.fill_value or 0) != MASKED

    def read_block(self, row: int, column: int, bands: Sequence[int] = ALL_BANDS) -> NDArray[np.int8]:
        """The `(bands, height, width)` bytes of one chunk."""
        top, left, height, width = block_extent(self, row, column)
        try:
            values = np.asarray(self._array[self._year, :, top : top + height, left : left + width])
        except Exception as error:  # stores and codecs have their own exceptions
            raise DataError(f"a chunk cannot be read ({type(error).__name__}: {str(error)[:200]})", source=self.name) from error
        if self._zero_is_empty:
            empty = ~values.any(axis=0)
            if empty.any():
                values = np.where(empty, np.int8(MASKED), values)
        return values if len(bands) == len(BANDS) else values[list(bands)]

    def map_bands(self, row: int, column: int, function: Callable[[int, NDArray[Any]], T]) -> list[T]:
        """`function(band, block)` for every band of one chunk."""
        block = self.read_block(row, column)
        return [function(band, block[band]) for band in ALL_BANDS]

    def close(self) -> None:
        """Nothing is held open."""


def open_mosaic(address: str, *, array: str = "embeddings") -> TileIndex:
    """Open a mosaic as an index with one tile a year.

    Args:
        address: Folder or address of the Zarr v3 group (or of the array itself).
        array: Name of the array in the group.

    Raises:
        DataError: If it is not such an array, or says nowhere where or when its pixels are.
    """
    import geopandas as gpd

    try:
        import zarr
    except ImportError as error:
        raise DataError("reading the mosaic needs zarr", source=address, remedy='pip install "rs05bench[remote]"') from error
    store: Any = address.rstrip("/")
    if is_remote(address):
        from zarr.storage import ObjectStore

        store = ObjectStore(store_for(address.rstrip("/")), read_only=True)
    try:
        group = zarr.open(store, mode="r")
        found = group if isinstance(group, zarr.Array) else group[array]
    except Exception as error:
        raise DataError(
            f"is not a Zarr group with an array {array!r} ({type(error).__name__}: {str(error)[:200]})", source=address
        ) from error
    if found.ndim != 4 or found.shape[1] != len(BANDS) or found.dtype != np.int8:
        raise DataError(f"expected int8 (year, {len(BANDS)}, y, x), found {found.dtype} {found.shape}", source=address)
    holder = None if isinstance(group, zarr.Array) else group
    crs, affine = _georeference(found, holder, address)
    grid = grid_from_affine(crs, affine, int(found.shape[2]), int(found.shape[3]), address)
    years = _years(found, holder, address)
    west, south, east, north = grid.bounds
    base = {"utm_zone": utm_zone(crs), "crs": crs, "west": west, "south": south, "east": east, "north": north, "geometry": footprint(grid)}
    records = [{"tile_id": f"mosaic/{year}", "path": f"{address.rstrip('/')}#{year}", "year": year} | base for year in years]
    frame = gpd.GeoDataFrame(records, columns=[*COLUMNS, "geometry"], geometry="geometry", crs=WGS84)

    def opener(path: str) -> ZarrRaster:
        return ZarrRaster(path, found, years.index(int(path.rpartition("#")[2])), grid)

    return TileIndex(frame, opener=opener, description=address)


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
