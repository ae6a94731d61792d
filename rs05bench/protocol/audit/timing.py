"""Checks by time: windows of training and test that overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rs05bench.protocol.audit.audit_pair import AuditCheck
from rs05bench.protocol.audit.audit_report import Case, Finding, Shift, Thresholds
from rs05bench.protocol.audit.audit_side import Units

# Under a declared regional split shared dates are ordinary; a few stray ones in lists that are otherwise apart in time are not.
STRAY_SHARE = 0.25


def overlapping_windows(train: Units, test: Units, shift: Shift, thresholds: Thresholds) -> Finding:
    """Test units whose time window overlaps a training window.

    A leak where the year is declared to shift (overlapping census vintages, seasons that run over new year). Otherwise only counted,
    with a warning when the lists are apart in time but for a few units.
    """
    if train.start is None or test.start is None or train.end is None or test.end is None:
        return Finding(
            check="time_windows", level="not_checked", sentence="time windows: not checked, no time column (name it with --time)"
        )
    gap = np.timedelta64(int(np.ceil(thresholds.gap_days)), "D")
    theirs = ~(np.isnat(train.start) | np.isnat(train.end))
    known = ~(np.isnat(test.start) | np.isnat(test.end))
    of = int(known.sum())
    if of == 0 or not bool(theirs.any()):
        return Finding(check="time_windows", level="not_checked", sentence="time windows: no dated pair of units", count=0, of=of)
    starts, ends = np.sort(train.start[theirs]), np.sort(train.end[theirs])
    # Windows that begin before this one ends, less those that end before it begins, are the ones that meet it.
    begun = np.searchsorted(starts, test.end + gap, side="right")
    over = np.searchsorted(ends, test.start - gap, side="left")
    hit = known & (begun - over > 0)
    count = int(hit.sum())
    span = f"training {starts[0]!s} to {ends[-1]!s}, test {test.start[known].min()!s} to {test.end[known].max()!s}"
    numbers = {"train_first": str(starts[0]), "train_last": str(ends[-1]), "share": count / of}
    if not count:
        return Finding(
            check="time_windows", level="pass", sentence=f"time windows: none overlaps ({span})", count=0, of=of, numbers=numbers
        )
    sentence = f"time windows: {count:,} of {of:,} test units overlap a training window ({span})"
    if shift in ("year", "both"):
        level, sentence = "leak", sentence + "; the year is declared to shift"
    elif count / of <= STRAY_SHARE:
        level, sentence = "warning", sentence + "; the others lie apart in time: if time is what shifts, these leak (--shift year)"
    else:
        return Finding(
            check="time_windows", level="note", sentence=sentence + "; no leak where space shifts", count=count, of=of, numbers=numbers
        )
    cases = [_case(train, test, int(i), gap) for i in np.flatnonzero(hit)[: thresholds.cases]]
    return Finding.model_validate(
        {"check": "time_windows", "level": level, "sentence": sentence, "count": count, "of": of, "numbers": numbers, "cases": cases}
    )


def _case(train: Units, test: Units, i: int, gap: np.timedelta64) -> Case:
    assert train.start is not None
    assert train.end is not None
    assert test.start is not None
    assert test.end is not None
    meets: npt.NDArray[np.bool_] = (train.start <= test.end[i] + gap) & (train.end >= test.start[i] - gap)
    j = int(np.flatnonzero(meets)[0])
    detail = f"{_window(test.start[i], test.end[i])} overlaps {_window(train.start[j], train.end[j])}"
    return Case(test=test.name(i), train=train.name(j), detail=detail, test_lonlat=test.lonlat(i), train_lonlat=train.lonlat(j))


def _window(start: np.datetime64, end: np.datetime64) -> str:
    return str(start) if start == end else f"{start!s}–{end!s}"


CHECKS = (AuditCheck("overlapping windows", 70, lambda pair: [overlapping_windows(pair.train, pair.test, pair.shift, pair.thresholds)]),)
