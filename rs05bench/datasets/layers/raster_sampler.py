"""Rasters as columns: the value of the pixel, terrain derived from heights, or classes as columns of 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs05bench.datasets.layers.layer_sources import LayerSource, RasterSampling
from rs05bench.datasets.layers.sampler import Layer, lattice, note_missing, positions
from rs05bench.datasets.layers.tiles import RasterTiles
from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd

Float = NDArray[np.float64]


class RasterSampler(Layer):
    """The pixel that holds a position, without interpolation; a polygon gets means over a lattice of about 100 points inside it.

    - Plain values: one column by the layer's name.
    - Terrain: height, slope and aspect by Horn's differences, missing where one of the eight neighbours is. Aspect is the direction in
      which the ground falls, from true north; as sine and cosine, so that 359 and 1 degree are neighbours; both are 0 where it is flat.
    - Classes: one column a class, always all of them, so that every table has the same columns; and the class's name, over a polygon that
      of the largest share. A position on a pixel without data (the sea, at 1 km many a waterfront) takes the nearest pixel within `reach`.

    Args:
        source: The layer.
        paths: GeoTIFF tiles of one band.
        name: Names the columns; default the source's.
        simulated: Whether the files are the simulator's.

    Raises:
        DataError: No file, no CRS, more than one band, not north up; or, when read, a value that cannot be true.
    """

    def __init__(self, source: LayerSource, paths: Sequence[str | Path], *, name: str = "", simulated: bool = False) -> None:
        said = source.sampler
        assert isinstance(said, RasterSampling)
        if not paths:
            raise DataError(f"the layer {name or source.name} needs at least one GeoTIFF", remedy=source.get)
        super().__init__(source, name or source.name, _columns(name or source.name, said), simulated=simulated, text=said.text)
        self.sampling = said
        self.tiles = RasterTiles([Path(path) for path in paths], dtypes=said.dtypes, missing=said.missing)
        names = list(said.classes.values())
        self._codes = np.array(list(said.classes), dtype=np.float64)
        self._names = np.array(names, dtype=object)
        # Which column a class is for: its own, or that of the group it begins with.
        self._column_of = np.array(
            [next(i for i, group in enumerate(said.groups) if one.startswith(group)) for one in names], dtype=np.int64
        )

    def at_points(self, lon: ArrayLike, lat: ArrayLike) -> pd.DataFrame:
        """Values at positions; see the class."""
        x, y, known = positions(lon, lat)
        terrain, reach = self.sampling.derive == "terrain", self.sampling.reach
        around, steps, inside = self.tiles.neighbourhood(np.where(known, x, np.nan), y, 1 if terrain else reach)
        values, moved = (around[:, 1, 1], np.zeros(len(x), dtype=bool)) if terrain else _nearest(around)
        self._refuse_untrue(values, x, y)
        if terrain:
            table = _terrain(around, steps, self.columns)
        elif self.sampling.classes:
            table = self._classes(values)
        else:
            table = pd.DataFrame({self.columns[0]: values})
        absent, why = np.isnan(values), f"no data within {reach} pixels" if reach else "the tile has no data there"
        flat = int((~absent & table[self.columns].isna().any(axis=1)).sum()) if terrain else 0
        table.attrs["notes"] = [
            *note_missing(self.name, absent & ~inside, "outside of every tile, or no position"),
            *note_missing(self.name, absent & inside, why),
            *([f"{self.name}: {flat:,} of {len(x):,} units have no slope (a neighbouring pixel is missing)"] if flat else []),
            *([f"{self.name}: {int(moved.sum()):,} of {len(x):,} units take the nearest pixel with data"] if moved.any() else []),
        ]
        return table

    def on_polygons(self, polygons: gpd.GeoDataFrame) -> pd.DataFrame:
        """Means over each polygon; of classes the shares, and the name of the most frequent one."""
        table = super().on_polygons(polygons)
        if self.text:
            rows, lon, lat = lattice(polygons)
            names = pd.Series(self.at_points(lon, lat)[self.text].to_numpy())
            shares = pd.crosstab(rows, pd.Categorical(names, categories=list(self._names)), dropna=False)
            shares = shares.reindex(index=range(len(polygons)), fill_value=0)[list(self._names)]
            table[self.text] = [None if not row.any() else self._names[row.argmax()] for row in shares.to_numpy()]
        return table

    def absent_over_polygons(self) -> str:
        """Why a polygon may have no value."""
        return "outside of every tile, or no data"

    def _classes(self, codes: Float) -> pd.DataFrame:
        known = np.isfinite(codes)
        at = np.searchsorted(self._codes, codes[known])
        values = np.full((len(codes), len(self.columns)), np.nan)
        values[known] = np.eye(len(self.columns))[self._column_of[at]]
        table = pd.DataFrame(values, columns=self.columns)
        if self.text:
            names = np.full(len(codes), None, dtype=object)
            names[known] = self._names[at]
            table[self.text] = names
        return table

    def _refuse_untrue(self, values: Float, lon: Float, lat: Float) -> None:
        known = np.isfinite(values)
        if self.sampling.classes:
            untrue = known & ~np.isin(values, self._codes)
            expected = f"codes {self._codes[0]:g} to {self._codes[-1]:g}"
        elif self.sampling.range is not None:
            low, high = self.sampling.range
            untrue, expected = known & ((values < low) | (values > high)), f"{self.source.unit} between {low:g} and {high:g}"
        else:
            return
        if untrue.any():
            row = int(np.flatnonzero(untrue)[0])
            raise DataError(
                f"expected {expected}, found {values[row]:g} at lon {lon[row]:.5f}, lat {lat[row]:.5f}",
                source=self.tiles.file_at(lon[row], lat[row]),
                remedy=self.sampling.remedy or "Is it another product, or does it mark missing data by a value of its own?",
            )


TERRAIN = ("elevation_m", "slope_deg", "aspect_sin", "aspect_cos")


def _columns(name: str, said: RasterSampling) -> list[str]:
    if said.derive == "terrain":
        return [f"{name}_{part}" for part in (TERRAIN if said.aspect else TERRAIN[:2])]
    return [f"{name}_{group}" for group in said.groups] if said.classes else [name]


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


def _terrain(z: Float, steps: Float, columns: list[str]) -> pd.DataFrame:
    east, north = horn(z, steps)
    # The eight neighbours give a slope to a hole too; it gets none.
    rise = np.where(np.isnan(z[:, 1, 1]), np.nan, np.hypot(east, north))
    # At a hundredth of a millimetre a pixel the direction is rounding, not ground.
    flat = rise < 1e-7
    with np.errstate(invalid="ignore", divide="ignore"):
        values = [z[:, 1, 1], np.rad2deg(np.arctan(rise)), np.where(flat, 0.0, -east / rise), np.where(flat, 0.0, -north / rise)]
    return pd.DataFrame(dict(zip(columns, values, strict=False)))


def _nearest(around: Float) -> tuple[Float, NDArray[np.bool_]]:
    """The centre, or the known cell nearest to it (equally near ones: the first from the north west); and where it is not the centre."""
    side = around.shape[1]
    offset = np.arange(side) - side // 2
    order = np.argsort((offset[:, None] ** 2 + offset[None, :] ** 2).ravel(), kind="stable")
    cells = around.reshape(len(around), -1)[:, order]
    first = np.isfinite(cells).argmax(axis=1)
    found: Any = cells[np.arange(len(cells)), first]
    return found, np.isfinite(found) & (first > 0)
