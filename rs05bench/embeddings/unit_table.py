"""Units with the embedding of their year beside them: over polygons, or at points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rs05bench.embeddings.change import change_features
from rs05bench.embeddings.embedding_source import open_source
from rs05bench.embeddings.products import DEFAULT
from rs05bench.embeddings.readers import EmbeddingReader
from rs05bench.embeddings.vectors import Named
from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd

STATISTICS = ("mean", "min", "max", "std")
"""Pooling of pixels to a unit; mean, deviation and both extremes keep more of a mixed unit (arXiv 2603.02080)."""

Progress = Callable[[int, int], None]


def polygon_table(
    units: gpd.GeoDataFrame, tiles: Path | str, on_progress: Progress | None = None, *, of: Named = DEFAULT
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The embedding over polygons in their year, and the change since the year before.

    Args:
        units: WGS84 polygons with a column `year`.
        tiles: What `open_source` takes.
        on_progress: Called with years read and years in all.
        of: The product.

    Returns:
        The units' columns without geometry, then the product's columns (mean), each with `_min`, `_max` and `_std`, `pixels`, `covered`,
        the change of each (`d` before its name), `change_dot` and `change_angle` (NaN where there are no
        tiles of the year before); and how many polygons were left out, by reason.

    Raises:
        DataError: No tile covers any polygon in its year.
    """
    source, there = _open(units, tiles, of)
    bands = list(source.product.bands)
    years = units["year"].astype(int).to_numpy()
    geometry = units.geometry.reset_index(drop=True)
    now: list[pd.DataFrame] = []
    before: list[pd.DataFrame] = []
    for done, year in enumerate(sorted(set(years.tolist())), start=1):
        rows = np.flatnonzero(years == year)
        if year in there:
            now.append(source.polygons(geometry.iloc[rows], year, stats=STATISTICS).set_axis(rows))
            if year - 1 in there:
                before.append(source.polygons(geometry.iloc[rows], year - 1, stats=("mean",)).set_axis(rows))
        if on_progress is not None:
            on_progress(done, len(set(years.tolist())))
    if not now:
        raise _no_tile("the polygons", years, there, tiles)
    table = pd.concat(now).reindex(range(len(units)))
    change = pd.DataFrame(
        np.nan, index=table.index, columns=[*(f"d{band}" for band in bands), "change_dot", "change_angle"], dtype=np.float32
    )
    if before:
        earlier = pd.concat(before)[bands]
        values, names = change_features(
            earlier.to_numpy(np.float32), table.loc[earlier.index, bands].to_numpy(np.float32), of=source.product
        )
        change.loc[earlier.index, names] = values
    covered = table[bands[0]].notna().to_numpy()
    left_out = _left_out(years, there, covered, "no embedding over the polygon")
    if not covered.any():
        raise DataError(
            "no polygon lies on a tile of its year", source=str(tiles), remedy="Check that polygons and tiles are of the same place."
        )
    joined = pd.concat([_plain(units), table, change], axis=1)[covered]
    return joined.reset_index(drop=True), left_out


def point_table(
    units: gpd.GeoDataFrame, tiles: Path | str, on_progress: Progress | None = None, *, of: Named = DEFAULT
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The embedding at points in their year.

    Args:
        units: WGS84 points with a column `year`.
        tiles: What `open_source` takes.
        on_progress: Called with years read and years in all.
        of: The product.

    Returns:
        The units' columns without geometry, then the product's columns; and how many points were left out, by reason.

    Raises:
        DataError: No tile holds any point in its year.
    """
    source, there = _open(units, tiles, of)
    bands = list(source.product.bands)
    years = units["year"].astype(int).to_numpy()
    values = np.full((len(units), len(bands)), np.nan, dtype=np.float32)
    wanted = sorted(set(years.tolist()))
    for done, year in enumerate(wanted, start=1):
        rows = np.flatnonzero(years == year)
        if year in there:
            values[rows] = source.points(units.geometry.x.to_numpy()[rows], units.geometry.y.to_numpy()[rows], year)
        if on_progress is not None:
            on_progress(done, len(wanted))
    covered = ~np.isnan(values[:, 0])
    if not covered.any():
        raise _no_tile("the points", years, there, tiles)
    left_out = _left_out(years, there, covered, "no embedding at the point")
    joined = pd.concat([_plain(units), pd.DataFrame(values, columns=bands)], axis=1)[covered]
    return joined.reset_index(drop=True), left_out


def _open(units: gpd.GeoDataFrame, tiles: Path | str, of: Named) -> tuple[EmbeddingReader, set[int]]:
    west, south, east, north = (float(value) for value in units.total_bounds)
    source = open_source(tiles, of=of, area=(west, south, east, north))
    years = units["year"].astype(int).to_numpy()
    return source, set(source.years) if source.years is not None else set(years.tolist()) | set((years - 1).tolist())


def _plain(units: gpd.GeoDataFrame) -> pd.DataFrame:
    return pd.DataFrame(units.drop(columns=units.geometry.name)).reset_index(drop=True)


def _left_out(years: np.ndarray, there: set[int], covered: np.ndarray, reason: str) -> dict[str, int]:
    left_out = {"no tile of the year": int((~np.isin(years, sorted(there))).sum())}
    left_out[reason] = int((~covered).sum()) - left_out["no tile of the year"]
    return left_out


def _no_tile(what: str, years: np.ndarray, there: set[int], tiles: Path | str) -> DataError:
    return DataError(
        f"no tile of {', '.join(map(str, sorted(set(years.tolist()))))} meets {what}",
        source=str(tiles),
        remedy=f"There are tiles of {', '.join(map(str, sorted(there))) or 'no year'}: rs05bench extract fetches others.",
    )
