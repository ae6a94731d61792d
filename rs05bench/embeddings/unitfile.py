"""The units a user brings: points or polygons, from a table or any vector file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.intake.keys import as_keys, refuse_lost_digits
from rs05bench.protocol.intake.tablefile import parse_geojson, read_tablefile
from rs05bench.protocol.intake.wgs84 import usable_geometries
from rs05bench.protocol.pixel_grid import wrapped

if TYPE_CHECKING:
    import geopandas as gpd

_LONGITUDES, _LATITUDES = ("lon", "longitude", "long", "lng"), ("lat", "latitude")


def read_units(path: str | Path, *, unit: str | None = None) -> gpd.GeoDataFrame:
    """Read points or polygons from a table with coordinates or from any vector file.

    Args:
        path: CSV or Parquet with longitude and latitude columns (or Earth Engine's `.geo`), or GeoPackage, GeoParquet, GeoJSON, Shapefile.
        unit: Column that names the units; default `unit_id`, else the file's name and the row.

    Returns:
        GeoDataFrame with a text column `unit_id`, in its own CRS.

    Raises:
        DataError: If there are no coordinates, a name occurs twice, or no row has a geometry.
    """
    read = read_tablefile(path, text=[unit or "unit_id"])
    source = read.path
    for column in read.frame.columns:  # whole numbers stay whole where one is missing
        values = read.frame[column]
        if pd.api.types.is_float_dtype(values.dtype) and values.isna().any() and bool((values.dropna() % 1 == 0).all()):
            read.frame[column] = values.astype("Int64")
    frame = read.as_geodataframe() if read.shapes is not None else _located(read.frame, source)
    name = unit or ("unit_id" if "unit_id" in frame else None)
    if name is not None and name not in frame:
        raise DataError(f"no column {name!r}; there are {', '.join(map(str, frame.columns))}", source=source)
    frame = usable_geometries(frame, name, source=source)
    kinds = {"points" if kind in ("Point",) else "polygons" if kind in ("Polygon", "MultiPolygon") else kind for kind in frame.geom_type}
    if len(kinds) != 1 or not kinds <= {"points", "polygons"}:
        raise DataError(
            f"expected points or polygons, found {', '.join(sorted(kinds))}", source=source, remedy="Split the file by geometry."
        )
    names = as_keys(frame[name]) if name is not None else pd.Series([f"{source.stem}-{row:06d}" for row in frame.index])
    if names.isna().any():
        raise DataError(
            f"column {name!r} is blank in {int(names.isna().sum())} rows (first: row {int(frame.index[names.isna()][0]) + 1})",
            source=source,
            remedy="Fill it, drop those rows, or name another column with --unit.",
        )
    refuse_lost_digits(names, f"column {name!r}", source=source)
    frame = frame.drop(columns=["unit_id"], errors="ignore")
    frame.insert(0, "unit_id", list(names))
    again = frame.duplicated(["unit_id", *(["year"] if "year" in frame else [])])
    if again.any():
        first = frame["unit_id"][again].iloc[0]
        raise DataError(
            f"{int(again.sum())} unit ids occur more than once (first: {first!r})",
            source=source,
            remedy="Name the column that tells units apart.",
        )
    return frame.reset_index(drop=True)


def parse_years(text: str) -> list[int]:
    """Years such as `2024`, `2019,2021` or `2018-2020`."""
    years: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.strip().partition("-")
            years.extend(range(int(first), int(last or first) + 1))
    except ValueError as error:
        raise DataError(f"cannot read the years {text!r}", remedy="Write them as 2024, 2019,2021 or 2018-2020.") from error
    if not years:
        raise DataError(f"no year in {text!r}")
    return sorted(set(years))


def _located(table: pd.DataFrame, source: Path) -> gpd.GeoDataFrame:
    """A table with coordinate columns or Earth Engine's `.geo` as points or polygons."""
    import geopandas as gpd

    folded = {str(column).lower(): column for column in table.columns}
    lon, lat = (next((folded[name] for name in names if name in folded), None) for names in (_LONGITUDES, _LATITUDES))
    if lon is not None and lat is not None:
        values = table[[lon, lat]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
        wrong = ~np.isfinite(values).all(axis=1) | (np.abs(values[:, 1]) > 90) | (np.abs(values[:, 0]) > 360)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"columns {lon!r} and {lat!r} are not degrees in {int(wrong.sum())} of {len(table)} rows, first in row {row + 1}: "
                f"{table[lon].iloc[row]}, {table[lat].iloc[row]}",
                source=source,
                remedy="Coordinates are WGS84 degrees, longitude from -180 to 360: fill or correct those rows.",
            )
        return gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(wrapped(values[:, 0]), values[:, 1]), crs="EPSG:4326")
    if ".geo" in table:
        return gpd.GeoDataFrame(table.drop(columns=".geo"), geometry=list(parse_geojson(table[".geo"], source=source)), crs="EPSG:4326")
    raise DataError(
        f"no coordinates: expected columns such as 'lon' and 'lat', or '.geo'; found {', '.join(map(str, table.columns[:12]))}",
        source=source,
    )
