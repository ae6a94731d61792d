"""The sign test, and p-values of many comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError


def holm(p_values: Sequence[float] | NDArray) -> NDArray[np.float64]:
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


def sign_test(differences: NDArray) -> NDArray[np.float64]:
    """Two-sided p-values of "as many groups above zero as below", exact whatever the shape of the differences (Arbuthnott 1710).

    Args:
        differences: (..., groups); groups without a difference are left out.

    Returns:
        (...); 1 where the mean has not the sign that most groups have, for then no direction can be claimed.
    """
    from scipy.special import bdtrc

    table = np.asarray(differences, dtype=np.float64)
    above, below = (table > 0).sum(axis=-1), (table < 0).sum(axis=-1)
    p = np.minimum(1.0, 2 * bdtrc(np.maximum(above, below) - 1.0, above + below, 0.5))
    return np.where((above + below > 0) & (np.sign(table.mean(axis=-1)) == np.sign(above - below)), p, 1.0)
