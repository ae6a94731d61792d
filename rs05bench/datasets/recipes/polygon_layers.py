"""Polygon layers of recipes: shapefile, GeoPackage, GeoJSON or GeoParquet, whole, with the columns that are needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas as gpd

from rs05bench.errors import DataError
from rs05bench.protocol.intake.tablefile import read_tablefile
from rs05bench.protocol.intake.wgs84 import make_polygons

if TYPE_CHECKING:
    from rs05bench.datasets.recipes.job import BuildJob

_PARTS = (".shx", ".dbf", ".prj")


def read_layer(
    path: Path, columns: Mapping[str, Sequence[str]], optional: Mapping[str, Sequence[str]] | None = None, *, job: BuildJob | None = None
) -> gpd.GeoDataFrame:
    """A layer in WGS84 with columns under the names the recipe uses.

    Args:
        path: The file.
        columns: Name -> spellings it may have in the file (upper or lower case alike); all must be there.
        optional: The same for columns that may be absent.
        job: Where features without a geometry and fixed polygons are counted.

    Raises:
        DataError: Unreadable or partial file, no CRS, a missing column, or no polygons.
    """
    frame = _read(path)
    by_name = {str(name).lower(): str(name) for name in frame.columns}
    renamed, missing = {}, []
    for name, spellings in {**columns, **(optional or {})}.items():
        found = next((by_name[spelling.lower()] for spelling in spellings if spelling.lower() in by_name), None)
        if found is not None:
            renamed[found] = name
        elif name in columns:
            missing.append(" or ".join(spellings))
    if missing:
        there = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name)
        raise DataError(
            f"column {'; '.join(missing)} missing; it has {there or 'no column at all'}",
            source=path,
            remedy="Is it another product, or a shapefile without its .dbf?",
        )
    kept = gpd.GeoDataFrame(frame[list(renamed)].rename(columns=renamed), geometry=frame.geometry.to_numpy(), crs=frame.crs)
    return _polygons(kept, path, job)


def year_in_name(path: Path) -> int | None:
    """The only year 1984-2099 in a file's name, if there is just one."""
    years = {int(found) for found in re.findall(r"(?<!\d)(19[89]\d|20\d\d)(?!\d)", path.stem)}
    return years.pop() if len(years) == 1 else None


def _read(path: Path) -> gpd.GeoDataFrame:
    if path.suffix.lower() == ".shp":
        lost = [ending for ending in _PARTS if not path.with_suffix(ending).is_file() and not path.with_suffix(ending.upper()).is_file()]
        if lost:
            raise DataError(
                f"its parts {', '.join(lost)} are missing", source=path, remedy="A shapefile is several files: unpack the archive whole."
            )
    frame = read_tablefile(path).as_geodataframe()
    if frame.empty:
        raise DataError("holds no feature", source=path, remedy="Was the selection empty when it was exported?")
    return frame


def _polygons(frame: gpd.GeoDataFrame, path: Path, job: BuildJob | None) -> gpd.GeoDataFrame:
    empty = frame.geometry.isna() | frame.geometry.is_empty
    if empty.any():
        if job is not None:
            job.drop(f"no geometry in {path.name}", int(empty.sum()), int(frame.index[empty][0]))
        frame = frame[~empty]
    other = set(frame.geometry.geom_type) - {"Polygon", "MultiPolygon"}
    if other or frame.empty:
        raise DataError(f"expected polygons, found {', '.join(sorted(other)) or 'none'}", source=path)
    shapes, broken = make_polygons(frame.geometry.to_numpy())
    if len(broken):
        # Made valid, not refused: published layers of hundreds of thousands of fields always hold some.
        frame = frame.set_geometry(gpd.GeoSeries(shapes, index=frame.index, crs=frame.crs))
        if job is not None:
            job.notes.append(f"{len(broken)} polygons of {path.name} cross themselves and were made valid.")
        frame = frame[~frame.geometry.isna()]
    return frame.to_crs(4326).reset_index(drop=True)
