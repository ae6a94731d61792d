"""Table files as they are in the wild: CSV in any dialect, Parquet, GeoParquet, Excel, and what fiona opens.

Whatever the format, a file becomes a data frame and, where it has them, geometries in their own CRS. Columns that name things are read as
text (`rs05bench.protocol.intake.keys`). What was taken for granted (an encoding, a decimal comma) is said in `TableFile.remarks`.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import importlib.util
import io
import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
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
_SEPARATORS = ",;\t|"
_SAMPLE = 200  # lines from which the dialect is told
_UNDEFINED_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"

Choice = Callable[[list[str]], Collection[str]]
Columns = Collection[str] | Choice | Literal["all"]
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
        return self.frame.assign(
            geometry=pd.Series(to_wgs84(self.shapes, self.crs, source=self.path), index=self.frame.index, dtype=object)
        )

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
        only: Chooses the columns of a CSV that are parsed, for wide files of which little is asked.

    Raises:
        DataError: Missing, unknown ending, unreadable, truncated or empty file, or one of several layers without a name.
    """
    path, part = take_apart(spec)
    if not path.is_file():
        raise DataError("no such file", source=path, remedy="Check the path.")
    part, name = layer or part, path.name.lower()
    if name.endswith(CSV_ENDINGS):
        read = _read_csv(path, text, only)
    elif name.endswith(PARQUET_ENDINGS):
        read = _read_parquet(path)
    elif name.endswith(VECTOR_ENDINGS):
        read = _read_vector(path, part)
    elif name.endswith(EXCEL_ENDINGS):
        read = _read_excel(path, part)
    else:
        raise DataError(
            f"no reader for {path.suffix or 'a file without ending'!r}",
            source=path,
            remedy=f"Known are {', '.join((*CSV_ENDINGS, *PARQUET_ENDINGS, *VECTOR_ENDINGS, *EXCEL_ENDINGS))}.",
        )
    frame = read.frame
    if frame.empty and read.shapes is None:
        raise DataError(
            "holds no row", source=path, remedy="Export it again; an Earth Engine export of an empty collection looks like this."
        )
    if not frame.columns.is_unique:
        raise DataError(f"has the column {frame.columns[frame.columns.duplicated()][0]!r} twice", source=path)
    for column in [] if text == "all" else _chosen(text, list(map(str, frame.columns))):
        frame[column] = as_keys(frame[column])
    return read


def _chosen(columns: Columns, names: list[str]) -> list[str]:
    """The names there are that are meant."""
    wanted = names if columns == "all" else columns(names) if callable(columns) else columns
    return [name for name in names if name in wanted]


# CSV -----------------------------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, text: Columns, only: Choice | None = None) -> TableFile:
    import pyarrow as pa
    import pyarrow.csv

    remarks: list[str] = []
    encoding = _encoding(path, remarks)
    try:
        with _lines(path, encoding) as lines:
            sample = [line for line, _ in zip(lines, range(_SAMPLE), strict=False)]
    except (UnicodeError, OSError, EOFError) as error:
        raise DataError(f"cannot be read as CSV: {error}", source=path, remedy="Export it again as CSV in UTF-8.") from error
    skip = 1 if sample and re.fullmatch(r"(?i)sep=.", sample[0].strip()) else 0  # a spreadsheet's own first line
    if not sample[skip:] or not sample[skip].strip():
        raise DataError("is empty", source=path, remedy="The first line names the columns.")
    separator = max(_SEPARATORS, key=sample[skip].count)
    names = [name.strip() for name in next(csv.reader([sample[skip]], delimiter=separator))]
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(f"has the column {repeated[0]!r} twice", source=path)
    unnamed = [f"_unnamed_{number}" for number, name in enumerate(names) if not name]
    names = [name or f"_unnamed_{number}" for number, name in enumerate(names)]
    comma = separator != "," and _decimal_commas(sample[skip + 1 :], separator)
    if comma:
        remarks.append("numbers have decimal commas")

    def parse(types: dict[str, pa.DataType], columns: list[str] | None = None) -> pa.Table:
        with _bytes(path) as stream:
            return pyarrow.csv.read_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=skip + 1, encoding=encoding),
                parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=types,
                    include_columns=columns,
                    strings_can_be_null=False,
                    null_values=["", *MISSING_WORDS, "NaN", "-nan", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!"],
                    decimal_point="," if comma else ".",
                ),
            )

    wanted = None if only is None else _chosen(only, names)
    keys = [name for name in _chosen(text, names) if wanted is None or name in wanted]
    try:
        table = parse(dict.fromkeys(keys, pa.string()), wanted)
        # Whole numbers with leading zeros are codes; what looks like times or holds nothing keeps its text for whoever knows what it means.
        doubtful = [one.name for one in table.schema if not (pa.types.is_floating(one.type) or pa.types.is_string(one.type))]
        again = parse(dict.fromkeys(doubtful, pa.string()), doubtful) if doubtful else None
    except (pa.ArrowException, UnicodeError, ValueError, OSError, EOFError) as error:
        raise DataError(
            f"cannot be read as CSV: {str(error).strip().splitlines()[0]}",
            source=path,
            remedy="One header line, then one row a unit, with as many fields as the header.",
        ) from error
    frame = pd.DataFrame({one.name: _values(table[one.name], None if again is None else again, one) for one in table.schema})
    for name in unnamed if wanted is None else []:
        if frame[name].isna().all():
            frame = frame.drop(columns=name)
        else:
            frame = frame.rename(columns={name: "index"} if name == "_unnamed_0" and "index" not in frame else {})
    for name in [column for column in frame.columns if _looks_like_lists(frame[column])]:
        frame = pd.concat([frame.drop(columns=name), expand_lists(_lists(frame[name], path), str(name), source=path)], axis=1)
    return _with_wkt(TableFile(path, frame, remarks=remarks))


def _looks_like_lists(values: pd.Series) -> bool:
    if not pd.api.types.is_object_dtype(values.dtype):
        return False
    first = next((value for value in values if value is not None), "")
    return re.match(r"\s*\[\s*[-+.\d]", first) is not None


def _lists(values: pd.Series, path: Path) -> pd.Series:
    """Lists that were written as text, `[0.1, 0.2]` or as NumPy prints them."""
    out: list[Any] = []
    for row, value in enumerate(values):
        if value is None:
            out.append(None)
            continue
        try:
            out.append(np.array(value.strip().strip("[]").replace(",", " ").split(), dtype=np.float64))
        except ValueError as error:
            raise DataError(
                f"column {values.name!r} holds a list that cannot be read at row {row + 1}: {value[:60]!r}",
                source=path,
                remedy="Lists with '...' were cut when they were printed: save them as Parquet, or one column an item.",
            ) from error
    return pd.Series(out, index=values.index, dtype=object)


def _values(column: pa.ChunkedArray, again: pa.Table | None, field: pa.Field) -> pd.Series:
    """A parsed column as numbers or as text (objects, None where blank)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(field.type):
        return column.to_pandas()
    if not pa.types.is_string(field.type):
        assert again is not None
        written = again[field.name]
        if pa.types.is_boolean(field.type):
            return column.to_pandas() if column.null_count == 0 else column.cast(pa.float64()).to_pandas()
        if pa.types.is_integer(field.type):
            coded = pc.any(pc.match_substring_regex(pc.utf8_trim_whitespace(written), r"^[+-]?0[0-9]|^[0-9]{16,}$")).as_py()
            if not coded:
                return column.to_pandas()
        column = written
    if column.null_count == 0 and pc.all(pc.equal(column, "")).as_py():
        return pd.Series(np.full(len(column), np.nan))
    values = column.to_pandas().astype(object)
    return values.where(values.notna() & (values.str.strip() != ""), None)


def _encoding(path: Path, remarks: list[str]) -> str:
    try:
        return _told_encoding(path, remarks)
    except (OSError, EOFError) as error:  # a compressed file that was cut short
        raise DataError(f"cannot be read as CSV: {error}", source=path, remedy="Fetch or export it again.") from error


def _told_encoding(path: Path, remarks: list[str]) -> str:
    decoder, undefined = codecs.getincrementaldecoder("utf-8")(), False
    utf8 = True
    with _bytes(path) as stream:
        first = True
        while chunk := stream.read(1 << 24):
            if first and chunk[:2] in (b"\xff\xfe", b"\xfe\xff"):
                return "utf-16"
            if first and chunk[:3] == codecs.BOM_UTF8:
                return "utf-8-sig"
            first = False
            undefined |= any(byte in chunk for byte in (bytes([code]) for code in _UNDEFINED_IN_CP1252))
            if utf8:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    utf8 = False
    if utf8:
        return "utf-8"
    remarks.append(f"is not UTF-8: read as {'Latin-1' if undefined else 'Windows-1252 (Latin-1)'}; look at accents, or save it as UTF-8")
    return "latin-1" if undefined else "cp1252"


def _decimal_commas(lines: Iterable[str], separator: str) -> bool:
    fields = [value.strip() for row in csv.reader(lines, delimiter=separator) for value in row]
    commas = sum(re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", value) is not None for value in fields)
    points = sum(re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", value) is not None for value in fields)
    return commas > points


def _bytes(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _lines(path: Path, encoding: str) -> Any:
    return io.TextIOWrapper(_bytes(path), encoding=encoding, newline="")


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


def _read_parquet(path: Path) -> TableFile:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
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
    parts: list[pd.DataFrame] = []
    for one in table.schema:
        # An index that pandas wrote is a column; one without a name only counts the rows.
        if one.name != column and not re.fullmatch(r"__index_level_\d+__", one.name):
            parts.append(_column(table[one.name], one, path))
    frame = pd.concat(parts, axis=1) if parts else pd.DataFrame(index=range(table.num_rows))
    return TableFile(path, frame, shapes, crs) if shapes is not None else _with_wkt(TableFile(path, frame))


def _column(values: pa.ChunkedArray, field: pa.Field, path: Path) -> pd.DataFrame:
    """A Parquet column as one column, or as many as its lists are long."""
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


def expand_lists(values: pd.Series, name: str, *, source: str | Path) -> pd.DataFrame:
    """A column of lists of numbers as the columns `name_0`, `name_1`, ..; NaN where a row has no list.

    Raises:
        DataError: Lists of several lengths.
    """
    lengths = np.array([-1 if value is None or np.ndim(value) == 0 else len(value) for value in values])
    known = np.unique(lengths[lengths >= 0])
    if len(known) > 1:
        row = int(np.flatnonzero((lengths >= 0) & (lengths != np.bincount(lengths[lengths >= 0]).argmax()))[0])
        raise DataError(
            f"column {name!r} holds lists of several lengths ({', '.join(map(str, known[:4]))}), first other at row {row + 1}",
            source=source,
            remedy="Lists become one column an item, so all need one length: two products in one column are two columns.",
        )
    width = int(known[0]) if len(known) else 0
    matrix = np.full((len(values), width), np.nan, dtype=np.float64)
    if width and (lengths >= 0).any():
        matrix[lengths >= 0] = np.stack([np.asarray(value, dtype=np.float64) for value in values[lengths >= 0]])
    return pd.DataFrame(matrix, columns=[f"{name}_{number}" for number in range(width)])


def _read_vector(path: Path, layer: str | None) -> TableFile:
    import fiona
    import fiona.errors
    import shapely
    from shapely.geometry import shape

    try:
        layers = [name for name in fiona.listlayers(path) if name not in _NO_LAYERS]
        if layer is not None and layer not in layers:
            raise DataError(f"has no layer {layer!r}; there are: {', '.join(layers)}", source=path)
        if layer is None and len(layers) > 1:
            raise DataError(
                f"holds {len(layers)} layers ({', '.join(layers)})", source=path, remedy=f"Say which: {path.name}#{layers[-1]}, or layer=."
            )
        with fiona.open(path, layer=layer or layers[0]) as features:
            crs = features.crs_wkt or None
            rows = [(dict(feature.properties), feature.geometry) for feature in features]
            columns = list(features.schema["properties"])
        shapes = np.array([None if geometry is None else shape(geometry) for _, geometry in rows] or [], dtype=object)
    except (fiona.errors.FionaError, OSError, ValueError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise DataError(
            f"cannot be read as a vector layer: {str(error).strip()}", source=path, remedy="Open it in QGIS to see whether it is whole."
        ) from error
    frame = pd.DataFrame([properties for properties, _ in rows], columns=columns)
    for column in frame.columns:
        first = next((value for value in frame[column] if value is not None), None)
        if isinstance(first, (list, tuple)) and first and all(isinstance(item, (int, float)) for item in first):
            spread = expand_lists(frame[column], column, source=path)
            frame = pd.concat([frame.drop(columns=column), spread], axis=1)
    return TableFile(path, frame, shapes if any(item is not None for item in shapes) else None, crs)


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
