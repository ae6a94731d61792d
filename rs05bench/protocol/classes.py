"""Class values of a task, and labels as class indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard


def class_values(card: TaskCard, labels: pd.Series) -> tuple[str, ...] | None:
    """The classes of a task in order: the card's, else the sorted values found (whole numbers in number order); None for a regression."""
    if card.kind == "regression":
        return None
    if card.classes is not None:
        return tuple(card.classes)
    values = sorted(set(labels.dropna().astype(str)))
    return tuple(sorted(values, key=float) if all(_is_number(value) for value in values) else values)


def encode_labels(labels: pd.Series | NDArray[Any], classes: tuple[str, ...] | None, source: str) -> NDArray[Any]:
    """Labels as int64 class index (classes given) or float64, shape (n,).

    Raises:
        DataError: A class that is not among `classes`.
    """
    if classes is None:
        return np.asarray(labels, dtype=np.float64)
    index = {value: code for code, value in enumerate(classes)}
    text = [str(value) for value in labels]
    unknown = sorted(set(text) - set(index))
    if unknown:
        raise DataError(
            f"labels {unknown[:5]} are not among the classes {list(classes)}",
            source=source,
            remedy="Add them to `classes`, or drop those units.",
        )
    return np.array([index[value] for value in text], dtype=np.int64)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
