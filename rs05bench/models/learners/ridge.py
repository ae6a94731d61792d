"""Ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.models import probes
from rs05bench.models.learners.learner import Fitted, Floats, Kind, Learner, constant


def _ridge(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]], kind: Kind, seed: int) -> list[Fitted]:
    return _ridges([(X, y)], grid)[0]


def _ridges(problems: Sequence[tuple[Floats, NDArray[Any]]], grid: Sequence[dict[str, Any]]) -> list[list[Fitted]]:
    small = [probes.fits(X) for X, _ in problems]
    solved = iter(probes.ridge_paths([problem for problem, ok in zip(problems, small, strict=True) if ok], [e["alpha"] for e in grid]))
    return [
        [Fitted(line, constant(line.count)) for line in next(solved)] if ok else _large_ridge(X, y, grid)
        for (X, y), ok in zip(problems, small, strict=True)
    ]


def _large_ridge(X: Floats, y: NDArray[Any], grid: Sequence[dict[str, Any]]) -> list[Fitted]:
    # One singular value decomposition serves the whole path: w = V diag(s / (s^2 + alpha)) U'y.
    mean = X.mean(axis=0)
    left, singular, right = np.linalg.svd(X - mean, full_matrices=False)
    offset = float(y.mean())
    projected = left.T @ (y - offset)

    def solved(alpha: float) -> Fitted:
        weights = right.T @ (singular / (singular**2 + alpha) * projected)
        return Fitted(lambda Z: (Z - mean) @ weights + offset, constant(weights.size + 1))

    return [solved(entry["alpha"]) for entry in grid]


LEARNER = Learner(
    name="ridge",
    rank=20,
    words="ridge regression",
    kinds=("regression",),
    path=_ridge,
    grid=({"alpha": 10.0}, {"alpha": 1.0}, {"alpha": 100.0}, {"alpha": 1000.0}),
    licence="MIT",
    citation="Hoerl & Kennard 1970, https://doi.org/10.1080/00401706.1970.10488634",
    together=_ridges,
)
