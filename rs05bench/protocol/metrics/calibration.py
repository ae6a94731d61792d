"""Is a stated confidence worth its name? Calibration of class probabilities.

ECE is taken on the confidence of the predicted class, bins closed on the right, as Guo et al. (2017) define it
(https://arxiv.org/abs/1706.04599); equal-mass bins after Nixon et al. (2019, https://arxiv.org/abs/1904.01685), with equal
confidences always in one bin, so that the order of the rows cannot change the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError

Array = NDArray[np.float64]
Bins = Literal["width", "mass"]

# Predictions are stored as float32: a probability below its resolution is taken as that resolution, so that one certain mistake
# (a forest without a single vote for the true class) costs 15.9 nats and not infinity.
SMALLEST_PROBABILITY = 2.0**-23
N_BINS = 15


def checked_probabilities(y_true: NDArray, probabilities: NDArray, *, ignore_index: int | None = -1) -> tuple[NDArray[np.intp], Array]:
    """Labels (n,) and float64 probabilities (n, K), without the ignored rows.

    Raises:
        DataError: Shapes that do not fit, a probability that is missing or outside 0-1, rows that do not sum to 1, a label that
            is no class.
    """
    labels, p = np.asarray(y_true), np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or labels.ndim != 1 or len(labels) != len(p):
        raise DataError(f"expected labels (n,) and probabilities (n, K), found {labels.shape} and {p.shape}")
    if ignore_index is not None and (labels == ignore_index).any():
        keep = labels != ignore_index
        labels, p = labels[keep], p[keep]
    if not len(labels):
        return labels.astype(np.intp), p
    # NaN fails every comparison, so this catches a missing probability too.
    if not (p.min() >= 0 and p.max() <= 1 + 1e-3):
        raise DataError("probabilities must lie between 0 and 1, none missing", remedy="A model may not abstain: give every unit a row.")
    # float16 rounding of K bands moves a sum by at most 2^-11.
    if np.abs(p.sum(1) - 1).max() > 2e-3:
        row = int(np.abs(p.sum(1) - 1).argmax())
        raise DataError(f"probabilities of a unit must sum to 1; row {row} sums to {p[row].sum():.4f}")
    if labels.min() < 0 or labels.max() >= p.shape[1]:
        raise DataError(f"a label lies outside 0 to {p.shape[1] - 1}")
    return labels.astype(np.intp), p


@dataclass(frozen=True)
class Reliability:
    """A reliability curve: for each bin that holds something, how many, how confident, how right."""

    count: NDArray[np.int64]
    confidence: Array
    accuracy: Array

    @property
    def error(self) -> float:
        """Mean |accuracy - confidence|, weighted by count: the calibration error. NaN when empty."""
        total = self.count.sum()
        return float((self.count * np.abs(self.accuracy - self.confidence)).sum() / total) if total else float("nan")


def bin_of(confidence: Array, bins: int = N_BINS, scheme: Bins = "width") -> NDArray[np.intp]:
    """Bin index of each confidence; a bin is (lower, upper], the first also holds 0."""
    if scheme == "width":
        inner = np.arange(1, bins) / bins
    else:
        inner = np.unique(np.quantile(confidence, np.arange(1, bins) / bins, method="inverted_cdf")) if len(confidence) else np.empty(0)
    return np.searchsorted(inner, confidence, side="left")


def reliability_curve(confidence: Array, correct: NDArray, *, bins: int = N_BINS, scheme: Bins = "width") -> Reliability:
    """Confidence against observed frequency, in bins of equal width or of equal mass."""
    index = bin_of(confidence, bins, scheme)
    count = np.bincount(index, minlength=bins)
    held = count > 0
    confidence_sum = np.bincount(index, weights=confidence, minlength=bins)
    correct_sum = np.bincount(index, weights=correct, minlength=bins)
    return Reliability(count[held], confidence_sum[held] / count[held], correct_sum[held] / count[held])


def ece(y_true: NDArray, probabilities: NDArray, *, bins: int = N_BINS, scheme: Bins = "width") -> float:
    """Expected calibration error of the predicted class (Guo et al. 2017). Range 0-1, lower is better."""
    y, p = checked_probabilities(y_true, probabilities)
    return reliability_curve(p.max(1), p.argmax(1) == y, bins=bins, scheme=scheme).error if len(y) else float("nan")


def classwise_ece(y_true: NDArray, probabilities: NDArray, *, bins: int = N_BINS) -> float:
    """Mean over classes of the calibration error of that class's probability (Kull et al. 2019, static). Range 0-1.

    Every class counts, also one that never occurs: giving it probability is an error that this score exists to see.
    """
    y, p = checked_probabilities(y_true, probabilities)
    return _classwise(y, p, bins) if len(y) else float("nan")


def _classwise(y: NDArray[np.intp], p: Array, bins: int) -> float:
    n, k = p.shape
    index = bin_of(p.ravel(), bins) + np.tile(np.arange(k) * bins, n)
    gap = p.copy()
    gap[np.arange(n), y] -= 1  # sum of (p - hit) in a bin = count x (confidence - accuracy)
    return float(np.abs(np.bincount(index, weights=gap.ravel(), minlength=k * bins)).sum() / (n * k))


def brier(y_true: NDArray, probabilities: NDArray) -> float:
    """Brier score in its original form (Brier 1950): the squared error summed over all classes. Range 0-2, lower is better.

    For two classes it is twice the one-column form that scikit-learn reports.
    """
    y, p = checked_probabilities(y_true, probabilities)
    return float(brier_terms(y, p).mean()) if len(y) else float("nan")


def brier_terms(y: NDArray[np.intp], p: Array) -> Array:
    """Each unit's part of the Brier score; inputs already checked."""
    hit = p[np.arange(len(y)), y]
    return (p * p).sum(1) - 2 * hit + 1


def nll(y_true: NDArray, probabilities: NDArray) -> float:
    """Mean negative log-likelihood in nats, probabilities floored at 2^-23. Range 0-15.95, lower is better."""
    y, p = checked_probabilities(y_true, probabilities)
    return float(nll_terms(y, p).mean()) if len(y) else float("nan")


def nll_terms(y: NDArray[np.intp], p: Array) -> Array:
    """Each unit's part of the negative log-likelihood; inputs already checked."""
    return -np.log(np.clip(p[np.arange(len(y)), y], SMALLEST_PROBABILITY, 1.0))


@dataclass(frozen=True)
class BrierParts:
    """Murphy's parts (1973) of the Brier score: score = reliability - resolution + uncertainty + within-bin."""

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bin: float


def brier_decomposition(y_true: NDArray, probabilities: NDArray, *, bins: int = N_BINS) -> BrierParts:
    """Split the Brier score by class-wise bins (Murphy 1973), with the within-bin terms of Stephenson et al. (2008) as one remainder.

    The four parts add up to the score exactly; the remainder is 0 when all probabilities in a bin are equal.
    """
    y, p = checked_probabilities(y_true, probabilities)
    n, k = p.shape
    if not n:
        return BrierParts(*[float("nan")] * 5)
    index = bin_of(p.ravel(), bins) + np.tile(np.arange(k) * bins, n)
    hits = np.zeros((n, k))
    hits[np.arange(n), y] = 1
    count = np.bincount(index, minlength=k * bins).astype(float)
    safe = np.maximum(count, 1)
    forecast = np.bincount(index, weights=p.ravel(), minlength=k * bins) / safe
    observed = np.bincount(index, weights=hits.ravel(), minlength=k * bins) / safe
    base = hits.mean(0)
    reliability = float((count * (forecast - observed) ** 2).sum() / n)
    resolution = float((count * (observed - np.repeat(base, bins)) ** 2).sum() / n)
    uncertainty = float((base * (1 - base)).sum())
    score = float(brier_terms(y, p).mean())
    return BrierParts(score, reliability, resolution, uncertainty, score - reliability + resolution - uncertainty)


def calibration_scores(y: NDArray[np.intp], p: Array, *, bins: int = N_BINS) -> dict[str, float]:
    """All calibration scores of checked labels and probabilities, sharing the work: ece, ece_mass, ece_classwise, brier, nll."""
    found = width_scores(y, p, bins=bins)
    confidence, correct = p.max(1), p.argmax(1) == y
    mass = reliability_curve(confidence, correct, bins=bins, scheme="mass").error if len(y) else float("nan")
    return {"ece": found.pop("ece"), "ece_mass": mass, **found}


def width_scores(y: NDArray[np.intp], p: Array, *, bins: int = N_BINS) -> dict[str, float]:
    """Calibration scores that need no quantiles, of checked labels and probabilities: ece, ece_classwise, brier, nll."""
    if not len(y):
        return dict.fromkeys(("ece", "ece_classwise", "brier", "nll"), float("nan"))
    return {
        "ece": reliability_curve(p.max(1), p.argmax(1) == y, bins=bins).error,
        "ece_classwise": _classwise(y, p, bins),
        "brier": float(brier_terms(y, p).mean()),
        "nll": float(nll_terms(y, p).mean()),
    }


def fit_temperature(y_true: NDArray, probabilities: NDArray, *, weights: NDArray | None = None, tolerance: float = 1e-10) -> float:
    """The temperature that minimises the NLL (Guo et al. 2017), to be fitted on the validation role only.

    The NLL is convex in 1/T, so Newton steps held inside a shrinking bracket find the one minimum. 1/T is kept in [0.01, 100].

    Args:
        y_true: (n,) class indices; without weights -1 is left out.
        probabilities: (n, K).
        weights: (n,) how often each row occurs; None = once.
        tolerance: Relative change of 1/T at which it is found.

    Returns:
        T; 1.0 when there is nothing to fit on.
    """
    y, p = checked_probabilities(y_true, probabilities, ignore_index=-1 if weights is None else None)
    if not len(y):
        return 1.0

    def average(values: Array) -> float:
        return float(values.mean() if weights is None else np.average(values, weights=weights))

    logits = np.log(np.clip(p, SMALLEST_PROBABILITY, 1.0))
    of_truth = logits[np.arange(len(y)), y]
    low, high, beta = 0.01, 100.0, 1.0
    for _ in range(100):
        q = _softmax(beta * logits)
        mean = (q * logits).sum(1)
        slope = average(mean - of_truth)
        low, high = (beta, high) if slope < 0 else (low, beta)
        curvature = average((q * logits * logits).sum(1) - mean * mean)
        step = beta - slope / curvature if curvature > 0 else float("nan")
        following = step if low < step < high else (low * high) ** 0.5
        if abs(following - beta) <= tolerance * beta:
            break
        beta = following
    return float(1.0 / beta)


def apply_temperature(probabilities: NDArray, temperature: float) -> Array:
    """Probabilities (n, K) sharpened (T < 1) or softened (T > 1): softmax(log p / T)."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST_PROBABILITY, 1.0)
    return _softmax(np.log(p) / temperature)


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
