"""Where does the spread of scores come from: the seed, the fold, or the sample of test units?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError


@dataclass(frozen=True)
class VarianceSplit:
    """Variance of one fit's score on one fold, by source.

    Args:
        seed: Between fits on the same fold (labels drawn, initialisation).
        fold: Between folds (regions), beyond what seeds and samples explain; never below 0.
        sample: From which test units were there; NaN when not given.
        folds: Number of folds.
        seeds: Mean number of seeds a fold.
    """

    seed: float
    fold: float
    sample: float
    folds: int
    seeds: float

    @property
    def total(self) -> float:
        """All sources."""
        return float(np.nansum([self.seed, self.fold, self.sample]))

    def shares(self) -> dict[str, float]:
        """Each source's share of the total; NaN when nothing varies."""
        total = self.total
        return {name: getattr(self, name) / total if total > 0 else float("nan") for name in ("seed", "fold", "sample")}


def split_variance(scores: NDArray, sampling_variance: NDArray | None = None) -> VarianceSplit:
    """Split the variance of scores by moments.

    The model is score = mean + fold + sample of the fold + seed within the fold. Seeds of a fold are scored on the same units, so the
    spread between them holds no sampling part, while the spread between folds holds all three.

    Args:
        scores: (folds, seeds); NaN = not there.
        sampling_variance: (folds,) squared standard error of each fold's score from its test clusters (`Estimate.se**2`).

    Raises:
        ProtocolError: Fewer than two folds, or no fold with two seeds.
    """
    table = np.asarray(scores, dtype=np.float64)
    table = table[~np.isnan(table).all(1)] if table.ndim == 2 else table
    if table.ndim != 2 or len(table) < 2:
        raise ProtocolError(f"a variance split needs at least two folds, found a table {table.shape}")
    there = ~np.isnan(table)
    count = there.sum(1)
    if count.max() < 2:
        raise ProtocolError("a variance split needs at least two seeds in some fold")
    mean = np.where(there, table, 0).sum(1) / count
    seed = float((np.where(there, table - mean[:, None], 0) ** 2).sum() / (count - 1).sum())
    sample = float("nan") if sampling_variance is None else float(np.nanmean(sampling_variance))
    between = float(mean.var(ddof=1))
    fold = max(0.0, between - seed * float((1 / count).mean()) - (0.0 if np.isnan(sample) else sample))
    return VarianceSplit(seed, fold, sample, len(table), float(count.mean()))
