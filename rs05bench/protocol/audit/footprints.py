"""Check by footprint: test footprints that touch or overlap a training footprint."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rs05bench.protocol.audit.audit_report import Case, Finding, Shift, Thresholds
from rs05bench.protocol.audit.audit_side import Units
from rs05bench.protocol.geodesy import crs_unit_metres


def touching(train: Units, test: Units, km: npt.NDArray[np.float64], shift: Shift, thresholds: Thresholds) -> tuple[Finding, int | None]:
    """Test units whose footprint touches or overlaps a training footprint, and how many they are in all.

    Without footprints the positions themselves are compared: two units at the same point touch. ``None`` when nothing is located.
    """
    if train.geometry is None or test.geometry is None:
        if not bool(np.isfinite(km).any()):
            return Finding(check="touching", level="not_checked", sentence="footprints: not checked, none given"), None
        at_zero = int((km[np.isfinite(km)] * 1000 <= thresholds.touch_m).sum())
        sentence = f"footprints: none given; test units exactly at a training position: {at_zero:,} (judged under distance and same place)"
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
    tolerance = thresholds.touch_m / crs_unit_metres(crs)
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
