"""Reading one file as a table, ids kept as the strings they are: what `read_tablefile` opens, and lists in JSON."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.audit.audit_side import ID_NAMES, LAT_NAMES, LON_NAMES, AuditColumns, pick
from rs05bench.protocol.audit.values import expand
from rs05bench.protocol.intake.tablefile import EXCEL_ENDINGS, WKT_COLUMNS, read_tablefile, take_apart


def read_table(spec: str, *, columns: AuditColumns, must: bool = True) -> pd.DataFrame:
    """Read one file as a table; the id column comes back under its own name when it was named, else as ``unit_id``.

    Args:
        spec: ``FILE`` or ``FILE#PART``.
        columns: Named columns: ids, groups and places are read as text.
        must: Whether a named id column has to be there (not so in a table of units, which may call it differently).
    """
    path, part = take_apart(spec)
    if not path.is_file():
        raise DataError("no such file", source=path, remedy="Check the path.")
    suffix = path.suffix.lower()
    if suffix == ".json" or (suffix == ".geojson" and part and not _is_features(path)):
        return _json_frame(path, part, columns)
    layered = suffix in (".gpkg", *EXCEL_ENDINGS)
    frame = _frame(path, part if layered else None, columns, None if layered else part)
    return _named_id(frame, columns, None if layered else part, path, must=must)


def _frame(path: Path, layer: str | None, columns: AuditColumns, part: str | None) -> pd.DataFrame:
    """A table file, ids, groups and places as keys, with its geometries where it has them; of a wide file only what the audit looks at."""

    def keys(names: list[str]) -> set[str]:
        guess = _guess_id(pd.DataFrame(columns=names))
        named = (columns.id, part, guess, columns.time, columns.time_end, columns.year, columns.content, *columns.groups, *columns.place)
        return {name for name in named if name}

    def looked_at(names: list[str]) -> Collection[str]:
        if any(name not in names for name in columns.plain()):
            return names  # the message about what is missing should tell what is there
        header = pd.DataFrame(columns=names)
        positions = {columns.lon, columns.lat, pick(header, LON_NAMES), pick(header, LAT_NAMES)}
        features = expand(names, columns.features, str(path)) if columns.features and _all_match(names, columns.features) else []
        shapes = {name for name in names if name.lower() in WKT_COLUMNS}
        return {name for name in (*keys(names), *positions, *features, *shapes, columns.label) if name} or names

    read = read_tablefile(path, layer=layer, text=keys, only=looked_at)
    return read.frame if read.shapes is None else read.as_geodataframe()


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


def _all_match(header: Sequence[str], patterns: Sequence[str]) -> bool:
    return all(any(fnmatch.fnmatchcase(name, pattern) for name in header) for pattern in patterns)


def _is_features(path: Path) -> bool:
    with path.open(encoding="utf-8") as handle:
        return '"FeatureCollection"' in handle.read(4096)


def _json_frame(path: Path, part: str | None, columns: AuditColumns) -> pd.DataFrame:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"not JSON: {error}", source=path) from error
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        return _named_id(_frame(path, None, columns, None), columns, part, path, must=False)
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
