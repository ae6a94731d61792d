"""Features that count rows: in a table sorted by label, place or year, the row number is the answer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rs05bench.protocol.audit.audit_report import Finding

_FEWEST = 20
_FILLED = 0.9
"""Share of the numbers between smallest and largest that a counter uses, though some rows may have been dropped."""


def row_order(columns: list[str], values: npt.NDArray[np.float32]) -> list[Finding]:
    """Warns of columns of whole numbers that occur once each and leave hardly a gap: a row number, or an id that was counted up.

    Args:
        columns: Names of the columns.
        values: Features, (n, d).
    """
    counters = []
    for name, column in zip(columns, values.T, strict=True):
        known = column[np.isfinite(column)].astype(np.float64)
        if len(known) < _FEWEST or (known % 1 != 0).any():
            continue
        if len(np.unique(known)) == len(known) and len(known) >= _FILLED * (known.max() - known.min() + 1):
            counters.append(name)
    if not counters:
        return [Finding(check="row_order", level="pass", sentence="features that count rows: none", count=0, of=len(columns))]
    sentence = (
        f"features that count rows: {', '.join(counters[:4])}: in a sorted table the row number tells label, place or year. Drop them"
    )
    return [
        Finding(check="row_order", level="warning", sentence=sentence, count=len(counters), of=len(columns), numbers={"columns": counters})
    ]
