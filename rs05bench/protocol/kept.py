"""The sums a result keeps, so that any interval, drop or comparison can be computed later without its predictions.

A row is one test block under one shift on one ground, split further by the declared groups (income fifth, biome, year) where that stays
small. Rows add up to blocks, regions, grounds and groups; what a bootstrap resamples is chosen when the question is asked.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.metrics.cluster_boundary import ClusterBoundary
from rs05bench.protocol.metrics.cluster_calibration import ClusterCalibration
from rs05bench.protocol.metrics.cluster_confusion import ClusterConfusion
from rs05bench.protocol.metrics.cluster_moments import MOMENTS, ClusterMoments

FORMAT = 1
PLACE_KEYS = ("shift", "ground", "region", "block")
MOST_ROWS = 1500
"""More rows than this are added up: first over the declared groups that are not fairness groups, then over all, then to whole regions."""
_DIGITS = 10

Stats = ClusterConfusion | ClusterMoments | ClusterCalibration | ClusterBoundary
Names = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class KeptSums:
    """Sums of one test role of one cell.

    Args:
        keys: `shift`, `ground`, `region`, `block` and the group columns kept, each (R,).
        stats: Kinds of sums (confusion, calibration, moments, boundary) over the same R rows.
    """

    keys: Mapping[str, Names]
    stats: tuple[Stats, ...]

    def __len__(self) -> int:
        return len(next(iter(self.keys.values())))

    def of(self, metric: str) -> Stats:
        """The kind of sums that gives a metric.

        Raises:
            ProtocolError: None does.
        """
        for stats in self.stats:
            if gives(stats, metric):
                return stats
        raise ProtocolError(f"the sums kept with results do not give {metric!r}", remedy="Score it from the stored predictions.")

    def gives(self, metric: str) -> bool:
        """Whether a metric follows from these sums."""
        return any(gives(stats, metric) for stats in self.stats)

    def add_up(self, metric: str, *columns: str, where: NDArray[np.bool_] | None = None) -> Stats:
        """The sums of a metric with rows added up to clusters named by some key columns (joined by tabs).

        Args:
            metric: The metric.
            columns: Key columns that name a cluster.
            where: (R,) which rows to take; default all.
        """
        stats = self.of(metric)
        names = joined(self.keys, columns)
        if where is not None:
            stats, names = stats.select([stats.clusters[row] for row in np.flatnonzero(where)]), names[where]
        return stats.regroup(list(names))

    @property
    def units(self) -> NDArray[np.float64]:
        """(R,) scored units (pixels, for maps) of each row."""
        return counted(self.stats[0])

    def pack(self) -> str:
        """Text that holds all of it: JSON, deflated, in base64. `unpack` is the inverse."""
        keys: dict[str, Any] = {}
        for name, values in self.keys.items():
            different, codes = np.unique(values.astype(str), return_inverse=True)
            keys[name] = different.tolist() if len(different) == 1 else {"values": different.tolist(), "codes": codes.ravel().tolist()}
        record = {"format": FORMAT, "rows": len(self), "keys": keys, "stats": [_to_record(stats) for stats in self.stats]}
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=False)
        return base64.b64encode(zlib.compress(text.encode(), 6)).decode("ascii")

    @classmethod
    def unpack(cls, text: str) -> KeptSums:
        """Reads packed sums.

        Raises:
            DataError: The text is not such a record.
        """
        try:
            record = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
            rows = int(record["rows"])
            keys = {name: _column(entry, rows) for name, entry in record["keys"].items()}
            return cls(keys, tuple(_READERS[entry["kind"]](entry, rows) for entry in record["stats"]))
        except (ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
            raise DataError(f"the kept sums of a result cannot be read: {error}") from error


def gives(stats: Stats, metric: str) -> bool:
    """Whether some sums give a metric."""
    key = (type(stats), getattr(stats, "classes", None), metric)
    if key not in _GIVES:
        try:
            stats.evaluate(metric, np.zeros(stats.vectors.shape[1]))
            _GIVES[key] = True
        except ProtocolError:
            _GIVES[key] = False
    return _GIVES[key]


_GIVES: dict[tuple[type, tuple[str, ...] | None, str], bool] = {}


def counted(stats: Stats) -> NDArray[np.float64]:
    """(C,) scored units (pixels, for maps) of each cluster."""
    if isinstance(stats, ClusterConfusion):
        return np.asarray(stats.counts, dtype=np.float64).sum((1, 2))
    if isinstance(stats, ClusterMoments):
        return stats.sums[:, 0]
    if isinstance(stats, ClusterCalibration):
        return stats.sums[:, : (stats.sums.shape[1] - 2) // 3].sum(1)
    return np.asarray(stats.counts, dtype=np.float64).sum((1, 2))


def scaled(stats: Stats, factor: float) -> Stats:
    """The sums times a factor: a unit that several folds test counts for its share in each."""
    if isinstance(stats, ClusterConfusion | ClusterBoundary):
        return replace(stats, counts=np.asarray(stats.counts, dtype=np.float64) * factor)
    return replace(stats, sums=stats.sums * factor)


def joined(keys: Mapping[str, Names], columns: Sequence[str]) -> Names:
    """Names of clusters: the key columns joined by tabs.

    Raises:
        ProtocolError: A column that was not kept.
    """
    missing = [column for column in columns if column not in keys]
    if missing:
        raise ProtocolError(f"the kept sums are not split by {missing}", remedy=f"They are split by {list(keys)}.")
    first = keys[columns[0]]
    if len(columns) == 1:
        return first
    return np.array(["\t".join(map(str, row)) for row in zip(*(keys[column] for column in columns), strict=True)], dtype=object)


def choose_keys(tested: pd.DataFrame, groups: Sequence[str], fairness: Sequence[str]) -> list[str]:
    """Which columns name a row, decided over all folds of a split at once, so that every cell of it keeps the same rows.

    Args:
        tested: A row a test unit: `shift`, `ground`, `region`, `block` and the group columns.
        groups: Group columns (and the year).
        fairness: Those of them that errors are reported by.
    """
    place = list(PLACE_KEYS)
    for columns in ([*place, *groups], [*place, *fairness], place):
        if len(tested[columns].drop_duplicates()) <= MOST_ROWS:
            return columns
    return ["shift", "ground", "region"]


def _column(entry: Any, rows: int) -> Names:
    if isinstance(entry, list):
        return np.full(rows, entry[0] if entry else "", dtype=object)
    values = np.array(entry["values"], dtype=object)[np.asarray(entry["codes"], dtype=np.intp)]
    if len(values) != rows:
        raise ValueError(f"a key has {len(values)} rows of {rows}")
    return values


def _to_record(stats: Stats) -> dict[str, Any]:
    if isinstance(stats, ClusterConfusion):
        return {"kind": "confusion", "classes": list(stats.classes), "background": stats.background, **_sparse(stats.counts)}
    if isinstance(stats, ClusterBoundary):
        return {"kind": "boundary", "classes": list(stats.classes), **_sparse(stats.counts)}
    if isinstance(stats, ClusterMoments):
        return {"kind": "moments", "origin": stats.origin, **_sparse(stats.sums)}
    return {"kind": "calibration", "width": stats.sums.shape[1], **_sparse(stats.sums)}


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


def _dense(record: Mapping[str, Any], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    flat = np.zeros(int(np.prod(shape)), dtype=np.float64)
    flat[np.cumsum(np.asarray(record["steps"], dtype=np.intp))] = record["values"]
    whole = dtype is np.int64 and bool((flat == np.rint(flat)).all())
    return (flat.astype(np.int64) if whole else flat).reshape(shape)


def _rows(rows: int) -> tuple[str, ...]:
    return tuple(map(str, range(rows)))


def _confusion(record: Mapping[str, Any], rows: int) -> Stats:
    classes = tuple(record["classes"])
    shape = (rows, len(classes), len(classes))
    return ClusterConfusion(_rows(rows), classes, _dense(record, shape, np.int64), record["background"])


def _boundary(record: Mapping[str, Any], rows: int) -> Stats:
    classes = tuple(record["classes"])
    return ClusterBoundary(_rows(rows), classes, _dense(record, (rows, len(classes), 4), np.int64))


def _moments(record: Mapping[str, Any], rows: int) -> Stats:
    return ClusterMoments(_rows(rows), float(record["origin"]), _dense(record, (rows, len(MOMENTS)), np.float64))


def _calibration(record: Mapping[str, Any], rows: int) -> Stats:
    return ClusterCalibration(_rows(rows), _dense(record, (rows, int(record["width"])), np.float64))


_READERS: dict[str, Callable[[Mapping[str, Any], int], Stats]] = {
    "confusion": _confusion,
    "boundary": _boundary,
    "moments": _moments,
    "calibration": _calibration,
}
