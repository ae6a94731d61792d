"""Ranks with the ranks that the groups leave possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.inference.estimate import LEAST, LEVEL
from rs05bench.protocol.inference.hypothesis_tests import holm, sign_test
from rs05bench.protocol.metrics.declaration import Centre


@dataclass(frozen=True, slots=True)
class RankRange:
    """A rank and the ranks that the groups leave possible.

    Attributes:
        rank: 1 is best; equal scores share a rank.
        low: One more than the number of models that are better beyond chance; None where there are fewer than three groups.
        high: Number of models less those that are worse beyond chance.
    """

    rank: int
    low: int | None = None
    high: int | None = None


def rank_ranges(goodness: NDArray, level: float = LEVEL, of: Centre = "mean") -> list[RankRange]:
    """Ranks with their ranges, from paired tests over groups (t, or signs), Holm-adjusted over the opponents of each model.

    A model's rank lies in its range with at least 95 % confidence (Mogstad, Romano, Shaikh & Wilhelm 2024,
    https://doi.org/10.1093/restud/rdad006, with t-tests or sign tests for their bootstrap: groups are few).

    Args:
        goodness: (models, groups) scores turned so that more is better; all models on the same groups.
        level: Confidence of each range.
        of: What differences over groups are tested (`Metric.over_groups`).
    """
    table = np.asarray(goodness, dtype=np.float64)
    mean = table.mean(axis=1)
    ranks = 1 + (mean[None, :] > mean[:, None]).sum(axis=1)
    models, groups = table.shape
    if groups < LEAST:
        return [RankRange(int(rank)) for rank in ranks]
    from scipy.special import stdtr

    found = []
    for i in range(models):
        difference = table - table[i]
        gap, error = difference.mean(axis=1), difference.std(axis=1, ddof=1) / groups**0.5
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * stdtr(groups - 1, -np.abs(gap) / error)
        # Groups that differ by exactly the same amount leave no doubt; equal ones leave all of it.
        p = sign_test(difference) if of == "median" else np.where(error > 0, p, np.where(gap == 0, 1.0, 0.0))
        p[i] = np.nan
        apart = np.nan_to_num(holm(p), nan=1.0) <= 1 - level
        better, worse = int((apart & (gap > 0)).sum()), int((apart & (gap < 0)).sum())
        found.append(RankRange(int(ranks[i]), 1 + better, models - worse))
    return found


@dataclass(frozen=True, slots=True)
class RankAcross:
    """A rank over several tables.

    Attributes:
        mean: Mean of its ranks; 1 is best.
        low: Lower end of the interval for the mean; None where a table has fewer than three groups.
        high: Upper end.
        tables: Tables that it takes part in.
    """

    mean: float
    low: float | None
    high: float | None
    tables: int


def ranks_across(tables: Sequence[Mapping[str, NDArray]], of: Sequence[Centre], level: float = LEVEL) -> dict[str, RankAcross]:
    """Mean ranks over tables, each with an interval that holds the mean of the true ranks with at least `level` confidence.

    A name that takes part in T tables has in each a range of confidence 1 - (1 - level) / T, so that all T hold together (Bonferroni);
    the interval is the mean of their lower and of their upper ends.

    Args:
        tables: Per table, name -> scores by group, turned so that more is better; all names of a table on the same groups.
        of: What differences over groups of each table are tested (`Metric.over_groups`).
        level: Confidence of each interval.
    """
    counts: dict[str, int] = {}
    for table in tables:
        for name in table:
            counts[name] = counts.get(name, 0) + 1
    ranges: dict[str, list[RankRange]] = {name: [] for name in counts}
    for table, centre in zip(tables, of, strict=True):
        names = list(table)
        goodness = np.asarray([table[name] for name in names])
        at = {count: rank_ranges(goodness, 1 - (1 - level) / count, centre) for count in {counts[name] for name in names}}
        for place, name in enumerate(names):
            ranges[name].append(at[counts[name]][place])
    return {name: _mean(found) for name, found in ranges.items()}


def _mean(ranges: Sequence[RankRange]) -> RankAcross:
    low = [found.low for found in ranges if found.low is not None]
    high = [found.high for found in ranges if found.high is not None]
    whole = len(low) == len(high) == len(ranges)
    mean = float(np.mean([found.rank for found in ranges]))
    return RankAcross(mean, float(np.mean(low)) if whole else None, float(np.mean(high)) if whole else None, len(ranges))
