"""What a comparison over so many groups can show at all."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.inference.estimate import LEAST, LEVEL, Estimate

POWER = 0.8


def detectable_difference(spread: float, groups: int, *, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest true mean difference that a two-sided t-test over groups finds with a given probability.

    Args:
        spread: Standard deviation of the difference over groups, in the score's unit.
        groups: Groups.
        level: One minus the significance level.
        power: Probability of finding it.

    Returns:
        NaN for fewer than three groups. From the noncentral t distribution (Cohen 1988, Statistical Power Analysis).
    """
    if groups < LEAST or not math.isfinite(spread):
        return float("nan")
    from scipy.optimize import brentq
    from scipy.special import nctdtr, stdtrit

    df = groups - 1
    critical = float(stdtrit(df, 0.5 + level / 2))

    def lacking(shift: float) -> float:
        return float(1 - nctdtr(df, shift, critical)) - power

    # A significant difference in the wrong direction is no finding, so only one tail counts.
    most = critical
    while lacking(most) < 0:
        most *= 2
    return spread * float(brentq(lacking, 0.0, most)) / math.sqrt(groups)


def detectable(estimate: Estimate) -> float:
    """The same for a difference that was made: its own spread over its own groups; NaN where it is not over groups.

    Where the sign test decides, it is the shift of the median that puts so many groups on one side that the test finds it.
    """
    if estimate.over != "groups":
        return float("nan")
    if estimate.median is not None:
        return _by_signs(np.array([value for value in estimate.points.values() if math.isfinite(value)]), estimate.level)
    return detectable_difference(estimate.se * math.sqrt(estimate.n_groups), estimate.n_groups, level=estimate.level)


def _by_signs(differences: NDArray[np.float64], level: float) -> float:
    from scipy.special import bdtrc, bdtri

    count = len(differences)
    needed = next((k for k in range(count // 2 + 1, count + 1) if 2 * bdtrc(k - 1, count, 0.5) <= 1 - level), None)
    if needed is None:
        return float("nan")
    # The share of groups above zero at which at least `needed` of them are so with this probability.
    share = float(bdtri(needed - 1, count, 1 - POWER))
    return float(np.median(differences) - np.quantile(differences, 1 - share))
