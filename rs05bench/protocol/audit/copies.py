"""Near copies: test units whose features are a training unit's with a little noise.

How near is too near depends on the features: embeddings of pixels 10 m apart can have a cosine of .996, those of one county in two years
.977. The threshold is learnt from the list itself: how near a training unit's nearest neighbour in another group is, against its nearest
in its own group. Units that nobody copied are about as near to strangers as to their own; a copy is many times nearer (the ratio test of
Lowe 2004, https://doi.org/10.1023/B:VISI.0000029664.99615.94).
"""

from __future__ import annotations

from collections.abc import Iterator
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
_FAR = 6.0
"""Spreads below the median from which on a training unit is itself a copy, of which nothing is learnt."""
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Copies:
    """Test units that are near copies of training units.

    Attributes:
        test: Their positions among `test_rows`, (n,).
        train: Position among `train_rows` of the unit each is a copy of, (n,).
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


def near_copies(train: Floats, train_rows: Rows, test: Floats, test_rows: Rows, group: npt.NDArray[Any], *, seed: int = 0) -> Copies | None:
    """Finds near copies.

    Args:
        train: Features, (units, d).
        train_rows: Its rows that are training units and complete, (n,).
        test: Features, (units, d); may be the same array.
        test_rows: Its rows that are test units and complete, (m,).
        group: What is copied across in the worst case, for every training unit, (n,): its region, tile or block.
        seed: Of the subsamples.

    Returns:
        The copies; None where there are too few dimensions, units or groups to learn a threshold.
    """
    if train.shape[1] < FEWEST_DIMENSIONS or min(len(train_rows), len(test_rows)) < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    known, asked = (_some(len(part), most, rng) for part, most in ((train_rows, MOST_KNOWN), (test_rows, MOST_ASKED)))
    codes = np.unique(np.asarray(group)[known].astype(str), return_inverse=True)[1]
    if codes.max(initial=0) < 1:
        return None
    # Units of a group one after another: a group is a run of columns of the distances below.
    order = np.argsort(codes, kind="stable")
    known, codes = known[order], codes[order]
    A, B = train[train_rows[known]], test[test_rows[asked]]
    mean, spread = A.mean(axis=0, dtype=np.float64), A.std(axis=0, dtype=np.float64)
    spread[spread <= 1e-12 * np.maximum(np.abs(mean), 1.0)] = 1.0
    A, B = (((part - mean) / spread).astype(np.float32) for part in (A, B))
    some = _some(len(A), MOST_ASKED, rng)
    own, strangers = _own_and_strangers(A, codes, some)
    usable = np.isfinite(own) & np.isfinite(strangers) & (own > 0)
    if usable.sum() < FEWEST:
        return None
    threshold = min(_CAP, _MARGIN * float(np.quantile(_but_copies(strangers[usable] / own[usable]), _QUANTILE)))
    across, at = _nearest(B, A)
    among, _ = _nearest(B, B, but_itself=True)
    ratio = np.divide(across, among, out=np.full(len(B), np.inf), where=among > 0)
    # Tested units that repeat each other have no distance of their own; an exact copy of one of them still has none to training.
    ratio[(among == 0) & (across == 0)] = 0.0
    hit = np.flatnonzero(ratio < threshold)
    return Copies(asked[hit], known[at[hit]], ratio[hit], threshold, len(asked), len(known))


def _but_copies(ratios: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ratios without those far below the rest: rows copied between groups that train would make a copy look ordinary.

    Spread is that of the lower half on the logarithm (1.48 times the median distance to the median, which is a standard deviation where
    the logarithms are normal).
    """
    logs = np.log(np.maximum(ratios, np.finfo(np.float64).tiny))
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(middle - logs[logs <= middle]))
    return np.asarray(ratios[logs >= middle - _FAR * spread])


def _own_and_strangers(A: Floats, codes: Rows, some: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distance of some rows to the nearest other row of their own group, and of any other group; groups lie one after another."""
    own, strangers = np.full(len(some), np.inf), np.full(len(some), np.inf)
    first = np.searchsorted(codes, np.arange(codes[-1] + 2))
    for places, rows, lengths in _blocks(A[some], A):
        for place, row in zip(places, range(len(lengths)), strict=True):
            start, stop = first[codes[some[place]]], first[codes[some[place]] + 1]
            lengths[row, some[place]] = np.inf
            here = int(start + lengths[row, start:stop].argmin())
            own[place] = _distance(rows[row : row + 1], A[here : here + 1])[0] if stop - start > 1 else np.inf
            lengths[row, start:stop] = np.inf
        at = lengths.argmin(axis=1)
        strangers[places] = _distance(rows, A[at])
    return own, strangers


def _nearest(asked: Floats, known: Floats, *, but_itself: bool = False) -> tuple[npt.NDArray[np.float64], Rows]:
    """Distance to the nearest known vector, and which it is; `but_itself` where both are the same list."""
    best, at = np.full(len(asked), np.inf), np.zeros(len(asked), dtype=np.int64)
    for places, rows, lengths in _blocks(asked, known):
        if but_itself:
            lengths[np.arange(len(rows)), places] = np.inf
        at[places] = lengths.argmin(axis=1)
        best[places] = _distance(rows, known[at[places]])
    return best, at


def _blocks(asked: Floats, known: Floats) -> Iterator[tuple[Rows, Floats, Floats]]:
    """Positions of some rows, the rows, and |known|^2 - 2 row.known, which orders the known as their distances do.

    One product of matrices with a column more gives it, in blocks that stay in a processor's cache.
    """
    right = np.ascontiguousarray(np.column_stack([-2.0 * known, (known**2).sum(axis=1)]).T)
    for start in range(0, len(asked), _BLOCK):
        rows = asked[start : start + _BLOCK]
        yield np.arange(start, start + len(rows)), rows, np.column_stack([rows, np.ones(len(rows), dtype=rows.dtype)]) @ right


def _distance(rows: Floats, found: Floats) -> npt.NDArray[np.float64]:
    """Of pairs, from their differences: the product of `_blocks` cancels where two vectors are nearly equal."""
    return np.asarray(np.sqrt(((rows.astype(np.float64) - found) ** 2).sum(axis=1)), dtype=np.float64)


def _some(count: int, most: int, rng: np.random.Generator) -> Rows:
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))
