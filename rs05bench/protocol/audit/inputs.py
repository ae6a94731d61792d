"""Reading the two lists: CSV, Parquet, GeoJSON, GeoPackage or JSON, ids kept as the strings they are.

A ``#`` after the file names the part that is meant: a list inside a JSON file (``splits.json#split1.train_ids``), the id column of a
table (``chips.csv#chip_id``), or the layer of a GeoPackage.
"""

from __future__ import annotations

import csv
import fnmatch
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.audit.units import ID_NAMES, LAT_NAMES, LON_NAMES, AuditColumns, as_text, expand, pick

GEO_SUFFIXES = (".geojson", ".gpkg", ".shp", ".fgb")
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".geoparquet")


def read_lists(
    train: str | Path, test: str | Path, *, units: Sequence[str | Path] = (), columns: AuditColumns | None = None, id_format: str = "{}"
) -> tuple[pd.DataFrame, pd.DataFrame, AuditColumns]:
    """Read both lists and whatever tables describe their units.

    Args:
        train: Training list, ``FILE`` or ``FILE#PART``.
        test: Test list.
        units: Tables that give coordinates, footprints or groups for the ids.
        columns: Which column holds what; ids and coordinates are recognised by their usual names where not named.
        id_format: How an id of the lists is written in the unit tables, for example ``chip_{}``.

    Returns:
        The training frame, the test frame (GeoDataFrames where footprints came along) and the columns as resolved.

    Raises:
        DataError: A file cannot be read, or ids, columns or list are not there.
    """
    wanted = columns or AuditColumns()
    if "{}" not in id_format:
        raise DataError(f"the id format {id_format!r} has no place for the id", remedy="Write {} where the id goes, for example chip_{}.")
    sides = [_one_side(str(spec), wanted, units, id_format) for spec in (train, test)]
    resolved = wanted.model_copy(
        update={
            "id": "unit_id" if all("unit_id" in frame.columns for frame in sides) and wanted.id is None else wanted.id,
            "lon": wanted.lon or _shared_pick(sides, LON_NAMES),
            "lat": wanted.lat or _shared_pick(sides, LAT_NAMES),
        }
    )
    if resolved.lon is None or resolved.lat is None:
        resolved = resolved.model_copy(update={"lon": wanted.lon, "lat": wanted.lat})
    return sides[0], sides[1], resolved


def _one_side(spec: str, wanted: AuditColumns, units: Sequence[str | Path], id_format: str) -> pd.DataFrame:
    frame = read_table(spec, columns=wanted)
    if len(frame) == 0:
        raise DataError("the list is empty: there is nothing to audit", source=spec, remedy="Give a list with at least one unit.")
    key = wanted.id or "unit_id"
    if not units:
        return frame
    if key not in frame.columns:
        raise DataError("--units needs ids to look up, and the list has no id column", source=spec, remedy="Name it with --id.")
    ids = as_text(frame[key])
    frame[key] = ids if id_format == "{}" else ids.map(id_format.format, na_action="ignore")
    for table in units:
        frame = _look_up(frame, key, str(table), wanted, spec)
    return frame


def _look_up(frame: pd.DataFrame, key: str, table: str, wanted: AuditColumns, spec: str) -> pd.DataFrame:
    described = read_table(table, columns=wanted, must=False).rename(columns={wanted.id or "unit_id": key})
    if key not in described.columns:
        raise DataError(
            f"no id column found (columns: {', '.join(map(str, described.columns))})", source=table, remedy=f"Write {table}#COLUMN."
        )
    described[key] = as_text(described[key])
    twice = described[key][described[key].duplicated()]
    if len(twice):
        raise DataError(
            f"id {twice.iloc[0]!r} is there {int((described[key] == twice.iloc[0]).sum())} times", source=table, remedy="One row an id."
        )
    if not bool(frame[key].isin(described[key]).any()):
        raise DataError(
            f"none of the {len(frame):,} ids of {spec} is in it (they look like {frame[key].iloc[0]!r}, here {described[key].iloc[0]!r})",
            source=table,
            remedy="Say how an id of the list is written there, for example --id-format 'chip_{}', or name the id column with FILE#COLUMN.",
        )
    fresh = [name for name in described.columns if name == key or name not in frame.columns]
    joined = frame.merge(described[fresh], on=key, how="left", validate="many_to_one")
    crs = getattr(described, "crs", None) or getattr(frame, "crs", None)
    if crs is None:
        return joined
    import geopandas

    return geopandas.GeoDataFrame(pd.DataFrame(joined), geometry="geometry", crs=crs)


def read_table(spec: str, *, columns: AuditColumns, must: bool = True) -> pd.DataFrame:
    """Read one file as a table; the id column comes back under its own name when it was named, else as ``unit_id``.

    Args:
        spec: ``FILE`` or ``FILE#PART``.
        columns: Named columns: ids, groups and places are read as text.
        must: Whether a named id column has to be there (not so in a table of units, which may call it differently).
    """
    path, part = _take_apart(spec)
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


def _take_apart(spec: str) -> tuple[Path, str | None]:
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


def _shared_pick(sides: Sequence[pd.DataFrame], names: Sequence[str]) -> str | None:
    found = [pick(frame, names) for frame in sides]
    return found[0] if found[0] is not None and found[0] == found[1] else None


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
