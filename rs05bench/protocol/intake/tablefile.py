"""Table files as they are in the wild: CSV in any dialect, Parquet, GeoParquet, Excel, and what GDAL opens as vectors.

Whatever the format, a file becomes a data frame and, where it has them, geometries in their own CRS. Columns that name things are read as
text (`rs05bench.protocol.intake.keys`). What was taken for granted (an encoding, a decimal comma) is said in `TableFile.remarks`.
"""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.intake.csvfile import Choice, Columns, chosen, expand_lists, read_csv
from rs05bench.protocol.intake.keys import MISSING_WORDS, as_keys
from rs05bench.protocol.intake.wgs84 import to_wgs84

if TYPE_CHECKING:
    import geopandas as gpd
    import pyarrow as pa

GEO_COLUMN = ".geo"  # Earth Engine's GeoJSON column
CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".txt")
PARQUET_ENDINGS = (".parquet", ".geoparquet", ".pq", ".gpq")
VECTOR_ENDINGS = (".gpkg", ".shp", ".geojson", ".json", ".fgb")
EXCEL_ENDINGS = (".xlsx", ".xlsm")

WKT_COLUMNS = ("wkt", "geometry", "geom", "the_geom", "wkt_geom")
_WKT = re.compile(r"\s*(SRID=(\d+);)?\s*(MULTI)?(POINT|LINESTRING|POLYGON)\s*(Z|M|ZM)?\s*[(E]", re.IGNORECASE)
_WKB = re.compile(r"0[01][0-9A-Fa-f]{16,}")
_NO_LAYERS = frozenset(("layer_styles", "qgis_projects"))  # what QGIS keeps in a GeoPackage of its own


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file as a table.

    Attributes:
        frame: Its columns, without geometry, a row a record.
        shapes: Geometries (n,) in `crs`, None where a row has none; None where the file has no geometries.
        crs: Their CRS (WKT, PROJJSON or authority code); None where the file does not say.
        remarks: What was taken for granted in reading it.
    """

    path: Path
    frame: pd.DataFrame
    shapes: Any = None
    crs: str | None = None
    remarks: list[str] = field(default_factory=list)

    def with_wgs84(self) -> pd.DataFrame:
        """The table with a column `geometry` in longitude and latitude, where it has geometries."""
        if self.shapes is None:
            return self.frame
        shapes = pd.Series(to_wgs84(self.shapes, self.crs, source=self.path), index=self.frame.index, dtype=object, name="geometry")
        # Joined and not assigned: of a file of more than a hundred columns pandas would warn its reader.
        return pd.concat([self.frame.drop(columns="geometry", errors="ignore"), shapes], axis=1)

    def as_geodataframe(self) -> gpd.GeoDataFrame:
        """The table with its geometries in their own CRS.

        Raises:
            DataError: It has no geometries, or does not say their CRS.
        """
        import geopandas as gpd

        if self.shapes is None:
            raise DataError("holds a table without geometry", source=self.path)
        if not self.crs:
            raise DataError(
                "has no coordinate reference system (CRS)", source=self.path, remedy="Assign it in QGIS or with ogr2ogr -a_srs EPSG:.."
            )
        return gpd.GeoDataFrame(self.frame, geometry=list(self.shapes), crs=self.crs)


def take_apart(spec: str | Path) -> tuple[Path, str | None]:
    """`FILE#PART` as file and part (a layer or a sheet); a file whose own name holds a `#` is found first."""
    path = Path(spec)
    if path.is_file():
        return path, None
    name, mark, part = str(spec).rpartition("#")
    return (Path(name), part) if mark and part else (path, None)


def read_tablefile(spec: str | Path, *, text: Columns = (), layer: str | None = None, only: Choice | None = None) -> TableFile:
    """Reads one file.

    Args:
        spec: The file, or `FILE#LAYER` for a layer of a GeoPackage or a sheet of a workbook.
        text: Columns to read as keys, or what chooses them from the names there are; `"all"` keeps every column of a CSV as text.
        layer: The layer or sheet, instead of `#LAYER`.
        only: Chooses the columns that are read, for wide files of which little is asked; geometries always come along.

    Raises:
        DataError: Missing, unknown ending, unreadable, truncated or empty file, or one of several layers without a name.
    """
    path, part = take_apart(spec)
    if not path.is_file():
        raise DataError("no such file", source=path, remedy="Check the path.")
    part, name = layer or part, path.name.lower()
    if name.endswith(CSV_ENDINGS):
        table, remarks = read_csv(path, text, only)
        read = _with_wkt(TableFile(path, table, remarks=remarks))
    elif name.endswith(PARQUET_ENDINGS):
        read = _read_parquet(path, only)
    elif name.endswith(VECTOR_ENDINGS):
        read = _read_vector(path, part, only)
    elif name.endswith(EXCEL_ENDINGS):
        read = _read_excel(path, part)
    else:
        raise DataError(
            f"no reader for {path.suffix or 'a file without ending'!r}",
            source=path,
            remedy=f"Known are {', '.join((*CSV_ENDINGS, *PARQUET_ENDINGS, *VECTOR_ENDINGS, *EXCEL_ENDINGS))}.",
        )
    frame = read.frame
    if len(frame) == 0 and read.shapes is None:
        raise DataError(
            "holds no row", source=path, remedy="Export it again; an Earth Engine export of an empty collection looks like this."
        )
    if not frame.columns.is_unique:
        raise DataError(f"has the column {frame.columns[frame.columns.duplicated()][0]!r} twice", source=path)
    for column in [] if text == "all" else chosen(text, list(map(str, frame.columns))):
        frame[column] = as_keys(frame[column])
    return read


def _with_wkt(read: TableFile) -> TableFile:
    """A column of well-known text or binary (QGIS, PostGIS) as geometries; WGS84 where nothing else is said and degrees are possible."""
    import shapely

    frame, path = read.frame, read.path
    name = next((column for column in map(str, frame.columns) if column.lower() in WKT_COLUMNS), None)
    if name is None:
        return read
    values = frame[name].to_numpy(dtype=object)
    first = next((value for value in values if isinstance(value, str)), None)
    if first is None or not (_WKT.match(first) or _WKB.fullmatch(first)):
        return read
    codes = {match[2] for value in values if isinstance(value, str) and (match := _WKT.match(value)) and match[2]}
    if _WKB.fullmatch(first):
        shapes = shapely.from_wkb(values, on_invalid="ignore")
        codes = {str(code) for code in np.unique(shapely.get_srid(shapes)) if code > 0}
    else:
        shapes = shapely.from_wkt([None if value is None else str(value).split(";")[-1] for value in values], on_invalid="ignore")
    broken = [row for row, (value, shape) in enumerate(zip(values, shapes, strict=True)) if value is not None and shape is None]
    if broken:
        raise DataError(
            f"column {name!r} holds no geometry in {len(broken)} rows, first row {broken[0] + 1}: {str(values[broken[0]])[:40]!r}",
            source=path,
        )
    if len(codes) > 1:
        raise DataError(f"column {name!r} holds geometries of several CRS (SRID {', '.join(sorted(codes))})", source=path)
    west, south, east, north = shapely.total_bounds(shapes)
    degrees = bool(max(abs(west), abs(east)) <= 360 and max(abs(south), abs(north)) <= 90)
    crs = f"EPSG:{codes.pop()}" if codes else "OGC:CRS84" if degrees else None
    return TableFile(path, frame.drop(columns=name), shapes, crs, read.remarks)


# Parquet, vector files, workbooks ------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, only: Choice | None) -> TableFile:
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path)
        names = None if only is None else chosen(only, schema.names)
        if names is not None and (geo := (schema.metadata or {}).get(b"geo")):
            names = list(dict.fromkeys([*names, json.loads(geo)["primary_column"]]))
        table = pyarrow.parquet.read_table(path, columns=names)
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"cannot be read as Parquet: {str(error).splitlines()[0]}", source=path) from error
    metadata = (table.schema.metadata or {}).get(b"geo")
    column = crs = shapes = None
    if metadata is not None:
        import shapely

        try:
            geo = json.loads(metadata)
            column = geo["primary_column"]
            # No crs key means OGC:CRS84; an explicit null means that nobody knows (GeoParquet 1.1).
            said = geo["columns"][column].get("crs", "OGC:CRS84")
            crs = json.dumps(said) if isinstance(said, dict) else said
            shapes = shapely.from_wkb(table[column].to_numpy(zero_copy_only=False))
        except (KeyError, ValueError, TypeError, shapely.errors.ShapelyError) as error:
            raise DataError(f"its GeoParquet metadata cannot be read: {error}", source=path) from error
    frame = _frame(table, column, path)
    return TableFile(path, frame, shapes, crs) if shapes is not None else _with_wkt(TableFile(path, frame))


def _frame(table: pa.Table, geometry: str | None, path: Path) -> pd.DataFrame:
    """The columns but the geometry; an index that pandas wrote is a column, one without a name only counts the rows."""
    fields = [one for one in table.schema if one.name != geometry and not re.fullmatch(r"__index_level_\d+__", one.name)]
    parts = [_column(table[one.name], one, path) for one in fields]
    return pd.concat(parts, axis=1) if parts else pd.DataFrame(index=range(table.num_rows))


def _column(values: pa.ChunkedArray, field: pa.Field, path: Path) -> pd.DataFrame:
    """A column as one column, or as many as its lists are long."""
    import pyarrow as pa

    kind, name = field.type, field.name
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = kind.value_type
    if pa.types.is_decimal(kind):
        return _numbers(values, name)
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)) and (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        return expand_lists(values.to_pandas(), name, source=path)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = values.to_pandas().astype(object)
        return text.where(text.notna(), None).to_frame(name)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):  # text, as Hive and older writers keep it, or WKB
        try:
            text = values.cast(pa.large_string()).to_pandas().astype(object)
        except pa.ArrowInvalid:
            text = pd.Series([None if value is None else value.hex() for value in values.to_pylist()], dtype=object)
        return text.where(text.notna(), None).to_frame(name)
    return values.to_pandas(date_as_object=False).to_frame(name)


def _numbers(values: pa.ChunkedArray, name: str) -> pd.DataFrame:
    """DECIMAL as numbers; whole ones that no integer holds as text, because they are codes."""
    import pyarrow as pa

    if values.type.scale > 0:
        return values.cast(pa.float64()).to_pandas().to_frame(name)
    try:
        return values.cast(pa.int64()).to_pandas().to_frame(name)
    except pa.ArrowInvalid:
        return as_keys(values.to_pandas()).to_frame(name)


def _read_vector(path: Path, layer: str | None, only: Choice | None) -> TableFile:
    import pyarrow
    import pyogrio
    import shapely

    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path) if name not in _NO_LAYERS]
        if layer is not None and layer not in layers:
            raise DataError(f"has no layer {layer!r}; there are: {', '.join(layers)}", source=path)
        if layer is None and len(layers) > 1:
            raise DataError(
                f"holds {len(layers)} layers ({', '.join(layers)})", source=path, remedy=f"Say which: {path.name}#{layers[-1]}, or layer=."
            )
        layer = layer or layers[0]
        names = None if only is None else chosen(only, list(pyogrio.read_info(path, layer=layer)["fields"]))
        meta, table = pyogrio.read_arrow(path, layer=layer, columns=names)
        column = meta["geometry_name"] or "wkb_geometry"
        shapes = shapely.from_wkb(table[column].to_numpy(zero_copy_only=False)) if column in table.column_names else np.array([])
    except (RuntimeError, OSError, ValueError, IndexError, pyarrow.ArrowException, shapely.errors.ShapelyError) as error:
        raise DataError(
            f"cannot be read as a vector layer: {str(error).strip()}", source=path, remedy="Open it in QGIS to see whether it is whole."
        ) from error
    frame = _frame(table, column, path)
    return TableFile(path, frame, shapes if any(item is not None for item in shapes) else None, meta["crs"])


def _read_excel(path: Path, sheet: str | None) -> TableFile:
    import zipfile

    if importlib.util.find_spec("openpyxl") is None:
        raise DataError("needs openpyxl to be read", source=path, remedy="Install rs05bench[excel], or save the sheet as CSV in UTF-8.")
    try:
        with pd.ExcelFile(path, engine="openpyxl") as book:
            sheets = list(map(str, book.sheet_names))
            if sheet is not None and sheet not in sheets:
                raise DataError(f"has no sheet {sheet!r}; there are: {', '.join(sheets)}", source=path)
            if sheet is None and len(sheets) > 1:
                raise DataError(
                    f"holds {len(sheets)} sheets ({', '.join(sheets)})", source=path, remedy=f"Say which: {path.name}#{sheets[0]}."
                )
            frame = pd.read_excel(book, sheet_name=sheet or sheets[0], dtype=object, keep_default_na=False, na_values=[""])
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise DataError(f"cannot be read as a workbook: {error}", source=path) from error
    frame.columns = [str(name).strip() for name in frame.columns]
    frame = frame.dropna(axis=1, how="all").dropna(axis=0, how="all").reset_index(drop=True)
    for name in frame.columns:
        known = [value for value in frame[name] if value == value and value is not None and str(value) not in MISSING_WORDS]
        if known and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
        elif known and all(isinstance(value, pd.Timestamp) or hasattr(value, "isoformat") for value in known):
            frame[name] = pd.to_datetime(frame[name], errors="coerce")
        else:
            frame[name] = frame[name].where(frame[name].notna(), None)
    return _with_wkt(TableFile(path, frame))


def parse_geojson(values: pd.Series, *, source: str | Path) -> Any:
    """Earth Engine's `.geo` column as shapely geometries (it is always WGS84); blanks and empty geometries become None.

    Raises:
        DataError: A value that is not GeoJSON.
    """
    import shapely

    text = values.where(values.notna(), None).to_numpy(dtype=object)
    shapes = shapely.from_geojson(text, on_invalid="ignore")
    broken = [row for row, (value, item) in enumerate(zip(text, shapes, strict=True)) if value and item is None]
    if broken:
        raise DataError(f"column {GEO_COLUMN!r} holds no GeoJSON in {len(broken)} rows, first {text[broken[0]]!r}", source=source)
    shapes[shapely.is_empty(shapes)] = None
    return shapes
