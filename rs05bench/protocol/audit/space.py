"""Checks by position: distance to the nearest training unit, touching and overlapping footprints."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rs05bench.protocol.audit.record import REPORTED_KM, Case, Finding, Shift, Thresholds
from rs05bench.protocol.audit.sphere import nearest_train
from rs05bench.protocol.audit.units import Units


def distances(
    train: Units, test: Units, shift: Shift, thresholds: Thresholds
) -> tuple[Finding, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Great-circle distance of every test unit to its nearest training unit, and the finding that judges it.

    Where the year is declared to shift, a test unit is judged against training units of its own year only; the reported counts are
    of all pairs.
    """
    km, nearest = nearest_train(train.lon, train.lat, test.lon, test.lat)
    known = np.isfinite(km)
    of = int(known.sum())
    if of == 0:
        finding = Finding(check="distance", level="not_checked", sentence="distance: not checked, no pair of located units", count=0, of=0)
        return finding, km, nearest
    judged_km, judged_at = (km, nearest) if shift != "year" else _own_year(train, test)
    numbers: dict[str, Any] = {
        "median_km": float(np.median(km[known])),
        "smallest_km": float(km[known].min()),
        "largest_km": float(km[known].max()),
    }
    with np.errstate(invalid="ignore"):
        close = judged_km < thresholds.min_km
    count = int(close.sum())
    spread = f"median {_km(numbers['median_km'])}, smallest {_km(numbers['smallest_km'])}"
    if not count:
        why = "; pairs of different years are declared" if shift == "year" else ""
        rule = f"none closer than {thresholds.min_km:g} km" if thresholds.min_km else "no smallest distance asked for"
        return (
            Finding(check="distance", level="pass", sentence=f"distance: {rule} ({spread}{why})", count=0, of=of, numbers=numbers),
            km,
            nearest,
        )
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
    return Finding(check="distance", level="leak", sentence=sentence, count=count, of=of, numbers=numbers, cases=cases), km, nearest


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


def touching(train: Units, test: Units, km: npt.NDArray[np.float64], shift: Shift, thresholds: Thresholds) -> tuple[Finding, int | None]:
    """Test units whose footprint touches or overlaps a training footprint, and how many they are in all.

    Without footprints the positions themselves are compared: two units at the same point touch. ``None`` when nothing is located.
    """
    if train.geometry is None or test.geometry is None:
        if not bool(np.isfinite(km).any()):
            return Finding(check="touching", level="not_checked", sentence="footprints: not checked, none given"), None
        at_zero = int((km[np.isfinite(km)] * 1000 <= thresholds.touch_m).sum())
        sentence = f"footprints: none given; {at_zero:,} test units lie exactly at a training position (judged under distance and same place)"
        return Finding(check="touching", level="not_checked", sentence=sentence, count=at_zero, of=int(np.isfinite(km).sum())), at_zero
    pairs = _touching_pairs(train, test, thresholds)
    everything = len(np.unique(pairs[0]))
    if shift == "year" and train.year is not None and test.year is not None:
        same = (test.year[pairs[0]] == train.year[pairs[1]]) & (test.year[pairs[0]] >= 0)
        pairs = pairs[:, same]
    elif shift == "year":
        pairs = pairs[:, :0]
    units = np.unique(pairs[0])
    of = int((~(test.geometry.is_empty | test.geometry.isna())).sum())
    if len(units) == 0:
        extra = f" but for {everything:,} in another year, as the split declares" if everything else ""
        sentence = f"footprints: none touches or overlaps a training footprint{extra}"
        return Finding(check="touching", level="pass", sentence=sentence, count=0, of=of), everything
    share = _overlap_share(train, test, pairs)
    overlapping = len(np.unique(pairs[0][share > 0]))
    order = np.lexsort((pairs[1], pairs[0], -share))
    cases: list[Case] = []
    named: set[int] = set()
    for k in order:
        i, j = int(pairs[0][k]), int(pairs[1][k])
        if len(cases) == thresholds.cases:
            break
        if i in named:
            continue
        named.add(i)
        detail = f"overlap of {share[k]:.1%} of the test footprint" if share[k] > 0 else "the footprints touch"
        cases.append(Case(test=test.name(i), train=train.name(j), detail=detail, test_lonlat=test.lonlat(i), train_lonlat=train.lonlat(j)))
    sentence = f"footprints: {len(units):,} of {of:,} test footprints touch a training footprint, {overlapping:,} of them overlap one"
    numbers = {"overlapping": overlapping, "pairs": int(pairs.shape[1])}
    return Finding(check="touching", level="leak", sentence=sentence, count=len(units), of=of, numbers=numbers, cases=cases), everything


def _touching_pairs(train: Units, test: Units, thresholds: Thresholds) -> npt.NDArray[np.int64]:
    """Positions ``(2, pairs)`` of test and training footprints that touch, compared in the training list's CRS."""
    import shapely
    from pyproj import CRS

    theirs = train.geometry
    crs = CRS.from_user_input(theirs.crs)
    # The same CRS on both sides needs no warp, so shared corners stay exactly shared.
    ours = test.geometry if CRS.from_user_input(test.geometry.crs) == crs else test.geometry.to_crs(crs)
    # A degree is 111 km at most, so this tolerance never exceeds the one asked for.
    unit = 111_320.0 if crs.is_geographic else crs.axis_info[0].unit_conversion_factor or 1.0
    tolerance = thresholds.touch_m / unit
    tree = shapely.STRtree(theirs.to_numpy())
    found: npt.NDArray[np.int64] = tree.query(ours.to_numpy(), predicate="dwithin", distance=tolerance).astype(np.int64)
    return found


def _overlap_share(train: Units, test: Units, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of each test footprint's area that lies inside the training footprint of the pair; below a millionth it is rounding."""
    import shapely

    ours = test.geometry if test.geometry.crs == train.geometry.crs else test.geometry.to_crs(train.geometry.crs)
    a = shapely.make_valid(ours.to_numpy()[pairs[0]])
    b = shapely.make_valid(train.geometry.to_numpy()[pairs[1]])
    area = shapely.area(a)
    common = shapely.area(shapely.intersection(a, b))
    share = np.divide(common, area, out=np.zeros_like(common), where=area > 0)
    share[share < 1e-6] = 0.0
    return share


def _km(value: float) -> str:
    return f"{value * 1000:,.0f} m" if value < 1 else f"{value:,.1f} km"
