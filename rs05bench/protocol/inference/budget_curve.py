"""One number for a whole few-shot curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError


def label_budget_area(labels: NDArray, scores: NDArray) -> NDArray[np.float64]:
    """Area under the score against the logarithm of the labels used, divided by the width: the mean score over the budgets' range.

    Each doubling of the labels weighs the same, so the small budgets that the question is about are not drowned by the full one.

    Args:
        labels: (n,) labels used at each budget, positive and all different, in any order.
        scores: (..., n) score at each; leading axes (draws, models) are kept.

    Returns:
        (...): in the score's unit; NaN where a budget has no score: a curve with a hole is not comparable.
    """
    x, y = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if x.ndim != 1 or y.shape[-1:] != x.shape or not len(x):
        raise ProtocolError(f"expected budgets (n,) and scores (..., n), found {x.shape} and {y.shape}")
    if not (x > 0).all() or len(np.unique(x)) != len(x):
        raise ProtocolError(f"budgets must be positive and all different, found {x.tolist()}")
    order = np.argsort(x)
    x, y = np.log(x[order]), y[..., order]
    if len(x) == 1:
        return y[..., 0]
    return ((y[..., 1:] + y[..., :-1]) / 2 * np.diff(x)).sum(-1) / (x[-1] - x[0])
