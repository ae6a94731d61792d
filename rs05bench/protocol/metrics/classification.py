"""Scores of classified units (parcels, points, tracts)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.calibration import N_BINS, calibration_scores, checked_probabilities
from rs05bench.protocol.metrics.confusion import confusion_matrix, scores_of_counts

OVER_CLASSES = ("macro_f1", "balanced_accuracy", "overall_accuracy", "kappa")
PER_CLASS = ("f1", "precision", "recall")


def classification_scores(
    y_true: NDArray, probabilities: NDArray, classes: Sequence[str], *, bins: int = N_BINS, ignore_index: int | None = -1
) -> dict[str, float]:
    """Every score of a classification.

    Args:
        y_true: Class indices (n,); `ignore_index` marks a unit without a label.
        probabilities: (n, K), rows sum to 1. The predicted class is the most probable, the first of equals.
        classes: K class names.
        bins: Bins of the calibration errors.
        ignore_index: Value of `y_true` that is left out.

    Returns:
        `n`, `macro_f1`, `balanced_accuracy`, `overall_accuracy`, `kappa`, `ece`, `ece_mass`, `ece_classwise`, `brier`, `nll`, and
        `f1_<class>`, `precision_<class>`, `recall_<class>` where defined. A score over all classes is NaN where undefined.

    Raises:
        DataError: See `checked_probabilities`.
    """
    y, p = checked_probabilities(y_true, probabilities, ignore_index=ignore_index)
    if p.shape[1] != len(classes):
        raise DataError(f"{p.shape[1]} probability columns for {len(classes)} classes")
    return scores_of_checked(y, p, classes, bins=bins)


def scores_of_checked(y: NDArray, p: NDArray, classes: Sequence[str], *, bins: int = N_BINS) -> dict[str, float]:
    """`classification_scores` of labels and probabilities that `checked_probabilities` gave."""
    counts = confusion_matrix(y, p.argmax(1), len(classes), ignore_index=None)
    scores = {"n": float(len(y))}
    scores.update(scores_of_counts(counts, classes, names=OVER_CLASSES, per_class=PER_CLASS))
    scores.update(calibration_scores(y, p, bins=bins))
    return scores


@dataclass(frozen=True)
class AreaAdjusted:
    """Accuracy and area after correcting for how the reference sample was drawn, each with its standard error."""

    overall: float
    overall_se: float
    users: NDArray[np.float64]
    users_se: NDArray[np.float64]
    producers: NDArray[np.float64]
    producers_se: NDArray[np.float64]
    area: NDArray[np.float64]
    area_se: NDArray[np.float64]


def area_adjusted_accuracy(counts: NDArray, mapped_area: NDArray) -> AreaAdjusted:
    """Area-adjusted accuracy of a map from a sample stratified by mapped class.

    Olofsson et al. (2014), Good practices for estimating area and assessing accuracy of land change, Remote Sensing of Environment
    148, equations 1-11 (https://doi.org/10.1016/j.rse.2014.02.015).

    Args:
        counts: (K, K) sample counts, rows truth, columns map (as everywhere in this package).
        mapped_area: (K,) area of each mapped class, any unit; `area` comes back in it.

    Returns:
        Overall, user's and producer's accuracy and the areas. NaN where a class was never sampled on the map.

    Raises:
        DataError: A mapped class has area but no sample: its stratum cannot be estimated.
    """
    by_map = np.asarray(counts, dtype=float).T  # Olofsson's rows are the map
    area = np.asarray(mapped_area, dtype=float)
    sampled = by_map.sum(1)
    if (area[sampled == 0] > 0).any():
        raise DataError(
            f"mapped class {int(np.argmax((sampled == 0) & (area > 0)))} has area but no sample", remedy="Merge it into another stratum."
        )
    weight = area / area.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(sampled[:, None] > 0, by_map / sampled[:, None], 0.0)
        proportion = weight[:, None] * share
        users = np.where(sampled > 0, np.diag(by_map) / sampled, np.nan)
        users_se = np.sqrt(users * (1 - users) / (sampled - 1))
        of_truth = proportion.sum(0)
        producers = np.diag(proportion) / of_truth
        cell_variance = np.where(sampled[:, None] > 1, share * (1 - share) / (sampled[:, None] - 1), np.nan)
        cell_variance[sampled == 0] = 0
        truth_area = area[:, None] * share
        estimated = truth_area.sum(0)
        # Equation 7, N_i. read as mapped area: variance of a ratio of two estimated areas.
        own = area**2 * (1 - producers) ** 2 * np.diag(cell_variance)
        others = (area[:, None] ** 2 * cell_variance).sum(0) - area**2 * np.diag(cell_variance)
        producers_se = np.sqrt((own + producers**2 * others) / estimated**2)
        area_se = area.sum() * np.sqrt((weight[:, None] ** 2 * cell_variance).sum(0))
        overall_se = float(np.sqrt(np.nansum(weight**2 * np.where(sampled > 0, users_se, 0) ** 2)))
    return AreaAdjusted(
        float(np.diag(proportion).sum()), overall_se, users, users_se, producers, producers_se, of_truth * area.sum(), area_se
    )
