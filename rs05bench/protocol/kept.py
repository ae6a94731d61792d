"""The sums a result keeps, so that any interval, drop or comparison can be computed later without its predictions.

A row is one test block under one shift on one ground, split further by the declared groups (income fifth, biome, year) where that stays
small. Rows add up to blocks, regions, grounds and groups; what a bootstrap resamples is chosen when the question is asked.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError, ProtocolError
from rs05bench.protocol.metrics import Boundary, Calibration, Confusion, Moments, Sums, Tally

FORMAT = 1
PLACE_KEYS = ("shift", "ground", "region", "block")
MOST_ROWS = 1500
"""More rows than this are added up: first over the declared groups that are not fairness groups, then over all, then to whole regions."""
Names = NDArray[np.object_]
_KINDS: dict[str, type[Sums]] = {kind.kind: kind for kind in (Confusion, Moments, Calibration, Boundary)}


@dataclass(frozen=True, eq=False)
class KeptSums:
    """Sums of one test role of one cell.

    Args:
        keys: `shift`, `ground`, `region`, `block` and the group columns kept, each (R,).
        stats: Kinds of sums (confusion, calibration, moments, boundary) over the same R rows.
    """

    keys: Mapping[str, Names]
    stats: tuple[Sums, ...]

    def __len__(self) -> int:
        return len(next(iter(self.keys.values())))

    def of(self, metric: str) -> Sums:
        """The kind of sums that gives a metric.

        Raises:
            ProtocolError: None does.
        """
        found = Tally(self.stats).find(metric)
        if found is None:
            raise ProtocolError(f"the sums kept with results do not give {metric!r}", remedy="Score it from the stored predictions.")
        return found

    def gives(self, metric: str) -> bool:
        """Whether a metric follows from these sums."""
        return Tally(self.stats).find(metric) is not None

    def add_up(self, metric: str, *columns: str, where: NDArray[np.bool_] | None = None) -> Sums:
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
        return self.stats[0].units

    def pack(self) -> str:
        """Text that holds all of it: JSON, deflated, in base64. `unpack` is the inverse."""
        keys: dict[str, Any] = {}
        for name, values in self.keys.items():
            different, codes = np.unique(values.astype(str), return_inverse=True)
            keys[name] = different.tolist() if len(different) == 1 else {"values": different.tolist(), "codes": codes.ravel().tolist()}
        record = {"format": FORMAT, "rows": len(self), "keys": keys, "stats": [stats.pack() for stats in self.stats]}
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
            clusters = tuple(map(str, range(rows)))
            return cls(keys, tuple(_KINDS[entry["kind"]].unpack(entry, clusters) for entry in record["stats"]))
        except (ValueError, KeyError, TypeError, IndexError, zlib.error) as error:
            raise DataError(f"the kept sums of a result cannot be read: {error}") from error


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
