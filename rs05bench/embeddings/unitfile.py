"""The units a user brings: points or polygons, from a table or any vector file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rs05bench.errors import DataError

if TYPE_CHECKING:
    import geopandas as gpd

_LONGITUDES, _LATITUDES = ("lon", "longitude", "long", "lng"), ("lat", "latitude")
_TABLES = (".csv", ".parquet", ".pq")


def read_units(path: str | os.PathLike[str], *, unit: str | None = None) -> gpd.GeoDataFrame:
    """Read points or polygons from a table with coordinates or from any vector file.

    Args:
        path: CSV or Parquet with longitude and latitude columns (or Earth Engine's `.geo`), or GeoPackage, GeoParquet, GeoJSON, Shapefile.
        unit: Column that names the units; default `unit_id`, else the file's name and the row.

    Returns:
        GeoDataFrame with a text column `unit_id`, in its own CRS.

    Raises:
        DataError: If there are no coordinates, a name occurs twice, or a geometry is missing.
    """
    import geopandas as gpd

    source = Path(path)
    if not source.is_file():
        raise DataError("no such file", source=source)
    frame = _read_table(source) if source.suffix.lower() in _TABLES else gpd.read_file(source)
    if frame.crs is None:
        raise DataError("the geometries have no coordinate reference system", source=source, remedy="Write one into the file.")
    absent = frame.geometry.isna() | frame.geometry.is_empty
    if absent.any():
        raise DataError(f"{int(absent.sum())} rows have no geometry (first: row {int(np.argmax(absent.to_numpy()))})", source=source)
    kinds = {"points" if kind in ("Point",) else "polygons" if kind in ("Polygon", "MultiPolygon") else kind for kind in frame.geom_type}
    if len(kinds) != 1 or not kinds <= {"points", "polygons"}:
        raise DataError(
            f"expected points or polygons, found {', '.join(sorted(kinds))}", source=source, remedy="Split the file by geometry."
        )
    name = unit or ("unit_id" if "unit_id" in frame else None)
    if name is not None and name not in frame:
        raise DataError(f"no column {name!r}; there are {', '.join(map(str, frame.columns))}", source=source)
    names = frame[name].astype(str) if name is not None else [f"{source.stem}-{row:06d}" for row in range(len(frame))]
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


def _read_table(source: Path) -> gpd.GeoDataFrame:
    import geopandas as gpd
    import pandas as pd
    import shapely

    if source.suffix.lower() != ".csv":
        try:
            return gpd.read_parquet(source)
        except ValueError:  # Parquet without a geometry column
            table = pd.read_parquet(source)
    else:
        table = pd.read_csv(source)
    folded = {str(column).lower(): column for column in table.columns}
    lon, lat = (next((folded[name] for name in names if name in folded), None) for names in (_LONGITUDES, _LATITUDES))
    if lon is not None and lat is not None:
        values = table[[lon, lat]].to_numpy(dtype=float)
        if not np.isfinite(values).all() or np.abs(values[:, 1]).max(initial=0) > 90 or np.abs(values[:, 0]).max(initial=0) > 360:
            raise DataError(
                f"columns {lon!r} and {lat!r} are not degrees everywhere", source=source, remedy="Coordinates are WGS84 degrees."
            )
        return gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(values[:, 0], values[:, 1]), crs="EPSG:4326")
    if ".geo" in table:
        return gpd.GeoDataFrame(table.drop(columns=".geo"), geometry=shapely.from_geojson(table[".geo"].astype(str)), crs="EPSG:4326")
    raise DataError(
        f"no coordinates: expected columns such as 'lon' and 'lat', or '.geo'; found {', '.join(map(str, table.columns[:12]))}",
        source=source,
    )
