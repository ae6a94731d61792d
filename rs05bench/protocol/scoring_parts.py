"""The test units of a fold laid out for scoring: which block, ground and group each is in. Computed once a fold, for every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.kept import MOST_ROWS, choose_keys, joined
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics import Clusters
from rs05bench.protocol.metrics.spatial import SpatialWeights, knn_weights
from rs05bench.protocol.scored_labels import ScoredLabels

TEST_ROLES = ("test_id", "test_ood")
MOST_GROUPS = 200
"""Group columns with more values than this are not scored value by value."""
MOST_FOR_MORAN = 20_000
"""Moran's I of more units than this is not computed with every cell."""
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that sums are kept over.

    Args:
        keys: Key columns of the rows, each (R,).
        row_of: (n,) row of each unit.
    """

    keys: Mapping[str, NDArray[np.object_]]
    row_of: NDArray[np.intp]

    def __len__(self) -> int:
        return len(next(iter(self.keys.values())))


@dataclass(frozen=True)
class Part:
    """The test units of one role; everything that does not depend on the predictions.

    Args:
        role: The role.
        units: (n,) where its units stand among the fold's scored units.
        keys: Key columns of the rows of its sums, each (R,).
        row_of: (n,) row of each unit.
        strata: (shift, ground, group) of each.
        stratum_of: (n,) which of them each unit is in.
        groups: Group column -> its values here, and (n,) which of them each unit has.
        apart: Fairness column that `keys` lacks -> rows by `block` and that column.
        lonlat: (n, 2) positions in degrees, NaN where unknown.
    """

    role: str
    units: NDArray[np.intp]
    keys: Mapping[str, NDArray[np.object_]]
    row_of: NDArray[np.intp]
    strata: list[tuple[str, str, str]]
    stratum_of: NDArray[np.intp]
    groups: Mapping[str, tuple[list[str], NDArray[np.intp]]]
    apart: Mapping[str, Rows]
    lonlat: Array

    @property
    def rows(self) -> int:
        """Rows of its sums."""
        return len(next(iter(self.keys.values())))

    @property
    def shifts(self) -> list[str]:
        """What changes from training to some of the units, each kind once."""
        return sorted({shift for shift, _, _ in self.strata})

    def under(self, shift: str) -> NDArray[np.intp]:
        """Rows of the units under a shift."""
        return np.flatnonzero(np.isin(self.stratum_of, [i for i, (of, _, _) in enumerate(self.strata) if of == shift]))

    @property
    def regions(self) -> Clusters:
        """Group that the split moves (a region, or a year) of each unit."""
        return Clusters.of(np.array([group for _, _, group in self.strata])[self.stratum_of])

    @cached_property
    def weights(self) -> SpatialWeights | None:
        """Neighbours, where every unit has a position and they are not too many."""
        if not 3 <= len(self.units) <= MOST_FOR_MORAN or not np.isfinite(self.lonlat).all():
            return None
        return knn_weights(self.lonlat)


def lay_out(card: TaskCard, manifest: SplitManifest, rows: pd.DataFrame, labels: ScoredLabels) -> tuple[Part, ...]:
    """The test roles of a fold that have units.

    Args:
        card: The task.
        manifest: Its split.
        rows: The fold's test rows that are scored; `Part.units` counts in these.
        labels: What is scored against.
    """
    columns = key_columns(card, manifest, labels)
    placed = manifest.units.set_index("unit_id")
    table = described(card, manifest, rows, placed)
    table["group"] = table["ground"] if manifest.split.rule.name == "leave-year" else table["region"]
    role = rows["role"].astype(str).to_numpy(dtype=object)
    lonlat = placed.loc[rows["unit_id"].to_numpy(dtype=object), ["lon", "lat"]].to_numpy(dtype=np.float64)
    return tuple(_part(card, name, np.flatnonzero(role == name), table, columns, lonlat) for name in TEST_ROLES if (role == name).any())


def key_columns(card: TaskCard, manifest: SplitManifest, labels: ScoredLabels) -> list[str]:
    """The columns that name a row of kept sums, the same in every fold of a split."""
    tested = manifest.table[manifest.table["role"].isin(TEST_ROLES)]
    tested = tested[labels.scored(tested["unit_id"].to_numpy(dtype=object))]
    table = described(card, manifest, tested, manifest.units.set_index("unit_id"))
    # Shift and role differ between folds; within one, a unit has one of each.
    table["shift"] = ""
    groups = [column for column in table.columns if column not in ("unit_id", "shift", "ground", "region", "block")]
    return choose_keys(table.drop_duplicates(), groups, card.fairness_groups)


def described(card: TaskCard, manifest: SplitManifest, rows: pd.DataFrame, placed: pd.DataFrame) -> pd.DataFrame:
    """`shift`, `ground`, `region`, `block` and the group columns of some rows of a manifest, as text."""
    ids = rows["unit_id"].to_numpy(dtype=object)
    columns = {name: rows[name].astype(str).to_numpy(dtype=object) for name in ("shift", "region", "block")}
    columns["ground"] = manifest.grounds().reindex(ids).fillna("").astype(str).to_numpy(dtype=object)
    there = placed.loc[ids]
    columns |= {name: there[name].astype(str).to_numpy(dtype=object) for name in card.groups}
    if card.year is not None:
        columns["year"] = there["year"].astype(str).to_numpy(dtype=object)
    return pd.DataFrame(columns)


def _part(card: TaskCard, role: str, at: NDArray[np.intp], table: pd.DataFrame, columns: list[str], lonlat: Array) -> Part:
    here = {name: table[name].to_numpy(dtype=object)[at] for name in table.columns}
    first, row_of = _codes(joined(here, columns))
    of_stratum, stratum_of = _codes(joined(here, ["shift", "ground", "group"]))
    strata = [(str(here["shift"][i]), str(here["ground"][i]), str(here["group"][i])) for i in of_stratum]
    groups: dict[str, tuple[list[str], NDArray[np.intp]]] = {}
    for column in dict.fromkeys([*card.groups, *card.fairness_groups, *(["year"] if card.year is not None else [])]):
        one, code = _codes(here[column])
        groups[column] = ([str(here[column][i]) for i in one], code)
    keys = {name: here[name][first] for name in columns}
    apart = {
        column: _by_block_and_group(here["block"], column, *groups[column])
        for column in card.fairness_groups
        if column not in columns and len(groups[column][0]) <= MOST_GROUPS
    }
    return Part(role, at, keys, row_of, strata, stratum_of, groups, apart, lonlat[at])


def _by_block_and_group(block: NDArray[np.object_], column: str, names: list[str], code: NDArray[np.intp]) -> Rows:
    """At most `MOST_ROWS` rows: where blocks times groups are more, blocks next to each other in name order are one cluster."""
    first, block_of = _codes(block)
    clusters = min(len(first), MOST_ROWS // len(names))
    cluster_of = np.arange(len(first)) * clusters // len(first)
    lead = np.searchsorted(cluster_of, np.arange(clusters))
    row, row_of = np.unique(code * clusters + cluster_of[block_of], return_inverse=True)
    keys = {"block": block[first[lead[row % clusters]]], column: np.array(names, dtype=object)[row // clusters]}
    return Rows(keys, row_of.ravel())


def _codes(names: NDArray[np.object_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each different name first stands, in name order, and which of them each entry is."""
    _, first, inverse = np.unique(names.astype(str), return_index=True, return_inverse=True)
    return first, inverse.ravel()
