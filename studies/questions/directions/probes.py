"""Probes of an embedding: the best single axis, linear directions and how alike they are between places, and canonical correlation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from rs05bench.models.shallow import ShallowModel

if TYPE_CHECKING:
    from rs05bench.protocol import TaskData

Floats = NDArray[np.float64]
RIDGE = 1e-2
"""Penalty of directions, as a share of the number of units, on standardised axes."""


class BestAxis(ShallowModel):
    """A learner on the one axis of a feature set that goes best with the target among its own labels.

    Attributes:
        axis_: Which column was taken (after `fit`).
    """

    axis_: int

    def fit(self, data: TaskData) -> Self:
        """Picks the axis on the training labels, then fits on it as any shallow model does."""
        X, y = super()._X(data, "train"), np.asarray(data.y("train"), dtype=np.float64)
        self.axis_ = int(np.argmax(np.abs(correlations(X, y))))
        return super().fit(data)

    def _X(self, data: TaskData, role: str) -> NDArray[np.floating]:
        return super()._X(data, role)[:, [self.axis_]]


def correlations(X: NDArray, y: NDArray) -> Floats:
    """Pearson correlation of each column with y; 0 for a column that does not vary."""
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
    a, b = X - X.mean(0), y - y.mean()
    spread = np.sqrt((a**2).sum(0) * (b**2).sum())
    found: Floats = np.zeros(X.shape[1])
    np.divide(a.T @ b, spread, out=found, where=spread > 0)
    return found


def direction(X: NDArray, y: NDArray, centre: NDArray, spread: NDArray) -> Floats:
    """The unit vector, on axes standardised by `centre` and `spread`, along which a ridge sees y rise."""
    Z, target = (np.asarray(X, dtype=np.float64) - centre) / spread, np.asarray(y, dtype=np.float64)
    Z = Z - Z.mean(0)
    weights = np.linalg.solve(Z.T @ Z + RIDGE * len(Z) * np.eye(Z.shape[1]), Z.T @ (target - target.mean()))
    return weights / np.linalg.norm(weights)


def agreement(one: Floats, other: Floats, covariance: Floats) -> float:
    """Correlation, over a common population, of what two directions say of its units."""
    top = one @ covariance @ other
    return float(top / np.sqrt((one @ covariance @ one) * (other @ covariance @ other)))


def axes_in_use(weights: Floats) -> float:
    """How many axes a direction uses: (sum of squares)² over the sum of fourth powers; 1 for a single axis, 64 for all alike."""
    return float((weights**2).sum() ** 2 / (weights**4).sum())


def canonical(X: NDArray, Y: NDArray, ridge: float = RIDGE) -> tuple[Floats, Floats, Floats]:
    """Canonical correlation analysis (Hotelling 1936), regularised.

    Args:
        X: Embeddings, (n, d).
        Y: Signals, (n, q).
        ridge: Penalty on standardised columns, as a share of n.

    Returns:
        Weights of X (d, q), weights of Y (q, q), and the correlations within these units, (q,), largest first.
    """
    A, B = (np.asarray(part, dtype=np.float64) for part in (X, Y))
    A, B = A - A.mean(0), B - B.mean(0)
    roots = []
    for part in (A, B):
        covariance = part.T @ part / len(part)
        covariance += ridge * np.diag(np.maximum(np.diag(covariance), 1e-12))
        values, vectors = np.linalg.eigh(covariance)
        roots.append(vectors @ np.diag(values**-0.5) @ vectors.T)
    left, found, right = np.linalg.svd(roots[0] @ (A.T @ B / len(A)) @ roots[1], full_matrices=False)
    return roots[0] @ left, roots[1] @ right.T, np.clip(found, 0, 1)


def held_out_correlations(X: NDArray, Y: NDArray, weights: tuple[Floats, Floats]) -> Floats:
    """Correlation of the paired projections on units the weights never saw."""
    one, other = np.asarray(X) @ weights[0], np.asarray(Y) @ weights[1]
    return np.array([np.corrcoef(one[:, i], other[:, i])[0, 1] for i in range(one.shape[1])])
