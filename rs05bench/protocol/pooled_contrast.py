"""A comparison of pooled cells: weighted sums of scores on the same blocks, over the same seeds, with interval and p."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError
from rs05bench.protocol.combined import CombinedStats
from rs05bench.protocol.inference.intervals import Estimate, paired_difference
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.pooling import Fits, line_up


def contrast(
    positive: Sequence[tuple[float, Fits]],
    negative: Sequence[tuple[float, Fits]],
    metric: str,
    regions: dict[str, str],
    *,
    draws: int = 2000,
) -> tuple[Estimate | None, NDArray[np.float64]]:
    """A difference of two weighted sums of scores on the same blocks, over the same seeds; positive where the first is better.

    Args:
        positive: (weight, sums by seed) of the first side.
        negative: The same for the other.
        metric: The score; turned where lower is better.
        regions: Region of each cluster, for the intervals.
        draws: Bootstrap draws.

    Returns:
        The estimate (None where the sides share nothing), and the differences (folds, seeds).
    """
    turn = 1.0 if find_metric(metric).higher_is_better else -1.0
    terms = [*positive, *negative]
    lined, groups = line_up([fits for _, fits in terms], regions)
    if not lined[0]:
        return None, np.empty((0, 0))
    weights = [turn * weight for weight, _ in terms]
    split = len(positive)
    both = []
    for part in (slice(None, split), slice(split, None)):
        fits = zip(*lined[part], strict=True)
        both.append([CombinedStats.of(list(zip(weights[part], of_seed, strict=True))) for of_seed in fits])
    try:
        effect = paired_difference(both[0], both[1], metric, groups=groups, draws=draws)
    except ProtocolError:
        return None, np.empty((0, 0))
    signs = [1.0] * split + [-1.0] * (len(terms) - split)
    return effect, _by_fold([(sign * weight, fits) for sign, weight, (_, fits) in zip(signs, weights, terms, strict=True)], metric)


def _by_fold(terms: Sequence[tuple[float, Fits]], metric: str) -> NDArray[np.float64]:
    """The contrast on each ground (the fold that holds it out), a column a seed."""
    seeds = sorted(set.intersection(*(set(fits) for _, fits in terms)))
    common = set.intersection(*(set(fits[seed].clusters) for _, fits in terms for seed in seeds))
    members: dict[str, list[str]] = defaultdict(list)
    for name in sorted(common):
        members[name.split("\t", 1)[0]].append(name)
    table = np.full((len(members), len(seeds)), 0.0)
    for weight, fits in terms:
        for column, seed in enumerate(seeds):
            for row, names in enumerate(members.values()):
                stats = fits[seed].select(names)
                table[row, column] += weight * float(stats.evaluate(metric, np.asarray(stats.vectors, dtype=np.float64).sum(0)))
    return table
