"""A model of your own in one file: copy this, change the class, and check it.

    rs05bench models check examples/models/template.py:NearestCentroid
    rs05bench sweep CARD --data DIR --models examples/models/template.py:NearestCentroid --out runs/

This one gives every unit to the class whose mean embedding is nearest. It does classifications only, and says so.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from rs05bench.errors import ProtocolError
from rs05bench.protocol import ModelCard, Predictions, TaskCard, TaskData

FEATURES = "alphaearth"


class NearestCentroid:
    """The class whose mean direction is nearest.

    Args:
        card: The task card; a model may read it, and is made with it.
        seed: Seed of everything random in the model (nothing here).
        temperature: How sharp the probabilities are; `rs05bench` passes options on to outside models.
    """

    # What the leaderboard shows. `name` is <inputs>/<learner>; unknown numbers are left out and never 0.
    model_card = ModelCard(
        name="alphaearth/nearest-centroid",
        tier="embedding",
        inputs=FEATURES,
        learner="nearest-centroid",
        licence="MIT",
        open_weights=False,  # the model behind the embedding is closed
        pretraining=["AlphaEarth Foundations: Sentinel-1, Sentinel-2, Landsat, GEDI, NLCD and others"],
        citation="Your paper.",
    )

    def __init__(self, *, card: TaskCard | None = None, seed: int = 0, temperature: float = 0.1) -> None:
        self.card = self.model_card
        self.seed, self.temperature = seed, temperature

    def fit(self, data: TaskData) -> Self:
        """Learns from `train`, and may tune or stop on `val`. Both hold the budget's labels only; no other label can be had."""
        if data.classes is None:
            raise ProtocolError(f"{self.card.name} does classification only", remedy="Use alphaearth/ridge.")
        X, y = data.X("train", FEATURES), data.y("train")  # float32 (n, d), NaN where missing; int64 class index (n,)
        self.classes_ = data.classes
        self.fill_ = np.nan_to_num(np.nanmean(X, axis=0))
        X = np.where(np.isnan(X), self.fill_, X)
        # A class without a label in this budget has no centre: it gets probability 0, and still its column.
        self.seen_ = np.unique(y)
        self.centres_ = np.stack([X[y == code].mean(axis=0) for code in self.seen_])
        self.card = self.card.model_copy(update={"parameters_total": self.centres_.size, "parameters_trainable": self.centres_.size})
        return self

    def predict(self, data: TaskData, role: str) -> Predictions:
        """Predicts every unit of a role (`val`, `test_id`, `test_ood`), in the order of `data.unit_ids(role)`."""
        if not hasattr(self, "centres_"):
            raise ProtocolError(f"{self.card.name} was asked to predict before it was fitted", remedy="Call fit(data) first.")
        return Predictions.of_classes(data.unit_ids(role), role, self.predict_array(data.X(role, FEATURES)), self.classes_)

    def predict_array(self, X: Any) -> Any:
        """Probabilities (n, all classes of the task)."""
        X = np.where(np.isnan(X), self.fill_, X)
        distance = ((X[:, None] - self.centres_[None]) ** 2).sum(axis=2)
        weight = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / self.temperature)
        out = np.zeros((len(X), len(self.classes_)), dtype=np.float32)
        out[:, self.seen_] = weight / weight.sum(axis=1, keepdims=True)
        return out
