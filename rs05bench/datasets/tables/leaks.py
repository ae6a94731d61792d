"""Columns that would give the label away: named after the target, or the target itself in other clothes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.hashing import hash_order

#: Above this |Pearson| or |Spearman| correlation a feature is the target in another unit or scale.
COPY = 0.9999
_FEWEST = 10  # with fewer distinct values a perfect correlation happens by chance
_SAMPLE = 20_000  # units looked at: a copy shows in any sample


def named_after(column: str, target: str) -> bool:
    """Whether a column's name holds the target's name as a word of its own (`log_GPP`, `GPP_lag1`, `UnempRate2017` of `UnempRate`)."""
    word = re.escape(target.lower())
    return re.search(rf"(?<![a-z0-9]){word}(?![a-z])", column.lower()) is not None


def refuse_leaks(features: Mapping[str, Sequence[str]], frame: pd.DataFrame, target: str, kind: str, *, source: str) -> None:
    """Refuses feature sets with a column that holds the target.

    Args:
        features: Columns of every feature set.
        frame: Features and labels, with `unit_id`.
        target: The target column.
        kind: Kind of the task.
        source: The card, for messages.

    Raises:
        DataError: Names the set, the column, what gives it away, and what to do.
    """
    rows = hash_order(frame["unit_id"].tolist(), "leaks")[:_SAMPLE] if len(frame) > _SAMPLE else np.arange(len(frame))
    labels = frame[target].iloc[rows]
    checked: dict[str, str | None] = {}
    for name, columns in features.items():
        for column in columns:
            if column not in checked:
                values = pd.to_numeric(frame[column].iloc[rows], errors="coerce").to_numpy(np.float64)
                checked[column] = _why(column, values, labels, target, kind)
            if why := checked[column]:
                raise DataError(
                    f"column {column!r} of features.{name} {why} (target: {target!r}).",
                    source=source,
                    remedy=f"Remove it from features.{name}, or list it under never_features.",
                )


def _why(column: str, values: NDArray[np.float64], labels: pd.Series, target: str, kind: str) -> str | None:
    if named_after(column, target):
        return "is named after the target"
    if kind == "regression":
        return _monotone(values, labels.to_numpy(np.float64))
    return _recoded(values, labels)


def _monotone(values: NDArray[np.float64], y: NDArray[np.float64]) -> str | None:
    from scipy.stats import rankdata

    ok = np.isfinite(values) & np.isfinite(y)
    values, y = values[ok], y[ok]
    if len(np.unique(y)) < _FEWEST or len(np.unique(values)) < _FEWEST:
        return None
    for word, a, b in (("", values, y), ("rank ", rankdata(values), rankdata(y))):
        correlation = float(np.corrcoef(a, b)[0, 1])
        if abs(correlation) > COPY:
            return f"is a copy of the target ({word}correlation {correlation:.6f})"
    return None


def _recoded(values: NDArray[np.float64], labels: pd.Series) -> str | None:
    """A feature with one value a class, or one that is 1 exactly where a class is."""
    ok = np.isfinite(values) & labels.notna().to_numpy()
    values, classes = values[ok], labels[ok].astype(str).to_numpy(dtype=object)
    codes, distinct = np.unique(values, return_inverse=True)[1], pd.factorize(classes)[0]
    n_codes, n_classes = len(np.unique(codes)), len(np.unique(distinct))
    if n_classes < 2 or len(values) < _FEWEST or n_codes > n_classes:
        return None
    pairs = len(np.unique(codes.astype(np.int64) * n_classes + distinct))
    if n_codes == n_classes == pairs:
        return "is a copy of the target (one value for each class)"
    if n_codes == 2 and pairs == n_classes:
        # Each class has one value; it is a one-hot column where one of the two values belongs to a single class.
        sizes = [len(np.unique(distinct[codes == code])) for code in (0, 1)]
        if min(sizes) == 1:
            return f"marks exactly the units of class {classes[codes == int(np.argmin(sizes))][0]!r}"
    return None


def class_probabilities(frame: pd.DataFrame, columns: Sequence[str], target: str) -> list[str]:
    """Columns that look like a classifier's probabilities behind the label (Dynamic World exports them beside it).

    Columns within 0 to 1, at least as many as there are classes, where the largest one tells the label in nine rows of ten; or, where they
    sum to 1 in every row, half-way between chance and always (annual means of probabilities need not peak at the annual label).
    """
    within = [name for name in columns if bool(frame[name].between(0, 1).all()) and frame[name].nunique() > 2]
    labels = pd.factorize(frame[target].astype(str))[0]
    if len(within) < max(2, labels.max() + 1):
        return []
    largest = frame[within].to_numpy().argmax(axis=1)
    told = pd.crosstab(largest, labels).max(axis=1).sum()
    chance = np.bincount(labels).max() / len(labels)
    sums_to_one = bool(np.allclose(frame[within].sum(axis=1), 1.0, atol=0.01))
    return within if told >= ((1 + chance) / 2 if sums_to_one else 0.9) * len(labels) else []
