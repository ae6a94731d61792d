"""Boosted trees of XGBoost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from rs05bench.models.learners.learner import Fitted, Floats, Kind, Learner, stages


def _xgboost(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    import xgboost

    def fit(depth: int, rounds: int) -> Any:
        # Two classes are the softmax of two here too, so that one code reads all; weights of a leaf at .5 lets 5 labels a class split.
        model = xgboost.XGBClassifier if kind == "classification" else xgboost.XGBRegressor
        return model(
            n_estimators=rounds, max_depth=depth, learning_rate=0.1, subsample=0.8, colsample_bytree=0.5, min_child_weight=0.5,
            tree_method="hist", max_bin=64, n_jobs=1, random_state=seed, verbosity=0,
        ).fit(X, y)  # fmt: skip

    def stage(model: Any, rounds: int) -> Fitted:
        method = model.predict_proba if kind == "classification" else model.predict
        return Fitted(
            lambda Z: method(Z, iteration_range=(0, rounds)),
            lambda: sum(tree.count("leaf=") for tree in model.get_booster()[:rounds].get_dump()),
        )

    return stages(grid, "max_depth", fit, stage)


LEARNER = Learner(
    name="xgboost",
    rank=60,
    words="boosted trees (XGBoost)",
    path=_xgboost,
    grid=(
        {"max_depth": 3, "rounds": 100},
        {"max_depth": 3, "rounds": 30},
        {"max_depth": 1, "rounds": 100},
        {"max_depth": 1, "rounds": 30},
    ),  # rounds are trees a class
    reads_missing=True,
    licence="Apache-2.0",
    citation="Chen & Guestrin 2016, https://doi.org/10.1145/2939672.2939785",
    package="xgboost",
)
