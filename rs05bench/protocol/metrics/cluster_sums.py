"""What has to be kept of each cluster so that any score and its interval can be computed later without the predictions.

A cluster is what an interval resamples: a test block, a fire, a county. The numbers kept are sums, so clusters add up to larger
clusters, folds to a whole, and a bootstrap draw is a weighted sum: 10,000 draws are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError

Array = NDArray[np.float64]
_STEPS_AT_ONCE = 100_000


class SufficientStats(Protocol):
    """Sums per cluster from which scores follow; what the intervals and tests work on."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Names of the clusters."""

    @property
    def vectors(self) -> Array:
        """(C, D): each cluster's sums, additive over clusters."""

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """Score `name` of summed vectors (..., D), over all leading axes."""

    def gradient(self, name: str, totals: Array) -> Array:
        """Derivative of score `name` by each sum, at summed vectors (..., D)."""

    def regroup(self, groups: Sequence[str]) -> Self:
        """Add clusters up to larger ones; `groups` names the larger cluster of each."""

    def select(self, clusters: Sequence[str]) -> Self:
        """Keep these clusters, in this order."""

    def __add__(self, other: Self) -> Self:
        """The union; clusters of one name add up."""


def metric_from_stats(stats: SufficientStats, name: str, weights: NDArray | None = None) -> float | Array:
    """A score from sums.

    Args:
        stats: Sums per cluster.
        name: The score.
        weights: How often each cluster counts, (..., C); None = once each.

    Returns:
        One float without weights, else an array over the leading axes of `weights`.

    Raises:
        ProtocolError: These sums do not hold this score.
    """
    if weights is None:
        return float(stats.evaluate(name, stats.vectors.sum(0)))
    return stats.evaluate(name, np.asarray(weights, dtype=np.float64) @ stats.vectors)


def complex_step(evaluate: Callable[[NDArray], NDArray], totals: Array) -> Array:
    """Derivative of a score by each sum, exact to rounding (Squire & Trapp 1998, https://doi.org/10.1137/S003614459631241X)."""
    step = 1e-30
    width = totals.shape[-1]
    if totals.size * width <= _STEPS_AT_ONCE:
        moved = np.repeat(totals.astype(np.complex128)[None], width, axis=0)
        moved[np.arange(width), ..., np.arange(width)] += 1j * step
        return np.moveaxis(np.imag(evaluate(moved)) / step, 0, -1)
    slope = np.zeros(totals.shape)
    for d in range(width):
        moved = totals.astype(np.complex128)
        moved[..., d] += 1j * step
        slope[..., d] = np.imag(evaluate(moved)) / step
    return slope


def grouped(labels: Sequence[str] | NDArray) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """The different names, ascending, and which of them each label is."""
    names, index = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    return tuple(names.tolist()), index.ravel()


def positions(have: Sequence[str], want: Sequence[str]) -> list[int]:
    """Where the wanted clusters are."""
    where = {name: i for i, name in enumerate(have)}
    missing = [name for name in want if name not in where]
    if missing:
        raise ProtocolError(f"{len(missing)} clusters are not in these statistics, among them {missing[:3]}")
    return [where[name] for name in want]


def unknown(name: str, known: Sequence[str]) -> ProtocolError:
    """The error for a score that these sums do not hold."""
    return ProtocolError(f"the kept sums do not give {name!r}", remedy=f"They give: {', '.join(known)}.")


def over(numerator: NDArray, denominator: NDArray, *, floor: NDArray | float = 0.0) -> NDArray:
    """Numerator over denominator, NaN where the denominator is not above the floor; carries complex steps."""
    defined = np.real(denominator) > floor
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)
