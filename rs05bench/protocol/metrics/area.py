"""How much of the ground is mapped as each class, against how much truly is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.metrics.confusion import marginals

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AreaError:
    """Area of one class over all regions; areas in the unit of the pixel area that was given.

    Args:
        true: True area.
        mapped: Mapped area.
        signed: mapped - true (positive: too much is mapped).
        absolute: |mapped - true| of the total.
        relative: signed / true; NaN where the class does not occur.
        rmse: Root mean square over regions of the signed error of each region; NaN without regions.
    """

    true: float
    mapped: float
    signed: float
    absolute: float
    relative: float
    rmse: float


def area_errors(counts: NDArray, classes: Sequence[str], *, pixel_area: float | NDArray = 1.0) -> dict[str, AreaError]:
    """Area error of each class.

    Args:
        counts: (R, K, K) confusion counts of R regions (fires, counties, chips), or (K, K) for one.
        classes: K names.
        pixel_area: Area of a pixel, one number or one per region.

    Returns:
        One `AreaError` a class.
    """
    stack = np.asarray(counts, dtype=np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    _, truth, mapped = marginals(stack)
    scale = np.broadcast_to(np.asarray(pixel_area, dtype=np.float64), (len(stack),))[:, None]
    truth, mapped = truth * scale, mapped * scale
    regional = mapped - truth
    result = {}
    for k, name in enumerate(classes):
        true, got = float(truth[:, k].sum()), float(mapped[:, k].sum())
        relative = (got - true) / true if true > 0 else float("nan")
        rmse = float(np.sqrt((regional[:, k] ** 2).mean())) if len(stack) else float("nan")
        result[name] = AreaError(true, got, got - true, abs(got - true), relative, rmse)
    return result


def relative_area_error(counts: NDArray, *, background: int | None = 0) -> float:
    """Mean over classes of |mapped - true| / true, the background left out: the one number `area_error`. 0 is best.

    Args:
        counts: (..., K, K); leading axes are added up.
        background: Class index that is not of interest, None when all are.

    Returns:
        NaN when no class of interest occurs in the truth.
    """
    total = np.asarray(counts, dtype=np.float64)
    total = total.reshape(-1, *total.shape[-2:]).sum(0)
    _, truth, mapped = marginals(total)
    of_interest = truth > 0
    if background is not None:
        of_interest[background] = False
    if not of_interest.any():
        return float("nan")
    return float((np.abs(mapped - truth)[of_interest] / truth[of_interest]).mean())


def size_classes(areas: NDArray, edges: Sequence[float], *, unit: str = "ha") -> NDArray[np.str_]:
    """Names of the size class of each area, e.g. `<100 ha`, `100-1000 ha`, `>=1000 ha`; a bin holds its lower edge.

    Args:
        areas: (n,) areas, in the unit of the edges.
        edges: Inner edges, ascending.
        unit: Written into the names.
    """
    inner = [f"{edge:g}" for edge in edges]
    names = [f"<{inner[0]} {unit}", *(f"{a}-{b} {unit}" for a, b in pairwise(inner)), f">={inner[-1]} {unit}"]
    return np.asarray(names)[np.searchsorted(np.asarray(edges), np.asarray(areas), side="right")]
