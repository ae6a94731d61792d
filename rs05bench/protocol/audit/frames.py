"""The audit of two lists: every check, one report."""

from __future__ import annotations

import functools
import importlib
import pkgutil

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.audit.audit_pair import AuditCheck, AuditPair
from rs05bench.protocol.audit.audit_report import AuditReport, Finding, Shift, Thresholds, verdict_of
from rs05bench.protocol.audit.audit_side import AuditColumns, Units, prepare
from rs05bench.protocol.audit.nearness import within

# Enough points to show where training and test lie; more only blackens the map.
MAPPED = 4_000


def audit_frames(
    train: pd.DataFrame,
    test: pd.DataFrame,
    columns: AuditColumns,
    *,
    shift: Shift = "none",
    thresholds: Thresholds | None = None,
    train_source: str = "train",
    test_source: str = "test",
) -> AuditReport:
    """Look for everything that lets a model know a test unit from training.

    Args:
        train: Training units, one row each (a GeoDataFrame brings footprints).
        test: Test units.
        columns: Which column holds what; what is not named is not checked, and the report says so.
        shift: What the split declares to change between training and test. With ``"year"`` the same place in another year is no leak,
            and units are judged against training units of their own year only.
        thresholds: From where on something is a leak.
        train_source: Name of the training list in messages.
        test_source: Name of the test list.

    Returns:
        The report; ``report.verdict`` is ``clean``, ``leaks`` or ``unlocated``.

    Raises:
        DataError: A list is empty, a column is missing, or coordinates, years or dates are not what they should be.

    >>> train = pd.DataFrame({"id": ["007", "008"], "lon": [10.0, 11.0], "lat": [50.0, 50.0], "tile": ["32UNA", "32UPA"]})
    >>> test = pd.DataFrame({"id": ["7", "009"], "lon": [10.0, 14.0], "lat": [50.5, 50.0], "tile": ["32UNA", "33UVR"]})
    >>> report = audit_frames(train, test, AuditColumns(id="id", lon="lon", lat="lat", groups=["tile"]))
    >>> report.verdict, report.shared_ids, report.shared_groups, report.within_km
    ('leaks', 0, {'tile': 1}, {'1': 0, '10': 0, '30': 0, '100': 1})
    """
    limits = thresholds or Thresholds()
    ours, theirs = prepare(test, columns, source=test_source), prepare(train, columns, source=train_source)
    if (
        columns.features
        and ours.features is not None
        and theirs.features is not None
        and ours.features.shape[1] != theirs.features.shape[1]
    ):
        raise DataError(
            f"{ours.features.shape[1]} feature columns, but {theirs.features.shape[1]} in {train_source}",
            source=test_source,
            remedy="Both lists need the same feature columns.",
        )
    return audit_units(theirs, ours, shift=shift, thresholds=limits)


def audit_units(train: Units, test: Units, *, shift: Shift, thresholds: Thresholds) -> AuditReport:
    """The audit of two prepared lists; see `audit_frames`."""
    pair = AuditPair(train, test, shift, thresholds)
    findings = [finding for check in all_checks() for finding in check.look(pair)]
    return build_report(train, test, findings, pair.km, pair.touched, shift=shift, thresholds=thresholds)


@functools.cache
def all_checks() -> tuple[AuditCheck, ...]:
    """Every check, in the order of the report. A check is found by standing in the `CHECKS` of a module of this folder."""
    folder = importlib.import_module("rs05bench.protocol.audit")
    modules = [importlib.import_module(f"{folder.__name__}.{info.name}") for info in pkgutil.iter_modules(folder.__path__)]
    found = [check for module in modules for check in getattr(module, "CHECKS", ())]
    return tuple(sorted(found, key=lambda check: (check.rank, check.name)))


def build_report(
    train: Units,
    test: Units,
    findings: list[Finding],
    km: npt.NDArray[np.float64],
    touched: int | None,
    *,
    shift: Shift,
    thresholds: Thresholds,
) -> AuditReport:
    """Gather findings into a report with its verdict.

    Args:
        train: Training units.
        test: Test units.
        findings: What the checks said.
        km: Distance of every test unit to its nearest training unit.
        touched: Test units whose footprint touches a training footprint, None where unknown.
        shift: What the split declares to change.
        thresholds: The limits the findings were judged by.
    """
    unlocated, unlocated_train = int((~test.located).sum()), int((~train.located).sum())
    location = _location(train, test, unlocated, unlocated_train)
    findings = [*findings, *([location] if location else [])]
    known = km[np.isfinite(km)]
    groups = {found.check.partition(":")[2]: found.count or 0 for found in findings if found.check.startswith("shared_group:")}
    report = AuditReport(
        train_source=train.source,
        test_source=test.source,
        shift=shift,
        n_train=len(train),
        n_test=len(test),
        shared_ids=next((found.count for found in findings if found.check == "shared_ids"), None),
        shared_groups=groups,
        touching=touched,
        within_km=within(km),
        median_nearest_km=float(np.median(known)) if len(known) else None,
        unlocated=unlocated,
        unlocated_train=unlocated_train,
        verdict=verdict_of(findings, unlocated=unlocated + unlocated_train),
        findings=findings,
        thresholds=thresholds,
        located=_points(train, "train", thresholds.seed) + _points(test, "test", thresholds.seed),
    )
    report._nearest_km = known
    return report


def _location(train: Units, test: Units, unlocated: int, unlocated_train: int) -> Finding | None:
    null_island = sum(int(((side.lon == 0) & (side.lat == 0)).sum()) for side in (train, test))
    if null_island:
        sentence = f"location: {null_island:,} units lie at longitude 0, latitude 0, where blanks usually end up"
        return Finding(check="location", level="warning", sentence=sentence, count=null_island)
    if not unlocated + unlocated_train:
        return None
    sentence = (
        f"location: {unlocated:,} of {len(test):,} test and {unlocated_train:,} of {len(train):,} training units have no position; "
        "nothing can be said of their distances"
    )
    return Finding(check="location", level="note", sentence=sentence, count=unlocated, of=len(test))


def _points(units: Units, role: str, seed: int) -> list[tuple[str, float, float]]:
    at = np.flatnonzero(units.located)
    if len(at) > MAPPED:
        at = np.sort(np.random.default_rng(seed).choice(at, MAPPED, replace=False))
    return [(role, float(units.lon[i]), float(units.lat[i])) for i in at]
