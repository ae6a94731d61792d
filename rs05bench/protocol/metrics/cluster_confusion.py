"""Confusion counts per cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.metrics.cluster_sums import complex_step, grouped, positions, unknown
from rs05bench.protocol.metrics.confusion import OF_ALL_CLASSES, OF_ONE_CLASS, ratio, slopes

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClusterConfusion:
    """Confusion counts per cluster, for classification and segmentation.

    Args:
        clusters: C names.
        classes: K names.
        counts: (C, K, K), rows truth, columns prediction.
        background: Class that `area_error` leaves out; None when all are of interest.
    """

    clusters: tuple[str, ...]
    classes: tuple[str, ...]
    counts: NDArray
    background: int | None = 0

    @classmethod
    def from_labels(
        cls, clusters: Sequence[str] | NDArray, y_true: NDArray, y_pred: NDArray, classes: Sequence[str], *, ignore_index: int | None = -1
    ) -> ClusterConfusion:
        """Count units (n,) by their cluster."""
        names, index = grouped(clusters)
        truth, predicted, k = np.asarray(y_true), np.asarray(y_pred), len(classes)
        if not len(index) == len(truth) == len(predicted):
            raise DataError(f"{len(index)} clusters, {len(truth)} true and {len(predicted)} predicted labels; they must be as many")
        scored = np.ones(len(truth), bool) if ignore_index is None else truth != ignore_index
        for values in (truth[scored], predicted[scored]):
            if values.size and (values.min() < 0 or values.max() >= k):
                raise DataError(f"a label lies outside 0 to {k - 1}")
        flat = (index[scored] * k + truth[scored].astype(np.intp)) * k + predicted[scored].astype(np.intp)
        return cls(names, tuple(classes), np.bincount(flat, minlength=len(names) * k * k).reshape(-1, k, k))

    @property
    def vectors(self) -> Array:
        """(C, 3K): hits, truth and prediction of each class; all scores here need no more."""
        counts = np.asarray(self.counts, dtype=np.float64)
        return np.concatenate([np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)], axis=1)

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """See `SufficientStats.evaluate`."""
        k = len(self.classes)
        parts = totals[..., :k], totals[..., k : 2 * k], totals[..., 2 * k :]
        if name in OF_ALL_CLASSES:
            return OF_ALL_CLASSES[name](*parts)
        if name == "area_error":
            return self._area_error(parts[1], parts[2])
        stem, _, label = name.partition("_")
        if stem in OF_ONE_CLASS and label in self.classes:
            return OF_ONE_CLASS[stem](*parts)[..., self.classes.index(label)]
        raise unknown(name, [*OF_ALL_CLASSES, "area_error", *(f"{stem}_<class>" for stem in OF_ONE_CLASS)])

    def _area_error(self, truth: NDArray, mapped: NDArray) -> NDArray:
        of_interest = np.arange(len(self.classes)) != (-1 if self.background is None else self.background)
        occurs = (np.real(truth) > 0) & of_interest
        gap = mapped - truth
        # sign x value, not abs: it must carry complex steps.
        relative = np.where(occurs, np.sign(np.real(gap)) * gap / np.where(occurs, truth, 1), 0)
        return ratio(relative.sum(-1), occurs.sum(-1))

    def gradient(self, name: str, totals: Array) -> Array:
        """See `SufficientStats.gradient`."""
        k = len(self.classes)
        closed = slopes(name, totals[..., :k], totals[..., k : 2 * k], totals[..., 2 * k :])
        return complex_step(lambda t: self.evaluate(name, t), totals) if closed is None else np.concatenate(closed, axis=-1)

    def regroup(self, groups: Sequence[str]) -> ClusterConfusion:
        """See `SufficientStats.regroup`."""
        names, index = grouped(groups)
        counts = np.zeros((len(names), *self.counts.shape[1:]), dtype=self.counts.dtype)
        np.add.at(counts, index, self.counts)
        return replace(self, clusters=names, counts=counts)

    def select(self, clusters: Sequence[str]) -> ClusterConfusion:
        """See `SufficientStats.select`."""
        return replace(self, clusters=tuple(clusters), counts=self.counts[positions(self.clusters, clusters)])

    def __add__(self, other: ClusterConfusion) -> ClusterConfusion:
        """See `SufficientStats`."""
        if self.classes != other.classes:
            raise ProtocolError(f"statistics of different classes cannot be added: {self.classes} and {other.classes}")
        both = replace(self, clusters=self.clusters + other.clusters, counts=np.concatenate([self.counts, other.counts]))
        return both.regroup(both.clusters)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, only the cells that hold something."""
        flat = self.counts.ravel()
        cells = np.flatnonzero(flat)
        return {
            "kind": "confusion",
            "clusters": list(self.clusters),
            "classes": list(self.classes),
            "background": self.background,
            "cells": cells.tolist(),
            "counts": flat[cells].tolist(),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ClusterConfusion:
        """Inverse of `to_dict`."""
        c, k = len(record["clusters"]), len(record["classes"])
        flat = np.zeros(c * k * k, dtype=np.int64)
        flat[np.asarray(record["cells"], dtype=np.intp)] = record["counts"]
        return cls(tuple(record["clusters"]), tuple(record["classes"]), flat.reshape(c, k, k), record.get("background", 0))
