"""What a manifest's card says: rule, parameters, source, counts per role, group and class, distances."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.geodesy import nearest_place
from rs05bench.protocol.splits import ROLES, Fold, Split

if TYPE_CHECKING:
    from rs05bench.protocol.manifest import SplitManifest

SCHEMA_VERSION = 1
MOST_GROUPS = 250
"""A group column with more values than this is counted, not listed."""

_REVISION = re.compile(r"\b(?:at|@|revision)\s+([0-9a-f]{7,40})\b")


def describe(
    card: TaskCard,
    name: Split,
    folds: Sequence[Fold],
    manifest: SplitManifest,
    region: np.ndarray,
    units_digest: str,
    labels: Mapping[str, pd.Series] | None = None,
) -> dict[str, Any]:
    """The card of a manifest.

    Args:
        card: The task.
        name: The split.
        folds: Its folds.
        manifest: The manifest, without its card.
        region: Region of each unit, in the order of `manifest.units`.
        units_digest: Digest of the units the split was drawn over.
        labels: Class labels by target, indexed by `unit_id`, where they are available; only counted.
    """
    options = card.split_options
    placed = manifest.units
    classes = _classes(card, placed["unit_id"], labels)
    return {
        "schema_version": SCHEMA_VERSION,
        "task": card.name,
        "split": str(name),
        "version": manifest.version,
        "rule": name.rule.name,
        "group": card.group_column(name.group) if name.group else None,
        "seed": options.seed,
        "parameters": options.model_dump(mode="json"),
        "simulated": card.simulated,
        "source": card.source,
        "source_revision": _revision(card.source),
        "licence": card.licence,
        "citation": card.citation,
        "notes": card.notes,
        "units": len(placed),
        "unlocated": int(placed["lon"].isna().sum()),
        "units_digest": units_digest,
        "groups": {column: _values(placed[column]) for column in _group_columns(placed)},
        "classes": {target: _values(column) for target, column in classes.items()},
        "folds": {fold.name: {"held_out": list(fold.held_out), **_summary(fold.role, placed, region, classes)} for fold in folds},
        "can_be_main": name.rule.may_be_main,
        "digest": manifest.digest,
    }


def _group_columns(placed: pd.DataFrame) -> list[str]:
    return [name for name in placed.columns if name not in ("unit_id", "lon", "lat", "place", "year", "time")]


def _classes(card: TaskCard, ids: pd.Series, labels: Mapping[str, pd.Series] | None) -> dict[str, pd.Series]:
    if card.kind != "classification" or not labels:
        return {}
    return {target: values.reindex(ids).astype("string").fillna("no label").reset_index(drop=True) for target, values in labels.items()}


def _revision(source: str) -> str | None:
    found = _REVISION.findall(source)
    return ", ".join(dict.fromkeys(found)) or None


def _values(column: pd.Series) -> dict[str, int] | int:
    """Units a value, in the order of the values; only their number where there are many."""
    counted = column.astype(str).value_counts()
    if len(counted) > MOST_GROUPS:
        return len(counted)
    return {str(value): int(count) for value, count in sorted(counted.items())}


def _summary(role: np.ndarray, placed: pd.DataFrame, region: np.ndarray, classes: Mapping[str, pd.Series]) -> dict[str, Any]:
    """Counts a role, a role and region, a role and class; and how far test lies from training, metres."""
    summary: dict[str, Any] = {"counts": {name: int((role == name).sum()) for name in ROLES}}
    summary["regions"] = _crossed(region, role)
    if classes:
        summary["classes"] = {target: _crossed(values.to_numpy(dtype=object), role) for target, values in classes.items()}
    lon, lat = placed["lon"].to_numpy(), placed["lat"].to_numpy()
    train = role == "train"
    for test in ("test_id", "test_ood"):
        here = role == test
        if not here.any():
            continue
        distance = nearest_place(lon[here], lat[here], lon[train], lat[train])[0]
        known = distance[np.isfinite(distance)]
        if len(known):
            summary[f"{test}_to_train_m"] = {"min": round(float(known.min()), 1), "median": round(float(np.median(known)), 1)}
    return summary


def _crossed(values: np.ndarray, role: np.ndarray) -> dict[str, dict[str, int]]:
    """Value -> role -> units, without zeros; empty where there are many values."""
    if len(set(values)) > MOST_GROUPS:
        return {}
    table = pd.crosstab(pd.Series(values, dtype=object), pd.Series(role, dtype=object))
    return {
        str(value): {name: int(row[name]) for name in ROLES if name in row.index and row[name]}
        for value, row in zip(table.index, (table.loc[value] for value in table.index), strict=True)
    }
