"""The two lists and the tables that describe their units, brought together.

A ``#`` after a file names the part that is meant: a list inside a JSON file (``splits.json#split1.train_ids``), the id column of a
table (``chips.csv#chip_id``), or the layer of a GeoPackage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.audit.audit_side import LAT_NAMES, LON_NAMES, AuditColumns, centres, pick
from rs05bench.protocol.audit.unit_files import read_table
from rs05bench.protocol.audit.values import as_text
from rs05bench.protocol.intake.tablefile import take_apart


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
    sides = _with_positions(sides, wanted)
    has_id = wanted.id is None and all("unit_id" in frame.columns for frame in sides)
    has_position = wanted.lon is None and wanted.lat is None and all({"lon", "lat"} <= set(frame.columns) for frame in sides)
    update = ({"id": "unit_id"} if has_id else {}) | ({"lon": "lon", "lat": "lat"} if has_position else {})
    return sides[0], sides[1], wanted.model_copy(update=update)


def _with_positions(sides: list[pd.DataFrame], wanted: AuditColumns) -> list[pd.DataFrame]:
    """Coordinates under one name on both sides: recognised by their usual names, else taken from the footprints of that side."""
    lon, lat = wanted.lon or "lon", wanted.lat or "lat"
    if wanted.lon is None and wanted.lat is None:
        usual = [{pick(frame, LON_NAMES): lon, pick(frame, LAT_NAMES): lat} for frame in sides]
        sides = [frame if None in names else frame.rename(columns=names) for frame, names in zip(sides, usual, strict=True)]
    if not any({lon, lat} <= set(frame.columns) for frame in sides):
        return sides
    out = []
    for frame in sides:
        if not {lon, lat} & set(frame.columns) and hasattr(frame, "crs"):
            x, y = centres(frame.geometry, "footprints")
            frame = frame.assign(**{lon: x, lat: y})
        out.append(frame)
    return out


def _one_side(spec: str, wanted: AuditColumns, units: Sequence[str | Path], id_format: str) -> pd.DataFrame:
    frame = read_table(spec, columns=wanted)
    if len(frame) == 0:
        raise DataError("the list is empty: there is nothing to audit", source=spec, remedy="Give a list with at least one unit.")
    frame = _resolve_files(frame, wanted.content, take_apart(spec)[0].parent)
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
    described = _resolve_files(described, wanted.content, take_apart(table)[0].parent)
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


def _resolve_files(frame: pd.DataFrame, column: str | None, folder: Path) -> pd.DataFrame:
    """Paths in the content column are meant from the folder of the list that names them."""
    if column is None or column not in frame.columns:
        return frame
    names = as_text(frame[column])
    present = names.dropna()
    if len(present) == 0 or not (folder / str(present.iloc[0])).is_file():
        return frame
    return frame.assign(**{column: names.map(lambda name: str(folder / name), na_action="ignore")})
