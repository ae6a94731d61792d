"""Boundary counts per cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError
from rs05bench.protocol.metrics.cluster_sums import complex_step, grouped, positions, unknown
from rs05bench.protocol.metrics.confusion import ratio

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClusterBoundary:
    """Boundary pixels and their partners per cluster and class of interest.

    Args:
        clusters: C names.
        classes: L names of the classes of interest.
        counts: (C, L, 4): drawn with a partner, drawn, true with a partner, true (see `BoundaryCounts`).
    """

    clusters: tuple[str, ...]
    classes: tuple[str, ...]
    counts: NDArray

    @property
    def vectors(self) -> Array:
        """(C, 4 L)."""
        return np.asarray(self.counts, dtype=np.float64).reshape(len(self.clusters), -1)

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """See `SufficientStats.evaluate`."""
        matched, drawn, true_matched, true = np.moveaxis(totals.reshape(*totals.shape[:-1], len(self.classes), 4), -1, 0)
        exists = np.real(drawn + true) > 0
        precision, recall = (
            np.where(np.real(below) > 0, above / np.where(np.real(below) > 0, below, 1), 0)
            for above, below in ((matched, drawn), (true_matched, true))
        )
        meet = np.real(precision + recall) > 0
        score = np.where(meet, 2 * precision * recall / np.where(meet, precision + recall, 1), 0)
        if name == "boundary_f1":
            return ratio(np.where(exists, score, 0).sum(-1), exists.sum(-1))
        label = name.removeprefix("boundary_f1_")
        if label in self.classes and label != name:
            k = self.classes.index(label)
            return np.where(exists[..., k], score[..., k], np.nan)
        raise unknown(name, ("boundary_f1", "boundary_f1_<class>"))

    def gradient(self, name: str, totals: Array) -> Array:
        """See `SufficientStats.gradient`."""
        return complex_step(lambda t: self.evaluate(name, t), totals)

    def regroup(self, groups: Sequence[str]) -> ClusterBoundary:
        """See `SufficientStats.regroup`."""
        names, index = grouped(groups)
        counts = np.zeros((len(names), *self.counts.shape[1:]), dtype=self.counts.dtype)
        np.add.at(counts, index, self.counts)
        return replace(self, clusters=names, counts=counts)

    def select(self, clusters: Sequence[str]) -> ClusterBoundary:
        """See `SufficientStats.select`."""
        return replace(self, clusters=tuple(clusters), counts=self.counts[positions(self.clusters, clusters)])

    def __add__(self, other: ClusterBoundary) -> ClusterBoundary:
        """See `SufficientStats`."""
        if self.classes != other.classes:
            raise ProtocolError(f"statistics of different classes cannot be added: {self.classes} and {other.classes}")
        both = replace(self, clusters=self.clusters + other.clusters, counts=np.concatenate([self.counts, other.counts]))
        return both.regroup(both.clusters)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"kind": "boundary", "clusters": list(self.clusters), "classes": list(self.classes), "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ClusterBoundary:
        """Inverse of `to_dict`."""
        counts = np.asarray(record["counts"], dtype=np.int64).reshape(len(record["clusters"]), len(record["classes"]), 4)
        return cls(tuple(record["clusters"]), tuple(record["classes"]), counts)
