"""Numbers that mean "no number": codes for missing values that agencies and exports write, in targets, features and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

#: The Census Bureau's annotations (https://www.census.gov/data/developers/data-sets/acs-1year/notes-on-acs-estimate-and-annotation-values.html).
CENSUS = (-222222222.0, -333333333.0, -555555555.0, -666666666.0, -888888888.0, -999999999.0)
#: What nobody measures: the ends of number types, and runs of nines.
NEVER = (-3.4028234663852886e38, 3.4028234663852886e38, -1.7976931348623157e308, 1.7976931348623157e308, -2147483648.0, *CENSUS)
#: Codes where they stand far from everything else in their column.
OFTEN = (-9999.0, -99999.0, -999999.0, -999.0, -99.0, -32768.0, -32767.0, 9999.0, 99999.0, 999999.0, 65535.0, 32767.0, 1e20, -1e20)
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
    distinct, counts = np.unique(known, return_counts=True)
    found = {float(value): int(count) for value, count in zip(distinct, counts, strict=True) if _is(value, NEVER)}
    maybe = [value for value in distinct if _is(value, OFTEN)]
    rest = distinct[~np.isin(distinct, [*found, *maybe])]
    if len(rest) > 1:
        reach = _FAR * float(rest[-1] - rest[0])
        for value in maybe:
            if min(abs(value - rest[0]), abs(value - rest[-1])) > reach:
                found[float(value)] = int(counts[np.searchsorted(distinct, value)])
    return found


def _is(value: float, codes: tuple[float, ...]) -> bool:
    return any(value == code or (abs(code) > 1e30 and np.isclose(value, code, rtol=1e-6)) for code in codes)
