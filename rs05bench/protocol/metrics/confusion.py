"""Confusion counts and every score that follows from them.

Rows are the truth, columns the prediction. The scores need only three numbers per class: how often it was right (`hits`), how often it was
true (`truth`) and how often it was predicted (`predicted`), each (..., K), over all leading axes at once; that is what makes 10,000
bootstrap draws cheap.

A class that is in neither truth nor prediction has no score and takes no part in a mean over classes (scikit-learn's rule when
`labels` are those present). A mean over no class at all is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.declaration import LABELLED, Task, metric
from rs05bench.protocol.metrics.sums import Clusters, Sums, dense_counts, magnitude, ratio

Array = NDArray[np.float64]
MAPS: tuple[Task, ...] = ("segmentation",)


class ConfusionParts(NamedTuple):
    """What the formulas take: (..., K) each, and (K,) which classes are of interest for areas."""

    hits: NDArray[Any]
    truth: NDArray[Any]
    predicted: NDArray[Any]
    of_interest: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Confusion(Sums):
    """Confusion counts per cluster, for classification and segmentation.

    Attributes:
        values: (C, K, K) counts, rows truth, columns prediction.
        names: K class names.
        background: Class that `area_error` leaves out; None when all are of interest.
    """

    names: tuple[str, ...] = ()
    background: int | None = None
    kind = "confusion"

    @classmethod
    def of(
        cls,
        truth: NDArray[np.integer],
        predicted: NDArray[np.integer],
        classes: Sequence[str],
        *,
        clusters: Clusters | None = None,
        ignore_index: int | None = -1,
        background: int | None = None,
    ) -> Confusion:
        """Counts truth against prediction.

        Args:
            truth: Class indices, any shape; `ignore_index` marks what is not scored.
            predicted: Class indices of the same shape.
            classes: K class names.
            clusters: Cluster of each unit, for truth of shape (n,); default one cluster.
            ignore_index: Value of `truth` that is left out; None when every value must be a class.
            background: Class that `area_error` leaves out.

        Raises:
            DataError: The shapes differ, or a scored value is not a class index.
        """
        k = len(classes)
        if clusters is None:
            return cls(("all",), confusion_matrix(truth, predicted, k, ignore_index=ignore_index)[None], tuple(classes), background)
        if not len(clusters.code) == len(truth) == len(predicted):
            raise DataError(f"{len(clusters.code)} clusters, {len(truth)} true and {len(predicted)} predicted labels; they must be as many")
        scored = np.ones(len(truth), bool) if ignore_index is None else truth != ignore_index
        for name, labels in (("truth", truth[scored]), ("prediction", predicted[scored])):
            if labels.size and (labels.min() < 0 or labels.max() >= k):
                raise _outside(name, labels, k)
        flat = (clusters.code[scored] * k + truth[scored].astype(np.intp)) * k + predicted[scored].astype(np.intp)
        counts = np.bincount(flat, minlength=len(clusters.names) * k * k).reshape(-1, k, k)
        return cls(clusters.names, counts, tuple(classes), background)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.names

    @property
    def vectors(self) -> Array:
        """(C, 3K): hits, truth and prediction of each class; all scores here need no more."""
        counts = np.asarray(self.values, dtype=np.float64)
        return np.concatenate([np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)], axis=1)

    def parts(self, totals: NDArray[Any]) -> ConfusionParts:
        """Hits, truth and prediction of each class."""
        k = len(self.names)
        of_interest = np.arange(k) != (-1 if self.background is None else self.background)
        return ConfusionParts(totals[..., :k], totals[..., k : 2 * k], totals[..., 2 * k :], of_interest)

    @property
    def units(self) -> Array:
        """(C,) scored units."""
        return np.asarray(self.values, dtype=np.float64).sum((1, 2))

    def gradient(self, name: str, totals: Array) -> Array:
        """In closed form for the scores whose intervals are drawn most often, else as `Sums.gradient`."""
        closed = _slopes(name, self.parts(totals))
        return super().gradient(name, totals) if closed is None else np.concatenate(closed, axis=-1)

    def header(self) -> dict[str, Any]:
        """Classes and background."""
        return {"classes": list(self.names), "background": self.background}

    @classmethod
    def unpack(cls, record: Mapping[str, Any], clusters: tuple[str, ...]) -> Confusion:
        """Inverse of `pack`."""
        names = tuple(record["classes"])
        return cls(clusters, dense_counts(record, (len(clusters), len(names), len(names))), names, record["background"])


def confusion_matrix(
    y_true: NDArray[np.integer], y_pred: NDArray[np.integer], n_classes: int, *, ignore_index: int | None = -1
) -> NDArray[np.int64]:
    """Count truth against prediction.

    Args:
        y_true: Class indices, any shape; `ignore_index` marks what is not scored.
        y_pred: Class indices of the same shape.
        n_classes: K.
        ignore_index: Value of `y_true` that is left out; None when every value must be a class.

    Returns:
        int64 (K, K), rows truth, columns prediction.

    Raises:
        DataError: The shapes differ, or a scored value lies outside 0..K-1.
    """
    truth, predicted = np.asarray(y_true), np.asarray(y_pred)
    if truth.shape != predicted.shape:
        raise DataError(f"truth has shape {truth.shape} and prediction {predicted.shape}; they must be the same")
    if truth.dtype.itemsize <= 2 and 1 < n_classes <= 8:
        return _count_small(truth, predicted, n_classes, ignore_index)
    truth, predicted = truth.ravel(), predicted.ravel()
    if ignore_index is not None:
        scored = truth != ignore_index
        if not scored.all():
            truth, predicted = truth[scored], predicted[scored]
    for name, values in (("truth", truth), ("prediction", predicted)):
        if values.size and (values.min() < 0 or values.max() >= n_classes):
            raise _outside(name, values, n_classes)
    flat = truth.astype(np.intp) * n_classes + predicted
    return np.bincount(flat, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def _count_small(truth: NDArray, predicted: NDArray, n_classes: int, ignore_index: int | None) -> NDArray[np.int64]:
    """Few classes in narrow integers (masks): comparing and counting bits is several times faster than a histogram."""
    is_true = [truth == k for k in range(n_classes)]
    is_predicted = [predicted == k for k in range(n_classes)]
    counts = np.array([[np.count_nonzero(t & p) for p in is_predicted] for t in is_true], dtype=np.int64)
    ignored = 0 if ignore_index is None else np.count_nonzero(truth == ignore_index)
    if ignore_index is not None and 0 <= ignore_index < n_classes:
        counts[ignore_index] = 0
    if counts.sum() + ignored != truth.size:
        scored = np.ones(truth.shape, bool) if ignore_index is None else truth != ignore_index
        for name, values in (("truth", truth[scored]), ("prediction", predicted[scored])):
            if values.min() < 0 or values.max() >= n_classes:
                raise _outside(name, values, n_classes)
    return counts


def _outside(name: str, values: NDArray, n_classes: int) -> DataError:
    wrong = np.unique(values[(values < 0) | (values >= n_classes)])[:5].tolist()
    return DataError(f"{name} holds {wrong}, which is no class index of the {n_classes} classes (expected 0 to {n_classes - 1})")


def _mean_over_classes(numerator: NDArray, denominator: NDArray) -> NDArray:
    # Written without nanmean: it must also carry the complex steps by which the intervals take derivatives.
    defined = denominator.real > 0
    ratios = np.where(defined, numerator / np.where(defined, denominator, 1), 0)
    return ratio(ratios.sum(-1), defined.sum(-1))


@metric(
    "macro_f1",
    sums=Confusion,
    tasks=LABELLED,
    range=(0, 1),
    better="higher",
    words="mean over the classes present in truth or prediction of 2 hits / (truth + predicted)",
    source="van Rijsbergen 1979; mean of the F1 scores, Opitz & Burst 2019, arXiv:1911.03347",
)
def _macro_f1(parts: ConfusionParts) -> NDArray:
    return _mean_over_classes(2 * parts.hits, parts.truth + parts.predicted)


@metric(
    "balanced_accuracy",
    sums=Confusion,
    tasks=LABELLED,
    range=(0, 1),
    better="higher",
    words="mean recall over the classes present in the truth",
    source="Brodersen et al. 2010, doi:10.1109/ICPR.2010.764",
)
def _balanced_accuracy(parts: ConfusionParts) -> NDArray:
    return _mean_over_classes(parts.hits, parts.truth)


@metric(
    "overall_accuracy",
    sums=Confusion,
    tasks=LABELLED,
    range=(0, 1),
    better="higher",
    words="share right",
    source="Congalton 1991, doi:10.1016/0034-4257(91)90048-B",
)
def _overall_accuracy(parts: ConfusionParts) -> NDArray:
    return ratio(parts.hits.sum(-1), parts.truth.sum(-1))


@metric(
    "kappa",
    sums=Confusion,
    tasks=LABELLED,
    range=(-1, 1),
    better="higher",
    words="agreement beyond chance; kept for continuity, never ranked by. NaN where truth and prediction are one and the same class",
    source="Cohen 1960; on its limits Foody 2020, doi:10.1016/j.rse.2019.111630",
)
def _kappa(parts: ConfusionParts) -> NDArray:
    total = parts.truth.sum(-1)
    observed = ratio(parts.hits.sum(-1), total)
    expected = ratio((parts.truth * parts.predicted).sum(-1), total * total)
    return ratio(observed - expected, 1 - expected)


@metric(
    "f1_<class>",
    sums=Confusion,
    tasks=LABELLED,
    range=(0, 1),
    better="higher",
    words="2 hits / (truth + predicted); the Dice coefficient of the class",
    source="van Rijsbergen 1979",
)
def _f1(parts: ConfusionParts) -> NDArray:
    return ratio(2 * parts.hits, parts.truth + parts.predicted)


@metric(
    "precision_<class>",
    sums=Confusion,
    tasks=LABELLED,
    range=(0, 1),
    better="higher",
    words="hits / predicted: user's accuracy",
    source="Congalton 1991",
)
def _precision(parts: ConfusionParts) -> NDArray:
    return ratio(parts.hits, parts.predicted)


@metric(
    "recall_<class>",
    sums=Confusion,
    tasks=LABELLED,
    range=(0, 1),
    better="higher",
    words="hits / truth: producer's accuracy",
    source="Congalton 1991",
)
def _recall(parts: ConfusionParts) -> NDArray:
    return ratio(parts.hits, parts.truth)


@metric(
    "miou",
    sums=Confusion,
    tasks=MAPS,
    range=(0, 1),
    better="higher",
    words="mean over the classes present in truth or prediction of hits / (truth + predicted - hits)",
    source="Everingham et al. 2010, doi:10.1007/s11263-009-0275-4",
)
def _miou(parts: ConfusionParts) -> NDArray:
    return _mean_over_classes(parts.hits, parts.truth + parts.predicted - parts.hits)


@metric(
    "iou_<class>",
    sums=Confusion,
    tasks=MAPS,
    range=(0, 1),
    better="higher",
    words="hits / (truth + predicted - hits)",
    source="Jaccard 1912; Everingham et al. 2010",
)
def _iou(parts: ConfusionParts) -> NDArray:
    return ratio(parts.hits, parts.truth + parts.predicted - parts.hits)


@metric(
    "area_error",
    over_groups="median",
    sums=Confusion,
    tasks=MAPS,
    range=(0, math.inf),
    better="lower",
    words="mean over the classes of interest that occur of |mapped - true| / true area",
)
def _area_error(parts: ConfusionParts) -> NDArray:
    occurs = (np.real(parts.truth) > 0) & parts.of_interest
    relative = np.where(occurs, magnitude(parts.predicted - parts.truth) / np.where(occurs, parts.truth, 1), 0)
    return ratio(relative.sum(-1), occurs.sum(-1))


def _slopes(name: str, parts: ConfusionParts) -> tuple[Array, Array, Array] | None:
    """Derivatives of a score over all classes by hits, truth and prediction, each (..., K); None where no closed form is kept.

    The studentised intervals need them at every bootstrap draw.
    """
    hits, truth, predicted = parts.hits, parts.truth, parts.predicted
    nothing = np.zeros(hits.shape)
    if name == "overall_accuracy":
        total = truth.sum(-1, keepdims=True)
        return nothing + ratio(np.ones(1), total), nothing - ratio(hits.sum(-1, keepdims=True), total**2), nothing
    if name == "macro_f1":
        numerator, below = 2 * hits, truth + predicted
    elif name == "miou":
        numerator, below = hits, truth + predicted - hits
    elif name == "balanced_accuracy":
        numerator, below = hits, truth
    else:
        return None
    present = below > 0
    inverse = np.where(present, 1 / np.where(present, below, 1), 0) / np.maximum(present.sum(-1, keepdims=True), 1)
    by_denominator = -numerator * inverse / np.where(present, below, 1)
    if name == "macro_f1":
        return 2 * inverse, by_denominator, by_denominator
    if name == "miou":
        return inverse - by_denominator, by_denominator, by_denominator
    return inverse, by_denominator, nothing
