"""A number of one group, resampled by its test blocks.

Units next to each other are alike, so drawing single units pretends to more information than there is; drawing whole test blocks, fires
or counties does not (Künsch 1989; Cameron, Gelbach & Miller 2008, https://doi.org/10.1162/rest.90.3.414). The interval speaks of this
group alone, never of a new one. `docs/studies/coverage.md` shows its coverage.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rs05bench.errors import ProtocolError
from rs05bench.protocol.inference.contrast import Contrast, build_contrast
from rs05bench.protocol.inference.estimate import LEAST, LEVEL, Estimate
from rs05bench.protocol.metrics import SufficientStats

ENOUGH_TO_STUDENTISE = 7  # degrees of freedom: with fewer, some draws have next to no error of their own
DRAWS = 2000
Fit = Sequence[tuple[float, SufficientStats]]
"""One fit (seed): the weighted scores that are added up."""


def over_blocks(
    fits: Sequence[Fit],
    metric: str,
    *,
    within: tuple[float, float] = (-np.inf, np.inf),
    level: float = LEVEL,
    test: bool = False,
    draws: int = DRAWS,
    rng: np.random.Generator | None = None,
) -> Estimate:
    """A score, or a weighted sum of scores on the same blocks, with its interval over blocks.

    Args:
        fits: One entry a fit (seed), each the same terms `(weight, sums per block)`; the value is the mean over fits.
        metric: The score.
        within: Least and greatest possible value; intervals are cut there.
        level: Nominal level.
        test: Whether `value = 0` is tested.
        draws: Bootstrap draws of the studentised interval, which one fit gets; several fits get t (Satterthwaite).
        rng: Source of chance; seed 0 when None.

    Raises:
        ProtocolError: The terms are not over the same blocks.
    """
    covers = {frozenset(sums.clusters) for fit in fits for _, sums in fit}
    if len(covers) > 1:
        odd = sorted(frozenset.union(*covers) - frozenset.intersection(*covers))
        raise ProtocolError(
            f"a paired comparison needs the same blocks on both sides; not on all: {odd[:5]}", remedy="Select the common ones."
        )
    terms = [(weight / len(fits), sums) for fit in fits for weight, sums in fit]
    contrast = build_contrast(metric, terms)
    value, n = float(contrast.value()), len(contrast.clusters)

    def bare(note: str) -> Estimate:
        return Estimate(value, np.nan, np.nan, level, np.nan, "blocks", 1, n, note=note)

    if not np.isfinite(value):
        return bare("The score is not defined on these units.")
    if n < LEAST:
        return bare(f"One group with {n} test block{'s' if n > 1 else ''}: no interval can be given.")
    variance = float(contrast.variance()[0])
    spread, seed_df, seeds = _seed_variance(contrast, len(fits))
    notes = ["One group: the interval is over its test blocks and says nothing about a new group."]
    if seeds < LEAST:
        notes.append(f"{'One draw' if len(fits) == 1 else f'{len(fits)} draws'} of labels: how draws differ is not in the interval.")
    se = (variance + spread) ** 0.5
    if se == 0:
        told = 1 - 2.0 ** (1 - n) >= level
        notes.append(f"All {n} blocks agree exactly; {'the interval has no width' if told else 'of so few that gives no interval'}.")
        p = (1.0 if value == 0 else 2.0 ** (1 - n)) if test else None
        end = value if told else np.nan
        return Estimate(value, end, end, level, 0.0, "blocks", 1, n, seeds, p, note=" ".join(notes))
    df = float(n - 1)
    if seeds == 1 and df >= ENOUGH_TO_STUDENTISE:
        low, high, p_value = _studentised(contrast, value, se, level, draws, rng or np.random.default_rng(0))
    else:
        total_df = (variance + spread) ** 2 / (variance**2 / df + (spread**2 / seed_df if spread else 0.0))
        low, high, p_value = _by_t(value, se, total_df, level)
    low, high = max(low, within[0]), min(high, within[1])
    return Estimate(value, low, high, level, se, "blocks", 1, n, seeds, p_value if test else None, note=" ".join(notes))


def _seed_variance(contrast: Contrast, fits: int) -> tuple[float, float, int]:
    """What fits add to the variance of their mean, its degrees of freedom, and the number of fits it was found from (1 = none).

    The spread between fits also holds what each fit does on each block by chance (fit x block), which the variance over blocks
    counts too; it is taken off once, as in two-way clustering (Cameron, Gelbach & Miller 2011,
    https://doi.org/10.1198/jbes.2010.07136).
    """
    if fits < LEAST:
        return 0.0, 1.0, 1
    width = len(contrast.coefficients) // fits
    of_fit = (contrast.coefficients * contrast.of_terms()).reshape(fits, width).sum(1) * fits
    influence = contrast.influence_of_terms().reshape(fits, width, -1).sum(1) * fits
    own = influence - influence.mean(0)
    n = len(contrast.clusters)
    counted_twice = n / (n - 1) * (own**2).sum() / (fits * (fits - 1))
    return max(0.0, float(of_fit.var(ddof=1) / fits - counted_twice)), float(fits - 1), fits


def _by_t(value: float, se: float, df: float, level: float) -> tuple[float, float, float]:
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(df, 0.5 + level / 2)) * se
    return value - reach, value + reach, float(2 * stdtr(df, -abs(value) / se))


def _studentised(
    contrast: Contrast, value: float, se: float, level: float, draws: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    drawn, errors = contrast.draws(draws, rng)
    # A draw of nearly equal blocks has no usable error of its own.
    usable = np.isfinite(drawn) & (errors > 1e-6 * se)
    t = (drawn[usable] - value) / errors[usable]
    upper, lower = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    p = (1 + np.count_nonzero(np.abs(t) >= abs(value) / se)) / (len(t) + 1)
    return float(value - lower * se), float(value - upper * se), float(p)
