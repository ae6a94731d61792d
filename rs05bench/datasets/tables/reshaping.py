"""Wide to long, and joins by key."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rs05bench.datasets.tables.card_files import ROW_COLUMN, find_files
from rs05bench.datasets.tables.wording import some_columns
from rs05bench.embeddings.card_products import patterns_of
from rs05bench.errors import DataError
from rs05bench.protocol.intake.keys import refuse_lost_digits, two_spellings
from rs05bench.protocol.intake.tablefile import read_tablefile

if TYPE_CHECKING:
    from rs05bench.protocol import TaskCard
    from rs05bench.protocol.card import Join

_WITH_YEAR = re.compile(r"(?P<stem>.*\D)_?(?P<year>(?:19|20)\d{2})")


def melt_years(frame: pd.DataFrame, card: TaskCard) -> pd.DataFrame:
    """Wide columns `A00_2018`, `A00_2019` as a column `A00` and the card's year column, one row a year.

    Only where the table has no year column, and only for stems the card asks for (targets and features): `Metro2013` beside them stays a
    column of its own. A year in which a row has nothing at all makes no row.
    """
    if card.year is None or card.year in frame.columns:
        return frame
    wanted = [item for members in card.features.values() for item in patterns_of(members) if item not in card.features] + card.targets
    wide: dict[str, dict[int, str]] = {}
    for column in map(str, frame.columns):
        match = _WITH_YEAR.fullmatch(column)
        if match and any(fnmatch.fnmatchcase(stem := match["stem"].rstrip("_"), item) for item in wanted) and stem not in frame.columns:
            wide.setdefault(stem, {})[int(match["year"])] = column
    if not wide:
        return frame
    moved = {column for years in wide.values() for column in years.values()}
    kept = [column for column in frame.columns if column not in moved]
    parts: list[pd.DataFrame] = []
    for year in sorted({year for years in wide.values() for year in years}):
        values = {stem: frame[years[year]] if year in years else None for stem, years in wide.items()}
        part = pd.concat([frame[kept], pd.DataFrame({**values, card.year: year}, index=frame.index)], axis=1)
        if ROW_COLUMN in part:
            part[ROW_COLUMN] = part[ROW_COLUMN].astype(str) + f"_{year}"
        parts.append(part[part[list(wide)].notna().any(axis=1)])
    return pd.concat(parts, ignore_index=True)


def melt_join(frame: pd.DataFrame, melt: dict[str, str], keys: list[str], year: str, *, source: str | Path) -> pd.DataFrame:
    """The joined file's columns that match `melt["pattern"]` as the column `melt["value"]` and a year.

    Raises:
        DataError: A pattern without its one group, or one that matches nothing.
    """
    value, pattern = melt.get("value"), melt.get("pattern")
    try:
        compiled = re.compile(pattern or "")
    except re.error as error:
        raise DataError(f"joins.melt.pattern {pattern!r} is no regular expression: {error}", source=source) from error
    if not value or compiled.groups != 1:
        raise DataError(
            "joins.melt needs `value` (the new column) and `pattern` with one group that catches the year",
            source=source,
            remedy=r"For instance {value: unemployment, pattern: 'UnempRate(\d{4})'}.",
        )
    years = {column: int(match[1]) for column in frame.columns if (match := compiled.fullmatch(str(column)))}
    if not years:
        raise DataError(f"joins.melt.pattern {pattern!r} matches no column (columns: {some_columns(frame)})", source=source)
    rest = [column for column in frame.columns if column not in years]
    long = frame.melt(id_vars=rest, value_vars=list(years), var_name=year, value_name=value)
    long[year] = long[year].map(years).astype(int)
    return long


def join(frame: pd.DataFrame, other: Join, card: TaskCard, root: Path, *, text: Collection[str], source: str) -> tuple[pd.DataFrame, int]:
    """The frame with the columns of a second file, matched by key.

    Returns:
        The joined frame, and how many rows had no partner (dropped by an inner join, blank in a left one).

    Raises:
        DataError: Missing key or column, keys that are not unique in the joined file, or no match at all.
    """
    keys = {other.on: other.on} if isinstance(other.on, str) else {other.on.get("left", ""): other.on.get("right", "")}
    folder = root if root.is_dir() else root.parent
    parts: list[pd.DataFrame] = []
    for spec in find_files(folder, [other.file], source=source):
        read = read_tablefile(spec, text={*text, *keys.values()})
        part, path = read.with_wgs84(), read.path
        if missing := [key for key in keys.values() if key not in part.columns]:
            raise DataError(f"has no key column {missing[0]!r} (columns: {some_columns(part)})", source=path)
        parts.append(part)
    right = pd.concat(parts, ignore_index=True)
    if missing := [key for key in keys if key not in frame.columns]:
        raise DataError(f"joins: the table has no key column {missing[0]!r} (columns: {some_columns(frame)})", source=source)
    left_on, right_on = list(keys), list(keys.values())
    if other.melt:
        if card.year is None:
            raise DataError("joins.melt makes a year, and the card declares no year column (field: year)", source=source)
        right = melt_join(right, other.melt, right_on, card.year, source=other.file)
        if card.year in frame.columns:
            left_on, right_on = [*left_on, card.year], [*right_on, card.year]
            frame = _with_whole_years(frame, card.year, source)
    if absent := [column for column in other.columns if column not in right.columns]:
        raise DataError(f"has no column {absent[0]!r} (columns: {some_columns(right)})", source=other.file, remedy="Correct joins.columns.")
    made = [other.melt["value"], card.year] if other.melt and card.year else []
    brought = [*other.columns, *made] if other.columns else [column for column in right.columns if column not in frame.columns]
    right = right[list(dict.fromkeys([*right_on, *(column for column in brought if column not in left_on)]))]
    right = right[right[right_on].notna().all(axis=1)]
    repeated = right[right.duplicated(right_on, keep=False)]
    if len(repeated):
        shown = ", ".join(map(str, repeated[right_on].iloc[0]))
        raise DataError(
            f"the key {' + '.join(right_on)} is not unique: {shown!r} occurs more than once",
            source=other.file,
            remedy="Join on a key that names each row once.",
        )
    clash = [column for column in right.columns if column in frame.columns and column not in right_on and column not in left_on]
    if clash:
        raise DataError(
            f"joins: column {clash[0]!r} is in the table and in {other.file}",
            source=source,
            remedy="List the wanted ones in joins.columns.",
        )
    merged = frame.merge(right, how="left", left_on=left_on, right_on=right_on, indicator="_partner")
    alone = (merged.pop("_partner") == "left_only").to_numpy()
    if alone.all():
        ours, theirs = frame[left_on[0]].iloc[0], right[right_on[0]].iloc[0] if len(right) else "nothing"
        raise DataError(
            f"joins: no unit has a partner in {other.file} "
            f"(the table has {left_on[0]} like {ours!r}, the file {right_on[0]} like {theirs!r})",
            source=source,
            remedy="Check the keys; leading zeros lost in a spreadsheet are the usual cause.",
        )
    _refuse_partial(frame, right, left_on, right_on, alone, other.file, source)
    merged = merged.drop(columns=[name for name in right_on if name not in frame.columns])
    return (merged[~alone].reset_index(drop=True) if other.how == "inner" else merged), int(alone.sum())


def _refuse_partial(
    frame: pd.DataFrame, right: pd.DataFrame, left_on: list[str], right_on: list[str], alone: np.ndarray, file: str, source: str
) -> None:
    """A row whose partner is there in another spelling has not lost it: the keys are to be written one way."""
    for ours, theirs in zip(left_on, right_on, strict=True):
        if not pd.api.types.is_object_dtype(frame[ours].dtype):
            continue
        refuse_lost_digits(frame[ours], f"column {ours!r}", source=source)
        refuse_lost_digits(right[theirs], f"column {theirs!r}", source=file)
        left_over = set(frame.loc[alone, ours].dropna()) - set(right[theirs])
        if found := two_spellings(left_over, set(right[theirs].dropna())):
            raise DataError(
                f"joins: {int(alone.sum()):,} of {len(frame):,} rows find no partner in {file}, where {len(found)} of their keys stand "
                f"in another spelling: {ours} {found[0]}",
                source=source,
                remedy=f"Write {theirs} as text in {file}, spelled as {ours} is; spreadsheets lose leading zeros.",
            )


def _with_whole_years(frame: pd.DataFrame, year: str, source: str) -> pd.DataFrame:
    numbers = pd.to_numeric(frame[year], errors="coerce")
    if numbers.isna().any():
        raise DataError(f"the year column {year!r} is not a number in {int(numbers.isna().sum())} rows", source=source)
    return frame.assign(**{year: numbers.astype(int)})
