"""Where pixels are: one small value for rasters, chips and maps that cannot confuse rows with columns or north with south."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rs05bench.errors import DataError

if TYPE_CHECKING:
    from affine import Affine
    from numpy.typing import ArrayLike, NDArray
    from pyproj import CRS, Transformer

WGS84 = "EPSG:4326"


class GeoBoxLike(Protocol):
    """What a geobox of odc-geo and a rasterio data set have in common."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def transform(self) -> Any:
        """The affine transform of pixel corners."""

    @property
    def crs(self) -> Any:
        """The coordinate reference system."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid of pixels, always counted from its north-western corner: of a raster, or the one a chip or map is wanted on.

    Where a grid is asked for, a geobox of odc-geo is taken too (`of`). Readers do not hold one: it does not tell rows that run from the
    south from those that run from the north, accepts grids without a place, and takes 139 against 13 microseconds to cut (odc-geo 0.5.3),
    which a chip of 64 pixels would notice.

    Some files are stored bottom-up (the first row is the southernmost). Everything outside the block readers counts rows from the north;
    `bottom_up` says that the file's own rows run the other way.

    Args:
        crs: The coordinate reference system, as an authority code or WKT.
        west: x of the western edge.
        north: y of the northern edge.
        xres: Width of a pixel, positive.
        yres: Height of a pixel, positive.
        height: Rows.
        width: Columns.
        bottom_up: Whether the file stores the southernmost row first.
    """

    crs: str
    west: float
    north: float
    xres: float
    yres: float
    height: int
    width: int
    bottom_up: bool = False

    @classmethod
    def of(cls, geobox: GeoBoxLike | Grid) -> Grid:
        """The grid of an `odc.geo.geobox.GeoBox`, or of anything else with `shape`, `transform` and `crs`.

        Raises:
            DataError: The axes are swapped or rotated, or it has no CRS.
        """
        if isinstance(geobox, Grid):
            return geobox
        height, width = geobox.shape
        crs = None if geobox.crs is None else name_of(geobox.crs)
        grid = grid_from_affine(crs, tuple(geobox.transform)[:6], int(height), int(width), "geobox")
        return replace(grid, bottom_up=False)

    @property
    def east(self) -> float:
        """The x coordinate of the eastern edge."""
        return self.west + self.width * self.xres

    @property
    def south(self) -> float:
        """The y coordinate of the southern edge."""
        return self.north - self.height * self.yres

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north."""
        return self.west, self.south, self.east, self.north

    def rows_columns(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pixel that holds each coordinate, rows counted from the north; may lie outside the grid."""
        column = np.floor((np.asarray(x, dtype=np.float64) - self.west) / self.xres)
        row = np.floor((self.north - np.asarray(y, dtype=np.float64)) / self.yres)
        # A coordinate that could not be transformed is infinite: send it outside instead of to an arbitrary pixel.
        row, column = (np.where(np.isfinite(v), v, -1).clip(-1, 2**40).astype(np.int64) for v in (row, column))
        return row, column

    def transform(self, row: int = 0, column: int = 0) -> tuple[float, float, float, float, float, float]:
        """The north-up affine coefficients (a, b, c, d, e, f) of a window that starts at `row`, `column`."""
        return self.xres, 0.0, self.west + column * self.xres, 0.0, -self.yres, self.north - row * self.yres

    @property
    def affine(self) -> Affine:
        """The north-up affine transform of pixel corners."""
        from affine import Affine

        return Affine(*self.transform())

    def xy(self, rows: ArrayLike, columns: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates of pixel centres in the grid's CRS; rows are counted from the north."""
        return self.west + (np.asarray(columns) + 0.5) * self.xres, self.north - (np.asarray(rows) + 0.5) * self.yres

    def lonlat(self, rows: ArrayLike, columns: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """WGS84 longitude and latitude of pixel centres, degrees."""
        lon, lat = transformer(self.crs, WGS84).transform(*self.xy(rows, columns))
        return np.asarray(lon), np.asarray(lat)

    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """WGS84 longitude and latitude of all pixel centres, row by row, each of shape (height * width,)."""
        columns, rows = np.meshgrid(np.arange(self.width), np.arange(self.height))
        return self.lonlat(rows.ravel(), columns.ravel())

    def part(self, row: int, column: int, height: int, width: int) -> Grid:
        """A rectangle of the grid; it may reach beyond it."""
        return Grid(self.crs, self.west + column * self.xres, self.north - row * self.yres, self.xres, self.yres, height, width)

    def bounds_in(self, crs: str) -> tuple[float, float, float, float]:
        """West, south, east, north in another CRS, of all four edges."""
        return transformer(self.crs, crs).transform_bounds(*self.bounds, densify_pts=21)


def grid_from_affine(crs: str | None, affine: tuple[float, ...], height: int, width: int, source: str) -> Grid:
    """Check georeferencing and make a grid of it.

    Args:
        crs: The coordinate reference system, or None when the file has none.
        affine: (a, b, c, d, e, f): `x = a * column + b * row + c`, `y = d * column + e * row + f`.
        height: Rows.
        width: Columns.
        source: The file, for messages.

    Raises:
        DataError: If the CRS is missing, the axes are swapped or rotated, or the coordinates cannot belong to the CRS.
    """
    if not crs:
        raise DataError(
            "no coordinate reference system", source=source, remedy="Write one into the file, e.g. with `gdal_edit.py -a_srs EPSG:32610`."
        )
    a, b, c, d, e, f = affine[:6]
    if not all(map(math.isfinite, (a, b, c, d, e, f))):
        raise DataError(f"the transform {affine} is not finite", source=source)
    if b or d:
        kind = "swapped" if not a and not e else "rotated"
        raise DataError(f"the axes are {kind} (transform {affine})", source=source, remedy="Warp the file to a north-up grid first.")
    if a <= 0 or e == 0:
        raise DataError(f"the pixel size ({a}, {e}) is not usable: columns must run from west to east", source=source)
    if (a, e, c, f) in {(1.0, 1.0, 0.0, 0.0), (1.0, -1.0, 0.0, 0.0)}:
        raise DataError("no georeferencing (the transform is the identity)", source=source)
    north = f + height * e if e > 0 else f
    grid = Grid(crs, c, north, a, abs(e), height, width, bottom_up=e > 0)
    _check_plausible(grid, source)
    return grid


def _check_plausible(grid: Grid, source: str) -> None:
    west, south, east, north = grid.bounds
    zone = utm_zone(grid.crs)
    if is_geographic(grid.crs):
        plausible = west >= -181 and east <= 361 and south >= -90.5 and north <= 90.5
    elif zone is not None:
        # Ten degrees either side of the central meridian; swapped coordinates put a northing where an easting is expected.
        plausible = west >= -1_000_000 and east <= 2_000_000 and south >= -10_100_000 and north <= 10_100_000
        if west > 1_000_000 or east < 0:
            plausible = False
    else:
        return
    if not plausible:
        raise DataError(
            f"the bounds west {west:g}, south {south:g}, east {east:g}, north {north:g} cannot belong to {grid.crs}",
            source=source,
            remedy="The axes are swapped, or the coordinate reference system is wrong.",
        )


@lru_cache(maxsize=512)
def crs_of(text: str) -> CRS:
    """The pyproj CRS of an authority code or WKT, parsed once; of a compound one (with heights) its horizontal part."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        known = CRS.from_user_input(text)
    except CRSError as error:
        raise DataError(f"cannot understand the coordinate reference system {text[:120]!r}: {error}") from error
    return known.sub_crs_list[0] if known.is_compound else known


@lru_cache(maxsize=512)
def crs_name(text: str) -> str:
    """A short name of a CRS that is equal for equal CRSs: its authority code where it has one."""
    crs = crs_of(text)
    found = crs.to_authority(min_confidence=90)
    return f"{found[0]}:{found[1]}" if found else crs.to_wkt()


def name_of(crs: Any) -> str:
    """`crs_name` of anything that stands for a CRS: text, an EPSG number, or an object of pyproj, rasterio or odc-geo."""
    if isinstance(crs, int | np.integer):
        return crs_name(f"EPSG:{int(crs)}")
    return crs_name(crs if isinstance(crs, str) else crs.to_wkt())


@lru_cache(maxsize=512)
def is_geographic(crs: str) -> bool:
    """Whether the coordinates are degrees."""
    return bool(crs_of(crs).is_geographic)


@lru_cache(maxsize=512)
def utm_zone(crs: str) -> str | None:
    """The UTM zone and hemisphere of a CRS, e.g. `10N`; None for other CRSs."""
    return crs_of(crs).utm_zone


@lru_cache(maxsize=256)
def transformer(source: str, target: str) -> Transformer:
    """A transformer in x, y (longitude, latitude) order, made once."""
    from pyproj import Transformer

    return Transformer.from_crs(crs_of(source), crs_of(target), always_xy=True)


def belongs(zones: NDArray[np.str_], zone: str | None) -> NDArray[np.bool_]:
    """Which points, by the zone each is in (`10N`), a tile's zone is for: `10N`, `10` for both hemispheres, None for any."""
    if zone is None:
        return np.ones(zones.shape, dtype=bool)
    return zones == zone if zone[-1].isalpha() else np.char.rstrip(zones, "NS") == zone


def wrapped(lon: ArrayLike) -> NDArray[np.float64]:
    """Longitudes between -180 and 180, from any that count on beyond."""
    values = np.asarray(lon, dtype=np.float64)
    return np.where(np.abs(values) > 180, (values + 180) % 360 - 180, values)


def zone_of(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.str_]:
    """The UTM zone of each point, e.g. `10N`, by six-degree strips."""
    lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    east = np.where(np.isfinite(lon), (lon + 180) % 360, 0)
    number = (east // 6).astype(np.int64) + 1
    return np.char.add(number.astype(str), np.where(lat >= 0, "N", "S"))
