"""Nearest class centroid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.models.learners.learner import Fitted, Floats, Kind, Learner, constant


def _centroid(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    """Nearest class centroid, with the probabilities of classes that are equally frequent and equally wide, in every direction alike."""
    classes = int(y.max()) + 1
    centroids = np.stack([X[y == value].mean(axis=0) for value in range(classes)])
    inside = ((X - centroids[y]) ** 2).sum()
    # Pooled variance of one column; with one label a class there is none, and columns have variance 1.
    variance = inside / ((len(X) - classes) * X.shape[1]) if len(X) > classes and inside > 0 else 1.0

    def solved(spread: float) -> Fitted:
        def predict(Z: Floats) -> Floats:
            distance = (Z**2).sum(axis=1)[:, None] - 2.0 * Z @ centroids.T + (centroids**2).sum(axis=1)
            logits = -distance / (2.0 * variance * spread)
            raised = np.exp(logits - logits.max(axis=1, keepdims=True))
            return raised / raised.sum(axis=1, keepdims=True)

        return Fitted(predict, constant(centroids.size))

    return [solved(entry["spread"]) for entry in grid]


LEARNER = Learner(
    name="centroid",
    rank=30,
    words="the nearest class centroid",
    kinds=("classification",),
    path=_centroid,
    grid=({"spread": 4.0}, {"spread": 1.0}, {"spread": 16.0}, {"spread": 64.0}),  # widens the classes' common variance
    licence="MIT",
    citation="Hastie, Tibshirani & Friedman 2009, section 4.3",
)
