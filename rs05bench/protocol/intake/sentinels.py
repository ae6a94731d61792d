"""Numbers that mean "no number": codes for missing values that agencies and exports write, in targets, features and embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: The Census Bureau's annotations (https://www.census.gov/data/developers/data-sets/acs-1year/notes-on-acs-estimate-and-annotation-values.html).
CENSUS = (-222222222.0, -333333333.0, -555555555.0, -666666666.0, -888888888.0, -999999999.0)
#: What nobody measures: the ends of number types and the fill values of netCDF beside them.
NEVER = (-2147483648.0, -2147483647.0, 2147483647.0, 4294967295.0, -(2.0**63), 2.0**63, 2.0**64, *CENSUS)
#: Codes where they stand far from everything else in their column.
OFTEN = (
    -9999.0, -99999.0, -999999.0, -999.0, -99.0, -32768.0, -32767.0, -28672.0, -3000.0, float(np.iinfo(np.int8).min),
    255.0, 999.0, 9999.0, 99999.0, 999999.0, 65535.0, 32767.0, 1e20, -1e20,
)  # fmt: skip
#: Words for a label that nobody gave; NA and None are names too, and no words here.
_NO_LABEL = frozenset(
    ("nodata", "no data", "no_data", "unknown", "unlabeled", "unlabelled", "unclassified", "#n/a", "n/a", "n.d.", "null", "nan", "?", "-")
)
#: Beyond it lie the ends of floats and what files write for them (3.4e38, netCDF's 9.97e36, 1e34).
_END = 1e30
_FAR = 3.0  # ranges of everything else between a code and its nearest neighbour
_FEWEST = 8  # distinct values that others are called far from
_MOST_CODES = 4
_FEW = 0.3  # of all values may be a code's


def sentinels(values: pd.Series[Any]) -> dict[float, int]:
    """Codes for missing values in a column of numbers, by how often they occur.

    A code of `NEVER` always is one. One of `OFTEN` is where it stands apart: further from every other value than three times the range of
    those, so that -99 among temperatures of -60 to 50 stays a temperature. Several codes of one column do not hide each other.
    """
    known = _known(values)
    never = np.isin(known, NEVER) | (np.abs(known) > _END)
    often = np.isin(known, OFTEN)
    found = _counted(known[never])
    rest = known[~never & ~often]
    if often.any() and len(rest) > 1:
        beside = [value for value in standing_apart(pd.Series(known[~never])) if value not in OFTEN]
        rest = rest[~np.isin(rest, beside)]
        low, high = float(rest.min()), float(rest.max())
        far = np.minimum(np.abs(known - low), np.abs(known - high)) > _FAR * (high - low)
        found |= _counted(known[often & far]) if high > low else {}
    return found


def standing_apart(values: pd.Series[Any]) -> dict[float, int]:
    """Values that recur at an end of a column, far from all others, by how often they occur: codes, perhaps, and nobody can tell.

    Far is further than the range of the others; so is one whole number below zero where all others are not.
    """
    known = np.sort(_known(values))
    known = known[(np.abs(known) <= _END) & ~np.isin(known, NEVER)]
    found: dict[float, int] = {}
    for _ in range(_MOST_CODES):
        apart = next((low for low in (_below(known), -_below(-known[::-1]), _alone_below_zero(known)) if len(low)), known[:0])
        found |= _counted(apart)
        known = known[~np.isin(known, apart)]
        if not len(apart):
            break
    return found


def suspicious_classes(counts: Mapping[str, int]) -> dict[str, int]:
    """Classes whose name is a code or a word for a missing label, by their units.

    Args:
        counts: Class -> units.
    """
    words = {name: count for name, count in counts.items() if name.strip().lower() in _NO_LABEL}
    numbers = {name: pd.to_numeric(name, errors="coerce") for name in counts}
    codes = {name for name, value in numbers.items() if value < 0 or value in (*OFTEN, 254.0, 127.0)}
    others = [value for name, value in numbers.items() if name not in codes and value == value]
    far = {
        name: counts[name]
        for name in codes
        if len(others) >= 2 and (numbers[name] < 0 or numbers[name] - max(others) > max(others) - min(others))
    }  # fmt: skip
    return words | far


def _known(values: pd.Series[Any]) -> NDArray[np.float64]:
    known = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return known[np.isfinite(known)]


def _below(known: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values (sorted) below the widest gap, where few of them recur and the gap is wider than the range of the rest."""
    gaps = np.diff(known[: int(len(known) * _FEW) + 1])
    if not len(gaps) or gaps.max() <= 0:
        return known[:0]
    end = int(np.argmax(gaps)) + 1
    low, rest = known[:end], known[end:]
    recurs = end >= 2 and len(np.unique(low)) <= end // 2
    wide = rest[0] - low[-1] > rest[-1] - rest[0]
    return low if recurs and wide and len(np.unique(rest)) >= _FEWEST else known[:0]


def _alone_below_zero(known: NDArray[np.float64]) -> NDArray[np.float64]:
    low = known[known < 0]
    alone = 2 <= len(low) <= _FEW * len(known) and low[0] == low[-1] and low[0] % 1 == 0
    return low if alone and len(np.unique(known)) > _FEWEST else known[:0]


def _counted(values: NDArray[np.float64]) -> dict[float, int]:
    distinct, counts = np.unique(values, return_counts=True)
    return {float(value): int(count) for value, count in zip(distinct, counts, strict=True)}
