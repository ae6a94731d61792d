"""Area on the ground: the error of mapped areas, and accuracy and area corrected for how the reference sample was drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.metrics.declaration import metric
from rs05bench.protocol.metrics.sums import Sums, ratio


class AreaParts(NamedTuple):
    """What the formula takes: (..., K) sums of squared errors of regions, hectares squared, and (...,) regions."""

    squared: NDArray[Any]
    regions: NDArray[Any]


@dataclass(frozen=True, eq=False)
class RegionalAreas(Sums):
    """Squared errors of the mapped area of whole regions.

    Attributes:
        values: (C, K + 1): sum over regions of (mapped - true)2 of each class, in hectares squared, then the number of regions.
        names: K class names.
    """

    names: tuple[str, ...] = ()
    kind = "regional areas"

    @classmethod
    def of(cls, errors: NDArray[np.float64], classes: tuple[str, ...]) -> RegionalAreas:
        """From mapped - true area in hectares of each region and class, (R, K); one cluster."""
        return cls(("all",), np.append((errors**2).sum(0), len(errors))[None], classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.names

    def parts(self, totals: NDArray[Any]) -> AreaParts:
        """Squared errors and regions."""
        return AreaParts(totals[..., :-1], totals[..., -1])

    @property
    def units(self) -> NDArray[np.float64]:
        """(C,) regions."""
        return np.asarray(self.values[:, -1], dtype=np.float64)


@metric(
    "area_rmse_<class>",
    sums=RegionalAreas,
    tasks=("segmentation",),
    range=(0, math.inf),
    better="lower",
    words="root mean square over regions (fires, counties) of mapped - true area, in hectares",
)
def _area_rmse(parts: AreaParts) -> NDArray[Any]:
    return np.sqrt(ratio(parts.squared, np.asarray(parts.regions)[..., None]))


@dataclass(frozen=True)
class AreaAdjusted:
    """Accuracy and area after correcting for how the reference sample was drawn, each with its standard error."""

    overall: float
    overall_se: float
    users: NDArray[np.float64]
    users_se: NDArray[np.float64]
    producers: NDArray[np.float64]
    producers_se: NDArray[np.float64]
    area: NDArray[np.float64]
    area_se: NDArray[np.float64]


def area_adjusted_accuracy(counts: NDArray, mapped_area: NDArray) -> AreaAdjusted:
    """Area-adjusted accuracy of a map from a sample stratified by mapped class.

    Olofsson et al. (2014), Good practices for estimating area and assessing accuracy of land change, Remote Sensing of Environment
    148, equations 1-11 (https://doi.org/10.1016/j.rse.2014.02.015).

    Args:
        counts: (K, K) sample counts, rows truth, columns map (as everywhere in this package).
        mapped_area: (K,) area of each mapped class, any unit; `area` comes back in it.

    Returns:
        Overall, user's and producer's accuracy and the areas. NaN where a class was never sampled on the map.

    Raises:
        DataError: A mapped class has area but no sample: its stratum cannot be estimated.
    """
    by_map = np.asarray(counts, dtype=float).T  # Olofsson's rows are the map
    area = np.asarray(mapped_area, dtype=float)
    sampled = by_map.sum(1)
    if (area[sampled == 0] > 0).any():
        raise DataError(
            f"mapped class {int(np.argmax((sampled == 0) & (area > 0)))} has area but no sample", remedy="Merge it into another stratum."
        )
    weight = area / area.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(sampled[:, None] > 0, by_map / sampled[:, None], 0.0)
        proportion = weight[:, None] * share
        users = np.where(sampled > 0, np.diag(by_map) / sampled, np.nan)
        users_se = np.sqrt(users * (1 - users) / (sampled - 1))
        of_truth = proportion.sum(0)
        producers = np.diag(proportion) / of_truth
        cell_variance = np.where(sampled[:, None] > 1, share * (1 - share) / (sampled[:, None] - 1), np.nan)
        cell_variance[sampled == 0] = 0
        truth_area = area[:, None] * share
        estimated = truth_area.sum(0)
        # Equation 7, N_i. read as mapped area: variance of a ratio of two estimated areas.
        own = area**2 * (1 - producers) ** 2 * np.diag(cell_variance)
        others = (area[:, None] ** 2 * cell_variance).sum(0) - area**2 * np.diag(cell_variance)
        producers_se = np.sqrt((own + producers**2 * others) / estimated**2)
        area_se = area.sum() * np.sqrt((weight[:, None] ** 2 * cell_variance).sum(0))
        overall_se = float(np.sqrt(np.nansum(weight**2 * np.where(sampled > 0, users_se, 0) ** 2)))
    return AreaAdjusted(
        float(np.diag(proportion).sum()), overall_se, users, users_se, producers, producers_se, of_truth * area.sum(), area_se
    )
