"""The common core of all intervals and tests: a weighted sum of scores over the same clusters.

A score is one term, a difference of two models two, the mean over five seeds five. All terms are resampled together: a draw
takes the same clusters for every term, which is what makes a comparison paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError
from rs05bench.protocol.metrics import SufficientStats

Array = NDArray[np.float64]
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class Contrast:
    """Sum over terms of coefficient x score.

    Args:
        metric: The score.
        coefficients: (T,).
        terms: T statistics; a cluster that a term does not have counts as empty there.
        clusters: C names, the union over the terms.
        vectors: (T, C, D).
    """

    metric: str
    coefficients: Array
    terms: tuple[SufficientStats, ...]
    clusters: tuple[str, ...]
    vectors: Array

    def of_terms(self, weights: NDArray | None = None) -> Array:
        """(T,), or (T, B) for weights (B, C): the score of each term."""
        w = np.ones(len(self.clusters)) if weights is None else weights
        return np.stack([term.evaluate(self.metric, w @ vectors) for term, vectors in zip(self.terms, self.vectors, strict=True)])

    def value(self, weights: NDArray | None = None) -> Array:
        """The contrast, () or (B,)."""
        return np.tensordot(self.coefficients, self.of_terms(weights), axes=1)

    def influence(self, weights: NDArray) -> Array:
        """(B, C): how the contrast moves per unit of weight of each cluster, at the weights (B, C)."""
        total = np.zeros((len(weights), len(self.clusters)))
        for coefficient, term, vectors in zip(self.coefficients, self.terms, self.vectors, strict=True):
            total += coefficient * (term.gradient(self.metric, weights @ vectors) @ vectors.T)
        return total

    def influence_of_terms(self) -> Array:
        """(T, C): how each weighted term moves per unit of weight of each cluster, at weights 1."""
        at_one = np.ones(len(self.clusters))
        return np.stack(
            [
                coefficient * (vectors @ term.gradient(self.metric, at_one @ vectors))
                for coefficient, term, vectors in zip(self.coefficients, self.terms, self.vectors, strict=True)
            ]
        )

    def variance(self, weights: NDArray | None = None) -> Array:
        """(B,): linearised variance over clusters, with the n/(n-1) of small samples."""
        w = np.ones((1, len(self.clusters))) if weights is None else weights
        influence = self.influence(w)
        n = len(self.clusters)
        mean = (w * influence).sum(1) / n
        return n / (n - 1) * (w * (influence - mean[:, None]) ** 2).sum(1)

    def draws(self, number: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Bootstrap values (B,) and their standard errors (B,)."""
        values, errors = [], []
        step = max(1, _CELLS_AT_ONCE // max(1, len(self.clusters)))
        for begin in range(0, number, step):
            weights = cluster_weights(len(self.clusters), min(step, number - begin), rng)
            values.append(self.value(weights))
            errors.append(np.sqrt(self.variance(weights)))
        return np.concatenate(values), np.concatenate(errors)


def cluster_weights(clusters: int, draws: int, rng: np.random.Generator) -> Array:
    """How often each cluster is drawn, (draws, clusters), when they are resampled with replacement to their own number."""
    drawn = rng.integers(0, clusters, (draws, clusters)) + np.arange(draws)[:, None] * clusters
    return np.bincount(drawn.ravel(), minlength=draws * clusters).reshape(draws, clusters).astype(np.float64)


def build_contrast(metric: str, terms: Sequence[tuple[float, SufficientStats]]) -> Contrast:
    """Line terms up on their common list of clusters.

    Args:
        metric: The score.
        terms: (coefficient, statistics) pairs; the clusters are the union over the terms, in name order.
    """
    if not terms:
        raise ProtocolError("there is nothing to compare: no statistics were given")
    names = tuple(sorted({name for _, stats in terms for name in stats.clusters}))
    where = {name: i for i, name in enumerate(names)}
    stacked = np.zeros((len(terms), len(names), terms[0][1].vectors.shape[1]))
    for slot, (_, stats) in zip(stacked, terms, strict=True):
        slot[[where[name] for name in stats.clusters]] = stats.vectors
    return Contrast(metric, np.array([c for c, _ in terms]), tuple(stats for _, stats in terms), names, stacked)
