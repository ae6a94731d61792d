"""What has to be kept of each cluster so that any score and its interval can be computed later without the predictions.

A cluster is what an interval resamples: a test block, a fire, a county. The numbers kept are sums, so clusters add up to larger
clusters, folds to a whole, and a bootstrap draw is a weighted sum: 10,000 draws are one matrix product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError
from rs05bench.protocol.metrics.declaration import CLASS, METRICS, Metric
from rs05bench.protocol.metrics.spatial import SpatialWeights

Array = NDArray[np.float64]
_STEPS_AT_ONCE = 100_000
_DIGITS = 10


class SufficientStats(Protocol):
    """Sums per cluster from which scores follow, or a combination of such sums; what the intervals and tests work on."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Names of the clusters."""

    @property
    def vectors(self) -> Array:
        """(C, D): each cluster's sums, additive over clusters."""

    def evaluate(self, name: str, totals: NDArray) -> NDArray:
        """Score `name` of summed vectors (..., D), over all leading axes."""

    def gradient(self, name: str, totals: Array) -> Array:
        """Derivative of score `name` by each sum, at summed vectors (..., D)."""

    def regroup(self, groups: Sequence[str]) -> Self:
        """Add clusters up to larger ones; `groups` names the larger cluster of each."""

    def select(self, clusters: Sequence[str]) -> Self:
        """Keep these clusters, in this order."""

    def __add__(self, other: Self) -> Self:
        """The union; clusters of one name add up."""


class Clusters(NamedTuple):
    """Which cluster each of n units is in.

    Attributes:
        names: C names.
        code: (n,) position in `names`.
    """

    names: tuple[str, ...]
    code: NDArray[np.intp]

    @classmethod
    def of(cls, labels: Sequence[str] | NDArray[Any]) -> Clusters:
        """Clusters by the name each unit carries, names ascending."""
        names, code = np.unique(np.asarray(labels).astype(str), return_inverse=True)
        return cls(tuple(names.tolist()), code.ravel())

    @classmethod
    def numbered(cls, code: NDArray[np.integer], n: int) -> Clusters:
        """Clusters `0` to `n - 1`, some perhaps empty."""
        return cls(tuple(map(str, range(n))), np.asarray(code, dtype=np.intp))

    @classmethod
    def one(cls, units: int) -> Clusters:
        """All units in one cluster."""
        return cls(("all",), np.zeros(units, dtype=np.intp))


@dataclass(frozen=True, eq=False)
class Sums(ABC):
    """Sums per cluster; the base of the kinds that are kept.

    A kind says how its sums are made (`of`), which parts its formulas take (`parts`), and what its record holds beside the numbers. The
    metrics it gives are those declared with it.

    Attributes:
        clusters: C names.
        values: (C, ...) sums of each cluster.
    """

    clusters: tuple[str, ...]
    values: NDArray[Any]
    kind: ClassVar[str]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that `<class>` in a metric's name stands for."""
        return ()

    @property
    def vectors(self) -> Array:
        """(C, D): what the formulas need of each cluster, additive over clusters."""
        return np.asarray(self.values, dtype=np.float64).reshape(len(self.clusters), -1)

    @abstractmethod
    def parts(self, totals: NDArray[Any]) -> Any:
        """What a formula takes, from summed vectors (..., D)."""

    @property
    @abstractmethod
    def units(self) -> Array:
        """(C,) scored units (pixels, for maps) of each cluster."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores that follow from these sums, `<class>` replaced by each class."""
        names: list[str] = []
        for declared in METRICS.values():
            if declared.sums is type(self):
                stem = declared.name.removesuffix(CLASS)
                names += [declared.name] if stem == declared.name else [f"{stem}{label}" for label in self.classes]
        return tuple(names)

    def gives(self, name: str) -> bool:
        """Whether a score follows from these sums."""
        return self._declared(name) is not None

    @overload
    def evaluate(self, name: str) -> float: ...

    @overload
    def evaluate(self, name: str, totals: NDArray[Any]) -> NDArray[Any]: ...

    def evaluate(self, name: str, totals: NDArray[Any] | None = None) -> float | NDArray[Any]:
        """A score.

        Args:
            name: Its name.
            totals: Summed vectors (..., D); default those of all clusters together.

        Returns:
            The score over all leading axes of `totals`, NaN where it is undefined; one number without `totals`.

        Raises:
            ProtocolError: It does not follow from these sums.
        """
        found = self._declared(name)
        if found is None:
            known = [declared.name for declared in METRICS.values() if declared.sums is type(self)]
            raise ProtocolError(f"the kept sums do not give {name!r}", remedy=f"They give: {', '.join(known)}.")
        declared, of_class = found
        values = declared.function(self.parts(self.vectors.sum(0) if totals is None else totals))
        if of_class is not None:
            values = values[..., of_class]
        return float(values) if totals is None else values

    def gradient(self, name: str, totals: Array) -> Array:
        """Derivative of a score by each sum, at summed vectors (..., D)."""
        return complex_step(lambda moved: self.evaluate(name, moved), totals)

    def select(self, clusters: Sequence[str]) -> Self:
        """Keep these clusters, in this order.

        Raises:
            ProtocolError: One is not among these.
        """
        where = {name: i for i, name in enumerate(self.clusters)}
        missing = [name for name in clusters if name not in where]
        if missing:
            raise ProtocolError(f"{len(missing)} clusters are not in these statistics, among them {missing[:3]}")
        return self.take(np.array([where[name] for name in clusters], dtype=np.intp))

    def take(self, rows: NDArray[np.intp]) -> Self:
        """The clusters at some positions."""
        return replace(self, clusters=tuple(self.clusters[row] for row in rows), values=self.values[rows])

    def regroup(self, groups: Sequence[str] | Clusters) -> Self:
        """Add clusters up to larger ones; `groups` names the larger cluster of each."""
        larger = groups if isinstance(groups, Clusters) else Clusters.of(groups)
        values = np.zeros((len(larger.names), *self.values.shape[1:]), dtype=self.values.dtype)
        np.add.at(values, larger.code, self.values)
        return replace(self, clusters=larger.names, values=values)

    def scale(self, factor: float | NDArray[np.float64]) -> Self:
        """The sums times a factor, or times one per cluster (C,): a unit that several folds test counts for its share in each."""
        by_cluster = np.asarray(factor, dtype=np.float64).reshape(-1, *[1] * (self.values.ndim - 1))
        return replace(self, values=np.asarray(self.values, dtype=np.float64) * by_cluster)

    def __add__(self, other: Self) -> Self:
        """The union; clusters of one name add up."""
        values = np.concatenate([self.values, self.aligned(other).values])
        both = replace(self, clusters=self.clusters + other.clusters, values=values)
        return both.regroup(both.clusters)

    def aligned(self, other: Self) -> Self:
        """Another's sums as they can be added to these.

        Raises:
            ProtocolError: They are of other classes.
        """
        if self.classes != other.classes:
            raise ProtocolError(f"statistics of different classes cannot be added: {self.classes} and {other.classes}")
        return other

    def pack(self) -> dict[str, Any]:
        """JSON-ready, but for the names of the clusters: only what is not zero, numbers to ten digits."""
        return {"kind": self.kind, **self.header(), **_sparse(self.values)}

    @classmethod
    def unpack(cls, record: Mapping[str, Any], clusters: tuple[str, ...]) -> Self:
        """Inverse of `pack`.

        Raises:
            ProtocolError: Sums of this kind are not kept with results, so no record of them exists.
        """
        raise ProtocolError(f"sums of the kind {cls.__name__} are not kept with results", remedy="Score the predictions again.")

    def header(self) -> dict[str, Any]:
        """What a record holds beside the numbers."""
        return {}

    def _declared(self, name: str) -> tuple[Metric, int | None] | None:
        exact = METRICS.get(name)
        if exact is not None and exact.sums is type(self):
            return exact, None
        for declared in METRICS.values():
            if declared.sums is type(self) and declared.name.endswith(CLASS):
                label = name.removeprefix(declared.name.removesuffix(CLASS))
                if label != name and label in self.classes:
                    return declared, self.classes.index(label)
        return None


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums of several kinds over the same clusters.

    Attributes:
        kinds: At least one; all over the same clusters in the same order.
    """

    kinds: tuple[Sums, ...]

    @property
    def clusters(self) -> tuple[str, ...]:
        """Names of the clusters."""
        return self.kinds[0].clusters

    @property
    def units(self) -> Array:
        """(C,) scored units (pixels, for maps) of each cluster."""
        return self.kinds[0].units

    def find(self, metric: str) -> Sums | None:
        """The kind of sums that gives a metric; None where none does."""
        return next((sums for sums in self.kinds if sums.gives(metric)), None)

    def regroup(self, groups: Sequence[str] | Clusters) -> Tally:
        """Add clusters up to larger ones; `groups` names the larger cluster of each."""
        larger = groups if isinstance(groups, Clusters) else Clusters.of(groups)
        return Tally(tuple(sums.regroup(larger) for sums in self.kinds))

    def take(self, rows: NDArray[np.intp]) -> Tally:
        """The clusters at some positions."""
        return Tally(tuple(sums.take(rows) for sums in self.kinds))

    def scores(self, task: str) -> dict[str, float]:
        """Every score of all clusters together that applies to a kind of task, and `n`, the scored units.

        A score over all classes is NaN where it is undefined; that of a class is left out there.
        """
        found = {"n": float(self.units.sum())}
        for sums in self.kinds:
            totals = sums.vectors.sum(0)
            parts = sums.parts(totals)
            for declared in METRICS.values():
                if declared.sums is not type(sums) or task not in declared.tasks:
                    continue
                values = np.asarray(declared.function(parts), dtype=np.float64)
                stem = declared.name.removesuffix(CLASS)
                if stem == declared.name:
                    found[stem] = float(values)
                    continue
                of_classes = zip(sums.classes, values.tolist(), strict=True)
                found.update({f"{stem}{label}": value for label, value in of_classes if value == value})
        return found


class UnitSums(Protocol):
    """Sums of some units in a fixed order: by any grouping of them, and as a whole. What predictions give, whatever they are of."""

    @property
    def scaled(self) -> Tally | None:
        """Calibration of all units together after scaling by a temperature; None without one."""

    def sums(self, clusters: Clusters) -> Tally:
        """The sums that results keep, by cluster of each unit."""

    def scores(self, task: str, regions: Clusters | None = None) -> dict[str, float]:
        """Every score of all units together that applies to a kind of task, and `n`, the scored units; see `Tally.scores`.

        Args:
            task: Kind of the task card.
            regions: Region of each unit, for scores over whole regions.
        """

    def value(self, metric: str) -> float:
        """A score of all units that does not follow from sums; NaN where it is not defined for them."""

    def take(self, rows: NDArray[np.intp]) -> UnitSums:
        """The sums of some of the units."""

    def curve(self) -> dict[str, list[float]] | None:
        """The reliability curve as results hold it; None for numbers and where there are no probabilities."""

    def beside(self, neighbours: SpatialWeights | None) -> UnitSums:
        """The same with who is whose neighbour, for scores of pattern on the map."""


def complex_step(evaluate: Callable[[NDArray], NDArray], totals: Array) -> Array:
    """Derivative of a score by each sum, exact to rounding (Squire & Trapp 1998, https://doi.org/10.1137/S003614459631241X)."""
    step = 1e-30
    width = totals.shape[-1]
    if totals.size * width <= _STEPS_AT_ONCE:
        moved = np.repeat(totals.astype(np.complex128)[None], width, axis=0)
        moved[np.arange(width), ..., np.arange(width)] += 1j * step
        return np.moveaxis(np.imag(evaluate(moved)) / step, 0, -1)
    slope = np.zeros(totals.shape)
    for d in range(width):
        moved = totals.astype(np.complex128)
        moved[..., d] += 1j * step
        slope[..., d] = np.imag(evaluate(moved)) / step
    return slope


def ratio(numerator: NDArray, denominator: NDArray, *, floor: NDArray | float = 0.0) -> NDArray:
    """Numerator over denominator, NaN where the denominator is not above the floor; carries complex steps."""
    denominator = np.asarray(denominator)
    defined = np.real(denominator) > floor
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)


def magnitude(values: NDArray) -> NDArray:
    """Absolute value that carries complex steps."""
    return np.sign(np.real(values)) * values


def _sparse(values: NDArray[Any]) -> dict[str, list[Any]]:
    """Places and values of what is not zero; places as steps, whole numbers as integers, others to ten digits."""
    flat = np.asarray(values).ravel()
    at = np.flatnonzero(flat)
    found = flat[at].astype(np.float64)
    whole = found == np.rint(found)
    numbers: list[Any] = [
        int(value) if exact else float(f"{value:.{_DIGITS}g}") for value, exact in zip(found.tolist(), whole, strict=True)
    ]
    return {"steps": np.diff(at, prepend=0).tolist(), "values": numbers}


def dense(record: Mapping[str, Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The numbers of a record that `Sums.pack` made; whole numbers come back as integers."""
    flat = np.zeros(int(np.prod(shape)), dtype=np.float64)
    flat[np.cumsum(np.asarray(record["steps"], dtype=np.intp))] = record["values"]
    return flat.reshape(shape)


def dense_counts(record: Mapping[str, Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """As `dense`, as integers where all are whole."""
    values = dense(record, shape)
    return values.astype(np.int64) if bool((values == np.rint(values)).all()) else values
