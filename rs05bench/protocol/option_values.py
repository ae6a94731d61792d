"""Values of a model's options, as cells, grids and model cards hold them: what JSON and YAML can write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, JsonValue


def plain_value(value: Any) -> Any:
    """A value as JSON holds it: paths as text, tuples as lists, NumPy's scalars and arrays as Python's.

    >>> plain_value({"weights": Path("a.safetensors"), "learning_rates": (0.001, np.float64(0.01))})
    {'weights': 'a.safetensors', 'learning_rates': [0.001, 0.01]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_value(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


type OptionValue = JsonValue | Path | tuple[OptionValue, ...]
Options = Annotated[dict[str, JsonValue], BeforeValidator(plain_value)]
"""Options by name; a value that JSON cannot hold is refused."""
