"""The area of applicability of a model: where its training data can speak for a place at all.

After Meyer and Pebesma 2021, "Predicting into unknown space? Estimating the area of applicability of spatial prediction models",
Methods in Ecology and Evolution 12, https://doi.org/10.1111/2041-210X.13650. Predictors are standardised and weighted by their importance
to the model; the dissimilarity index (DI) of a place is its distance to the nearest training point, divided by the mean distance between
training points. A place belongs to the area of applicability when its DI is no larger than the DI that training points have towards those
of other cross-validation folds, outliers apart. Outside it, a cross-validated score says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError

Floats = NDArray[np.floating]

PAIRS_FROM = 5_000
"""Above this many training points, the mean pairwise distance is taken over this many of them, drawn by the seed."""
_CHUNK = 1 << 22  # distances held at once


@dataclass(frozen=True, slots=True)
class Applicability:
    """What is needed to say of any place whether it lies in the area of applicability.

    Attributes:
        mean: Mean of each predictor over the training points, shape (d,).
        scale: Its standard deviation (1 for a constant predictor).
        weights: Importance of each predictor, at least 0, the largest 1.
        points: Training points, standardised and weighted, shape (n, d).
        mean_distance: Mean distance between two training points.
        training_di: DI of each training point towards the points of other folds; NaN without one.
        threshold: Largest DI inside the area: the upper whisker of `training_di`.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    points: NDArray[np.float64]
    mean_distance: float
    training_di: NDArray[np.float64]
    threshold: float

    @classmethod
    def fit(cls, X: Floats, *, folds: NDArray[np.object_] | None = None, weights: Floats | None = None, seed: int = 0) -> Applicability:
        """Learns the area from training points.

        Args:
            X: Predictors of the training points, shape (n, d); points with a missing predictor are left out.
            folds: Cross-validation fold of each point, shape (n,); None leaves each point out alone.
            weights: Importance of each predictor, shape (d,); negative ones count as 0, and all equal where none is positive.
            seed: Of the sample that the mean pairwise distance is taken over, where there are many points.

        Raises:
            DataError: Fewer than two distinct training points.
        """
        X = np.asarray(X, dtype=np.float64)
        complete = np.isfinite(X).all(axis=1)
        X = X[complete]
        if len(X) < 2:
            raise DataError(f"an area of applicability needs at least two training points, and {len(X)} are complete")
        mean, deviation = np.asarray(X.mean(axis=0), dtype=np.float64), np.asarray(X.std(axis=0, ddof=1), dtype=np.float64)
        scale = np.where(deviation > 1e-12 * np.maximum(np.abs(mean), 1.0), deviation, 1.0)
        importance = np.ones(X.shape[1]) if weights is None else np.maximum(np.asarray(weights, dtype=np.float64), 0.0)
        importance = importance / importance.max() if importance.max() > 0 else np.ones(X.shape[1])
        points = (X - mean) / scale * importance
        mean_distance = _mean_pairwise(points, seed)
        if not mean_distance > 0:
            raise DataError("all training points are the same, so no distance says anything")
        groups = (
            np.arange(len(X)) if folds is None else np.unique(np.asarray(folds, dtype=object)[complete].astype(str), return_inverse=True)[1]
        )
        di = _nearest(points, points, groups, groups) / mean_distance
        known = di[np.isfinite(di)]
        if not len(known):  # one fold only: nothing was ever left out of it
            di = _nearest(points, points, np.arange(len(X)), np.arange(len(X))) / mean_distance
            known = di[np.isfinite(di)]
        return cls(mean, scale, importance, points, mean_distance, np.where(np.isfinite(di), di, np.nan), upper_whisker(known))

    def dissimilarity(self, X: Floats) -> NDArray[np.float32]:
        """DI of places, shape (n,); NaN where a predictor is missing."""
        X = np.asarray(X, dtype=np.float64)
        out = np.full(len(X), np.nan, dtype=np.float32)
        known = np.isfinite(X).all(axis=1)
        if known.any():
            out[known] = _nearest((X[known] - self.mean) / self.scale * self.weights, self.points) / self.mean_distance
        return out

    def inside(self, dissimilarity: Floats) -> NDArray[np.bool_]:
        """Which places lie in the area of applicability; False where the DI is missing."""
        return np.nan_to_num(np.asarray(dissimilarity), nan=np.inf) <= self.threshold


def upper_whisker(values: Floats) -> float:
    """The largest value no further above the upper hinge than 1.5 times the distance between the hinges (Tukey's box plot).

    Examples:
        >>> upper_whisker(np.array([1.0, 2.0, 3.0, 4.0, 50.0]))
        4.0
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered)
    depth = (count + 3) // 2 / 2
    low, high = ((ordered[int(np.floor(place)) - 1] + ordered[int(np.ceil(place)) - 1]) / 2 for place in (depth, count + 1 - depth))
    return float(ordered[ordered <= high + 1.5 * (high - low)].max())


def permutation_importance(
    predict: Callable[[Floats], Floats],
    X: Floats,
    y: NDArray[np.generic],
    loss: Callable[[Floats, NDArray[np.generic]], float],
    *,
    seed: int = 0,
    repeats: int = 5,
) -> NDArray[np.float64]:
    """How much the loss grows when one predictor is shuffled among the units; works for any model.

    Args:
        predict: From predictors (n, d) to predictions.
        X: Predictors, shape (n, d).
        y: Labels, shape (n,).
        loss: From predictions and labels to a number, smaller is better.
        seed: Of the shuffles.
        repeats: Shuffles a predictor.

    Returns:
        Shape (d,); 0 or less where the model does not use a predictor.
    """
    X = np.asarray(X, dtype=np.float64)
    base, generator = loss(predict(X), y), np.random.default_rng(seed)
    importance = np.zeros(X.shape[1])
    for column in range(X.shape[1]):
        shuffled = np.repeat(X[None], repeats, axis=0)
        for copy in shuffled:
            copy[:, column] = generator.permutation(copy[:, column])
        # One call for all shuffles: the overhead of a call is what costs on few units.
        out = predict(shuffled.reshape(-1, X.shape[1]))
        importance[column] = np.mean([loss(part, y) for part in np.split(out, repeats)]) - base
    return importance


def _mean_pairwise(points: NDArray[np.float64], seed: int) -> float:
    if len(points) > PAIRS_FROM:
        points = points[np.random.default_rng(seed).choice(len(points), PAIRS_FROM, replace=False)]
    total, count = 0.0, len(points)
    for start, stop in _chunks(count, count):
        total += float(_distances(points[start:stop], points).sum())
    return total / (count * (count - 1))


def _nearest(
    places: NDArray[np.float64],
    points: NDArray[np.float64],
    fold_of_place: NDArray[np.int64] | None = None,
    fold_of_point: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Distance to the nearest point (of another fold, where folds are given); infinite without one."""
    out = np.full(len(places), np.inf)
    half = (points**2).sum(axis=1) / 2
    for start, stop in _chunks(len(places), len(points)):
        # Half the squared distance less what all points of a place share: it orders them, and a map asks this of every pixel.
        order = places[start:stop] @ points.T
        np.subtract(half, order, out=order)
        if fold_of_place is not None and fold_of_point is not None:
            order[fold_of_place[start:stop, None] == fold_of_point[None]] = np.inf
        nearest = order.argmin(axis=1)
        found = np.isfinite(order[np.arange(stop - start), nearest])
        # The product loses small distances in rounding: that to the nearest is measured again.
        exact = np.linalg.norm(places[start:stop] - points[nearest], axis=1)
        out[start:stop] = np.where(found, exact, np.inf)
    return out


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * (a @ b.T)
    # What is the same point must be at no distance, and not at the root of a rounding error.
    return np.sqrt(np.where(squared > 1e-12 * np.maximum((a**2).sum(axis=1)[:, None], 1e-300), squared, 0.0))


def _chunks(count: int, other: int) -> list[tuple[int, int]]:
    step = max(1, _CHUNK // max(other, 1))
    return [(start, min(start + step, count)) for start in range(0, count, step)]
