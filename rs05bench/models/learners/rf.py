"""A random forest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from rs05bench.models.learners.learner import Fitted, Floats, Kind, Learner, constant


def _forest(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    out = []
    for entry in grid:
        forest = RandomForestClassifier if kind == "classification" else RandomForestRegressor
        model = forest(n_estimators=100, random_state=seed, n_jobs=1, **entry).fit(X, y)
        predict = model.predict_proba if kind == "classification" else model.predict
        out.append(Fitted(predict, constant(sum(int(tree.tree_.node_count) for tree in model.estimators_))))
    return out


LEARNER = Learner(
    name="rf",
    rank=50,
    words="a random forest",
    path=_forest,
    grid=(
        {"max_features": "sqrt", "min_samples_leaf": 1},
        {"max_features": "sqrt", "min_samples_leaf": 3},
        {"max_features": 0.33, "min_samples_leaf": 1},
        {"max_features": 0.33, "min_samples_leaf": 3},
    ),
    reads_missing=True,
    licence="BSD-3-Clause",
    citation="Breiman 2001, https://doi.org/10.1023/A:1010933404324",
)
