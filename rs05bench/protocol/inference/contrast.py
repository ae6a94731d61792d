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
        strata: (C,) index of the group a cluster is resampled in; all 0 when clusters are drawn from all.
    """

    metric: str
    coefficients: Array
    terms: tuple[SufficientStats, ...]
    clusters: tuple[str, ...]
    vectors: Array
    strata: NDArray[np.intp]

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

    def influence_of_fits(self) -> Array:
        """(F, C): the same for each fit by itself, at weights 1; term f of the positive side is paired with term f of the negative one."""
        at_one = np.ones(len(self.clusters))
        signs = np.sign(self.coefficients)
        of_term = [
            sign * (vectors @ term.gradient(self.metric, at_one @ vectors))
            for sign, term, vectors in zip(signs, self.terms, self.vectors, strict=True)
        ]
        sides = [np.stack([u for u, s in zip(of_term, signs, strict=True) if s == side]) for side in (1, -1) if (signs == side).any()]
        return np.sum(sides, axis=0)

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
        """(B,): linearised variance over clusters, within strata, with the n/(n-1) of small samples; a stratum of one adds none."""
        w = np.ones((1, len(self.clusters))) if weights is None else weights
        influence = self.influence(w)
        variance = np.zeros(len(w))
        for stratum in range(self.strata.max(initial=-1) + 1):
            members = self.strata == stratum
            n = int(members.sum())
            if n < 2:
                continue
            part, here = influence[:, members], w[:, members]
            mean = (here * part).sum(1) / n
            variance += n / (n - 1) * (here * (part - mean[:, None]) ** 2).sum(1)
        return variance

    def draws(self, number: int, rng: np.random.Generator, *, studentise: bool = False) -> tuple[Array, Array]:
        """Bootstrap values (B,) and, when studentised, their standard errors (B,) (else empty)."""
        values, errors = [], []
        step = max(1, _CELLS_AT_ONCE // max(1, len(self.clusters)))
        for begin in range(0, number, step):
            weights = cluster_weights(self.strata, min(step, number - begin), rng)
            values.append(self.value(weights))
            if studentise:
                errors.append(np.sqrt(self.variance(weights)))
        return np.concatenate(values), np.concatenate(errors) if errors else np.empty(0)


def cluster_weights(strata: NDArray[np.intp], draws: int, rng: np.random.Generator) -> Array:
    """How often each cluster is drawn, (draws, C), when each stratum is resampled with replacement to its own size."""
    weights = np.zeros((draws, len(strata)))
    for stratum in range(strata.max(initial=-1) + 1):
        members = np.flatnonzero(strata == stratum)
        n = len(members)
        if not n:
            continue
        drawn = rng.integers(0, n, (draws, n)) + np.arange(draws)[:, None] * n
        weights[:, members] = np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n)
    return weights


def build_contrast(
    metric: str,
    terms: Sequence[tuple[float, SufficientStats]],
    *,
    strata: Sequence[str] | None = None,
    clusters: Sequence[str] | None = None,
) -> Contrast:
    """Line terms up on their common list of clusters.

    Args:
        metric: The score.
        terms: (coefficient, statistics) pairs.
        strata: Group of each of `clusters`.
        clusters: The list of clusters; default the union over the terms, in name order.
    """
    if not terms:
        raise ProtocolError("there is nothing to compare: no statistics were given")
    names = tuple(clusters) if clusters is not None else tuple(sorted({name for _, stats in terms for name in stats.clusters}))
    where = {name: i for i, name in enumerate(names)}
    stacked = np.zeros((len(terms), len(names), terms[0][1].vectors.shape[1]))
    for slot, (_, stats) in zip(stacked, terms, strict=True):
        slot[[where[name] for name in stats.clusters]] = stats.vectors
    index = np.zeros(len(names), np.intp) if strata is None else np.unique(np.asarray(strata).astype(str), return_inverse=True)[1].ravel()
    return Contrast(metric, np.array([c for c, _ in terms]), tuple(stats for _, stats in terms), names, stacked, index)
