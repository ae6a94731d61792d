"""The mean over groups, with an interval that holds for groups like these.

The groups of a split (regions, states, fires, years) are taken as a sample of the groups there are, however few. The interval is
Student's t over the values inside groups, so it widens with the spread between groups and with their scarcity, and there is no
number of groups at which its meaning changes. A metric without a lower end (R2) can have a few groups far below the rest; t then holds the
mean far less often than it says, and its declaration asks for the median instead, whose interval and test assume no shape.
`docs/studies/new_groups.md` shows the coverage of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.inference.estimate import LEAST, LEVEL, Bounds, Estimate
from rs05bench.protocol.inference.hypothesis_tests import sign_test
from rs05bench.protocol.metrics.declaration import Centre

Array = NDArray[np.float64]
_NO_SPREAD = 1e-12


def over_groups(
    values: NDArray[np.floating],
    names: Sequence[str],
    *,
    within: tuple[float, float] = (-np.inf, np.inf),
    level: float = LEVEL,
    test: bool = False,
    of: Centre = "mean",
) -> Estimate:
    """Mean over groups with its interval and the prediction interval for one new group.

    Args:
        values: (G, S) value inside each group by each fit (seed); NaN = not there. Every group weighs the same.
        names: (G,) names of the groups.
        within: Least and greatest possible value; intervals are cut there.
        level: Nominal level.
        test: Whether `value = 0` is tested.
        of: What the interval and the test are for (`Metric.over_groups`).

    Returns:
        The variance of the mean is that over groups plus, from three seeds on, what seeds add by themselves; chance of one seed in one
        group is in both and counted once (Cameron, Gelbach & Miller 2011, https://doi.org/10.1198/jbes.2010.07136). Degrees of freedom
        are Satterthwaite's. Fewer than three groups give no interval; a median needs six.
    """
    table = np.asarray(values, dtype=np.float64).reshape(len(names), -1)
    scored = np.isfinite(table).any(axis=1)
    points = dict.fromkeys(map(str, names), float("nan"))
    notes = [] if scored.all() else [f"Not defined in {int((~scored).sum())} of {len(names)} groups, which are left out."]
    table = table[scored]
    n = len(table)
    seeds = int(np.isfinite(table).sum(axis=1).max(initial=0))
    if not n:
        return Estimate(np.nan, np.nan, np.nan, level, np.nan, "groups", 0, points=points, note=" ".join(notes))
    by_group = np.nanmean(table, axis=1)
    points |= dict(zip([str(name) for name, kept in zip(names, scored, strict=True) if kept], by_group.tolist(), strict=True))
    value = float(by_group.mean())
    if n < LEAST:
        notes.append(f"Only {n} group{'s' if n > 1 else ''}: no interval can be given.")
        return Estimate(value, np.nan, np.nan, level, np.nan, "groups", n, points=points, note=" ".join(notes))
    if seeds < LEAST:
        notes.append(f"{'One draw' if seeds == 1 else f'{seeds} draws'} of labels: how draws differ is not in the interval.")
    if of == "median":
        return _by_order(by_group, level, test, seeds, points, notes)
    spread = float(by_group.var(ddof=1))
    of_seeds, seed_df, counted = _seed_part(table)
    variance = spread / n + of_seeds
    if variance**0.5 <= _NO_SPREAD * max(1.0, abs(value)):
        # Nothing spreads, so only their number tells how sure agreement makes: n agree by chance with 2 ** (1 - n), as in the sign test.
        chance, told = 2.0 ** (1 - n), 1 - 2.0 ** (1 - n) >= level
        notes.append(f"All {n} groups agree exactly; {'the interval has no width' if told else 'of so few that gives no interval'}.")
        return Estimate(
            value,
            value if told else np.nan,
            value if told else np.nan,
            level,
            0.0,
            "groups",
            n,
            n_seeds=counted,
            p=(1.0 if abs(value) <= _NO_SPREAD else chance) if test else None,
            new_low=value,
            new_high=value,
            new_level=min(level, (n - 1) / (n + 1)),
            points=points,
            note=" ".join(notes),
        )
    from scipy.special import stdtr, stdtrit

    df = variance**2 / ((spread / n) ** 2 / (n - 1) + (of_seeds**2 / seed_df if of_seeds else 0.0))
    reach = float(stdtrit(df, 0.5 + level / 2)) * variance**0.5
    low, high = within
    # The prediction interval for one group more: the variance over groups and that of their mean.
    further = float(stdtrit(n - 1, 0.5 + level / 2)) * (spread + variance) ** 0.5
    return Estimate(
        value,
        max(value - reach, low),
        min(value + reach, high),
        level,
        variance**0.5,
        "groups",
        n,
        n_seeds=counted,
        p=float(2 * stdtr(df, -abs(value) / variance**0.5)) if test else None,
        new_low=max(value - further, low),
        new_high=min(value + further, high),
        new_level=level,
        points=points,
        note=" ".join(notes),
    )


def _by_order(by_group: Array, level: float, test: bool, seeds: int, points: dict[str, float], notes: list[str]) -> Estimate:
    """The estimate whose interval is for the median.

    Of n values the r-th from either end hold the median with probability 1 - 2 P(Bin(n, 1/2) < r), and one group more with probability
    (n + 1 - 2r) / (n + 1), whatever their distribution (Thompson 1936, https://doi.org/10.1214/aoms/1177732502; Wilks 1941,
    https://doi.org/10.1214/aoms/1177731788). The median has no interval below six groups. One group more has `level` from 39 groups on;
    of fewer it is the whole range, with the probability that this has.
    """
    from scipy.special import bdtr

    known, n = np.sort(by_group), len(by_group)
    rank = int(np.count_nonzero(1 - 2 * bdtr(np.arange(n // 2), n, 0.5) >= level))
    if not rank:
        notes.append(f"{n} groups are not enough to say where their median lies: that takes six.")
    ends = (float(known[rank - 1]), float(known[-rank])) if rank else (np.nan, np.nan)
    new = max(1, math.floor((1 - level) * (n + 1) / 2 + 1e-9))
    return Estimate(
        float(by_group.mean()),
        np.nan,
        np.nan,
        level,
        np.nan,
        "groups",
        n,
        n_seeds=seeds,
        p=float(sign_test(by_group)) if test else None,
        new_low=float(known[new - 1]),
        new_high=float(known[-new]),
        new_level=(n + 1 - 2 * new) / (n + 1),
        median=Bounds("median", float(np.median(by_group)), *ends),
        points=points,
        note=" ".join(notes),
    )


def _seed_part(table: Array) -> tuple[float, float, int]:
    """Variance that fits add to the mean over groups, its degrees of freedom, and how many fits it was found from (1 = none)."""
    groups, seeds = table.shape
    if seeds < LEAST or not np.isfinite(table).all():
        return 0.0, 1.0, 1
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    counted_twice = float((rest**2).sum()) / ((groups - 1) * (seeds - 1)) / (groups * seeds)
    return max(0.0, float(table.mean(axis=0).var(ddof=1)) / seeds - counted_twice), float(seeds - 1), seeds
