"""Do errors cluster on the map? Moran's I of residuals: Moran (1950); moments and permutation test after Cliff & Ord (1981)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.geodesy import unit_vectors

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SpatialWeights:
    """Who is whose neighbour: a sparse (n, n) matrix of weights in row order.

    Args:
        start: (n + 1,) where each unit's neighbours begin.
        neighbours: Indices of the neighbours.
        weights: Their weights.
    """

    start: NDArray[np.intp]
    neighbours: NDArray[np.intp]
    weights: Array

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.start) - 1

    @property
    def degree(self) -> NDArray[np.intp]:
        """(n,) number of neighbours; 0 = an island."""
        return np.diff(self.start)

    def matrix(self, dtype: Any = np.float64) -> Any:
        """As a scipy CSR matrix."""
        from scipy.sparse import csr_matrix

        return csr_matrix(
            (self.weights.astype(dtype), self.neighbours.astype(np.int32), self.start.astype(np.int32)), shape=(self.n, self.n)
        )

    @cached_property
    def by_place(self) -> tuple[NDArray[np.intp], Any]:
        """Units in an order that brings neighbours close in memory, and the float32 matrix in that order."""
        from scipy.sparse.csgraph import reverse_cuthill_mckee

        matrix = self.matrix(np.float32)
        order = reverse_cuthill_mckee(matrix)
        return order, matrix[order][:, order]

    @cached_property
    def usual_deals(self) -> dict[int, tuple[NDArray[np.intp], list[NDArray[np.intp]]]]:
        """Orders drawn with seed 0, by their number: the same for every model, so they are drawn once."""
        return {}


def knn_weights(lonlat: NDArray, k: int = 8) -> SpatialWeights:
    """The k nearest units by great-circle distance, each of weight 1/k.

    Args:
        lonlat: (n, 2) longitude and latitude in degrees. Units at the very same place are neighbours at distance 0.
        k: Number of neighbours; at most n - 1 are taken.
    """
    points = _on_sphere(lonlat)
    n = len(points)
    k = min(k, n - 1)
    if k < 1:
        return SpatialWeights(np.zeros(n + 1, np.intp), np.empty(0, np.intp), np.empty(0))
    from scipy.spatial import cKDTree

    _, found = cKDTree(points).query(points, k=k + 1, workers=-1)
    # A unit is not always its own first neighbour: another may lie at the same place.
    own = found == np.arange(n)[:, None]
    own[~own.any(1), -1] = True
    return SpatialWeights(np.arange(n + 1) * k, found[~own].astype(np.intp), np.full(n * k, 1.0 / k))


def _on_sphere(lonlat: NDArray) -> Array:
    # On the unit sphere the straight distance grows with the great-circle distance, so a plain k-d tree finds the same neighbours.
    places = np.asarray(lonlat, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 2 or not np.isfinite(places).all():
        raise DataError(
            f"expected finite longitudes and latitudes (n, 2), found {places.shape}", remedy="Leave units without a location out."
        )
    return unit_vectors(*places.T)


@dataclass(frozen=True)
class MoransI:
    """Global Moran's I.

    Args:
        value: I; positive = like errors lie together. NaN for a constant.
        expected: -1/(n-1), its mean when there is no pattern.
        p: One-sided (the smaller tail) pseudo p-value of the permutation test; NaN without permutations.
        z: Distance from the permutations' mean in their standard deviations.
        n: Units.
        permutations: How many were drawn.
    """

    value: float
    expected: float
    p: float
    z: float
    n: int
    permutations: int


def morans_i(values: NDArray, weights: SpatialWeights, *, permutations: int = 999, rng: np.random.Generator | None = None) -> MoransI:
    """Moran's I of residuals with a permutation test.

    Args:
        values: (n,), e.g. prediction minus truth; none missing.
        weights: Neighbours.
        permutations: How many times the values are dealt out again; 0 for none.
        rng: Source of chance; seed 0 when None.

    Raises:
        DataError: A value is missing, or there are not as many values as units.
    """
    z = _centred(values, weights)
    n, total = len(z), float(weights.weights.sum())
    expected = -1.0 / (n - 1) if n > 1 else float("nan")
    spread = float(z @ z)
    if not spread > 0 or not total > 0:
        return MoransI(float("nan"), expected, float("nan"), float("nan"), n, 0)
    matrix = weights.matrix()
    observed = float(z @ (matrix @ z)) * n / total / spread
    if not permutations:
        return MoransI(observed, expected, float("nan"), float("nan"), n, 0)
    drawn = _permuted_products(z / np.sqrt(spread), weights, permutations, rng) * n / total
    # The permutations are in float32: orders that tie with the observed one in exact arithmetic must not fall on either side by rounding.
    larger = int((drawn >= observed - 1e-6 * (1 + abs(observed))).sum())
    extreme = min(larger, permutations - larger)
    return MoransI(observed, expected, (extreme + 1) / (permutations + 1), (observed - drawn.mean()) / drawn.std(), n, permutations)


def _permuted_products(z: Array, weights: SpatialWeights, permutations: int, rng: np.random.Generator | None) -> Array:
    """Quadratic form z' W z for many orders of z.

    Making random orders costs more than the products, so orders are made from two short lists: every order of the first is dealt again
    by every order of the second. Each result is a uniform order, and any two of them are independent, which is all that the mean and the
    spread of a permutation distribution need. A block of orders goes through the matrix at once, with neighbours brought close in memory.
    """
    # The units may be renumbered freely: the values are in random order anyway.
    _, matrix = weights.by_place
    first, then = _deals(weights, permutations, rng)
    block, dealt = first.shape[1], z.astype(np.float32)[first]
    products = np.empty(len(then) * block)
    for number, order in enumerate(then):
        columns = np.take(dealt, order, axis=0)
        products[number * block : (number + 1) * block] = np.einsum("ij,ij->j", columns, matrix @ columns, dtype=np.float64)
    return products[:permutations]


def _deals(weights: SpatialWeights, permutations: int, rng: np.random.Generator | None) -> tuple[NDArray[np.intp], list[NDArray[np.intp]]]:
    """Orders of the first list, (n, block), and those they are dealt again by."""
    if rng is None and permutations in weights.usual_deals:
        return weights.usual_deals[permutations]
    source = np.random.default_rng(0) if rng is None else rng
    n, block = weights.n, min(32, permutations)
    first = np.stack([source.permutation(n) for _ in range(block)], axis=1)
    made = first, [source.permutation(n) for _ in range(0, permutations, block)]
    if rng is None:
        weights.usual_deals[permutations] = made
    return made


def _centred(values: NDArray, weights: SpatialWeights) -> Array:
    z = np.asarray(values, dtype=np.float64)
    if z.shape != (weights.n,):
        raise DataError(f"{z.shape} values for {weights.n} units")
    if not np.isfinite(z).all():
        raise DataError(
            f"{int((~np.isfinite(z)).sum())} values are missing or infinite", remedy="Leave those units out and rebuild the weights."
        )
    if z.size and z.min() == z.max():
        return np.zeros_like(z)
    return z - z.mean() if z.size else z
