"""Many models on many cells: ranks with their uncertainty, win rate, improvability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError
from rs05bench.protocol.inference.contrast import cluster_weights
from rs05bench.protocol.metrics import METRICS, find_metric
from rs05bench.protocol.metrics.sufficient import SufficientStats

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AverageRanks:
    """Average ranks over data sets (Demšar 2006, https://www.jmlr.org/papers/v7/demsar06a.html).

    Args:
        ranks: (M,) average rank, 1 is best.
        critical_difference: Two models differ when their ranks lie further apart (Nemenyi test).
        friedman_p: p-value of "all models are alike" (Friedman's chi square, corrected for ties).
        n: Data sets (rows).
        alpha: Level of the critical difference.
    """

    ranks: Array
    critical_difference: float
    friedman_p: float
    n: int
    alpha: float

    def tied(self, i: int, j: int) -> bool:
        """Whether the data cannot tell models i and j apart."""
        return bool(abs(self.ranks[i] - self.ranks[j]) <= self.critical_difference)

    def cliques(self) -> list[list[int]]:
        """The bars of a critical-difference diagram: largest runs of models that cannot be told apart, best first."""
        order = np.argsort(self.ranks, kind="stable")
        found: list[list[int]] = []
        for begin in range(len(order)):
            run = [int(m) for m in order[begin:] if self.tied(int(order[begin]), int(m))]
            if len(run) > 1 and not any(set(run) <= set(other) for other in found):
                found.append(run)
        return found


def ranks_within(scores: NDArray, *, higher_is_better: bool) -> Array:
    """Rank along the last axis, 1 is best, equal scores share their mean rank."""
    turned = np.asarray(scores, dtype=np.float64) * (-1 if higher_is_better else 1)
    below = (turned[..., None, :] < turned[..., :, None]).sum(-1)
    equal = (turned[..., None, :] == turned[..., :, None]).sum(-1)
    return np.asarray(below + (equal + 1) / 2)


def average_ranks(scores: NDArray, *, higher_is_better: bool = True, alpha: float = 0.05) -> AverageRanks:
    """Average ranks with their critical difference.

    Args:
        scores: (N, M): N independent data sets (folds of different regions, tasks), M models.
        higher_is_better: Direction.
        alpha: Level.

    Raises:
        ProtocolError: A score is missing: a model that skips hard data sets must not gain by it.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2 or not len(table):
        raise ProtocolError(f"ranks need a table of data sets x at least two models, found {table.shape}")
    if np.isnan(table).any():
        raise ProtocolError(f"{int(np.isnan(table).sum())} scores are missing", remedy="Rank only rows that every model has.")
    from scipy.special import chdtrc
    from scipy.stats import studentized_range

    n, m = table.shape
    ranks = ranks_within(table, higher_is_better=higher_is_better)
    mean = ranks.mean(0)
    critical = float(studentized_range.ppf(1 - alpha, m, np.inf) / np.sqrt(2) * np.sqrt(m * (m + 1) / (6 * n)))
    spread = ((ranks - (m + 1) / 2) ** 2).sum() / (n * (m - 1))
    p = float(chdtrc(m - 1, n * ((mean - (m + 1) / 2) ** 2).sum() / spread)) if spread > 0 else 1.0
    return AverageRanks(mean, critical, p, n, alpha)


def win_rate(scores: NDArray, *, higher_is_better: bool = True) -> Array:
    """(M,) share of duels a model wins over all data sets and opponents, a tie counting half; duels without both scores are left out."""
    table = np.asarray(scores, dtype=np.float64) * (1 if higher_is_better else -1)
    mine, theirs = table[:, :, None], table[:, None, :]
    fought = ~(np.isnan(mine) | np.isnan(theirs)) & ~np.eye(table.shape[1], dtype=bool)
    points = np.where(fought, (mine > theirs) + 0.5 * (mine == theirs), 0.0).sum((0, 2))
    duels = fought.sum((0, 2))
    return np.where(duels > 0, points / np.maximum(duels, 1), np.nan)


def improvability(errors: NDArray) -> Array:
    """(M,) per cent of a model's error that the best model takes away, averaged over data sets (Erickson et al. 2025, arXiv:2506.16791).

    Args:
        errors: (N, M), not negative, lower is better (1 - macro-F1, RMSE, ...). NaN = not there.

    Returns:
        0 for a model that is best everywhere, up to 100.
    """
    table = np.asarray(errors, dtype=np.float64)
    if (table < 0).any():
        raise ProtocolError(
            "improvability needs errors that are not negative", remedy="Turn a score into an error first, e.g. 1 - macro_f1."
        )
    there = ~np.isnan(table)
    best = np.where(there, table, np.inf).min(1, keepdims=True)
    gap = np.where(there & (table > 0), (table - best) / np.where(table > 0, table, 1), 0.0)
    count = there.sum(0)
    return np.where(count > 0, 100 * gap.sum(0) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """A table with its uncertainty.

    Args:
        models: M names.
        scores: (M,) score of each, the mean over its fits.
        ranks: (M,) 1 is best.
        rank_low: (M,) lower end of the rank's interval.
        rank_high: (M,) upper end.
        best: (M,) share of draws in which the model is best.
        draws: (B, M) bootstrap scores.
    """

    models: tuple[str, ...]
    scores: Array
    ranks: Array
    rank_low: Array
    rank_high: Array
    best: Array
    draws: Array


def leaderboard(
    entries: Mapping[str, SufficientStats | Sequence[SufficientStats]],
    metric: str,
    *,
    groups: Mapping[str, str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    rng: np.random.Generator | None = None,
) -> Leaderboard:
    """Rank models on the same clusters; every draw takes the same clusters (and fits, drawn anew) for all, so ranks are paired.

    Args:
        entries: Per model its sums per cluster, several = one fit (seed) each.
        metric: The score.
        groups: Group of each cluster; groups are resampled when given.
        level: Level of the rank intervals.
        draws: Bootstrap draws.
        rng: Source of chance; seed 0 when None.

    Raises:
        ProtocolError: Two entries were not scored on the same clusters.
    """
    rng = rng or np.random.default_rng(0)
    known = find_metric(metric, METRICS)
    fits = {name: list(stats) if isinstance(stats, Sequence) else [stats] for name, stats in entries.items()}
    if groups is not None:
        fits = {name: [fit.regroup([str(groups[c]) for c in fit.clusters]) for fit in several] for name, several in fits.items()}
    order = sorted(next(iter(fits.values()))[0].clusters)
    for name, several in fits.items():
        if any(sorted(fit.clusters) != order for fit in several):
            raise ProtocolError(f"{name} was not scored on the same clusters as the others", remedy="Select the common clusters first.")
    weights = cluster_weights(np.zeros(len(order), np.intp), draws, rng)
    scores, drawn = np.empty(len(fits)), np.empty((draws, len(fits)))
    for column, several in enumerate(fits.values()):
        lined = [fit.select(order) for fit in several]
        scores[column] = np.mean([fit.evaluate(metric, fit.vectors.sum(0)) for fit in lined])
        values = np.stack([fit.evaluate(metric, weights @ fit.vectors) for fit in lined])
        if len(lined) > 1:
            taken = cluster_weights(np.zeros(len(lined), np.intp), draws, rng).T / len(lined)
            drawn[:, column] = (values * taken).sum(0)
        else:
            drawn[:, column] = values[0]
    # Where the best lies inside the range (a bias), distance from it is what is ranked.
    good = np.vectorize(known.goodness, otypes=[float]) if known.target is not None else (lambda v: v if known.higher_is_better else -v)
    ranks = _ranks_of_draws(good(drawn))
    low, high = np.quantile(ranks, [(1 - level) / 2, (1 + level) / 2], axis=0, method="nearest")
    first = ranks == ranks.min(1, keepdims=True)
    best = (first / first.sum(1, keepdims=True)).mean(0)
    return Leaderboard(tuple(fits), scores, ranks_within(good(scores), higher_is_better=True), low, high, best, drawn)


def _ranks_of_draws(goodness: Array) -> Array:
    # The all-pairs comparison of `ranks_within` is cut into pieces of bounded memory.
    step = max(1, 2_000_000 // max(1, goodness.shape[1] ** 2))
    pieces = [ranks_within(goodness[i : i + step], higher_is_better=True) for i in range(0, len(goodness), step)]
    return np.concatenate(pieces)
