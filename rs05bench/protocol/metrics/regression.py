"""Scores of predicted numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError

Array = NDArray[np.float64]


def paired_values(y_true: NDArray, y_pred: NDArray) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Truth and prediction where the truth is known, and which those are.

    Raises:
        DataError: Shapes differ, or a prediction is missing or infinite where the truth is known (a model may not abstain).
    """
    truth, predicted = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise DataError(f"expected truth and prediction (n,), found {truth.shape} and {predicted.shape}")
    known = ~np.isnan(truth)
    truth, predicted = truth[known], predicted[known]
    if not np.isfinite(predicted).all():
        raise DataError(f"{int((~np.isfinite(predicted)).sum())} predictions are missing or infinite", remedy="Give every unit a number.")
    if not np.isfinite(truth).all():
        raise DataError("a true value is infinite")
    return truth, predicted, known


def r2(y_true: NDArray, y_pred: NDArray) -> float:
    """Coefficient of determination, 1 - SSE / SST about the mean of the scored truth. Range -inf to 1.

    NaN for fewer than two values or a constant truth (scikit-learn invents 0 or 1 there).
    """
    y, p, _ = paired_values(y_true, y_pred)
    return _r2(y, p)


def _r2(y: Array, p: Array) -> float:
    if len(y) < 2 or y.min() == y.max():
        return float("nan")
    centred = y - y.mean()
    error = y - p
    return float(1 - (error @ error) / (centred @ centred))


def mae(y_true: NDArray, y_pred: NDArray) -> float:
    """Mean absolute error, in the target's unit."""
    y, p, _ = paired_values(y_true, y_pred)
    return float(np.abs(p - y).mean()) if len(y) else float("nan")


def rmse(y_true: NDArray, y_pred: NDArray) -> float:
    """Root mean squared error, in the target's unit."""
    y, p, _ = paired_values(y_true, y_pred)
    return float(np.sqrt(((p - y) ** 2).mean())) if len(y) else float("nan")


def bias(y_true: NDArray, y_pred: NDArray) -> float:
    """Mean of prediction minus truth; best at 0, positive = predicts too much."""
    y, p, _ = paired_values(y_true, y_pred)
    return float((p - y).mean()) if len(y) else float("nan")


def pearson(y_true: NDArray, y_pred: NDArray) -> float:
    """Linear correlation. Range -1 to 1; NaN when either side is constant."""
    y, p, _ = paired_values(y_true, y_pred)
    return _correlation(y, p)


def spearman(y_true: NDArray, y_pred: NDArray) -> float:
    """Rank correlation, equal values sharing their mean rank (Spearman 1904). Range -1 to 1; NaN when either side is constant."""
    y, p, _ = paired_values(y_true, y_pred)
    return _correlation(mean_ranks(y), mean_ranks(p))


def _correlation(a: Array, b: Array) -> float:
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    # Scaling first keeps the squares of very large or very small values inside the floats.
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def mean_ranks(values: Array) -> Array:
    """Ranks from 1, equal values sharing the mean of theirs."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(values) else np.empty(0, np.intp)
    ends = np.r_[starts[1:], len(values)]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + 1 + ends) / 2.0, ends - starts)
    return ranks


def interval_coverage(y_true: NDArray, interval: NDArray) -> float:
    """Share of true values inside their predicted interval (n, 2), ends included; best at the interval's nominal level."""
    truth = np.asarray(y_true, dtype=np.float64)
    known = ~np.isnan(truth)
    inside = covered(truth[known], np.asarray(interval, dtype=np.float64)[known])
    return float(inside.mean()) if len(inside) else float("nan")


def covered(y: Array, interval: Array) -> NDArray[np.bool_]:
    """Which true values lie inside their interval.

    Raises:
        DataError: An interval is missing, or its lower end is above its upper end.
    """
    if interval.shape != (len(y), 2):
        raise DataError(f"expected intervals ({len(y)}, 2), found {interval.shape}")
    low, high = interval[:, 0], interval[:, 1]
    if not (low <= high).all():
        raise DataError(f"{int((~(low <= high)).sum())} intervals are missing or have their lower end above the upper")
    return (low <= y) & (y <= high)


def regression_scores(y_true: NDArray, y_pred: NDArray, interval: NDArray | None = None) -> dict[str, float]:
    """Every score of a regression.

    Args:
        y_true: (n,), NaN = no label (a suppressed value), left out.
        y_pred: (n,), finite wherever the truth is known.
        interval: (n, 2) predicted 90 % intervals, or None.

    Returns:
        `n`, `r2`, `mae`, `rmse`, `bias`, `spearman`, `pearson`; with intervals also `coverage90` and `width90` (their mean
        width). NaN where undefined.

    Raises:
        DataError: See `paired_values` and `covered`.
    """
    y, p, known = paired_values(y_true, y_pred)
    nothing = float("nan")
    error = p - y
    scores = {
        "n": float(len(y)),
        "r2": _r2(y, p),
        "mae": float(np.abs(error).mean()) if len(y) else nothing,
        "rmse": float(np.sqrt((error @ error) / len(y))) if len(y) else nothing,
        "bias": float(error.mean()) if len(y) else nothing,
        "spearman": _correlation(mean_ranks(y), mean_ranks(p)),
        "pearson": _correlation(y, p),
    }
    if interval is not None:
        ends = np.asarray(interval, dtype=np.float64)[known]
        inside = covered(y, ends)
        scores["coverage90"] = float(inside.mean()) if len(y) else nothing
        scores["width90"] = float((ends[:, 1] - ends[:, 0]).mean()) if len(y) else nothing
    return scores
