"""Row numbers that tell the label: features that count rows, and ids that were counted up over a table sorted by label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

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


def ids_in_label_order(ids: pd.Series, labels: pd.Series, kind: str, source: str) -> list[Finding]:
    """Warns of unit ids whose order is that of the labels: a table that was sorted by label and then numbered.

    Args:
        ids: Unit ids, text.
        labels: Their labels, in the same order.
        kind: Kind of the task.
        source: Which list it is, for messages.

    Returns:
        One finding; none where ids do not end in numbers, or there are too few.
    """
    known = labels.notna().to_numpy()
    ends = ids[known].astype(str).str.extract(r"^(.*?)(\d+)$")
    if len(ends) < _FEWEST or ends.isna().any(axis=None):
        return []
    order = np.lexsort((ends[1].astype(float).to_numpy(), ends[0].to_numpy(dtype=str)))
    said = labels[known].iloc[order]
    if kind == "regression":
        values = said.to_numpy(dtype=np.float64)
        sorted_by = len(np.unique(values)) >= _FEWEST and bool((np.diff(values) >= 0).all() or (np.diff(values) <= 0).all())
    else:
        codes, names = pd.factorize(said.astype(str))
        sorted_by = 1 < len(names) <= len(codes) / 5 and np.count_nonzero(np.diff(codes)) == len(names) - 1
    check, which = f"id_order:{source}", f"ids of {source}"
    if not sorted_by:
        return [Finding(check=check, level="pass", sentence=f"{which}: their order tells no label", count=0)]
    sentence = f"{which} are in the order of the labels: sorted by label, then numbered. Use no id and no row number as a feature"
    return [Finding(check=check, level="warning", sentence=sentence, count=len(said))]
