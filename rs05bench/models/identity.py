"""What makes two fits the same: an interrupted one is taken up only by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rs05bench.models.options import RUN_NAMES, DeepOptions
from rs05bench.protocol.card import Training


def fit_identity(name: str, seed: int, options: DeepOptions, plan: Training, data: Any, facts: Mapping[str, Any]) -> str:
    """Digest of a fit: the model, its seed, how it is trained, and everything the data module says of what it shows.

    Args:
        name: Name of the model.
        seed: Its seed.
        options: Its options; where it runs and where things are kept do not count.
        plan: How it is trained.
        data: The data module or `TaskData`; the digests of its card, its budget and of what it shows count, where it has them.
        facts: What was found in the data.
    """
    shown = {
        "card": getattr(getattr(data, "card", None), "digest", None),
        "budget": getattr(getattr(data, "budget", None), "digest", None),
        "data": getattr(data, "digest", None),
        "split": getattr(data, "split", None),
        "fold": getattr(data, "fold", None),
        "target": getattr(data, "target", None),
    }
    own = {key: value for key, value in options.given().items() if key not in RUN_NAMES}
    said = [name, seed, own, plan.model_dump(mode="json"), shown, {key: value for key, value in facts.items() if key != "target"}]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:16]
