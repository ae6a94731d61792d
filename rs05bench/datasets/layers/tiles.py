"""Raster tiles laid side by side, read as neighbourhoods of single places: nothing loads a whole raster."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from rs05bench.datasets.rasters import RasterHeader, read_header, read_meant
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.geodesy import metres_per_degree
from rs05bench.protocol.pixel_grid import WGS84, Grid, is_geographic, transformer

BLOCK = 512
"""Side of what is read at once, pixels."""

METRES = {"ft": 0.3048, "foot": 0.3048, "feet": 0.3048, "us survey foot": 1200 / 3937, "us-ft": 1200 / 3937, "ftus": 1200 / 3937}
"""Metres of the units of length that a band of a raster may state."""

Float = NDArray[np.float64]


class RasterTiles:
    """Rasters of which one band is read and that together cover an area, in one or several CRS.

    Where two overlap the first by name that has a value wins.

    Args:
        paths: The files.
        dtypes: Pixel types they may have.
        missing: Values that mean missing whether or not the file declares them.
        band: Which band is read; None where the files must have just one.
    """

    def __init__(self, paths: Sequence[Path], *, dtypes: Collection[str], missing: Collection[float] = (), band: int | None = None) -> None:
        bands = 1 if band is None else None
        self.headers = [read_header(path, bands=bands, dtypes=dtypes, whole=False) for path in sorted(paths)]
        self._missing, self._band = tuple(missing), band or 1

    @property
    def pixel_m(self) -> float:
        """Side of a pixel of the first file in its middle, metres on the ground."""
        header = self.headers[0]
        steps = _steps(header.grid, np.array([header.height // 2]), np.array([header.width // 2]))
        return float(np.sqrt(abs(np.linalg.det(steps[0]))))

    def file_at(self, lon: float, lat: float) -> Path:
        """The file that holds a position, for messages; the first where none does."""
        hits = (header.path for header in self.headers if _rowcol(header.grid, np.array([lon]), np.array([lat]))[2][0])
        return next(hits, self.headers[0].path)

    def values(self, lon: Float, lat: Float) -> Float:
        """The pixel that holds each position; NaN where missing or outside."""
        return self.neighbourhood(lon, lat, 0)[0][:, 0, 0]

    def neighbourhood(self, lon: Float, lat: Float, halo: int) -> tuple[Float, Float, NDArray[np.bool_]]:
        """The pixels around each position, also across the border of a tile.

        Args:
            lon: Degrees, (n,); NaN is outside of everything.
            lat: Degrees, (n,).
            halo: Pixels to each side.

        Returns:
            Values (n, 2 halo + 1, 2 halo + 1), NaN where missing; metres on the ground of one step along a row and along a column, as
            (n, 2, 2): [[east, north] of a column further, [east, north] of a row further]; whether the position lies in a tile.
        """
        n, side = len(lon), 2 * halo + 1
        out = np.full((n, side, side), np.nan)
        steps = np.full((n, 2, 2), np.nan)
        inside = np.zeros(n, dtype=bool)
        open_ = np.isfinite(lon) & np.isfinite(lat)
        for header in self.headers:
            if not open_.any():
                break
            todo = np.flatnonzero(open_)
            rows, cols, hit = _rowcol(header.grid, lon[todo], lat[todo])
            todo, rows, cols = todo[hit], rows[hit], cols[hit]
            if not len(todo):
                continue
            read = self._read(header, rows, cols, halo)
            known = np.isfinite(read[:, halo, halo])
            fresh = known | ~inside[todo]
            out[todo[fresh]] = read[fresh]
            steps[todo[fresh]] = _steps(header.grid, rows[fresh], cols[fresh])
            inside[todo] = True
            open_[todo[known]] = False
        return out, steps, inside

    def _read(self, header: RasterHeader, rows: NDArray[np.int64], cols: NDArray[np.int64], halo: int) -> Float:
        """Neighbourhoods in one tile, block by block."""
        from rasterio.errors import RasterioError

        out = np.full((len(rows), 2 * halo + 1, 2 * halo + 1), np.nan)
        offsets = np.arange(-halo, halo + 1)
        block = (rows // BLOCK) * (header.width // BLOCK + 1) + cols // BLOCK
        order = np.argsort(block, kind="stable")
        try:
            with open_raster_file(header.path) as src:
                metres = METRES.get((src.units[self._band - 1] or "").casefold(), 1.0)
                for part in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
                    top, bottom = int(rows[part].min()) - halo, int(rows[part].max()) + halo + 1
                    left, right = int(cols[part].min()) - halo, int(cols[part].max()) + halo + 1
                    patch = np.full((bottom - top, right - left), np.nan)
                    t, b, le, r = max(top, 0), min(bottom, header.height), max(left, 0), min(right, header.width)
                    pixels = read_meant(src, [self._band], window=Window(le, t, r - le, b - t))[0]
                    pixels[np.isin(pixels, self._missing) | ~np.isfinite(pixels)] = np.nan
                    patch[t - top : b - top, le - left : r - left] = pixels * metres
                    at = (rows[part] - top)[:, None, None] + offsets[None, :, None]
                    out[part] = patch[at, (cols[part] - left)[:, None, None] + offsets[None, None, :]]
        except RasterioError as error:
            raise DataError(f"its pixels cannot be read ({error})", source=header.path, remedy="Get the file again.") from None
        if halo:
            self._fill_border(header, rows, cols, offsets, out)
        return out

    def _fill_border(
        self, header: RasterHeader, rows: NDArray[np.int64], cols: NDArray[np.int64], offsets: NDArray[np.int64], out: Float
    ) -> None:
        """Cells beyond the tile's edge come from the tile that lies there."""
        r = rows[:, None, None] + offsets[None, :, None] + np.zeros_like(offsets)[None, None, :]
        c = cols[:, None, None] + offsets[None, None, :] + np.zeros_like(offsets)[None, :, None]
        beyond = (r < 0) | (c < 0) | (r >= header.height) | (c >= header.width)
        if not beyond.any() or len(self.headers) == 1:
            return
        out[beyond] = self.values(*header.grid.lonlat(r[beyond], c[beyond]))


def _rowcol(grid: Grid, lon: Float, lat: Float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    x, y = (np.asarray(v) for v in transformer(WGS84, grid.crs).transform(lon, lat))
    west, south, east, north = grid.bounds
    if is_geographic(grid.crs):
        # One place has many longitudes: take the one that could lie in this tile.
        x = west + (x - west) % 360.0
    hit = np.isfinite(x) & np.isfinite(y) & (x >= west) & (x < east) & (y > south) & (y <= north)
    rows, cols = grid.rows_columns(x, y)
    return rows.clip(0, grid.height - 1), cols.clip(0, grid.width - 1), hit


def _steps(grid: Grid, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Float:
    """Metres east and north of a step to the next column and to the next row, (n, 2, 2), whatever the CRS stretches or turns."""
    east, north = metres_per_degree(grid.lonlat(rows, cols)[1])
    out = np.empty((len(rows), 2, 2))
    for axis, (down, across) in enumerate(((0.0, 0.5), (0.5, 0.0))):
        lon0, lat0 = grid.lonlat(rows - down, cols - across)
        lon1, lat1 = grid.lonlat(rows + down, cols + across)
        turn = (lon1 - lon0 + 180.0) % 360.0 - 180.0
        out[:, axis, 0], out[:, axis, 1] = turn * east, (lat1 - lat0) * north
    return out
