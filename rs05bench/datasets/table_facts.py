"""What a table says of itself before there is a card: columns, position, years, families of embeddings, oddities."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.datasets.tables.card_files import FILE_COLUMN, INDEX_COLUMN, ROW_COLUMN, read_files
from rs05bench.datasets.tables.column_roles import (
    EASTING,
    LATITUDE,
    LONGITUDE,
    NORTHING,
    constant,
    is_id,
    is_position,
    is_split,
)
from rs05bench.datasets.tables.numbered_columns import NumberedColumns, find_families
from rs05bench.embeddings.output import extracted_product
from rs05bench.embeddings.products import all_products, no_vector
from rs05bench.errors import DataError
from rs05bench.protocol.intake.keys import as_keys, two_spellings
from rs05bench.protocol.intake.sentinels import sentinels
from rs05bench.protocol.intake.tablefile import GEO_COLUMN
from rs05bench.protocol.intake.times import parse_times, readings

_DATE = re.compile(r"(?i)(.*_)?(date|time|timestamp|datetime)")
_DAY = re.compile(r"^\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
_PLAIN_DATE = "a date"
_YEAR_LAST = "a date whose year stands last"
_LOOKED_AT = 50
"""Values of a column of dates that are looked at."""

_GROUP = ("region", "state", "county", "city", "site", "fire", "biome", "ecoregion", "tile", "country", "province", "district", "zone")


MOST_CLASSES = 50


FEW_UNITS = 60


@dataclass(frozen=True)
class TableFacts:
    """What a table shows of itself.

    Attributes:
        frame: The table.
        files: Globs that find it.
        families: Embeddings: numbered columns that belong together.
        wide_years: Years of wide columns (`A00_2018`) of a table without a year column.
        x: Column of longitude or easting.
        y: Column of latitude or northing.
        projected: Whether x and y are metres of some CRS, not degrees.
        geometry: Whether the file has geometries.
        year: Column of the year; that of the date where only dates hold it.
        time: Column of the date.
        names: Columns that hold text, or whole numbers with few values, by how many values they have.
        numbers: Columns that hold numbers and may be features.
        aside: Columns that may be neither: ids, splits somebody made, positions -> why.
        remarks: What was taken for granted in reading the files, and what looks odd.
    """

    frame: pd.DataFrame
    files: list[str]
    families: list[NumberedColumns]
    wide_years: list[int]
    x: str | None
    y: str | None
    projected: bool
    geometry: bool
    year: str | None
    time: str | None
    names: dict[str, int]
    numbers: list[str]
    aside: dict[str, str]
    remarks: list[str]

    @property
    def bands(self) -> list[str]:
        """Columns of all embeddings."""
        return [column for family in self.families for column in family.columns]


def look(table: str | Path) -> TableFacts:
    """Reads a table (a file, or a folder of CSV files) and sorts its columns.

    Raises:
        DataError: It cannot be read.
    """
    path = Path(table)
    name, mark, layer = path.name.rpartition("#")
    whole = path.is_file() or not mark
    files = ["*.csv"] if path.is_dir() else [glob.escape(path.name) if whole else f"{glob.escape(name)}#{layer}"]
    frame, remarks = read_files(path if path.is_dir() else path.parent, files, text=(), source=str(path))
    columns = [name for name in map(str, frame.columns) if name not in (FILE_COLUMN, ROW_COLUMN, INDEX_COLUMN, GEO_COLUMN, "geometry")]
    families = find_families(frame, columns)
    made = None if path.is_dir() else extracted_product(path)
    if made is not None:
        of_product = tuple(made.find_columns(columns) or ())
        families = [replace(family, product=made.name) if set(family.columns) == set(of_product) else family for family in families]
    components = {column for family in families for column in family.columns}
    rest = [name for name in columns if name not in components]
    x, y, projected = _position(frame, rest)
    year = next((name for name in rest if re.fullmatch(r"(?i)year|jahr|annee|ano|yr|.*_year", name) and _holds_years(frame[name])), None)
    time = next((name for name in rest if _DATE.fullmatch(name) and _holds_dates(frame[name])), None)
    dated = {name: why for name in rest if name not in {x, y, year, time} and (why := _a_date(frame[name]))}
    time = time or next((name for name, why in dated.items() if why == _PLAIN_DATE), None)
    if year is None and time is not None:
        year = time
    taken = {x, y, year, time}
    aside = {name: why for name in rest if name not in taken and (why := dated.get(name) or _aside(name, frame, frame.get(year, None)))}
    names = {name: int(frame[name].nunique()) for name in rest if name not in taken and _names_things(frame[name])}
    numbers = [name for name in rest if name not in taken and name not in aside and pd.api.types.is_numeric_dtype(frame[name])]
    has_geometry = GEO_COLUMN in frame or "geometry" in frame
    wide_years = sorted({family.year for family in families if family.year is not None}) if year is None else []
    facts = TableFacts(frame, files, families, wide_years, x, y, projected, has_geometry, year, time, names, numbers, aside, remarks)
    remarks += _oddities(facts)
    return facts


def unique_key(frame: pd.DataFrame, rest: Mapping[str, int], year: str | None) -> list[str]:
    """Columns that together name every row: an id, with the year where ids repeat; none where no id does."""
    ids = [name for name in rest if not is_split(name) and is_id(name, frame[name], frame[year] if year else None)]
    ids += [name for name in rest if name not in ids and re.search(r"(?i)(^|_)(code|name)$", name)]
    for name in ids:
        if frame[name].notna().all() and frame[name].is_unique:
            return [name]
    for name in ids:
        if year and name != year and frame[name].notna().all() and not frame.duplicated([name, year]).any():
            return [name, year]
    return []


def refuse_spellings(frame: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """Stops where a key column holds one key in two spellings."""
    for column in columns:
        if found := two_spellings(as_keys(frame[column]).unique()):
            raise DataError(
                f"column {column!r} holds one key in two spellings: {found[0]}",
                source=source,
                remedy="Write it one way in the table, then call card init again.",
            )


def _position(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[str | None, str | None, bool]:
    """Columns of x and y, and whether they are metres."""
    for xs, ys in ((LONGITUDE, LATITUDE), (EASTING, NORTHING)):
        x, y = _named(columns, xs), _named(columns, ys)
        if x is None or y is None:
            continue
        values = frame[[x, y]].apply(pd.to_numeric, errors="coerce").abs().max()
        if values.isna().any():
            continue
        return x, y, bool(values[x] > 360 or values[y] > 90)
    return None, None, False


def _aside(name: str, frame: pd.DataFrame, year: pd.Series | None) -> str:
    if is_position(name):
        return "a coordinate"
    if is_split(name) and frame[name].nunique() <= 20:
        return "a split somebody made"
    if any(name in record.observation_counts for record in all_products().values()):
        return "a count of observations behind an embedding"
    return "an id" if is_id(name, frame[name], year) else ""


def _oddities(facts: TableFacts) -> list[str]:
    """What a careful person would say at first sight."""
    frame, said = facts.frame, []
    if len(frame) < FEW_UNITS:
        said.append(f"{len(frame)} rows are few: differences between models will not show, and intervals will be wide")
    if copies := _exact_copies(facts):
        said.append(f"{copies:,} rows are exact copies of other rows, ids aside: remove them, or they count twice")
    if still := constant(frame, [*facts.bands, *facts.numbers]):
        said.append(
            f"{_several(len(still), 'column holds', 'columns hold')} one value only ({_some(still)}): nothing can be learnt from them"
        )
    for family in facts.families:
        vectors, known = frame[list(family.columns)].to_numpy(dtype=np.float64, na_value=np.nan), all_products().get(family.product)
        none = (no_vector(vectors) if known is None else known.missing(vectors)) & ~np.isnan(vectors).any(axis=1)
        if none.any():
            said.append(f"{_several(int(none.sum()), 'row holds', 'rows hold')} a code instead of the embedding {family.label}: missing")
    cells: dict[float, int] = {}
    for name in (*facts.bands, *facts.numbers):
        for code, count in sentinels(frame[name]).items():
            cells[code] = cells.get(code, 0) + count
    said += [
        f"{code:.10g} stands in {_several(count, 'cell', 'cells')}: a code for a missing value, counted as missing"
        for code, count in cells.items()
    ]
    two_ways = [name for name, why in facts.aside.items() if why == _YEAR_LAST]
    if facts.time is None and (
        dated := next((name for name in map(str, frame.columns) if _DATE.fullmatch(name) or name in two_ways), None)
    ):
        some = frame[dated].dropna().head(_LOOKED_AT)
        if (unread := parse_times(some)[1]).any():
            said.append(f"{dated!r} is not used: {readings(some[unread].iloc[0])}; write ISO dates, e.g. 2021-07-04, to have its years")
    if facts.aside:
        said.append(f"no features: {', '.join(f'{name} ({why})' for name, why in list(facts.aside.items())[:6])}")
    return said


def _exact_copies(facts: TableFacts) -> int:
    """Rows that repeat an earlier row in all but ids, where an embedding or a position makes that more than chance."""
    frame = facts.frame
    shapes = [name for name in (GEO_COLUMN, "geometry") if name in frame]
    where = [name for name in (facts.x, facts.y) if name] or shapes
    words = [name for name in (*facts.names, *facts.numbers) if name not in facts.aside]
    columns = list(dict.fromkeys([*facts.bands, *words, *where, *(name for name in (facts.year, facts.time) if name)]))
    if facts.bands:
        known = frame[facts.bands[0]].notna()
    elif where:
        known = frame[where].notna().all(axis=1)
    else:
        return 0
    return int((frame[columns].duplicated() & known).sum())


def _several(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} .. {names[-1]}"


def is_group(name: str, values: pd.Series) -> bool:
    """Whether a column looks like a group: its name says so, or it holds text."""
    return names_a_group(name) or not pd.api.types.is_numeric_dtype(values)


def names_a_group(name: str) -> bool:
    """Whether a column is named like a group: region, state, site, .."""
    return any(word in name.lower() for word in _GROUP)


def _names_things(values: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(values):
        return False
    if not pd.api.types.is_numeric_dtype(values):
        return True
    return pd.api.types.is_integer_dtype(values)


def looks_like_classes(values: pd.Series) -> bool:
    """Whether a column looks like classes: text, or few whole numbers."""
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return True
    known = values.dropna()
    return bool((known % 1 == 0).all()) and known.nunique() <= MOST_CLASSES


def _holds_years(values: pd.Series) -> bool:
    numbers = pd.to_numeric(values, errors="coerce").dropna()
    return len(numbers) > 0 and bool(((numbers >= 1970) & (numbers <= 2100) & (numbers % 1 == 0)).all())


def years_of(frame: pd.DataFrame, year: str | None) -> list[int]:
    """The years of a column, sorted; empty without one."""
    if year is None:
        return []
    if _holds_years(frame[year]):
        return sorted({int(value) for value in pd.to_numeric(frame[year], errors="coerce").dropna()})
    return sorted({int(value) for value in parse_times(frame[year])[0].first.dt.year.dropna()})


def _holds_dates(values: pd.Series) -> bool:
    some = values.dropna().head(_LOOKED_AT)
    times, unread = parse_times(some)
    return len(some) > 0 and not unread.any() and bool(times.first.notna().any())


def _a_date(values: pd.Series) -> str:
    """Whether a column of text holds days, whatever its name: a date, or one that has two readings."""
    some = values.dropna().head(_LOOKED_AT)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return _PLAIN_DATE
    if not len(some) or not pd.api.types.is_object_dtype(values.dtype) or not some.astype(str).str.contains(_DAY).all():
        return ""
    if all("may be" in readings(value) for value in some):
        return _YEAR_LAST
    return "" if parse_times(some)[1].any() else _PLAIN_DATE


def _named(columns: Sequence[str], words: Sequence[str]) -> str | None:
    return next((name for word in words for name in columns if name.lower() == word), None)
