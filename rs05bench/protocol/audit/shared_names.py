"""Checks by name: shared ids, shared groups, the same place again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.protocol.audit.audit_pair import AuditCheck, AuditPair
from rs05bench.protocol.audit.audit_report import Case, Finding, Shift, Thresholds
from rs05bench.protocol.audit.audit_side import Units
from rs05bench.protocol.audit.values import code_members, common_codes, members
from rs05bench.protocol.geodesy import great_circle_m
from rs05bench.protocol.intake.keys import key_forms, two_spellings

Mask = npt.NDArray[np.bool_]


def shared_ids(train: Units, test: Units, thresholds: Thresholds) -> Finding:
    """Test units whose id is a training id; ids that differ only in how they are written are a warning."""
    if train.ids is None or test.ids is None:
        return Finding(
            check="shared_ids", level="not_checked", sentence="shared ids: not checked, a list has no id column (name it with --id)"
        )
    there, here, values = common_codes(train.ids, test.ids)
    hit = code_members(there, here, len(values))
    count, of = int(hit.sum()), len(test)
    repeats = {side.source: len(codes) - _distinct(codes) for side, codes in ((train, there), (test, here))}
    numbers: dict[str, Any] = {"repeated_rows": {name: n for name, n in repeats.items() if n}}
    if count:
        cases = [
            Case(test=test.name(i), train=test.name(i), detail="the same id", test_lonlat=test.lonlat(i)) for i in _first(hit, thresholds)
        ]
        sentence = f"shared ids: {count:,} of {of:,} test units have the id of a training unit"
        elsewhere = _elsewhere(train, test, hit)
        numbers["elsewhere"] = elsewhere
        if elsewhere:
            sentence += f"; {elsewhere:,} of them lie somewhere else there: is the id a row counter? (name another with --id)"
        return Finding(check="shared_ids", level="leak", sentence=sentence, count=count, of=of, numbers=numbers, cases=cases)
    alike = members(key_forms(train.ids, accents=False), key_forms(test.ids, accents=False))
    if bool(alike.any()):
        numbers["alike"] = int(alike.sum())
        cases = [Case(test=test.name(i), detail="a training id in another spelling") for i in _first(alike, thresholds)]
        example = two_spellings(train.ids.dropna().unique(), test.ids[alike].head(1), accents=False)[0]
        sentence = f"shared ids: none, but {int(alike.sum()):,} test ids are training ids in another spelling, e.g. {example}"
        return Finding(check="shared_ids", level="warning", sentence=sentence, count=0, of=of, numbers=numbers, cases=cases)
    return Finding(check="shared_ids", level="pass", sentence="shared ids: none", count=0, of=of, numbers=numbers)


def shared_group(name: str, train: Units, test: Units, shift: Shift, thresholds: Thresholds) -> Finding:
    """Test units whose group (tile, site, fire, field) also trains.

    Where the year is declared to shift, only training units of the same year count: the place being the same is the point there.
    """
    theirs, ours = train.groups[name], test.groups[name]
    if shift == "year" and train.year is not None and test.year is not None:
        theirs, ours = _with_year(theirs, train.year), _with_year(ours, test.year)
    there, here, values = common_codes(theirs, ours)
    known = here >= 0
    hit = code_members(there, here, len(values))
    count, of = int(hit.sum()), int(known.sum())
    check = f"shared_group:{name}"
    distinct = _distinct(here[known])
    spread = f"{distinct:,} value{'' if distinct == 1 else 's'} in test"
    if of == 0:
        return Finding(check=check, level="not_checked", sentence=f"shared groups: {name}: blank for every test unit", count=0, of=0)
    blank = f"; {len(test) - of:,} have none" if of < len(test) else ""
    alike = code_members(*_forms(train.groups[name], test.groups[name])) & ~hit & known
    if shift != "year" and bool(alike.any()):
        return _other_spelling(name, train, test, alike, count, of, thresholds)
    if not count:
        return Finding(check=check, level="pass", sentence=f"shared groups: {name}: none shared ({spread}{blank})", count=0, of=of)
    in_test = np.bincount(here[hit], minlength=len(values))
    in_train = np.bincount(there[there >= 0], minlength=len(values))
    shared = np.flatnonzero(in_test)
    worst = sorted(shared.tolist(), key=lambda code: (-int(in_test[code]), str(values[code])))[: thresholds.cases]
    cases = [
        Case(
            test=f"{name} {_shown(values[code])}",
            detail=f"{_units(int(in_test[code]))} in test, {int(in_train[code]):,} in training",
            test_lonlat=_somewhere(test, np.flatnonzero(here == code)),
        )
        for code in worst
    ]
    sentence = (
        f"shared groups: {name}: {count:,} of {of:,} test units have a {name} that also trains ({len(shared):,} shared; {spread}{blank})"
    )
    return Finding(check=check, level="leak", sentence=sentence, count=count, of=of, numbers={"groups_shared": len(shared)}, cases=cases)


def _forms(theirs: pd.Series[Any], ours: pd.Series[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Group names as codes of the form they are compared in."""
    there, here, values = common_codes(theirs, ours)
    forms = pd.factorize(key_forms(pd.Series(values, dtype="string"), accents=False))[0].astype(np.int64)
    return np.append(forms, -1)[there], np.append(forms, -1)[here], int(forms.max(initial=-1)) + 1


def _other_spelling(name: str, train: Units, test: Units, alike: Mask, count: int, of: int, thresholds: Thresholds) -> Finding:
    """Groups that also train, under another spelling."""
    rows = np.flatnonzero(alike)
    theirs = train.groups[name].dropna().unique()
    example = two_spellings(theirs, test.groups[name].iloc[rows[:1]], accents=False)[0]
    sentence = (
        f"shared groups: {name}: {count + len(rows):,} of {of:,} test units have a {name} that also trains, "
        f"{len(rows):,} of them in another spelling, e.g. {example}"
    )
    cases = [
        Case(
            test=test.name(int(i)),
            detail=f"{name} {_shown(test.groups[name].iloc[i])} in another spelling",
            test_lonlat=test.lonlat(int(i)),
        )
        for i in rows[: thresholds.cases]
    ]
    numbers = {"other_spelling": len(rows)}
    return Finding(
        check=f"shared_group:{name}", level="leak", sentence=sentence, count=count + len(rows), of=of, numbers=numbers, cases=cases
    )


def same_place(train: Units, test: Units, shift: Shift, thresholds: Thresholds) -> Finding:
    """The same place in both lists: in another year a leak unless the year is what shifts, in the same year always."""
    if train.place is None or test.place is None or not (bool(train.place.notna().any()) and bool(test.place.notna().any())):
        return Finding(check="same_place", level="not_checked", sentence="same place: not checked, no place column and no coordinates")
    known = test.place.notna().to_numpy(dtype=bool)
    hit = members(train.place, test.place)
    same_year = np.zeros(len(test), dtype=bool)
    dated = train.year is not None and test.year is not None
    if dated and bool(hit.any()):
        theirs, ours = _with_year(train.place, train.year), _with_year(test.place, test.year)
        same_year = hit & members(theirs, ours)
    judged = same_year if shift == "year" else hit
    how = "by its place columns" if test.place_known else "by coordinates to about a metre"
    count, of, declared = int(judged.sum()), int(known.sum()), int((hit & ~same_year).sum())
    numbers = {"same_year": int(same_year.sum()), "other_year": declared if dated else None, "declared": shift == "year"}
    if count:
        if not dated:
            when = "no years given"
        elif shift == "year":
            when = "in the same year, though the year is what shifts"
        else:
            when = f"{declared:,} of them only in another year; the split does not declare that the year shifts"
        cases = [_place_case(train, test, int(i)) for i in _first(judged, thresholds)]
        sentence = f"same place: {count:,} of {of:,} test units lie at a training unit's place ({how}; {when})"
        return Finding(check="same_place", level="leak", sentence=sentence, count=count, of=of, numbers=numbers, cases=cases)
    if declared:
        sentence = f"same place: {declared:,} of {of:,} test units lie at a training unit's place in another year, as the split declares"
        return Finding(check="same_place", level="pass", sentence=sentence, count=0, of=of, numbers=numbers)
    return Finding(check="same_place", level="pass", sentence=f"same place: none ({how})", count=0, of=of, numbers=numbers)


def shared_year(train: Units, test: Units, shift: Shift, thresholds: Thresholds) -> Finding | None:
    """Where the year is declared to shift, no test year may train."""
    if shift not in ("year", "both"):
        return None
    if train.year is None or test.year is None:
        return Finding(
            check="shared_year",
            level="not_checked",
            sentence="shared years: not checked, the year is declared to shift but no years are given",
        )
    hit = (test.year >= 0) & np.isin(test.year, train.year)
    count, of = int(hit.sum()), int((test.year >= 0).sum())
    if not count:
        return Finding(check="shared_year", level="pass", sentence="shared years: none, as the split declares", count=0, of=of)
    years, n = np.unique(test.year[hit], return_counts=True)
    order = np.argsort(-n, kind="stable")[: thresholds.cases]
    cases = [
        Case(test=f"year {years[i]}", detail=f"{_units(int(n[i]))} in test, {int((train.year == years[i]).sum()):,} in training")
        for i in order
    ]
    sentence = f"shared years: {count:,} of {of:,} test units are of a year that also trains, though the year is declared to shift"
    return Finding(check="shared_year", level="leak", sentence=sentence, count=count, of=of, cases=cases)


def _elsewhere(train: Units, test: Units, hit: Mask) -> int:
    """How many shared ids stand for different positions (more than a kilometre apart) in the two lists."""
    assert train.ids is not None
    assert test.ids is not None
    there, here, values = common_codes(train.ids, test.ids)
    ours = np.flatnonzero(hit)
    first = np.zeros(len(values), dtype=np.int64)
    first[there[::-1]] = np.arange(len(there))[::-1]  # the first row of each id is written last
    theirs = first[here[ours]]
    with np.errstate(invalid="ignore"):
        return int((great_circle_m(train.lon[theirs], train.lat[theirs], test.lon[ours], test.lat[ours]) > 1000.0).sum())


def _place_case(train: Units, test: Units, i: int) -> Case:
    assert train.place is not None
    assert test.place is not None
    there = np.flatnonzero((train.place == test.place.iloc[i]).fillna(False).to_numpy(dtype=bool))
    j = int(there[0])
    years = f" (year {test.year[i]}, trained on {train.year[j]})" if test.year is not None and train.year is not None else ""
    return Case(
        test=test.name(i),
        train=train.name(j),
        detail=f"the same place{years}",
        distance_km=None,
        test_lonlat=test.lonlat(i),
        train_lonlat=train.lonlat(j),
    )


def _with_year(values: pd.Series[Any], year: npt.NDArray[np.int64] | None) -> pd.Series[Any]:
    assert year is not None
    joined = values.astype("string") + "\x1f" + pd.Series(year, index=values.index).astype("string")
    return joined.mask(pd.Series(year < 0, index=values.index))


def _distinct(codes: npt.NDArray[np.int64]) -> int:
    return int(np.count_nonzero(np.bincount(codes))) if len(codes) else 0


def _somewhere(units: Units, rows: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    located = rows[units.located[rows]]
    return units.lonlat(int(located[0])) if len(located) else None


def _first(mask: Mask, thresholds: Thresholds) -> npt.NDArray[np.int64]:
    return np.flatnonzero(mask)[: thresholds.cases]


def _units(n: int) -> str:
    return f"{n:,} unit{'' if n == 1 else 's'}"


def _shown(value: object) -> str:
    return str(value).replace("\x1f", " / ")


def _every_group(pair: AuditPair) -> list[Finding]:
    return [shared_group(name, pair.train, pair.test, pair.shift, pair.thresholds) for name in pair.test.groups]


def _years(pair: AuditPair) -> list[Finding]:
    found = shared_year(pair.train, pair.test, pair.shift, pair.thresholds)
    return [found] if found else []


CHECKS = (
    AuditCheck("shared ids", 10, lambda pair: [shared_ids(pair.train, pair.test, pair.thresholds)]),
    AuditCheck("shared groups", 20, _every_group),
    AuditCheck("same place", 50, lambda pair: [same_place(pair.train, pair.test, pair.shift, pair.thresholds)]),
    AuditCheck("shared year", 60, _years),
)
