"""The names of the shallow learners and what each can do; imports nothing, so that listing models stays cheap."""

from __future__ import annotations

SHALLOW_NAMES = ("logistic", "ridge", "centroid", "knn", "rf", "xgboost", "lightgbm", "mlp")
KINDS = {
    "logistic": "classification",
    "ridge": "regression",
    "centroid": "classification",
    "majority": "classification",
    "mean": "regression",
}
PACKAGES = {"xgboost": "xgboost", "lightgbm": "lightgbm"}
"""Learner -> package of an extra that it needs."""
BOTH = ("classification", "regression")


def kinds_of(learner: str) -> tuple[str, ...]:
    """Kinds of task a learner or floor can do; `frozen-<learner>` as its learner."""
    word = learner.removeprefix("frozen-")
    return (KINDS[word],) if word in KINDS else BOTH
