"""The nearest neighbours in the space of the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from rs05bench.models.learners.learner import SKLEARN, Fitted, Floats, Kind, Learner, constant


def _knn(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    out = []
    for entry in grid:
        k = min(int(entry["k"]), len(X))
        if kind == "classification":
            out.append(Fitted(KNeighborsClassifier(n_neighbors=k, n_jobs=1).fit(X, y).predict_proba, constant(X.size)))
        else:
            out.append(Fitted(KNeighborsRegressor(n_neighbors=k, n_jobs=1).fit(X, y).predict, constant(X.size)))
    return out


LEARNER = Learner(
    name="knn",
    rank=40,
    words="nearest neighbours",
    path=_knn,
    grid=({"k": 5}, {"k": 1}, {"k": 3}, {"k": 15}),
    licence="BSD-3-Clause",
    citation=SKLEARN,
)
