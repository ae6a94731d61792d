"""Who gets the worse map? Scores by declared group, the worst of them, and the gap, each with counts and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.inference.intervals import Estimate, paired_difference, score_interval
from rs05bench.protocol.metrics import METRICS, find_metric
from rs05bench.protocol.metrics.sufficient import ClusterConfusion, ClusterMoments


@dataclass(frozen=True)
class GroupScore:
    """One group's score.

    Args:
        group: Its name.
        units: Scored units.
        clusters: Clusters they lie in.
        estimate: Score with interval.
        ranked: Whether it is large enough to be called worst or best.
    """

    group: str
    units: int
    clusters: int
    estimate: Estimate
    ranked: bool


@dataclass(frozen=True)
class FairnessReport:
    """Scores by group.

    Args:
        metric: The score.
        groups: In name order.
        worst: Worst of the groups that are large enough; None without any.
        best: Best of them.
        gap: How much worse the worst is than the best, positive, with interval; both groups are resampled together. Choosing
            the extremes makes it larger than the gap of two groups named beforehand; read it as a description. None with fewer
            than two groups.
    """

    metric: str
    groups: tuple[GroupScore, ...]
    worst: str | None
    best: str | None
    gap: Estimate | None


def scores_by_group(
    y_true: NDArray,
    y_pred: NDArray,
    groups: Sequence[str] | NDArray,
    clusters: Sequence[str] | NDArray,
    metric: str,
    *,
    classes: Sequence[str] | None = None,
    min_units: int = 30,
    draws: int = 1000,
    rng: np.random.Generator | None = None,
) -> FairnessReport:
    """Score each declared group.

    Args:
        y_true: Class indices (-1 = no label) or numbers (NaN = no label), (n,).
        y_pred: Predicted class indices or numbers, (n,).
        groups: Declared group of each unit (income fifth, density class, biome, ...); empty text = not declared, left out.
        clusters: What is resampled, of each unit.
        metric: A score of `ClusterConfusion` (with `classes`) or `ClusterMoments`.
        classes: Class names for a classification, None for a regression.
        min_units: Fewer labelled units than this make no worst or best group.
        draws: Bootstrap draws.
        rng: Source of chance; seed 0 when None.
    """
    truth, predicted = np.asarray(y_true), np.asarray(y_pred)
    group, cluster = np.asarray(groups).astype(str), np.asarray(clusters).astype(str)
    if not len(truth) == len(predicted) == len(group) == len(cluster):
        raise DataError(
            f"{len(truth)} true values, {len(predicted)} predictions, {len(group)} groups, {len(cluster)} clusters; they must be as many"
        )
    labelled = ~np.isnan(truth) if classes is None else truth != -1
    rng = rng or np.random.default_rng(0)
    kept = {}
    scored = []
    for name in np.unique(group[labelled & (group != "")]).tolist():
        inside = labelled & (group == name)
        kept[name] = _sums(cluster[inside], truth[inside], predicted[inside], classes)
        estimate = score_interval(kept[name], metric, draws=draws, rng=rng)
        units = int(inside.sum())
        scored.append(GroupScore(name, units, len(kept[name].clusters), estimate, units >= min_units and bool(np.isfinite(estimate.value))))
    known = find_metric(metric, METRICS)
    ranked = sorted((entry for entry in scored if entry.ranked), key=lambda entry: known.goodness(entry.estimate.value))
    if not ranked:
        return FairnessReport(metric, tuple(scored), None, None, None)
    worst, best = ranked[0].group, ranked[-1].group
    gap = None
    if len(ranked) > 1 and known.higher_is_better is not None:
        everywhere = np.unique(np.concatenate([kept[worst].clusters, kept[best].clusters]))
        sides = [_spread(kept[name], everywhere) for name in ((best, worst) if known.higher_is_better else (worst, best))]
        gap = paired_difference(sides[0], sides[1], metric, draws=draws, rng=rng)
    return FairnessReport(metric, tuple(scored), worst, best, gap)


def quantile_groups(values: NDArray, n: int = 5, *, name: str = "fifth") -> NDArray[np.str_]:
    """Equal-count groups of a number (income, density), named `1st fifth (lowest)` and so on; empty text where it is missing.

    Equal values share a group, so groups may differ in size.
    """
    numbers = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(numbers)
    labels = np.full(len(numbers), "", dtype=object)
    if known.any():
        edges = np.quantile(numbers[known], np.arange(1, n) / n)
        ordinal = [f"{i}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(i, 'th') } {name}" for i in range(1, n + 1)]
        ordinal[0], ordinal[-1] = f"{ordinal[0]} (lowest)", f"{ordinal[-1]} (highest)"
        labels[known] = np.asarray(ordinal, dtype=object)[np.searchsorted(edges, numbers[known], side="left")]
    return labels.astype(str)


def _sums(clusters: NDArray, truth: NDArray, predicted: NDArray, classes: Sequence[str] | None) -> ClusterConfusion | ClusterMoments:
    if classes is None:
        return ClusterMoments.from_values(clusters, truth, predicted)
    return ClusterConfusion.from_labels(clusters, truth, predicted, classes)


def _spread(stats: ClusterConfusion | ClusterMoments, clusters: NDArray) -> ClusterConfusion | ClusterMoments:
    """The same sums over a longer list of clusters, empty where the group does not live."""
    missing = tuple(np.setdiff1d(clusters, np.asarray(stats.clusters)).tolist())
    if isinstance(stats, ClusterConfusion):
        k = len(stats.classes)
        return stats + ClusterConfusion(missing, stats.classes, np.zeros((len(missing), k, k), stats.counts.dtype))
    return stats + ClusterMoments(missing, stats.origin, np.zeros((len(missing), stats.sums.shape[1])))
