"""Models of every tier behind one interface: `create(name, card=.., seed=..)`, then `fit(data)` and `predict(data, role)`."""

from __future__ import annotations

from rs05bench.models.registry import create, list_models, model_card

list = list_models

__all__ = ["create", "list", "list_models", "model_card"]
