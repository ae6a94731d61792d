"""Append the columns of layers to a table: `rs05bench layers TABLE --layers DIR --out FILE`."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rs05bench.datasets.layers.layer_folder import open_layers
from rs05bench.embeddings.products import DEFAULT_FAMILY
from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text, writing
from rs05bench.protocol.intake.keys import MISSING_WORDS, as_keys
from rs05bench.protocol.intake.tablefile import parse_geojson, read_tablefile

if TYPE_CHECKING:
    import geopandas as gpd

_LONGITUDES, _LATITUDES = ("lon", "longitude", "long", "lng"), ("lat", "latitude")
_WRITES = (".csv", ".parquet", ".geoparquet", ".gpkg")


@dataclass(slots=True)
class Appended:
    """What was written.

    Attributes:
        out: The table.
        rows: Its rows.
        columns: Layer -> the columns it added.
        notes: What is missing, and why.
        simulated: Whether any layer is the simulator's.
        others: Columns that the table had.
    """

    out: Path
    rows: int
    columns: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    simulated: bool = False
    others: tuple[str, ...] = ()

    @property
    def card_lines(self) -> list[str]:
        """Lines for a card's `features`; a column is named by itself where its glob would take others of the table too."""
        added = [name for names in self.columns.values() for name in names if name != "koppen"]
        items: dict[str, None] = {}
        for name in added:
            pattern = f"{name.split('_')[0]}_*"
            items[name if any(fnmatch.fnmatchcase(other, pattern) for other in self.others) else pattern] = None
        return [f"layers: [{', '.join(repr(item) for item in sorted(items))}]", f"hybrid: [{DEFAULT_FAMILY}, layers]"]


def append_layers(
    table: str | Path,
    layers: str | Path,
    out: str | Path,
    *,
    names: Sequence[str] | None = None,
    x: str | None = None,
    y: str | None = None,
    crs: str = "EPSG:4326",
) -> Appended:
    """Write a copy of a table with the columns of layers at the end; no other column and no row is touched.

    A table of points (or with two coordinate columns) is answered at each position, one of polygons over each. A place that occurs in
    several rows (years) is asked once.

    Args:
        table: CSV, (Geo)Parquet, GeoPackage, GeoJSON or Shapefile.
        layers: Folder for `open_layers`.
        out: `.csv`, `.parquet` or `.gpkg`.
        names: Which layers; default all there are.
        x: Column of the x coordinate; default `lon` or `longitude`.
        y: Column of the y coordinate; default `lat` or `latitude`.
        crs: CRS of those columns.

    Raises:
        DataError: No position, columns that already exist, a format that cannot be written, or a layer whose files are refused.
    """
    source, target = Path(table), Path(out)
    if target.suffix.lower() not in _WRITES:
        raise DataError(f"cannot write a {target.suffix or 'nameless'} table", source=target, remedy=f"Name it {' or '.join(_WRITES)}.")
    if target.exists() and source.exists() and target.samefile(source):
        raise DataError("is the table itself", source=target, remedy="Write to another file: the table stays as it is.")
    frame = _read(source)
    opened = open_layers(layers, names)
    shapes, which = _places(frame, source, x, y, crs)
    simulated = any(layer.simulated for layer in opened.values())
    done = Appended(target, len(frame), simulated=simulated, others=tuple(map(str, frame.columns)))
    parts = []
    for name, layer in opened.items():
        values = layer.on_polygons(shapes) if shapes.geom_type.iloc[0] != "Point" else layer.at_points(shapes.geometry.x, shapes.geometry.y)
        clash = [column for column in values.columns if column in frame.columns]
        if clash:
            raise DataError(f"has a column {clash[0]!r} already", source=source, remedy="Rename it, or leave the layer out (`--only`).")
        done.columns[name] = list(values.columns)
        done.notes += values.attrs.get("notes", [])
        parts.append(values.iloc[which].reset_index(drop=True))
    added = pd.concat(parts, axis=1)
    added.index = frame.index
    added.attrs = {}
    _write(frame, added, target)
    record = {
        "schema_version": 1,
        "table": source.name,
        "rows": len(frame),
        "simulated": done.simulated,
        "notes": done.notes,
        "layers": {
            name: {
                "columns": done.columns[name],
                "simulated": layer.simulated,
                **{key: getattr(layer.source, key) for key in ("title", "licence", "citation", "resolution", "leaks")},
            }
            for name, layer in opened.items()
        },
    }
    write_text(target.with_name(f"{target.stem}.layers.json"), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return done


def _read(path: Path) -> pd.DataFrame:
    """The table as it is; a CSV as text throughout, so that what is written again is what was there (ids keep their zeros)."""
    read = read_tablefile(path, text="all")
    return read.as_geodataframe() if read.shapes is not None else read.frame


def _places(frame: pd.DataFrame, source: Path, x: str | None, y: str | None, crs: str) -> tuple[gpd.GeoDataFrame, Any]:
    """The distinct places of a table as WGS84 geometries, and which of them each row is."""
    import geopandas as gpd
    import shapely

    if not len(frame):
        raise DataError("holds no row", source=source)
    if isinstance(frame, gpd.GeoDataFrame) and x is None and y is None:
        if frame.crs is None:
            raise DataError("the geometries have no coordinate reference system (CRS)", source=source, remedy="Write one into the file.")
        if frame.geometry.isna().any() or frame.geometry.is_empty.any():
            raise DataError(f"{int((frame.geometry.isna() | frame.geometry.is_empty).sum())} rows have no geometry", source=source)
        kinds = {"point" if kind == "Point" else "polygon" if kind in ("Polygon", "MultiPolygon") else kind for kind in frame.geom_type}
        if len(kinds) != 1 or not kinds <= {"point", "polygon"}:
            raise DataError(f"expected points or polygons, found {', '.join(sorted(kinds))}", source=source)
        shapes = frame.geometry.to_crs(4326).to_numpy()
    else:
        shapes = _points(frame, source, x, y, crs)
    keys = pd.Series(shapely.to_wkb(shapes))
    which, firsts = pd.factorize(keys)[0], keys.drop_duplicates().index.to_numpy()
    return gpd.GeoDataFrame(geometry=shapes[firsts], crs=4326), which


def _points(frame: pd.DataFrame, source: Path, x: str | None, y: str | None, crs: str) -> Any:
    import shapely
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    folded = {str(column).lower(): column for column in frame.columns}
    x = x or next((folded[name] for name in _LONGITUDES if name in folded), None)
    y = y or next((folded[name] for name in _LATITUDES if name in folded), None)
    if x is None and y is None and ".geo" in frame.columns:
        shapes = parse_geojson(frame[".geo"], source=source)
        if shapely.is_missing(shapes).any():
            raise DataError(f"column '.geo' holds no GeoJSON in {int(shapely.is_missing(shapes).sum())} rows", source=source)
        return shapes
    if x not in frame.columns or y not in frame.columns:
        raise DataError(
            f"no position: no columns {x or 'lon'!r} and {y or 'lat'!r}; there are {', '.join(map(str, frame.columns[:12]))}",
            source=source,
            remedy="Name the coordinate columns with --x and --y.",
        )
    values = []
    for column in (x, y):
        numbers = pd.to_numeric(frame[column], errors="coerce")
        words = numbers.isna() & ~as_keys(frame[column]).isin([None, *MISSING_WORDS])
        if words.any():
            raise DataError(f"column {column!r} holds {str(frame[column][words].iloc[0])!r}, which is not a number", source=source)
        values.append(numbers.to_numpy(dtype=np.float64))
    try:
        given = CRS.from_user_input(crs)
    except ProjError as error:
        raise DataError(f"the CRS {crs!r} is not known ({error})", source=source, remedy="For instance EPSG:32610.") from None
    lon, lat = values
    if given != CRS.from_epsg(4326):
        lon, lat = Transformer.from_crs(given, 4326, always_xy=True).transform(*values)
    known = np.isfinite(values[0]) & np.isfinite(values[1])
    if known.any() and (np.abs(np.asarray(lat)[known]).max() > 90 or np.abs(np.asarray(lon)[known]).max() > 360):
        raise DataError(
            f"columns {x!r} and {y!r} are not WGS84 degrees everywhere", source=source, remedy="Give the CRS of the coordinates with --crs."
        )
    return shapely.points(np.where(known, lon, np.nan), np.where(known, lat, np.nan))


def _write(frame: pd.DataFrame, added: pd.DataFrame, target: Path) -> None:
    """Written whole and renamed last."""
    import geopandas as gpd

    joined = pd.concat([pd.DataFrame(frame), added], axis=1)
    target.parent.mkdir(parents=True, exist_ok=True)
    located = isinstance(frame, gpd.GeoDataFrame)
    if target.suffix.lower() == ".gpkg" and not located:
        raise DataError("a GeoPackage needs geometries, and the table has none", source=target, remedy="Write .csv or .parquet.")
    if target.suffix.lower() == ".csv":
        if located:
            import shapely

            joined = joined.drop(columns=frame.geometry.name)
            joined[".geo"] = shapely.to_geojson(frame.geometry.to_crs(4326).to_numpy())
        with writing(target) as part:
            joined.to_csv(part, index=False)
    elif located:
        whole = gpd.GeoDataFrame(joined, geometry=frame.geometry.name, crs=frame.crs)
        with writing(target) as part:
            whole.to_file(part, driver="GPKG", layer=target.stem) if target.suffix.lower() == ".gpkg" else whole.to_parquet(part)
    else:
        with writing(target) as part:
            joined.to_parquet(part)
