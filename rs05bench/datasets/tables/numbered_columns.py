"""Numbered columns that belong together: the components of an embedding, whatever they are called."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rs05bench.embeddings.products import ENCODERS, TableScale, all_products, families, of_columns, product

FEWEST = 16
"""Numbered columns of one name from which they are taken for an embedding: fewer are months, bands or dates."""

_NUMBERED = re.compile(r"(?P<stem>.*?[^\d])?(?P<number>\d{1,4})(?P<end>_(?:mean|max|std))?")
_YEAR = re.compile(r"(?:19|20)\d{2}")


@dataclass(frozen=True, slots=True)
class NumberedColumns:
    """Components of one embedding.

    Attributes:
        stem: What stands before the number.
        columns: In number order.
        product: The product they are of, where their names or values tell; empty where they do not.
    """

    stem: str
    columns: tuple[str, ...]
    product: str

    @property
    def label(self) -> str:
        """How it is shown: first to last column."""
        return f"{self.columns[0]} .. {self.columns[-1]}"

    def patterns(self, columns: Sequence[str]) -> list[str]:
        """A glob that takes these columns of a table and no other; the columns themselves where there is none."""
        numbers = [column[len(self.stem) :] for column in self.columns]
        wide = {len(number) for number in numbers}
        shape = "".join("[0-9]" for _ in numbers[0]) if len(wide) == 1 and numbers[0].isdigit() else "[0-9]*"
        for pattern in (f"{glob.escape(self.stem)}{shape}",):
            if {column for column in columns if fnmatch.fnmatchcase(column, pattern)} == set(self.columns):
                return [pattern]
        return list(self.columns)


def find_families(frame: pd.DataFrame, columns: Sequence[str]) -> list[NumberedColumns]:
    """The embeddings among columns, the longest first.

    A family is columns with the default product's own names, however few, or at least
    `FEWEST` numeric columns of one stem numbered without a gap from 0 or 1.
    """
    found: dict[tuple[str, str], dict[int, str]] = {}
    for column in columns:
        match = _NUMBERED.fullmatch(column)
        if match is None or _YEAR.fullmatch(match["number"]) or not pd.api.types.is_numeric_dtype(frame[column].dtype):
            continue
        found.setdefault((match["stem"] or "", match["end"] or ""), {})[int(match["number"])] = column
    families: list[NumberedColumns] = []
    for (stem, _), members in found.items():
        numbers = sorted(members)
        bands = all(_is_band(column) for column in members.values())
        gapless = numbers[0] in (0, 1) and numbers[-1] - numbers[0] == len(numbers) - 1
        if bands or (len(numbers) >= FEWEST and gapless):
            ordered = tuple(members[number] for number in numbers)
            families.append(NumberedColumns(stem, ordered, _product(stem, frame[list(ordered)])))
    return sorted(families, key=lambda family: -len(family.columns))


def _product(stem: str, values: pd.DataFrame) -> str:
    """By name, or by values that only a product's bytes decode to."""
    known = of_columns(list(map(str, values.columns)))
    if known is not None:
        return known.family
    word = stem.lower().strip("_-. ")
    for name in sorted({*families(), *ENCODERS}):
        if name in word:
            return name
    if all(_is_band(str(column)) for column in values.columns):
        return product().family
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    for record in all_products().values():
        if isinstance(record.scale, TableScale) and record.dimensions == values.shape[1] and _decoded_bytes(numbers, record.scale):
            return record.family
    return ""


def _is_band(column: str) -> bool:
    return re.sub(r"_(?:mean|max|min|std)$", "", column) in product().bands


def _decoded_bytes(values: np.ndarray, scale: TableScale) -> bool:
    """Whether values lie on the lattice of decoded bytes; only larger ones tell, because small ones lie close together."""
    known = np.abs(values[:2_000][np.isfinite(values[:2_000])])
    large = known[(known > 0.05) & (known <= 1)]
    if len(large) < 100:
        return False
    nearest = (np.round(large ** (1 / scale.power) * scale.divisor) / scale.divisor) ** scale.power
    return bool((np.abs(large - nearest) < 2e-4).mean() > 0.99)
