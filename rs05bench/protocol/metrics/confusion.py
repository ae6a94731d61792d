"""Confusion counts and every score that follows from them.

Rows are the truth, columns the prediction. Nearly all scores need only three numbers a class: how often it was right
(`hits`), how often it was true (`truth`) and how often it was predicted (`predicted`). The functions take these as arrays
`(..., K)` and work over all leading axes at once, which is what makes 10,000 bootstrap draws cheap.

A class that is in neither truth nor prediction has no score and takes no part in a mean over classes (scikit-learn's rule when
`labels` are those present). A mean over no class at all is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError

Array = NDArray[np.float64]


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


def marginals(counts: NDArray) -> tuple[Array, Array, Array]:
    """`(hits, truth, predicted)`, each (..., K), of confusion counts (..., K, K)."""
    counts = np.asarray(counts, dtype=np.float64)
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)


def ratio(numerator: NDArray, denominator: NDArray) -> Array:
    """Numerator over denominator, NaN where the denominator is 0 (undefined is never made a number)."""
    denominator = np.asarray(denominator)
    defined = np.real(denominator) > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)


def _mean_of_ratios(numerator: NDArray, denominator: NDArray) -> Array:
    # Written without nanmean: it must also carry the complex steps by which the intervals take derivatives.
    defined = denominator.real > 0
    ratios = np.where(defined, numerator / np.where(defined, denominator, 1), 0)
    return ratio(ratios.sum(-1), defined.sum(-1))


def f1_per_class(hits: NDArray, truth: NDArray, predicted: NDArray) -> Array:
    """F1 = 2 hits / (truth + predicted) (van Rijsbergen 1979; the Dice coefficient of the class mask). Range 0-1."""
    return ratio(2 * hits, truth + predicted)


def iou_per_class(hits: NDArray, truth: NDArray, predicted: NDArray) -> Array:
    """Intersection over union (Jaccard 1912; Everingham et al. 2010). Range 0-1."""
    return ratio(hits, truth + predicted - hits)


def recall_per_class(hits: NDArray, truth: NDArray, predicted: NDArray) -> Array:
    """Producer's accuracy: hits / truth; NaN for a class that is never true. Range 0-1."""
    return ratio(hits, truth)


def precision_per_class(hits: NDArray, truth: NDArray, predicted: NDArray) -> Array:
    """User's accuracy: hits / predicted; NaN for a class that is never predicted. Range 0-1."""
    return ratio(hits, predicted)


def macro_f1(hits: NDArray, truth: NDArray, predicted: NDArray) -> Array:
    """Mean F1 over the classes present in truth or prediction (Opitz & Burst 2019, the mean of the F1 scores). Range 0-1."""
    return _mean_of_ratios(2 * hits, truth + predicted)


def mean_iou(hits: NDArray, truth: NDArray, predicted: NDArray) -> Array:
    """Mean IoU over the classes present in truth or prediction (Everingham et al. 2010). Range 0-1."""
    return _mean_of_ratios(hits, truth + predicted - hits)


def balanced_accuracy(hits: NDArray, truth: NDArray, predicted: NDArray) -> Array:
    """Mean recall over the classes present in the truth (Brodersen et al. 2010). Range 0-1."""
    return _mean_of_ratios(hits, truth)


def overall_accuracy(hits: NDArray, truth: NDArray, predicted: NDArray) -> Array:
    """Share of what was right. Range 0-1."""
    return ratio(hits.sum(-1), truth.sum(-1))


def kappa(hits: NDArray, truth: NDArray, predicted: NDArray) -> Array:
    """Cohen's kappa (1960), kept for continuity with the mapping literature; see Foody (2020) on why not to rank by it.

    NaN when truth and prediction are one and the same class throughout: agreement beyond chance is then not defined. Range -1 to 1.
    """
    total = truth.sum(-1)
    observed = ratio(hits.sum(-1), total)
    expected = ratio((truth * predicted).sum(-1), total * total)
    return ratio(observed - expected, 1 - expected)


OF_ALL_CLASSES = {
    "macro_f1": macro_f1,
    "balanced_accuracy": balanced_accuracy,
    "overall_accuracy": overall_accuracy,
    "kappa": kappa,
    "miou": mean_iou,
}


def slopes(name: str, hits: Array, truth: Array, predicted: Array) -> tuple[Array, Array, Array] | None:
    """Derivatives of a score over all classes by `hits`, `truth` and `predicted`, each (..., K); None where no closed form is kept.

    The studentised intervals need them at every bootstrap draw.
    """
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


OF_ONE_CLASS = {"f1": f1_per_class, "iou": iou_per_class, "precision": precision_per_class, "recall": recall_per_class}


def scores_of_counts(
    counts: NDArray, classes: Sequence[str], *, names: Sequence[str], per_class: Sequence[str] = ("f1",)
) -> dict[str, float]:
    """Named scores of one confusion matrix.

    Args:
        counts: (K, K), rows truth.
        classes: K names.
        names: Scores over all classes, of `OF_ALL_CLASSES`.
        per_class: Scores a class, of `OF_ONE_CLASS`; reported as `<score>_<class>`.

    Returns:
        Scores over all classes (NaN where undefined) and per class (left out where undefined).
    """
    parts = marginals(counts)
    scores = {name: float(OF_ALL_CLASSES[name](*parts)) for name in names}
    for stem in per_class:
        for label, value in zip(classes, OF_ONE_CLASS[stem](*parts).tolist(), strict=True):
            if value == value:
                scores[f"{stem}_{label}"] = value
    return scores
