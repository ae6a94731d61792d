"""Calibration sums per cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.metrics.calibration import N_BINS, bin_of, brier_terms, checked_probabilities, nll_terms
from rs05bench.protocol.metrics.cluster_sums import complex_step, grouped, over, positions, unknown

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClusterCalibration:
    """Calibration sums per cluster: bins of the confidence, Brier and NLL.

    Args:
        clusters: C names.
        sums: (C, 3 bins + 2): count, confidence and hits of each equal-width bin, then the sums of Brier and NLL.
    """

    clusters: tuple[str, ...]
    sums: Array
    metrics: ClassVar[tuple[str, ...]] = ("ece", "brier", "nll")

    @classmethod
    def from_probabilities(
        cls,
        clusters: Sequence[str] | NDArray,
        y_true: NDArray,
        probabilities: NDArray,
        *,
        bins: int = N_BINS,
        ignore_index: int | None = -1,
    ) -> ClusterCalibration:
        """Sum units (n,) with probabilities (n, K) by their cluster."""
        names, index = grouped(clusters)
        scored = np.ones(len(index), bool) if ignore_index is None else np.asarray(y_true) != ignore_index
        y, p = checked_probabilities(y_true, probabilities, ignore_index=ignore_index)
        index = index[scored]
        confidence, correct = p.max(1), (p.argmax(1) == y).astype(float)
        cell = index * bins + bin_of(confidence, bins)
        binned = [
            np.bincount(cell, weights=w, minlength=len(names) * bins).reshape(-1, bins) for w in (np.ones(len(y)), confidence, correct)
        ]
        summed = [np.bincount(index, weights=w, minlength=len(names))[:, None] for w in (brier_terms(y, p), nll_terms(y, p))]
        return cls(names, np.concatenate([*binned, *summed], axis=1))

    @property
    def vectors(self) -> Array:
        """(C, 3 bins + 2)."""
        return self.sums

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """See `SufficientStats.evaluate`."""
        bins = (self.sums.shape[1] - 2) // 3
        count = totals[..., :bins].sum(-1)
        if name == "ece":
            gap = totals[..., 2 * bins : 3 * bins] - totals[..., bins : 2 * bins]
            # sign x value, not abs: it must carry complex steps.
            return over((np.sign(np.real(gap)) * gap).sum(-1), count)
        if name in self.metrics:
            return over(totals[..., -2 if name == "brier" else -1], count)
        raise unknown(name, self.metrics)

    def gradient(self, name: str, totals: Array) -> Array:
        """See `SufficientStats.gradient`."""
        return complex_step(lambda t: self.evaluate(name, t), totals)

    def regroup(self, groups: Sequence[str]) -> ClusterCalibration:
        """See `SufficientStats.regroup`."""
        names, index = grouped(groups)
        sums = np.zeros((len(names), self.sums.shape[1]))
        np.add.at(sums, index, self.sums)
        return replace(self, clusters=names, sums=sums)

    def select(self, clusters: Sequence[str]) -> ClusterCalibration:
        """See `SufficientStats.select`."""
        return replace(self, clusters=tuple(clusters), sums=self.sums[positions(self.clusters, clusters)])

    def __add__(self, other: ClusterCalibration) -> ClusterCalibration:
        """See `SufficientStats`."""
        both = replace(self, clusters=self.clusters + other.clusters, sums=np.concatenate([self.sums, other.sums]))
        return both.regroup(both.clusters)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"kind": "calibration", "clusters": list(self.clusters), "sums": self.sums.tolist()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ClusterCalibration:
        """Inverse of `to_dict`."""
        return cls(tuple(record["clusters"]), np.asarray(record["sums"], dtype=np.float64).reshape(len(record["clusters"]), -1))
