"""Check by position: great-circle distance of every test unit to its nearest training unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rs05bench.protocol.audit.audit_report import REPORTED_KM, Case, Finding, Shift, Thresholds
from rs05bench.protocol.audit.audit_side import Units
from rs05bench.protocol.geodesy import nearest_place


def distances(train: Units, test: Units, shift: Shift, thresholds: Thresholds) -> tuple[Finding, npt.NDArray[np.float64]]:
    """Great-circle distance of every test unit to its nearest training unit, and the finding that judges it.

    Where the year is declared to shift, a test unit is judged against training units of its own year only; the reported counts are
    of all pairs.
    """
    km, nearest = nearest_train(train.lon, train.lat, test.lon, test.lat)
    judged_km, judged_at = (km, nearest) if shift != "year" else _own_year(train, test)
    why = "; pairs of different years are declared" if shift == "year" else ""
    return judge(train, test, km, judged_km, judged_at, thresholds, why=why), km


def nearest_train(
    train_lon: npt.NDArray[np.float64],
    train_lat: npt.NDArray[np.float64],
    test_lon: npt.NDArray[np.float64],
    test_lat: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The nearest training point of every test point; degrees, NaN where a unit is not located.

    Returns:
        Great-circle distance in km (NaN where either side has no location) and the position in the training arrays (-1 there).
    """
    metres, position = nearest_place(test_lon, test_lat, train_lon, train_lat)
    return np.where(position >= 0, metres / 1000, np.nan), position


def judge(
    train: Units,
    test: Units,
    km: npt.NDArray[np.float64],
    judged_km: npt.NDArray[np.float64],
    judged_at: npt.NDArray[np.int64],
    thresholds: Thresholds,
    *,
    why: str = "",
) -> Finding:
    """The finding over distances.

    Args:
        train: Training units.
        test: Test units.
        km: Distance to the nearest training unit, for the spread that is told.
        judged_km: Distance to the nearest training unit that may not be near (NaN: none).
        judged_at: Which unit that is.
        thresholds: The smallest distance allowed.
        why: What is added where nothing leaks.
    """
    known = np.isfinite(km)
    of = int(known.sum())
    if of == 0:
        return Finding(check="distance", level="not_checked", sentence="distance: not checked, no pair of located units", count=0, of=0)
    numbers: dict[str, Any] = {
        "median_km": float(np.median(km[known])),
        "smallest_km": float(km[known].min()),
        "largest_km": float(km[known].max()),
    }
    spread = f"median {_km(numbers['median_km'])}, smallest {_km(numbers['smallest_km'])}"
    with np.errstate(invalid="ignore"):
        close = judged_km < thresholds.min_km
    count = int(close.sum())
    if not count:
        rule = f"none closer than {thresholds.min_km:g} km" if thresholds.min_km else "no smallest distance asked for"
        sentence = f"distance: {rule} ({spread}{why})"
        return Finding(check="distance", level="pass", sentence=sentence, count=0, of=of, numbers=numbers)
    worst = np.flatnonzero(close)
    worst = worst[np.argsort(judged_km[worst], kind="stable")[: thresholds.cases]]
    cases = [
        Case(
            test=test.name(int(i)),
            train=train.name(int(judged_at[i])),
            detail=f"{_km(float(judged_km[i]))} apart",
            distance_km=float(judged_km[i]),
            test_lonlat=test.lonlat(int(i)),
            train_lonlat=train.lonlat(int(judged_at[i])),
        )
        for i in worst
    ]
    sentence = f"distance: {count:,} of {of:,} located test units lie closer than {thresholds.min_km:g} km to a training unit ({spread})"
    return Finding(check="distance", level="leak", sentence=sentence, count=count, of=of, numbers=numbers, cases=cases)


def within(km: npt.NDArray[np.float64]) -> dict[str, int]:
    """Number of test units whose nearest training unit lies within 1, 10, 30 and 100 km."""
    known = km[np.isfinite(km)]
    return {str(limit): int((known <= limit).sum()) for limit in REPORTED_KM}


def _own_year(train: Units, test: Units) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    km, nearest = np.full(len(test), np.nan), np.full(len(test), -1, dtype=np.int64)
    if train.year is None or test.year is None:
        return km, nearest
    for year in np.unique(test.year[test.year >= 0]):
        ours, theirs = np.flatnonzero(test.year == year), np.flatnonzero(train.year == year)
        if len(theirs) == 0:
            continue
        found, at = nearest_train(train.lon[theirs], train.lat[theirs], test.lon[ours], test.lat[ours])
        km[ours] = found
        nearest[ours] = np.where(at >= 0, theirs[at], -1)
    return km, nearest


def _km(value: float) -> str:
    return f"{value * 1000:,.0f} m" if value < 1 else f"{value:,.1f} km"
