"""Numbers that mean "no number": codes for missing values that agencies and exports write, in targets, features and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: The Census Bureau's annotations (https://www.census.gov/data/developers/data-sets/acs-1year/notes-on-acs-estimate-and-annotation-values.html).
CENSUS = (-222222222.0, -333333333.0, -555555555.0, -666666666.0, -888888888.0, -999999999.0)
#: What nobody measures: the ends of number types, and runs of nines.
NEVER = (-3.4028234663852886e38, 3.4028234663852886e38, -1.7976931348623157e308, 1.7976931348623157e308, -2147483648.0, *CENSUS)
#: Codes where they stand far from everything else in their column.
OFTEN = (-9999.0, -99999.0, -999999.0, -999.0, -99.0, -32768.0, -32767.0, 9999.0, 99999.0, 999999.0, 65535.0, 32767.0, 1e20, -1e20)
_END = 3.4e38
_FAR = 3.0  # ranges of everything else between a code and its nearest neighbour


def sentinels(values: pd.Series[Any]) -> dict[float, int]:
    """Codes for missing values in a column of numbers, by how often they occur.

    A code of `NEVER` always is one. One of `OFTEN` is where it stands apart: further from every other value than three times the range of
    those, so that -99 among temperatures of -60 to 50 stays a temperature.
    """
    known = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    known = known[np.isfinite(known)]
    if not len(known):
        return {}
    # The ends of number types lose digits where they are written as text.
    never = np.isin(known, NEVER) | (np.abs(known) > _END)
    often = np.isin(known, OFTEN)
    found = _counted(known[never])
    rest = known[~never & ~often]
    if often.any() and len(rest) > 1:
        low, high = float(rest.min()), float(rest.max())
        far = np.minimum(np.abs(known - low), np.abs(known - high)) > _FAR * (high - low)
        found |= _counted(known[often & far]) if high > low else {}
    return found


def _counted(values: NDArray[np.float64]) -> dict[float, int]:
    distinct, counts = np.unique(values, return_counts=True)
    return {float(value): int(count) for value, count in zip(distinct, counts, strict=True)}
