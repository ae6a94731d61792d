"""The mean over groups, with an interval that holds for groups like these.

The groups of a split (regions, states, fires, years) are taken as a sample of the groups there are, however few. The interval is
Student's t over the values inside groups, so it widens with the spread between groups and with their scarcity, and there is no
number of groups at which its meaning changes. `docs/studies/new_groups.md` shows its coverage.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.inference.estimate import LEAST, LEVEL, Estimate

Array = NDArray[np.float64]
_NO_SPREAD = 1e-12


def over_groups(
    values: NDArray[np.floating],
    names: Sequence[str],
    *,
    within: tuple[float, float] = (-np.inf, np.inf),
    level: float = LEVEL,
    test: bool = False,
    of_errors: bool = False,
) -> Estimate:
    """Mean over groups with its interval and the prediction interval for one new group.

    Args:
        values: (G, S) value inside each group by each fit (seed); NaN = not there. Every group weighs the same.
        names: (G,) names of the groups.
        within: Least and greatest possible value; intervals are cut there.
        level: Nominal level.
        test: Whether `value = 0` is tested.
        of_errors: Whether values are 1 minus a ratio of squared errors (R2). A few groups then score far below the others, and the
            prediction interval is made on the logarithm of the ratio, where it holds a new group about as often as it says.

    Returns:
        The variance of the mean is that over groups plus, from three seeds on, what seeds add by themselves; chance of one seed in one
        group is in both and counted once (Cameron, Gelbach & Miller 2011, https://doi.org/10.1198/jbes.2010.07136). Degrees of freedom
        are Satterthwaite's. Fewer than three groups give no interval.
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
    spread = float(by_group.var(ddof=1))
    of_seeds, seed_df, counted = _seed_part(table)
    if seeds < LEAST:
        notes.append(f"{'One draw' if seeds == 1 else f'{seeds} draws'} of labels: how draws differ is not in the interval.")
    variance = spread / n + of_seeds
    if variance**0.5 <= _NO_SPREAD * max(1.0, abs(value)):
        notes.append("All groups agree exactly; the interval has no width.")
        p = 1.0 if abs(value) <= _NO_SPREAD else 2.0 ** (1 - n)
        return Estimate(
            value,
            value,
            value,
            level,
            0.0,
            "groups",
            n,
            n_seeds=counted,
            p=p if test else None,
            new_low=value,
            new_high=value,
            points=points,
            note=" ".join(notes),
        )
    from scipy.special import stdtr, stdtrit

    df = variance**2 / ((spread / n) ** 2 / (n - 1) + (of_seeds**2 / seed_df if of_seeds else 0.0))
    reach = float(stdtrit(df, 0.5 + level / 2)) * variance**0.5
    low, high = within
    new_low, new_high = _of_a_new_group(table, level)
    if of_errors and bool((table[np.isfinite(table)] < 1).all()):
        large, small = np.exp(_of_a_new_group(np.log(1 - table), level)[::-1])
        new_low, new_high = 1 - large, 1 - small
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
        new_low=max(float(new_low), low),
        new_high=min(float(new_high), high),
        points=points,
        note=" ".join(notes),
    )


def _of_a_new_group(table: Array, level: float) -> tuple[float, float]:
    """The prediction interval for one group more: Student's t, with the variance over groups and that of their mean."""
    from scipy.special import stdtrit

    by_group = np.nanmean(table, axis=1)
    n, spread = len(by_group), float(by_group.var(ddof=1))
    reach = float(stdtrit(n - 1, 0.5 + level / 2)) * (spread + spread / n + _seed_part(table)[0]) ** 0.5
    return float(by_group.mean()) - reach, float(by_group.mean()) + reach


def _seed_part(table: Array) -> tuple[float, float, int]:
    """Variance that fits add to the mean over groups, its degrees of freedom, and how many fits it was found from (1 = none)."""
    groups, seeds = table.shape
    if seeds < LEAST or not np.isfinite(table).all():
        return 0.0, 1.0, 1
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    counted_twice = float((rest**2).sum()) / ((groups - 1) * (seeds - 1)) / (groups * seeds)
    return max(0.0, float(table.mean(axis=0).var(ddof=1)) / seeds - counted_twice), float(seeds - 1), seeds
