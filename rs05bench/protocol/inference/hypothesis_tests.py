"""Rank tests for pairs and the correction for many comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError

Array = NDArray[np.float64]
_EXACT_UP_TO = 60


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test.

    Args:
        statistic: Sum of the ranks of the positive differences.
        p: Two-sided p-value; 1 when all differences are zero.
        n: Differences that are not zero.
        exact: Whether p is exact (up to 60 differences) or from the normal approximation.
    """

    statistic: float
    p: float
    n: int
    exact: bool


def wilcoxon_signed_rank(differences: NDArray, *, unit: Literal["fold", "fold-seed"] = "fold") -> SignedRank:
    """Test whether paired differences are centred at zero (Wilcoxon 1945; zeros left out, equal sizes share their mean rank).

    The exact distribution is counted over all signs, ties included. Seeds of one fold share its test units, so they are no
    independent witnesses: by default each fold counts once, with its mean over seeds. `docs/studies/paired_tests.md` shows what
    happens otherwise.

    Args:
        differences: (folds,) or (folds, seeds); NaN = not there.
        unit: What counts as one pair.
    """
    table = np.asarray(differences, dtype=np.float64)
    if table.ndim == 2 and unit == "fold":
        there = ~np.isnan(table)
        count = there.sum(1)
        table = np.where(there, table, 0).sum(1)[count > 0] / count[count > 0]
    d = table.ravel()
    d = d[~np.isnan(d) & (d != 0)]
    n = len(d)
    if not n:
        return SignedRank(0.0, 1.0, 0, True)
    size = np.abs(d)
    _, inverse, count = np.unique(size, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = (last - (count - 1) / 2)[inverse.ravel()]
    positive = float(ranks[d > 0].sum())
    if n <= _EXACT_UP_TO:
        return SignedRank(positive, _exact_p(np.rint(2 * ranks).astype(np.intp), round(2 * positive)), n, True)
    from scipy.special import ndtr

    mean, variance = ranks.sum() / 2, (ranks**2).sum() / 4
    # Continuity correction of half a rank, towards the mean.
    z = max(abs(positive - mean) - 0.5, 0.0) / variance**0.5
    return SignedRank(positive, float(min(1.0, 2 * ndtr(-z))), n, False)


def _exact_p(doubled: NDArray[np.intp], observed: int) -> float:
    # Ranks are doubled so that mean ranks of ties are whole; the distribution grows by one fair sign at a time.
    chance = np.zeros(int(doubled.sum()) + 1)
    chance[0] = 1.0
    for rank in doubled:
        moved = np.zeros_like(chance)
        moved[rank:] = chance[: len(chance) - rank]
        chance = (chance + moved) / 2
    low, high = chance[: observed + 1].sum(), chance[observed:].sum()
    return float(min(1.0, 2 * min(low, high)))


def holm(p_values: Sequence[float] | NDArray) -> Array:
    """Holm's (1979) step-down adjusted p-values: the chance of any false claim in the whole table stays below the level.

    NaN (a comparison that could not be made) stays NaN and is not counted.

    Raises:
        ProtocolError: A p-value lies outside 0-1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    made = np.flatnonzero(~np.isnan(p))
    if made.size and (p[made].min() < 0 or p[made].max() > 1):
        raise ProtocolError("p-values must lie between 0 and 1")
    order = made[np.argsort(p[made], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted
