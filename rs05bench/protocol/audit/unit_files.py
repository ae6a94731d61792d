"""Reading one file as a table, ids kept as the strings they are: CSV, Parquet, GeoJSON, GeoPackage, JSON."""

from __future__ import annotations

import csv
import fnmatch
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.audit.audit_side import ID_NAMES, LAT_NAMES, LON_NAMES, AuditColumns, pick
from rs05bench.protocol.audit.values import expand

GEO_SUFFIXES = (".geojson", ".gpkg", ".shp", ".fgb")
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".geoparquet")


def read_table(spec: str, *, columns: AuditColumns, must: bool = True) -> pd.DataFrame:
    """Read one file as a table; the id column comes back under its own name when it was named, else as ``unit_id``.

    Args:
        spec: ``FILE`` or ``FILE#PART``.
        columns: Named columns: ids, groups and places are read as text.
        must: Whether a named id column has to be there (not so in a table of units, which may call it differently).
    """
    path, part = take_apart(spec)
    suffix = path.suffix.lower()
    if suffix == ".json" or (suffix == ".geojson" and part and not _is_features(path)):
        return _json_frame(path, part, columns)
    if suffix in GEO_SUFFIXES:
        frame, part = _geo_frame(path, part if suffix == ".gpkg" else None), None if suffix == ".gpkg" else part
    elif suffix in (".parquet", ".pq", ".geoparquet"):
        frame = _parquet_frame(path)
    elif suffix in (".csv", ".tsv", ".txt"):
        frame = _csv_frame(path, columns, part)
    else:
        raise DataError(
            f"no reader for {suffix or 'a file without suffix'!r}",
            source=path,
            remedy=f"Give one of {', '.join((*TABLE_SUFFIXES, *GEO_SUFFIXES))}, .json.",
        )
    return _named_id(frame, columns, part, path, must=must)


def take_apart(spec: str) -> tuple[Path, str | None]:
    """``FILE#PART`` as file and part; a file whose own name holds a ``#`` is found first.

    Raises:
        DataError: There is no such file.
    """
    path = Path(spec)
    if path.is_file():
        return path, None
    name, mark, part = spec.rpartition("#")
    if mark and Path(name).is_file():
        return Path(name), part
    raise DataError("no such file", source=name if mark else spec, remedy="Check the path.")


def _named_id(frame: pd.DataFrame, columns: AuditColumns, part: str | None, path: Path, *, must: bool) -> pd.DataFrame:
    if part is not None:
        if part not in frame.columns:
            raise DataError(f"no column {part!r} (columns: {', '.join(map(str, frame.columns[:20]))})", source=path)
        return frame.rename(columns={part: columns.id or "unit_id"})
    if columns.id is not None and columns.id in frame.columns:
        return frame
    found = _guess_id(frame)
    if columns.id is not None:
        # A file of bare ids has one column whatever it is called; a table of units may use its own name.
        plain = [name for name in frame.columns if name != "geometry"]
        if len(plain) == 1 or (not must and found is not None):
            return frame.rename(columns={(plain[0] if len(plain) == 1 else found): columns.id})
        return frame
    return frame.rename(columns={found: "unit_id"}) if found is not None else frame


def _guess_id(frame: pd.DataFrame) -> str | None:
    found = pick(frame, ID_NAMES)
    if found is not None:
        return found
    plain = [str(name) for name in frame.columns if name != "geometry"]
    if len(plain) == 1:
        return plain[0]
    ending = [name for name in plain if name.lower().endswith("_id")]
    return ending[0] if len(ending) == 1 else None


def _csv_frame(path: Path, columns: AuditColumns, part: str | None) -> pd.DataFrame:
    """Text stays text where an id, a group or a place is meant: ``"007"`` must not become 7."""
    import pyarrow as pa
    import pyarrow.csv

    with path.open("rb") as handle:
        first = handle.readline().decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if not first:
        raise DataError("the file is empty", source=path, remedy="The first line names the columns.")
    delimiter = max(",;\t|", key=first.count)
    header = next(csv.reader([first], delimiter=delimiter))
    guess = _guess_id(pd.DataFrame(columns=header))
    text = {name for name in (columns.id, part, guess, columns.time, columns.time_end, columns.year, columns.content) if name}
    text |= {*columns.groups, *columns.place}
    numbers = {
        name
        for name in (columns.lon, columns.lat, pick(pd.DataFrame(columns=header), LON_NAMES), pick(pd.DataFrame(columns=header), LAT_NAMES))
        if name
    }
    features = expand(header, columns.features, str(path)) if columns.features and _all_match(header, columns.features) else []
    keep = [name for name in header if name in text | numbers | set(features) | {columns.label}]
    if any(name not in header for name in columns.plain()):
        keep = header  # the message about what is missing should tell what is there
    types = {name: pa.string() for name in header if name in text} | {name: pa.float32() for name in features}
    try:
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=False),
            convert_options=pyarrow.csv.ConvertOptions(
                # Only what the audit looks at is parsed: a wide export costs no more than a narrow one.
                include_columns=keep or header,
                column_types=types,
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DataError(f"not a readable table: {error}", source=path, remedy="One header line, then one row a unit.") from error
    return table.to_pandas()


def _all_match(header: Sequence[str], patterns: Sequence[str]) -> bool:
    return all(any(fnmatch.fnmatchcase(name, pattern) for name in header) for pattern in patterns)


def _parquet_frame(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path)
        if b"geo" in (schema.metadata or {}):
            import geopandas

            return geopandas.read_parquet(path)
        return pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"not a readable Parquet file: {error}", source=path) from error


def _geo_frame(path: Path, layer: str | None) -> pd.DataFrame:
    import geopandas

    try:
        frame = geopandas.read_file(path, layer=layer) if layer else geopandas.read_file(path)
    except Exception as error:  # pyogrio raises its own family, which differs between its versions
        raise DataError(f"not a readable vector file: {error}", source=path) from error
    return frame


def _is_features(path: Path) -> bool:
    with path.open(encoding="utf-8") as handle:
        return '"FeatureCollection"' in handle.read(4096)


def _json_frame(path: Path, part: str | None, columns: AuditColumns) -> pd.DataFrame:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"not JSON: {error}", source=path) from error
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        return _named_id(_geo_frame(path, None), columns, part, path, must=False)
    found = point_to(content, part, source=path) if part else content
    if isinstance(found, dict):
        lists = list(_lists(found, part or ""))
        shown = "; ".join(f"#{where} ({count:,})" for where, count in lists[:12]) or "none"
        raise DataError(f"a list of ids is needed, found an object; the lists in it: {shown}", source=path, remedy="Write FILE#PART.")
    if not isinstance(found, list):
        raise DataError(f"a list of ids is needed, found {type(found).__name__}", source=path, remedy="Write FILE#PART.")
    if found and all(isinstance(item, dict) for item in found):
        return _named_id(pd.DataFrame(found), columns, None, path, must=False)
    if any(isinstance(item, dict | list) or item is None for item in found):
        raise DataError("the list mixes ids with other things", source=path, remedy="Give a list of strings or numbers, or of objects.")
    return pd.DataFrame({columns.id or "unit_id": pd.Series([str(item) for item in found], dtype="string")})


def point_to(content: Any, pointer: str, *, source: str | Path) -> Any:
    """What a pointer names inside parsed JSON: ``a.b.0.c``, or ``/a/b/0/c`` (RFC 6901) where keys hold dots.

    Raises:
        DataError: There is no such part; lists what is there.
    """
    steps = (
        [step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")] if pointer.startswith("/") else pointer.split(".")
    )
    here = content
    for step in steps:
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and step.isdigit() and int(step) < len(here):
            here = here[int(step)]
        else:
            have = ", ".join(list(here)[:12]) if isinstance(here, dict) else f"a {type(here).__name__}"
            raise DataError(
                f"no part {step!r} of #{pointer} (there: {have})", source=source, remedy="Write the keys with dots between them."
            )
    return here


def _lists(content: dict[str, Any], prefix: str) -> Iterator[tuple[str, int]]:
    for key, value in content.items():
        where = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, list):
            yield where, len(value)
        elif isinstance(value, dict):
            yield from _lists(value, where)
