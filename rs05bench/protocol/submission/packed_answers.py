"""What a submission answered, in a form in which two submissions can be compared without their predictions."""

from __future__ import annotations

import base64
import zlib

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.hashing import hash_order
from rs05bench.protocol.predictions import TablePredictions

SAME = 0.995
"""Share of units with the same answer from which on two cells count as one."""
SKETCH = 48
"""Answers of a cell that the board keeps; one of them may differ."""


def answers(predictions: TablePredictions) -> NDArray[np.int16]:
    """What each unit was answered, in order of role and unit: a class, or which hundredth of the answers' spread a number is in."""
    return _answers(predictions, np.lexsort((predictions.unit_id.astype(str), predictions.role.astype(str))))


def sketch(predictions: TablePredictions) -> NDArray[np.int16]:
    """The answers of some units, the same of every submission."""
    names = [f"{role}\t{unit}" for role, unit in zip(predictions.role, predictions.unit_id, strict=True)]
    return _answers(predictions, hash_order(names, "answers"))[:SKETCH]


def _answers(predictions: TablePredictions, order: NDArray[np.int64]) -> NDArray[np.int16]:
    if predictions.probabilities is not None:
        return predictions.probabilities[order].argmax(axis=1).astype(np.int16)
    y = np.asarray(predictions.y, dtype=np.float64)
    spread = float(y.std()) or 1.0
    return np.clip(np.rint((y[order] - np.median(y)) / spread * 100), -32000, 32000).astype(np.int16)


def same_answers(one: NDArray[np.int16], other: NDArray[np.int16], predictions: TablePredictions) -> bool:
    """Whether answers, or sketches of them, count as the same: the same class, or numbers a hundredth of the spread apart."""
    if len(one) != len(other) or len(one) == 0 or len(np.unique(one)) < 2:
        return False
    most = 0 if predictions.probabilities is not None else 1
    apart = np.abs(one.astype(np.int64) - other.astype(np.int64)) > most
    return int(apart.sum()) <= max((1 - SAME) * len(one), 1 if len(one) == SKETCH else 0)


def pack(values: NDArray[np.int16]) -> str:
    """Answers as text; `unpack` is the inverse."""
    return base64.b64encode(zlib.compress(values.astype("<i2").tobytes(), 9)).decode("ascii")


def unpack(text: str) -> NDArray[np.int16]:
    """Packed answers; empty where the text is not such a record."""
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), dtype="<i2").astype(np.int16)
    except (ValueError, zlib.error):
        return np.empty(0, np.int16)
