"""Features that nearly are the target: the target and a little noise, or a classifier's probabilities of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.protocol.audit.audit_report import Finding

NEARLY = 0.98
"""Correlation with the target, or share of a column's variance that the classes explain, from which on a column nearly is the target."""
TOLD = 0.9
"""Share of units whose class is the largest of some columns within 0 to 1, from which on those are its probabilities."""
_FEWEST = 20


def target_copies(columns: list[str], values: npt.NDArray[np.float32], labels: pd.Series, kind: str) -> list[Finding]:
    """Warns of columns that nearly are the target.

    Args:
        columns: Names of the columns.
        values: Features, (n, d); NaN where missing.
        labels: Their labels, (n,), in the same order: class values, or numbers.
        kind: Kind of the task.

    Returns:
        One finding, a warning or a pass; none where there are too few labels.
    """
    known = labels.notna().to_numpy()
    if int(known.sum()) < _FEWEST:
        return []
    X, y = np.asarray(values[known], dtype=np.float64), labels[known]
    said: dict[str, str] = {}
    for name, column in zip(columns, X.T, strict=True):
        strength = _correlation(column, y.to_numpy(np.float64)) if kind == "regression" else _explained(column, y)
        if strength >= NEARLY:
            word = "correlation with the target" if kind == "regression" else "of its variance is between classes"
            said[name] = f"{word} {strength:.4f}" if kind == "regression" else f"{strength:.1%} {word}"
    if kind != "regression":
        said |= {name: "largest of its kind at the units of its class" for name in _probabilities(columns, X, y) if name not in said}
    check = "target_copies"
    if not said:
        return [Finding(check=check, level="pass", sentence="features that nearly are the target: none", count=0, of=len(columns))]
    shown = "; ".join(f"{name} ({why})" for name, why in list(said.items())[:4]) + ("; ..." if len(said) > 4 else "")
    sentence = f"features that nearly are the target: {len(said)} of {len(columns)}: {shown}. List them under never_features"
    return [Finding(check=check, level="warning", sentence=sentence, count=len(said), of=len(columns), numbers={"columns": list(said)})]


def _correlation(column: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Largest of Pearson's and Spearman's correlation, by size."""
    from scipy.stats import rankdata

    ok = np.isfinite(column) & np.isfinite(y)
    a, b = column[ok], y[ok]
    if len(a) < _FEWEST or len(np.unique(a)) < _FEWEST or len(np.unique(b)) < _FEWEST:
        return 0.0
    return max(abs(float(np.corrcoef(one, other)[0, 1])) for one, other in ((a, b), (rankdata(a), rankdata(b))))


def _explained(column: npt.NDArray[np.float64], labels: pd.Series) -> float:
    """Share of a column's variance that lies between the classes (eta squared), adjusted for how many classes there are."""
    ok = np.isfinite(column)
    codes, names = pd.factorize(labels[ok].astype(str))
    values, classes = column[ok], len(names)
    if classes < 2 or len(values) < max(_FEWEST, 3 * classes):
        return 0.0
    total = float(((values - values.mean()) ** 2).sum())
    means = np.bincount(codes, values) / np.bincount(codes)
    inside = float(((values - means[codes]) ** 2).sum())
    return 1.0 - (inside / (len(values) - classes)) / (total / (len(values) - 1)) if total > 0 else 0.0


def _probabilities(columns: list[str], X: npt.NDArray[np.float64], labels: pd.Series) -> list[str]:
    """Columns within 0 to 1, one for each class, of which the largest says the class of most units."""
    with np.errstate(invalid="ignore"):
        within = [
            index for index in range(X.shape[1]) if np.isfinite(X[:, index]).all() and (X[:, index] >= 0).all() and (X[:, index] <= 1).all()
        ]
    codes, names = pd.factorize(labels.astype(str))
    if len(names) < 2 or len(within) < len(names):
        return []
    largest = X[:, within].argmax(axis=1)
    told = pd.crosstab(largest, codes)
    # One column speaks for each class; others within 0 to 1 (an index, a fraction) are never the largest.
    speakers: list[Any] = [within[int(row)] for row in told.index if told.loc[row].sum() >= 0.01 * len(codes)]
    # Means of probabilities over a year need not peak at the label, but they sum to 1 as nothing else does.
    shares = len(speakers) >= len(names) and bool(np.allclose(X[:, speakers].sum(axis=1), 1.0, atol=0.02))
    least = (1 + np.bincount(codes).max() / len(codes)) / 2 if shares else TOLD
    return [columns[index] for index in speakers] if told.max(axis=1).sum() >= least * len(codes) else []
