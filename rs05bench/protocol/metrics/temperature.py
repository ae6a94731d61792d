"""Temperature scaling of Guo et al. (2017, https://arxiv.org/abs/1706.04599): one number, fitted by the NLL of validation labels only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.metrics.calibration import SMALLEST_PROBABILITY, checked_probabilities

Array = NDArray[np.float64]


def fit_temperature(y_true: NDArray, probabilities: NDArray, *, weights: NDArray | None = None, tolerance: float = 1e-10) -> float:
    """The temperature that minimises the NLL, to be fitted on the validation role only.

    The NLL is convex in 1/T, so Newton steps held inside a shrinking bracket find the one minimum. 1/T is kept in [0.01, 100].

    Args:
        y_true: (n,) class indices; without weights -1 is left out.
        probabilities: (n, K).
        weights: (n,) how often each row occurs; None = once.
        tolerance: Relative change of 1/T at which it is found.

    Returns:
        T; 1.0 when there is nothing to fit on.
    """
    y, p = checked_probabilities(y_true, probabilities, ignore_index=-1 if weights is None else None)
    if not len(y):
        return 1.0

    def average(values: Array) -> float:
        return float(values.mean() if weights is None else np.average(values, weights=weights))

    logits = np.log(np.clip(p, SMALLEST_PROBABILITY, 1.0))
    of_truth = logits[np.arange(len(y)), y]
    low, high, beta = 0.01, 100.0, 1.0
    for _ in range(100):
        q = _softmax(beta * logits)
        mean = (q * logits).sum(1)
        slope = average(mean - of_truth)
        low, high = (beta, high) if slope < 0 else (low, beta)
        curvature = average((q * logits * logits).sum(1) - mean * mean)
        step = beta - slope / curvature if curvature > 0 else float("nan")
        following = step if low < step < high else (low * high) ** 0.5
        if abs(following - beta) <= tolerance * beta:
            break
        beta = following
    return float(1.0 / beta)


LEAST_FOR_A_TEMPERATURE = 10
"""With fewer validation labels, or with one class among them, no temperature is fitted."""
PRIOR_LABELS = 20
"""The logarithm of a temperature is shrunk as if so many further labels asked for none."""


def shrunk_temperature(y_true: NDArray, probabilities: NDArray, *, folds: int = 5) -> float:
    """A temperature for few labels: shrunk towards 1, and 1 where cross-validation finds it no better than none.

    On a handful of labels the minimum of the NLL is wherever those labels are all right or all wrong, at the ends of its range. Here log T
    is multiplied by n / (n + 20), the labels are split into folds (every fifth), and T is taken only where the NLL of labels that did not
    fit it is below that without scaling.

    Args:
        y_true: (n,) class indices; -1 is left out.
        probabilities: (n, K).
        folds: Of the cross-validation.

    Returns:
        T; 1.0 where nothing should be scaled.
    """
    y, p = checked_probabilities(y_true, probabilities, ignore_index=-1)
    if len(y) < LEAST_FOR_A_TEMPERATURE or len(np.unique(y)) < 2:
        return 1.0

    def shrunk(rows: NDArray) -> float:
        count = len(rows)
        return float(np.exp(np.log(fit_temperature(y[rows], p[rows])) * count / (count + PRIOR_LABELS)))

    part = np.arange(len(y)) % folds
    scaled, plain = np.empty(len(y)), -np.log(np.clip(p[np.arange(len(y)), y], SMALLEST_PROBABILITY, 1.0))
    for fold in range(folds):
        inside = np.flatnonzero(part == fold)
        q = apply_temperature(p[inside], shrunk(np.flatnonzero(part != fold)))
        scaled[inside] = -np.log(np.clip(q[np.arange(len(inside)), y[inside]], SMALLEST_PROBABILITY, 1.0))
    return shrunk(np.arange(len(y))) if scaled.mean() < plain.mean() else 1.0


def apply_temperature(probabilities: NDArray, temperature: float) -> Array:
    """Probabilities (n, K) sharpened (T < 1) or softened (T > 1): softmax(log p / T)."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST_PROBABILITY, 1.0)
    return _softmax(np.log(p) / temperature)


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
