"""What differs between two manifests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from rs05bench.protocol.manifest import SplitManifest


@dataclass(frozen=True, slots=True)
class ManifestDiff:
    """The difference of two manifests.

    Attributes:
        same_digest: Whether their content is the same.
        added: Rows (`fold`, `unit_id`, `role`) only in the second.
        removed: Rows only in the first.
        changed: Rows in both whose role or shift differs: `fold`, `unit_id`, `role_a`, `role_b`, `shift_a`, `shift_b`.
        moved: Ids of units in both whose position, place or year differs.
        card: Fields of the cards that differ: name -> (first, second); counts and digests are left out.
    """

    same_digest: bool
    added: pd.DataFrame
    removed: pd.DataFrame
    changed: pd.DataFrame
    moved: list[str]
    card: dict[str, tuple[Any, Any]]


_COMPARED = ("task", "split", "version", "rule", "group", "seed", "parameters", "simulated", "source", "licence", "units")


def diff_manifests(a: SplitManifest, b: SplitManifest) -> ManifestDiff:
    """Compares two manifests row by row."""
    keys = ["fold", "unit_id"]
    left, right = (m.table[[*keys, "role", "shift"]].astype(str) for m in (a, b))
    both = left.merge(right, on=keys, how="outer", suffixes=("_a", "_b"), indicator=True, sort=True)
    only_a, only_b, shared = (both[both["_merge"] == side] for side in ("left_only", "right_only", "both"))
    changed = shared[(shared["role_a"] != shared["role_b"]) | (shared["shift_a"] != shared["shift_b"])]
    return ManifestDiff(
        a.digest == b.digest,
        only_b[[*keys, "role_b"]].rename(columns={"role_b": "role"}).reset_index(drop=True),
        only_a[[*keys, "role_a"]].rename(columns={"role_a": "role"}).reset_index(drop=True),
        changed[[*keys, "role_a", "role_b", "shift_a", "shift_b"]].reset_index(drop=True),
        _moved(a.units, b.units),
        {name: (a.card.get(name), b.card.get(name)) for name in _COMPARED if a.card.get(name) != b.card.get(name)},
    )


def _moved(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    one, other = (_spelled(units) for units in (a, b))
    shared = one.index.intersection(other.index)
    return sorted(shared[one.loc[shared].to_numpy() != other.loc[shared].to_numpy()])


def _spelled(units: pd.DataFrame) -> pd.Series:
    """What a digest covers of a unit, as one text, by `unit_id`."""
    lon, lat = (units[axis].map(lambda value: "" if pd.isna(value) else f"{value:.7f}") for axis in ("lon", "lat"))
    year = units["year"].map(lambda value: "" if pd.isna(value) else str(int(value)))
    text = lon + "\t" + lat + "\t" + units["place"].astype(str) + "\t" + year
    return pd.Series(text.to_numpy(dtype=object), index=units["unit_id"].astype(str))
