"""Koeppen-Geiger climate zones as columns of 0 and 1."""

from __future__ import annotations

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

ZONES = (
    *("Af", "Am", "Aw", "BWh", "BWk", "BSh", "BSk", "Csa", "Csb", "Csc", "Cwa", "Cwb", "Cwc", "Cfa", "Cfb"),
    *("Cfc", "Dsa", "Dsb", "Dsc", "Dsd", "Dwa", "Dwb", "Dwc", "Dwd", "Dfa", "Dfb", "Dfc", "Dfd", "ET", "EF"),
)
"""Letters of the codes 1 to 30 (Beck et al. 2018 and 2023, legend.txt)."""

MAIN = ("A", "B", "C", "D", "E")
REACH = 2
"""Pixels that a place on the coast may lie from the nearest land pixel."""


class ClimateZones:
    """The climate zone of a place: one column a zone, always all of them, so that every table has the same columns.

    A position on a pixel without data (the sea, at 1 km many a waterfront) takes the nearest pixel within 2; further out it is missing.
    A polygon gets the share of each zone over a lattice of about 100 points inside it, and as `koppen` the one with the largest share.

    Args:
        path: GeoTIFF of codes 1-30, 0 missing.
        level: `zone` for 30 columns, `main` for the five first letters.
        source: Default the catalogue's.
        simulated: Whether the file is the simulator's.

    Raises:
        DataError: Not such a file; or, when read, a code that is no zone.
    """

    def __init__(self, path: str | Path, *, level: str = "zone", source: LayerSource | None = None, simulated: bool = False) -> None:
        self.source, self.simulated = source or find_source("climate"), simulated
        if level not in ("zone", "main"):
            raise DataError(f"climate level {level!r} is not known", remedy="There are zone (30 columns) and main (5 columns).")
        self.names = ZONES if level == "zone" else MAIN
        self.path = Path(path)
        self.tiles = RasterTiles([self.path], dtypes=("uint8", "int8", "int16", "uint16"), missing=(0.0,))

    def at_points(self, lon: ArrayLike, lat: ArrayLike) -> pd.DataFrame:
        """One column a zone, and `koppen`, the zone's letters (None where missing)."""
        x, y, known = positions(lon, lat)
        around, _, inside = self.tiles.neighbourhood(np.where(known, x, np.nan), y, REACH)
        codes, moved = _nearest(around)
        self._refuse_strange(codes)
        table = self._columns(codes)
        table.attrs["notes"] = [
            *note_missing("climate", np.isnan(codes) & ~inside, "outside of the raster, or no position"),
            *note_missing("climate", np.isnan(codes) & inside, f"no land within {REACH} pixels"),
            *([f"climate: {int(moved.sum()):,} of {len(codes):,} units take the nearest land pixel"] if moved.any() else []),
        ]
        return table

    def on_polygons(self, polygons: gpd.GeoDataFrame) -> pd.DataFrame:
        """Share of each zone, and the most frequent one."""
        rows, lon, lat = lattice(polygons)
        points = self.at_points(lon, lat)
        table = polygon_means(points.drop(columns="koppen"), rows, len(polygons))
        position = points["koppen"].map({name: i for i, name in enumerate(ZONES)}).to_numpy(dtype=np.float64)
        shares = np.zeros((len(polygons), len(ZONES)))
        here = np.isfinite(position)
        np.add.at(shares, (rows[here], position[here].astype(np.int64)), 1)
        table["koppen"] = [ZONES[row.argmax()] if row.any() else None for row in shares]
        table.attrs["notes"] = note_missing("climate", table["koppen"].isna(), "outside of the raster, or no land")
        return table

    def on_window(self, crs: Any, transform: Affine, shape: tuple[int, int]) -> NDArray[np.float32]:
        """At the pixel centres of a window."""
        return as_window(self.at_points(*pixel_centres(crs, transform, shape)), self.window_columns(), shape)

    def window_columns(self) -> list[str]:
        """What the bands of `on_window` are."""
        return [f"climate_{name}" for name in self.names]

    def _columns(self, codes: NDArray[np.float64]) -> pd.DataFrame:
        known = np.isfinite(codes)
        letters = np.full(len(codes), None, dtype=object)
        letters[known] = np.array(ZONES, dtype=object)[codes[known].astype(np.int64) - 1]
        mine = letters if self.names is ZONES else np.array([None if name is None else name[0] for name in letters], dtype=object)
        table = pd.DataFrame({f"climate_{name}": np.where(known, (mine == name).astype(np.float64), np.nan) for name in self.names})
        table["koppen"] = letters
        return table

    def _refuse_strange(self, codes: NDArray[np.float64]) -> None:
        strange = np.isfinite(codes) & ((codes < 1) | (codes > len(ZONES)) | (codes % 1 != 0))
        if strange.any():
            raise DataError(
                f"expected codes 1 to {len(ZONES)}, found {codes[strange][0]:g}",
                source=self.path,
                remedy="The map of Beck et al. is meant (koppen_geiger_*.tif); other maps number their zones otherwise.",
            )


def _nearest(around: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The centre, or the known cell nearest to it (equally near ones: the first from the north west); and where it is not the centre."""
    side = around.shape[1]
    offset = np.arange(side) - side // 2
    order = np.argsort((offset[:, None] ** 2 + offset[None, :] ** 2).ravel(), kind="stable")
    cells = around.reshape(len(around), -1)[:, order]
    first = np.isfinite(cells).argmax(axis=1)
    codes = cells[np.arange(len(cells)), first]
    return codes, np.isfinite(codes) & (first > 0)
