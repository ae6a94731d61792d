"""Near copies: test units whose features are a training unit's with a little noise.

How near is too near depends on the features: embeddings of pixels 10 m apart can have a cosine of .996, those of one county in two years
.977. The threshold is learnt from the list itself: how near a training unit's nearest neighbour in another group is, against its nearest
in its own group. Units that nobody copied are about as near to strangers as to their own; a copy is many times nearer (the ratio test of
Lowe 2004, https://doi.org/10.1023/B:VISI.0000029664.99615.94).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

FEWEST_DIMENSIONS = 8
"""In fewer dimensions the nearest stranger is near by chance."""
MOST_ASKED, MOST_KNOWN = 2_000, 20_000
FEWEST = 30
"""With fewer units nothing can be learnt."""
_CAP = 0.35
_MARGIN = 0.5
_QUANTILE = 0.005
_BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class Copies:
    """Test units that are near copies of training units.

    Attributes:
        test: Their rows, (n,).
        train: Row of the training unit each is a copy of, (n,).
        ratio: Distance to it, over that to the nearest unit of their own side, (n,).
        threshold: The ratio below which one is a copy.
        asked: How many test units were compared.
        known: With how many training units.
    """

    test: Rows
    train: Rows
    ratio: npt.NDArray[np.float64]
    threshold: float
    asked: int
    known: int


def near_copies(train: Floats, test: Floats, group: npt.NDArray[Any], *, seed: int = 0) -> Copies | None:
    """Finds near copies.

    Args:
        train: Features of training units, (n, d), complete.
        test: Features of test units, (m, d), complete.
        group: What is copied across in the worst case, for every training unit, (n,): its region, tile or block.
        seed: Of the subsamples.

    Returns:
        The copies; None where there are too few dimensions, units or groups to learn a threshold.
    """
    if train.shape[1] < FEWEST_DIMENSIONS or min(len(train), len(test)) < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    known, asked = (_some(len(part), most, rng) for part, most in ((train, MOST_KNOWN), (test, MOST_ASKED)))
    mean, spread = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    spread[spread <= 1e-12 * np.maximum(np.abs(mean), 1.0)] = 1.0
    A, B = (((part - mean) / spread).astype(np.float32) for part in (train[known], test[asked]))
    codes = np.unique(np.asarray(group).astype(str)[known], return_inverse=True)[1]
    if codes.max(initial=0) < 1:
        return None
    some = _some(len(A), MOST_ASKED, rng)
    own, _ = _nearest(A[some], A, lambda rows: codes[some[rows]][:, None] == codes[None, :], some)
    strangers, _ = _nearest(A[some], A, lambda rows: codes[some[rows]][:, None] != codes[None, :], some)
    usable = np.isfinite(own) & np.isfinite(strangers) & (own > 0)
    if usable.sum() < FEWEST:
        return None
    threshold = min(_CAP, _MARGIN * float(np.quantile(strangers[usable] / own[usable], _QUANTILE)))
    across, at = _nearest(B, A)
    among, _ = _nearest(B, B, None, np.arange(len(B)))
    ratio = np.divide(across, among, out=np.full(len(B), np.inf), where=among > 0)
    # Tested units that repeat each other have no distance of their own; an exact copy of one of them still has none to training.
    ratio[(among == 0) & (across == 0)] = 0.0
    hit = np.flatnonzero(ratio < threshold)
    return Copies(asked[hit], known[at[hit]], ratio[hit], threshold, len(asked), len(known))


def _nearest(asked: Floats, known: Floats, allowed: Any = None, same: Rows | None = None) -> tuple[npt.NDArray[np.float64], Rows]:
    """Distance to the nearest known vector, and which it is; `allowed` says for a block of rows which count, `same` which is itself."""
    best, at = np.full(len(asked), np.inf), np.zeros(len(asked), dtype=np.int64)
    length = (known**2).sum(axis=1)
    for start in range(0, len(asked), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(asked)))
        squared = (2.0 * asked[rows]) @ known.T
        np.subtract((asked[rows] ** 2).sum(axis=1)[:, None], squared, out=squared)
        squared += length
        if same is not None:
            squared[np.arange(len(rows)), same[rows]] = np.inf
        if allowed is not None:
            np.copyto(squared, np.inf, where=~allowed(rows))
        at[rows] = squared.argmin(axis=1)
        found = known[at[rows]]
        # Differences of the found pair alone: the expansion above cancels where two vectors are nearly equal.
        exact = np.sqrt(((asked[rows].astype(np.float64) - found) ** 2).sum(axis=1))
        best[rows] = np.where(np.isfinite(squared[np.arange(len(rows)), at[rows]]), exact, np.inf)
    return best, at


def _some(count: int, most: int, rng: np.random.Generator) -> Rows:
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))
