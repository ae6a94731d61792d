"""Table files as they are in the wild: Earth Engine CSV exports, Parquet, GeoParquet, and what fiona opens.

Whatever the format, a file becomes a data frame; geometries come in a column `geometry` of shapely objects in WGS84 (longitude, latitude).
Columns that name things (ids, keys, groups, classes) are read as text, so that county `01001` keeps its zero.
"""

from __future__ import annotations

import csv
import fnmatch
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.errors import DataError

GEO_COLUMN = ".geo"  # Earth Engine's GeoJSON column
INDEX_COLUMN = "system:index"  # Earth Engine's row name
FILE_COLUMN, ROW_COLUMN = "_file", "_row"

CSV_ENDINGS = (".csv", ".csv.gz", ".tsv", ".txt")
PARQUET_ENDINGS = (".parquet", ".geoparquet", ".pq")
VECTOR_ENDINGS = (".gpkg", ".shp", ".geojson", ".json", ".fgb")


def find_files(root: Path, patterns: Sequence[str], *, source: str) -> list[Path]:
    """The files a card's globs mean, in name order.

    Raises:
        DataError: A pattern that finds nothing, or a data directory that is not there.
    """
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError("no such file or folder", source=root, remedy="Give the folder that holds the card's files with --data.")
    found: dict[Path, None] = {}
    for pattern in patterns:
        if Path(pattern).is_absolute():
            raise DataError(f"files: {pattern!r} is absolute; patterns are relative to the data directory", source=source)
        hits = sorted(path for path in root.glob(pattern) if path.is_file())
        if not hits:
            here = sorted(path.name for path in root.iterdir())[:8]
            raise DataError(f"files: {pattern!r} finds no file in {root} (it holds: {', '.join(here) or 'nothing'})", source=source)
        found.update(dict.fromkeys(hits))
    return list(found)


def read_files(root: Path, patterns: Sequence[str], *, text: Collection[str], needed: Collection[str] = (), source: str) -> pd.DataFrame:
    """All files of the patterns as one frame, with `_file` (path without its ending, relative to `root`) and `_row`.

    Args:
        root: The data directory, or one file.
        patterns: Globs relative to it.
        text: Columns to read as text.
        needed: Columns, or globs of them, that every file must have if one has them.
        source: The card, for messages.

    Raises:
        DataError: No file, an unreadable one, or one that lacks a needed column.
    """
    paths = find_files(root, patterns, source=source)
    # A copy, because a reader's frame may be one block a column, and pandas warns of that to whoever adds the next one.
    frames = [read_file(path, text=text).copy() for path in paths]
    _refuse_gaps(frames, paths, needed)
    for path, frame in zip(paths, frames, strict=True):
        relative = path.relative_to(root) if root.is_dir() else Path(path.name)
        frame[FILE_COLUMN] = relative.as_posix().removesuffix("".join(relative.suffixes[-1:]))
        # Exports that were pasted together repeat their index; their rows still have a number.
        if INDEX_COLUMN in frame.columns and frame[INDEX_COLUMN].is_unique:
            frame[ROW_COLUMN] = _as_text(frame[INDEX_COLUMN])
        else:
            frame[ROW_COLUMN] = [str(number) for number in range(len(frame))]
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def _refuse_gaps(frames: Sequence[pd.DataFrame], paths: Sequence[Path], needed: Collection[str]) -> None:
    """A column that one file lacks would silently be blank in its rows."""
    owner = {str(name): path for frame, path in zip(reversed(frames), reversed(paths), strict=True) for name in frame.columns}
    wanted = [name for name in owner if any(fnmatch.fnmatchcase(name, pattern) for pattern in needed)]
    for frame, path in zip(frames, paths, strict=True):
        if lacking := [name for name in wanted if name not in frame.columns]:
            raise DataError(
                f"lacks the column{'s' if len(lacking) > 1 else ''} {', '.join(map(repr, lacking[:6]))} that {owner[lacking[0]].name} has",
                source=path,
                remedy="Export all files with the same columns, or narrow the card's `files`.",
            )


def read_file(path: Path, *, text: Collection[str] = ()) -> pd.DataFrame:
    """One file as a frame.

    Raises:
        DataError: Unknown ending, unreadable, truncated or empty file.
    """
    name = path.name.lower()
    if name.endswith(CSV_ENDINGS):
        frame = _read_csv(path, text)
    elif name.endswith(PARQUET_ENDINGS):
        frame = _read_parquet(path)
    elif name.endswith(VECTOR_ENDINGS):
        frame = _read_vector(path)
    else:
        raise DataError(
            f"cannot tell the format of {path.suffix or 'a file without ending'!r}",
            source=path,
            remedy=f"Known are {', '.join((*CSV_ENDINGS, *PARQUET_ENDINGS, *VECTOR_ENDINGS))}.",
        )
    if frame.empty:
        raise DataError(
            "holds no row", source=path, remedy="Export it again; an Earth Engine export of an empty collection looks like this."
        )
    if not frame.columns.is_unique:
        raise DataError(f"has the column {frame.columns[frame.columns.duplicated()][0]!r} twice", source=path)
    for column in text:
        if column in frame.columns:
            frame[column] = _as_text(frame[column])
    return frame


def _read_csv(path: Path, text: Collection[str]) -> pd.DataFrame:
    try:
        # pandas takes the first row for the truth about the columns; a longer row would shift the others silently without index_col=False.
        with _open_text(path) as lines:
            header = lines.readline()
        separator = max(",;\t", key=header.count)
        names = next(csv.reader([header], delimiter=separator), [])
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise DataError(f"has the column {sorted(repeated)[0]!r} twice", source=path)
        kinds = {name: str for name in names if name in text}
        return pd.read_csv(path, sep=separator, dtype=kinds, index_col=False, low_memory=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError as error:
        raise DataError("is empty", source=path) from error
    except (pd.errors.ParserError, UnicodeDecodeError, ValueError, OSError, EOFError) as error:
        raise DataError(f"cannot be read as CSV: {str(error).strip()}", source=path, remedy="Export it again as CSV in UTF-8.") from error


def _open_text(path: Path) -> Any:
    import gzip

    return gzip.open(path, "rt", encoding="utf-8-sig") if path.name.endswith(".gz") else path.open(encoding="utf-8-sig", newline="")


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
        frame: pd.DataFrame = table.to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot be read as Parquet: {str(error).splitlines()[0]}", source=path) from error
    metadata = (table.schema.metadata or {}).get(b"geo")
    if metadata is None:
        return frame.reset_index(drop=frame.index.name is None)
    import shapely

    try:
        geo = json.loads(metadata)
        column = geo["primary_column"]
        # No crs key means OGC:CRS84; an explicit null means that nobody knows (GeoParquet 1.1).
        crs = geo["columns"][column].get("crs", "OGC:CRS84")
        shapes = shapely.from_wkb(frame[column].to_numpy())
    except (KeyError, ValueError, TypeError, shapely.errors.ShapelyError) as error:
        raise DataError(f"its GeoParquet metadata cannot be read: {error}", source=path) from error
    frame = frame.drop(columns=column)
    frame["geometry"] = to_wgs84(shapes, json.dumps(crs) if isinstance(crs, dict) else crs, source=path)
    return frame


def _read_vector(path: Path) -> pd.DataFrame:
    import fiona
    import fiona.errors
    import shapely
    from shapely.geometry import shape

    try:
        with fiona.open(path) as features:
            crs = features.crs_wkt or None
            rows = [(dict(feature.properties), feature.geometry) for feature in features]
            columns = list(features.schema["properties"])
        shapes = np.array([None if geometry is None else shape(geometry) for _, geometry in rows], dtype=object)
    except (fiona.errors.FionaError, OSError, ValueError, KeyError, AttributeError, shapely.errors.ShapelyError) as error:
        raise DataError(
            f"cannot be read: {str(error).strip()}", source=path, remedy="Open it in QGIS to see whether it is whole."
        ) from error
    frame = pd.DataFrame([properties for properties, _ in rows], columns=columns)
    if any(item is not None for item in shapes):
        frame["geometry"] = to_wgs84(shapes, crs, source=path)
    return frame


def to_wgs84(shapes: Any, crs: str | None, *, source: str | Path) -> Any:
    """Geometries in longitude and latitude.

    Raises:
        DataError: The file does not say its CRS, or says one nobody knows.
    """
    import pyproj
    import shapely

    if not crs:
        raise DataError(
            "does not say its CRS", source=source, remedy="Assign it in QGIS or with ogr2ogr -a_srs EPSG:.., and save it again."
        )
    try:
        known = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise DataError(f"unknown CRS {str(crs)[:60]!r}", source=source, remedy="Give an EPSG code (e.g. EPSG:5070) or WKT.") from error
    if known.is_geographic and known.to_epsg() in (4326, None) and "WGS 84" in known.name:
        return shapes
    transformer = pyproj.Transformer.from_crs(known, "OGC:CRS84", always_xy=True)
    return shapely.transform(shapes, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))


def parse_geojson(values: pd.Series, *, source: str | Path) -> Any:
    """Earth Engine's `.geo` column as shapely geometries (it is always WGS84); blanks and empty geometries become None.

    Raises:
        DataError: A value that is no GeoJSON.
    """
    import shapely

    text = values.where(values.notna(), None).to_numpy(dtype=object)
    shapes = shapely.from_geojson(text, on_invalid="ignore")
    broken = [row for row, (value, item) in enumerate(zip(text, shapes, strict=True)) if value and item is None]
    if broken:
        raise DataError(f"column {GEO_COLUMN!r} holds no GeoJSON in {len(broken)} rows, first {text[broken[0]]!r}", source=source)
    shapes[shapely.is_empty(shapes)] = None
    return shapes


def _as_text(values: pd.Series) -> pd.Series:
    """Text without the '.0' that whole numbers get in a column with blanks; blanks stay blank."""
    if pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 == 0).all()):
        values = values.astype("Int64")
    blank = values.isna()
    text = values.astype(str).str.strip()
    if bool(text[~blank].str.fullmatch(r"-?\d+\.0+").all()):
        text = text.str.replace(r"\.0+$", "", regex=True)
    return text.astype(object).where(~blank, None)
