"""Elevation, slope and aspect from a digital elevation model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs05bench.datasets.layers.base import as_window, lattice, note_missing, pixel_centres, polygon_means, positions
from rs05bench.datasets.layers.layer_sources import LayerSource, find_source
from rs05bench.datasets.layers.tiles import RasterTiles
from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd
    from affine import Affine

COLUMNS = ["dem_elevation_m", "dem_slope_deg", "dem_aspect_sin", "dem_aspect_cos"]
VOIDS = (-32768.0, -32767.0, -9999.0)
"""What elevation models write where they know nothing, declared or not (SRTM leaves it out)."""
LOWEST, HIGHEST = -500.0, 9000.0
"""Metres between which land lies, with room to spare: beyond them a value is a code for missing, or another unit."""

Float = NDArray[np.float64]


def horn(z: Float, steps: Float) -> tuple[Float, Float]:
    """Rise a metre towards east and north by Horn's third-order differences over eight neighbours.

    Horn, B. K. P. (1981), Hill shading and the reflectance map, Proceedings of the IEEE 69(1), eq. for p_w and q_w,
    https://doi.org/10.1109/PROC.1981.11918. The differences are taken a pixel and turned into metres on the ground by `steps`, so a grid in
    degrees, in a stretched projection or one that does not point north gives the same answer as one in metres.

    Args:
        z: Elevations, (n, 3, 3), first row in the north.
        steps: Metres east and north of a column and of a row, (n, 2, 2), from `RasterTiles.neighbourhood`.

    Returns:
        Rise towards east and towards north, metres a metre, (n,); NaN where a neighbour is missing.
    """
    along_row = (z[:, 0, 2] + 2 * z[:, 1, 2] + z[:, 2, 2] - z[:, 0, 0] - 2 * z[:, 1, 0] - z[:, 2, 0]) / 8
    along_column = (z[:, 2, 0] + 2 * z[:, 2, 1] + z[:, 2, 2] - z[:, 0, 0] - 2 * z[:, 0, 1] - z[:, 0, 2]) / 8
    (ce, cn), (re, rn) = steps[:, 0].T, steps[:, 1].T
    turn = ce * rn - cn * re
    return (along_row * rn - along_column * cn) / turn, (along_column * ce - along_row * re) / turn


class Terrain:
    """Elevation, slope and aspect of a digital elevation model in tiles.

    Slope and aspect are those of the pixel that holds a position (no interpolation) and are missing where one of its eight neighbours is.
    Aspect is the direction in which the ground falls, from true north; as sine and cosine, so that 359 and 1 degree are neighbours; both
    are 0 where the ground is flat. A polygon gets means over a lattice of about 100 points inside it.

    Args:
        paths: GeoTIFF tiles of one band, metres.
        source: Default the Copernicus GLO-30 of the catalogue.
        simulated: Whether the files are the simulator's.
        aspect: Whether the direction is given beside elevation and slope; leave it out where images are flipped and turned in training.

    Raises:
        DataError: No file, no CRS, more than one band, not north up; or, when read, a height no land has.
    """

    def __init__(
        self, paths: Sequence[str | Path], *, source: LayerSource | None = None, simulated: bool = False, aspect: bool = True
    ) -> None:
        self.source, self.simulated = source or find_source("dem"), simulated
        self.columns = COLUMNS if aspect else COLUMNS[:2]
        if not paths:
            raise DataError("a terrain layer needs at least one GeoTIFF", remedy=self.source.get)
        self.tiles = RasterTiles([Path(path) for path in paths], dtypes=("int16", "int32", "uint16", "float32", "float64"), missing=VOIDS)

    def at_points(self, lon: ArrayLike, lat: ArrayLike) -> pd.DataFrame:
        """Elevation, slope and aspect at positions; see the class."""
        x, y, known = positions(lon, lat)
        z, steps, inside = self.tiles.neighbourhood(np.where(known, x, np.nan), y, 1)
        self._refuse_strange(z[:, 1, 1], x, y)
        east, north = horn(z, steps)
        # The eight neighbours give a slope to a hole too; it gets none.
        rise = np.where(np.isnan(z[:, 1, 1]), np.nan, np.hypot(east, north))
        # At a hundredth of a millimetre a pixel the direction is rounding, not ground.
        flat = rise < 1e-7
        with np.errstate(invalid="ignore", divide="ignore"):
            values = {
                COLUMNS[0]: z[:, 1, 1],
                COLUMNS[1]: np.rad2deg(np.arctan(rise)),
                COLUMNS[2]: np.where(flat, 0.0, -east / rise),
                COLUMNS[3]: np.where(flat, 0.0, -north / rise),
            }
        table = pd.DataFrame(values)[self.columns]
        absent = np.isnan(z[:, 1, 1])
        edge = ~absent & np.isnan(rise)
        table.attrs["notes"] = [
            *note_missing("dem", absent & ~inside, "outside of every tile, or no position"),
            *note_missing("dem", absent & inside, "the tile has no data there"),
            *([f"dem: {int(edge.sum()):,} of {len(edge):,} units have no slope (a neighbouring pixel is missing)"] if edge.any() else []),
        ]
        return table

    def on_polygons(self, polygons: gpd.GeoDataFrame) -> pd.DataFrame:
        """Means over each polygon."""
        rows, lon, lat = lattice(polygons)
        table = polygon_means(self.at_points(lon, lat), rows, len(polygons))
        table.attrs["notes"] = note_missing("dem", table[COLUMNS[0]].isna(), "outside of every tile, or no data")
        return table

    def on_window(self, crs: Any, transform: Affine, shape: tuple[int, int]) -> NDArray[np.float32]:
        """At the pixel centres of a window."""
        return as_window(self.at_points(*pixel_centres(crs, transform, shape)), self.columns, shape)

    def window_columns(self) -> list[str]:
        """What the bands of `on_window` are."""
        return list(self.columns)

    def _refuse_strange(self, z: Float, lon: Float, lat: Float) -> None:
        strange = (z < LOWEST) | (z > HIGHEST)
        if strange.any():
            row = int(np.flatnonzero(strange)[0])
            where = next((h.path for h in self.tiles.headers if _holds(self.tiles, h, lon[row], lat[row])), self.tiles.headers[0].path)
            raise DataError(
                f"expected metres between {LOWEST:g} and {HIGHEST:g}, found {z[row]:g} at lon {lon[row]:.5f}, lat {lat[row]:.5f}",
                source=where,
                remedy="A code for missing is declared with `rio edit-info --nodata`; feet or decimetres must be turned into metres.",
            )


def _holds(tiles: RasterTiles, header: Any, lon: float, lat: float) -> bool:
    from rs05bench.datasets.layers.tiles import _rowcol

    return bool(_rowcol(header, np.array([lon]), np.array([lat]))[2][0])
