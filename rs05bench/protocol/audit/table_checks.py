"""What a table gives away: copies between training and test, the target among the features, the order of rows, the sampling design."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.protocol.audit.audit_pair import AuditCheck, AuditPair
from rs05bench.protocol.audit.audit_report import Case, Finding
from rs05bench.protocol.audit.copies import near_copies
from rs05bench.protocol.audit.odd_values import odd_features, odd_labels
from rs05bench.protocol.audit.row_order import ids_in_label_order, row_order
from rs05bench.protocol.audit.sampling import sampling_design, sensor_changes
from rs05bench.protocol.audit.target_copies import target_copies
from rs05bench.protocol.audit.values import are_numbers
from rs05bench.protocol.intake.keys import two_spellings
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.taskdata import TaskSource

MOST_CASES = 5


def audit_table(source: TaskSource, manifest: SplitManifest | None, target: str | None = None) -> list[Finding]:
    """Looks for what lets a model know a label without seeing the land.

    Args:
        source: A table of units with features and labels.
        manifest: A split over it, whose folds are searched for copies; None searches for none.
        target: Which target; default the card's first.

    Returns:
        The findings; those that matter have the level `leak` or `warning`.
    """
    card, units = source.card, source.units().frame
    labels = source.labels(target or card.targets[0]).reindex(units["unit_id"]).reset_index(drop=True)
    spelled = [_spellings(name, "group", units[name]) for name in source.units().groups]
    spelled += [_spellings("ids", "place", units["place"])] if card.unit or card.place else []
    spelled += [_spellings(target or card.targets[0], "class", labels)] if card.kind == "classification" else []
    spelled += odd_labels(target or card.targets[0], labels, card.kind)
    spelled += sampling_design(units, labels, source.units().groups, card.kind)
    spelled += sensor_changes(units, source.units().observations)
    spelled += ids_in_label_order(units["unit_id"], labels, card.kind, card.name)
    columns, values = _features(source)
    if not columns:
        return spelled
    found = [*spelled, _constants(columns, values), _repeated(units, values), *odd_features(source)]
    found += [*target_copies(columns, values, labels, card.kind), *row_order(columns, values)]
    return found if manifest is None else [*found, *_copies(manifest, units, values)]


def warnings_of_table(source: TaskSource, manifest: SplitManifest | None, target: str | None = None) -> list[str]:
    """The sentences of `audit_table` that a person should read."""
    return [finding.sentence for finding in audit_table(source, manifest, target) if finding.level in ("leak", "warning")]


def _spellings(name: str, what: str, values: pd.Series) -> Finding:
    """Keys in two spellings: as two groups or places, one would train while the other is held out."""
    found = two_spellings(values.dropna().unique(), accents=False)
    check = f"{what}_spellings:{name}"
    if not found:
        return Finding(check=check, level="pass", sentence=f"{name}: every {what} is spelled one way", count=0)
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Finding(check=check, level="warning", sentence=f"{name}: one {what} in two spellings? {found[0]}{more}", count=len(found))


def _constants(columns: list[str], values: npt.NDArray[np.float32]) -> Finding:
    """Features with one value: what looks like an embedding may be a failed extraction."""
    seen = np.isfinite(values)
    least, most = np.where(seen, values, np.inf).min(axis=0, initial=np.inf), np.where(seen, values, -np.inf).max(axis=0, initial=-np.inf)
    still = [columns[index] for index in np.flatnonzero(least >= most)]
    shown = f"{', '.join(still[:4])}{', …' if len(still) > 4 else ''}"
    sentence = f"{len(still)} of {len(columns)} feature columns hold one value only ({shown}): nothing can be learnt from them"
    return Finding(
        check="constant_features",
        level="warning" if still else "pass",
        sentence=sentence if still else "features with one value only: none",
        count=len(still),
        of=len(columns),
    )


def _repeated(units: pd.DataFrame, values: npt.NDArray[np.float32]) -> Finding:
    """Units with the features, the place and the year of another: one row copied counts twice, and may be on both sides."""
    known = np.isfinite(values).any(axis=1) & (values != values[:1]).any()
    same = units[["lon", "lat", "year"]].assign(features=pd.util.hash_pandas_object(pd.DataFrame(values), index=False).to_numpy())
    copies = int((same.duplicated().to_numpy() & known).sum())
    sentence = f"{copies:,} units have the features, the place and the year of another unit: remove the copies, or they count twice"
    return Finding(
        check="exact_copies",
        level="warning" if copies else "pass",
        sentence=sentence if copies else "units that repeat another: none",
        count=copies,
        of=len(units),
    )


def _features(source: TaskSource) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Every column of every feature set once, (n, d); sequences and images are left out."""
    names: list[str] = []
    parts: list[npt.NDArray[np.float32]] = []
    for name in source.card.features:
        columns, values = source.features(name)
        if values.ndim != 2:
            continue
        new = [index for index, column in enumerate(columns) if column not in names]
        names += [columns[index] for index in new]
        parts.append(values[:, new])
    return names, np.concatenate(parts, axis=1) if parts else np.empty((0, 0), dtype=np.float32)


def _copies(manifest: SplitManifest, units: pd.DataFrame, values: npt.NDArray[np.float32]) -> list[Finding]:
    usable = np.isfinite(values).all(axis=1) & (values != 0).any(axis=1)
    concerned: dict[str, Case] = {}
    asked = 0
    threshold = None
    # Known places in another year look alike by design, and a random split is known to leak.
    searched = manifest.folds if manifest.split.rule.fixed_tests and not manifest.split.rule.needs_year else []
    for fold in searched:
        members = manifest.members(fold)
        rows = members.rows_in(units)
        there = rows >= 0
        there[there] = usable[rows[there]]
        learnt = there & np.isin(members.role, ["train", "val"])
        # Units of a region that trains have neighbours there by right; those of a held-out one have none.
        tested = there & (members.role == ("test_ood" if (members.role == "test_ood").any() else "test_id"))
        group = members.region[learnt]
        if len(pd.unique(group)) < 2:
            group = members.block[learnt]
        found = near_copies(values, rows[learnt], values, rows[tested], group)
        if found is None:
            continue
        asked, threshold = asked + found.asked, found.threshold
        for test, train, ratio in zip(found.test, found.train, found.ratio, strict=True):
            one, other = members.unit_id[tested][test], members.unit_id[learnt][train]
            concerned.setdefault(
                str(one), Case(test=str(one), train=str(other), detail=f"{ratio:.3f} times as near as its nearest neighbour")
            )
    if threshold is None:
        return [Finding(check="near_copies", level="not_checked", sentence="near copies: not checked, too few features or units")]
    if len(concerned) < 3:
        return [Finding(check="near_copies", level="pass", sentence=f"near copies: none among {asked:,} tested units", count=0, of=asked)]
    first = next(iter(concerned.values()))
    sentence = (
        f"near copies: {len(concerned):,} test units have the features of a training unit, or nearly so, e.g. {first.test!r} and "
        f"{first.train!r}: the same pixels under two ids or places"
    )
    return [
        Finding(
            check="near_copies",
            level="leak",
            sentence=sentence,
            count=len(concerned),
            of=asked,
            numbers={"threshold": threshold},
            cases=list(concerned.values())[:MOST_CASES],
        )
    ]


def _of_labels(pair: AuditPair) -> list[Finding]:
    """What tells the labels of two lists without the ground, as far as labels, features, years and groups were named."""
    sides = (pair.train, pair.test)
    if pair.train.label is None or pair.test.label is None:
        return []
    labels = pd.concat([pair.train.label, pair.test.label], ignore_index=True)
    kind = "regression" if are_numbers(labels) else "classification"
    units = pd.DataFrame({"lon": np.concatenate([side.lon for side in sides]), "lat": np.concatenate([side.lat for side in sides])})
    if pair.train.year is not None and pair.test.year is not None:
        units["year"] = np.concatenate([pair.train.year, pair.test.year])
    groups = sorted(set(pair.train.groups) & set(pair.test.groups))
    for name in groups:
        units[name] = pd.concat([side.groups[name] for side in sides], ignore_index=True)
    found = sampling_design(units, labels, groups, kind)
    for side in sides:
        if side.ids is not None and side.label is not None:
            found += ids_in_label_order(side.ids, side.label, kind, side.source)
    if pair.train.features is not None and pair.test.features is not None:
        names, values = list(pair.train.feature_names), np.concatenate([pair.train.features, pair.test.features])
        found += [*target_copies(names, values, labels, kind), *row_order(names, values)]
    return found


CHECKS = (AuditCheck("labels without the ground", 110, _of_labels),)
