"""Boosted trees of LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.models.learners.learner import Fitted, Floats, Kind, Learner, stages


def _lightgbm(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    import lightgbm

    def fit(leaves: int, rounds: int) -> Any:
        # LightGBM's own minimum of 20 units a leaf makes no tree at all from 20 labels.
        smallest = int(np.clip(len(X) // 20, 1, 20))
        model = lightgbm.LGBMClassifier if kind == "classification" else lightgbm.LGBMRegressor
        return model(
            n_estimators=rounds, num_leaves=leaves, learning_rate=0.1, subsample=0.8, subsample_freq=1, colsample_bytree=0.5,
            min_child_samples=smallest, min_data_in_bin=1, max_bin=63, n_jobs=1, random_state=seed, deterministic=True, force_row_wise=True,
            verbose=-1,
        ).fit(X, y)  # fmt: skip

    def stage(model: Any, rounds: int) -> Fitted:
        booster = model.booster_

        def predict(Z: Floats) -> Floats:
            raw = booster.predict(Z, num_iteration=rounds)
            return np.column_stack([1.0 - raw, raw]) if kind == "classification" and raw.ndim == 1 else raw

        return Fitted(predict, lambda: sum(tree["num_leaves"] for tree in booster.dump_model(num_iteration=rounds)["tree_info"]))

    return stages(grid, "num_leaves", fit, stage)


LEARNER = Learner(
    name="lightgbm",
    rank=70,
    words="boosted trees (LightGBM)",
    path=_lightgbm,
    grid=(
        {"num_leaves": 8, "rounds": 100},
        {"num_leaves": 8, "rounds": 30},
        {"num_leaves": 3, "rounds": 100},
        {"num_leaves": 3, "rounds": 30},
    ),
    reads_missing=True,
    licence="MIT",
    citation="Ke et al. 2017, LightGBM, NeurIPS 30",
    package="lightgbm",
)
