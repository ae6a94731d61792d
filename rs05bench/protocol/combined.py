"""Sums whose score is itself a combination of scores: a drop, or a mean over learners.

Intervals and tests then work on it as on any score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError
from rs05bench.protocol.metrics import Sums

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CombinedStats:
    """Sum over parts of coefficient x score, all parts over the same clusters; a `SufficientStats`.

    The parts are resampled together, so what they share (hard blocks, lucky blocks) cancels as it should.

    Args:
        coefficients: One a part.
        parts: Sums, all over the same clusters in the same order.
    """

    coefficients: tuple[float, ...]
    parts: tuple[Sums, ...]

    @classmethod
    def of(cls, terms: Sequence[tuple[float, Sums]]) -> CombinedStats:
        """Checks that all parts are over the same clusters.

        Raises:
            ProtocolError: They are not.
        """
        clusters = terms[0][1].clusters
        if any(part.clusters != clusters for _, part in terms):
            raise ProtocolError("scores that are combined must be over the same clusters", remedy="Line them up first.")
        return cls(tuple(coefficient for coefficient, _ in terms), tuple(part for _, part in terms))

    @property
    def clusters(self) -> tuple[str, ...]:
        """Names of the clusters."""
        return self.parts[0].clusters

    @property
    def vectors(self) -> Array:
        """(C, sum of the parts' widths): the parts' sums side by side."""
        return np.concatenate([np.asarray(part.vectors, dtype=np.float64) for part in self.parts], axis=1)

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """See `SufficientStats.evaluate`."""
        values = [part.evaluate(name, piece) for part, piece in zip(self.parts, self._pieces(totals), strict=True)]
        return np.tensordot(np.asarray(self.coefficients), np.stack(values), axes=1)

    def gradient(self, name: str, totals: Array) -> Array:
        """See `SufficientStats.gradient`."""
        pieces = zip(self.coefficients, self.parts, self._pieces(totals), strict=True)
        return np.concatenate([coefficient * part.gradient(name, piece) for coefficient, part, piece in pieces], axis=-1)

    def regroup(self, groups: Sequence[str]) -> CombinedStats:
        """See `SufficientStats.regroup`."""
        return replace(self, parts=tuple(part.regroup(groups) for part in self.parts))

    def select(self, clusters: Sequence[str]) -> CombinedStats:
        """See `SufficientStats.select`."""
        return replace(self, parts=tuple(part.select(clusters) for part in self.parts))

    def __add__(self, other: CombinedStats) -> CombinedStats:
        """See `SufficientStats`."""
        return replace(self, parts=tuple(one + two for one, two in zip(self.parts, other.parts, strict=True)))

    def _pieces(self, totals: NDArray) -> list[NDArray]:
        ends = np.cumsum([part.vectors.shape[1] for part in self.parts])
        return np.split(totals, ends[:-1], axis=-1)
