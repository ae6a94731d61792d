"""How far a mean over folds and seeds, and a rank made of it, can be trusted.

Published verdicts hold scores per fold and seed, not sums per block, so folds are what is resampled in thought: the interval says what
other held-out regions like these would give. With few folds it is wide, as it should be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.inference import holm
from rs05bench.report.site.records import Spread

Array = NDArray[np.float64]
LEVEL = 0.95


def spread(scores: NDArray) -> Spread | None:
    """Mean over a table of folds x seeds with its interval.

    The variance of the mean is that over folds, plus what seeds add by themselves; fold x seed chance, which both hold, is counted once
    (Cameron, Gelbach & Miller 2011, https://doi.org/10.1198/jbes.2010.07136); t with Satterthwaite's degrees of freedom.

    Args:
        scores: (folds, seeds); NaN = not there. Every fold weighs the same.

    Returns:
        Without an interval for a single fold: seeds alone say nothing about another place. None where there is no score.
    """
    table = np.asarray(scores, dtype=np.float64)
    table = table[np.isfinite(table).any(axis=1)]
    if not len(table):
        return None
    by_fold = np.nanmean(table, axis=1)
    value, folds, seeds = float(by_fold.mean()), len(table), int(np.isfinite(table).sum(axis=1).max())
    if folds < 2:
        return Spread(value=value, folds=folds, seeds=seeds)
    of_folds = float(by_fold.var(ddof=1)) / folds
    of_seeds, seed_df = _seed_part(table)
    total = of_folds + of_seeds
    if total == 0:
        return Spread(value=value, low=value, high=value, folds=folds, seeds=seeds)
    from scipy.special import stdtrit

    df = total**2 / (of_folds**2 / (folds - 1) + (of_seeds**2 / seed_df if of_seeds else 0.0))
    reach = float(stdtrit(df, 0.5 + LEVEL / 2)) * total**0.5
    return Spread(value=value, low=value - reach, high=value + reach, folds=folds, seeds=seeds)


def _seed_part(table: Array) -> tuple[float, float]:
    folds, seeds = table.shape
    if seeds < 2 or not np.isfinite(table).all():
        return 0.0, 1.0
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    counted_twice = float((rest**2).sum()) / ((folds - 1) * (seeds - 1)) / (folds * seeds)
    return max(0.0, float(table.mean(axis=0).var(ddof=1)) / seeds - counted_twice), float(seeds - 1)


@dataclass(frozen=True, slots=True)
class RankRange:
    """A rank and the ranks that the folds leave possible.

    Attributes:
        rank: 1 is best; equal scores share a rank.
        low: One more than the number of models that are better beyond chance; None for a single fold.
        high: Number of models less those that are worse beyond chance.
    """

    rank: int
    low: int | None = None
    high: int | None = None


def rank_ranges(goodness: NDArray) -> list[RankRange]:
    """Ranks with their ranges, from paired t-tests over folds, Holm-adjusted over the opponents of each model.

    A model's rank lies in its range with at least 95 % confidence (Mogstad, Romano, Shaikh & Wilhelm 2024,
    https://doi.org/10.1093/restud/rdad006, with t-tests for their bootstrap: folds are few).

    Args:
        goodness: (models, folds) scores turned so that more is better; all models on the same folds.
    """
    table = np.asarray(goodness, dtype=np.float64)
    mean = table.mean(axis=1)
    ranks = 1 + (mean[None, :] > mean[:, None]).sum(axis=1)
    models, folds = table.shape
    if folds < 2:
        return [RankRange(int(rank)) for rank in ranks]
    from scipy.special import stdtr

    found = []
    for i in range(models):
        difference = table - table[i]
        gap, error = difference.mean(axis=1), difference.std(axis=1, ddof=1) / folds**0.5
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * stdtr(folds - 1, -np.abs(gap) / error)
        # Folds that differ by exactly the same amount leave no doubt; equal ones leave all of it.
        p = np.where(error > 0, p, np.where(gap == 0, 1.0, 0.0))
        p[i] = np.nan
        told_apart = np.nan_to_num(holm(p), nan=1.0) <= 1 - LEVEL
        better, worse = int((told_apart & (gap > 0)).sum()), int((told_apart & (gap < 0)).sum())
        found.append(RankRange(int(ranks[i]), 1 + better, models - worse))
    return found
