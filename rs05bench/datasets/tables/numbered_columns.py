"""Numbered columns that belong together: the components of an embedding, whatever they are called."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.embeddings.products import (
    ENCODERS,
    EmbeddingProduct,
    TableScale,
    all_products,
    families,
    family_of_columns,
    of_columns,
    product,
)

UNKNOWN = "embedding"
"""The answer to which embedding columns are of somebody who does not know."""
FEWEST = 16
"""Numbered columns of one name from which they are taken for an embedding: fewer are months, bands or dates."""

_STATS = r"mean|max|min|std"
_YEAR = r"(?:19|20)\d{2}"
_WITH_END = re.compile(rf"(?P<numbered>.*\d)(?P<end>(?:_(?:{_STATS}|{_YEAR}))+)")
_NUMBERED = re.compile(r"(?P<stem>(?:.*\D)?)(?P<number>\d{1,4})")


@dataclass(frozen=True, slots=True)
class NumberedColumns:
    """Components of one embedding.

    Attributes:
        stem: What stands before the number.
        columns: In number order.
        product: The record they are of, or only its family or encoder, where their names or values tell; empty where they do not.
        end: What stands behind the number: a statistic, a year (`_std`, `_2021`).
    """

    stem: str
    columns: tuple[str, ...]
    product: str
    end: str = ""

    @property
    def label(self) -> str:
        """How it is shown: first to last column."""
        return f"{self.columns[0]} .. {self.columns[-1]}"

    @property
    def year(self) -> int | None:
        """The year in the columns' names."""
        found = re.search(_YEAR, self.end)
        return int(found[0]) if found else None

    @property
    def pooled(self) -> bool:
        """Whether they are statistics of vectors and no vectors."""
        return re.search(_STATS, self.end) is not None

    @property
    def in_doubt(self) -> bool:
        """Whether it is open which embedding they are, or which version of one."""
        if self.product in all_products() or self.pooled:
            return False
        records = [record for record in all_products().values() if record.dimensions in (None, len(self.columns))]
        return not self.product or any(self.product == record.family for record in records)

    @property
    def records_that_fit(self) -> list[str]:
        """Records with vectors of this length, of the family where that is known."""
        fit = [record for record in all_products().values() if record.dimensions in (None, len(self.columns))]
        return [record.name for record in fit if record.family == self.product] or [record.name for record in fit]

    def told(self, answer: str) -> str:
        """The record or name of the embedding: what the columns tell, else the answer."""
        return answer if self.in_doubt and answer != UNKNOWN else self.product or answer

    def undated(self) -> NumberedColumns:
        """The columns that these become where each year is a row of its own."""
        end = re.sub(f"_{_YEAR}", "", self.end)
        return replace(self, columns=tuple(f"{column.removesuffix(self.end)}{end}" for column in self.columns), end=end)

    def patterns(self, columns: Sequence[str]) -> list[str]:
        """A glob that takes these columns of a table and no other; the columns themselves where there is none."""
        numbers = [column.removesuffix(self.end)[len(self.stem) :] for column in self.columns]
        shape = "".join("[0-9]" for _ in numbers[0]) if len({len(number) for number in numbers}) == 1 else "[0-9]*"
        pattern = f"{glob.escape(self.stem)}{shape}{glob.escape(self.end)}"
        alone = {column for column in columns if fnmatch.fnmatchcase(column, pattern)} == set(self.columns)
        return [pattern] if alone else list(self.columns)


def find_families(frame: pd.DataFrame, columns: Sequence[str]) -> list[NumberedColumns]:
    """The embeddings among columns, the longest first.

    A family is columns with the default product's own names, however few, or at least
    `FEWEST` numeric columns of one stem and one end numbered without a gap from 0 or 1.
    """
    found: dict[tuple[str, str], dict[int, str]] = {}
    for column in columns:
        ended = _WITH_END.fullmatch(column)
        numbered, end = (ended["numbered"], ended["end"]) if ended else (column, "")
        match = _NUMBERED.fullmatch(numbered)
        if match is not None and pd.api.types.is_numeric_dtype(frame[column].dtype):
            found.setdefault((match["stem"], end), {})[int(match["number"])] = column
    families: list[NumberedColumns] = []
    for (stem, end), members in found.items():
        numbers = sorted(members)
        bands = all(_is_band(column.removesuffix(end)) for column in members.values())
        gapless = numbers[0] in (0, 1) and numbers[-1] - numbers[0] == len(numbers) - 1
        if bands or (len(numbers) >= FEWEST and gapless):
            family = NumberedColumns(stem, tuple(members[number] for number in numbers), "", end)
            families.append(replace(family, product=_product(family, frame[list(family.columns)])))
    return sorted(families, key=lambda family: -len(family.columns))


def only_record(family: str, size: int) -> EmbeddingProduct | None:
    """The record of a family, or of a record's own name, where one alone has vectors of this length."""
    records = all_products().values()
    fit = [record for record in records if family in (record.name, record.family) and record.dimensions in (None, size)]
    return fit[0] if len(fit) == 1 else None


def embedding_sets(
    families: Sequence[NumberedColumns], answer: str, columns: Sequence[str], *, wide: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Feature sets of the embeddings, and their tiers.

    Args:
        families: The embeddings of a table.
        answer: Which one those are that do not tell; `embedding` where nobody knows.
        columns: All columns of the table.
        wide: Whether the years in the columns' names become rows.
    """
    held = list(dict.fromkeys(family.undated() for family in families)) if wide else families
    columns = [*columns, *(column for family in held for column in family.columns)] if wide else columns
    sets: dict[str, Any] = {}
    for family in held:
        told = family.told(answer)
        record = None if family.pooled else only_record(told, len(family.columns))
        name = _slug(record.family if record is not None else told) or UNKNOWN
        free = (name, *(f"{name}-{_slug(word)}" for word in (family.end, family.stem, str(len(sets))) if _slug(word)))
        name = next(word for word in free if word not in sets)
        if record is None:
            sets[name] = family.patterns(columns)
        elif record.find_columns(columns) == list(family.columns):
            sets[name] = {"product": record.name}
        else:
            sets[name] = {"product": record.name, "columns": family.patterns(columns)}
    return sets, dict.fromkeys(sets, "embedding")


def embedding_remarks(families: Sequence[NumberedColumns], answer: str) -> list[str]:
    """What is not known of the embeddings: which product or which of its versions, and components that are not there."""
    said = []
    for family in families:
        told, size = family.told(answer), len(family.columns)
        if family.pooled or only_record(told, size) is not None:
            continue
        lengths = sorted({record.size for record in all_products().values() if record.family == told})
        if lengths and size not in lengths:
            which = " or ".join(map(str, lengths))
            said.append(f"{family.label}: {size} columns of {told}, whose vectors have {which}: taken as columns of no product")
        elif family.in_doubt:
            doubt = f"are of {told}, of which version their names do not tell" if lengths else "look like an embedding"
            fit = ", ".join(family.records_that_fit) or "any name"
            said.append(f"{size} numbered columns {family.label} {doubt}; --product names it ({fit})")
    return said


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _product(family: NumberedColumns, values: pd.DataFrame) -> str:
    """By name, or by values that only a product's bytes decode to."""
    plain, size = [column.removesuffix(family.end) for column in family.columns], len(family.columns)
    if (known := of_columns(plain)) is not None:
        return known.family if family.pooled else known.name
    word = family.stem.lower().strip("_-. ")
    named = next((name for name in sorted({*families(), *ENCODERS}) if name in word), "") or family_of_columns(plain)
    if not named and all(map(_is_band, plain)):
        named = product().family
    if not named:
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        lattices = [(record, record.scale) for record in all_products().values() if isinstance(record.scale, TableScale)]
        fit = (record.family for record, scale in lattices if record.dimensions == size and _decoded_bytes(numbers, scale))
        named = next(fit, "")
    record = only_record(named, size) if named and not family.pooled else None
    return record.name if record is not None else named


def _is_band(column: str) -> bool:
    return column in product().bands


def _decoded_bytes(values: np.ndarray, scale: TableScale) -> bool:
    """Whether values lie on the lattice of decoded bytes; only larger ones tell, because small ones lie close together."""
    known = np.abs(values[:2_000][np.isfinite(values[:2_000])])
    large = known[(known > 0.05) & (known <= 1)]
    if len(large) < 100:
        return False
    nearest = (np.round(large ** (1 / scale.power) * scale.divisor) / scale.divisor) ** scale.power
    return bool((np.abs(large - nearest) < 2e-4).mean() > 0.99)
