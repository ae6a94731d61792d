"""Does the audit find every leak that is there, and none that is not?

200 seeded simulated cases. Each is audited twice: clean (nothing may be reported, warnings included) and with one kind of leak planted in
a known number of test units (that kind must be reported, with that number, and nothing else but what follows from it).

Run ``python studies/audit_planted_leaks.py [CASES]``; it prints the Markdown kept in ``docs/studies/audit_planted_leaks.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import geopandas
import numpy as np
import pandas as pd
import shapely

from rs05bench.protocol.audit import AuditColumns, AuditReport, Thresholds, audit_frames
from rs05bench.protocol.geodesy import great_circle_m

CASES = 200
HALF = 0.008  # half a footprint in degrees: at most 900 m, so that neighbours can touch while their centres stay over 1 km apart
DIMENSIONS = 32


@dataclass(frozen=True)
class Case:
    """Two lists, what the split declares, and what is planted in them."""

    train: geopandas.GeoDataFrame
    test: geopandas.GeoDataFrame
    shift: str = "none"
    planted: int = 0
    buffer_km: float = 0.0

    def audit(self) -> AuditReport:
        columns = AuditColumns(
            id="id", lon="lon", lat="lat", groups=["tile"], place=["place"], year="year", time="first", time_end="last",
            label="label", features=["F*"], content="content",
        )  # fmt: skip
        return audit_frames(self.train, self.test, columns, shift=self.shift, thresholds=Thresholds(buffer_km=self.buffer_km or None))  # type: ignore[arg-type]


def clean_case(seed: int, *, shift: str = "none") -> Case:
    """Units around four centres that train and one, at least 150 km away, that is tested; under a year shift the test years come after.

    There every third test unit lies at a training place, as the split declares.
    """
    rng = np.random.default_rng([seed, 5])
    lat = rng.uniform(-50, 50)
    lon = rng.uniform(-170, 170)
    # Centres three degrees of latitude apart (333 km); units within a degree of theirs, on a jittered grid, so none lie close by chance.
    grid = np.stack(np.meshgrid(np.arange(12), np.arange(12)), axis=-1).reshape(-1, 2)
    frames = []
    for region in range(5):
        chosen = grid[np.sort(rng.choice(len(grid), int(rng.integers(50, 110)), replace=False))]
        at = (chosen - 5.5) * 0.16 + rng.uniform(-0.02, 0.02, chosen.shape)
        frames.append(pd.DataFrame({"lon": lon + at[:, 0], "lat": np.clip(lat + 3 * (region - 2) + at[:, 1], -89, 89), "region": region}))
    units = pd.concat(frames, ignore_index=True)
    n = len(units)
    units["id"] = [f"{i:06d}" for i in rng.permutation(n)]
    units["tile"] = [f"T{region}{k:02d}" for region, k in zip(units["region"], rng.integers(0, 20, n), strict=True)]
    units["place"] = [f"p{i}" for i in range(n)]
    units["year"] = rng.integers(2016, 2020, n)
    units["label"] = rng.choice(["corn", "soy", "wheat"], n)
    units["content"] = [f"{value:016x}" for value in rng.integers(0, 2**62, n)]
    features = rng.normal(size=(n, DIMENSIONS)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    units = pd.concat([units, pd.DataFrame(features, columns=[f"F{k:02d}" for k in range(DIMENSIONS)])], axis=1)
    train, test = units[units["region"] != 4].reset_index(drop=True), units[units["region"] == 4].reset_index(drop=True)
    if shift == "year":
        test["year"] += 5
        again = rng.choice(len(train), len(test) // 3, replace=False)
        for column in ("lon", "lat", "tile", "place"):
            test.loc[: len(again) - 1, column] = train.loc[again, column].to_numpy()
    return Case(_finish(train, rng), _finish(test, rng), shift)


def _finish(frame: pd.DataFrame, rng: np.random.Generator) -> geopandas.GeoDataFrame:
    """Two-month windows inside the unit's year, and square footprints."""
    begin = pd.to_datetime(frame["year"].astype(str) + "-01-01") + pd.to_timedelta(rng.integers(0, 280, len(frame)), unit="D")
    frame = frame.assign(first=begin.dt.strftime("%Y-%m-%d"), last=(begin + pd.Timedelta(days=60)).dt.strftime("%Y-%m-%d"))
    return _with_footprints(frame)


def _with_footprints(frame: pd.DataFrame) -> geopandas.GeoDataFrame:
    boxes = shapely.box(frame["lon"] - HALF, frame["lat"] - HALF, frame["lon"] + HALF, frame["lat"] + HALF)
    return geopandas.GeoDataFrame(frame, geometry=boxes, crs="EPSG:4326")


def _pairs(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which test units get the leak, and from which training units."""
    rng = np.random.default_rng([seed, 6])
    k = int(rng.integers(1, 8))
    # In year-shift cases the first third already lies at training places.
    first = len(case.test) // 3 if case.shift == "year" else 0
    return np.sort(rng.choice(np.arange(first, len(case.test)), k, replace=False)), rng.choice(len(case.train), k, replace=False)


def _copy(case: Case, seed: int, *columns: str) -> Case:
    ours, theirs = _pairs(case, seed)
    test = case.test.copy()
    for column in columns:
        test.loc[ours, column] = case.train.loc[theirs, column].to_numpy()
    return replace(case, test=test, planted=len(ours))


def _move(case: Case, seed: int, east_degrees: float, north_km: float = 0.0) -> Case:
    """Put test units, footprints too, beside training units."""
    ours, theirs = _pairs(case, seed)
    test = case.test.copy()
    test.loc[ours, "lon"] = case.train.loc[theirs, "lon"].to_numpy() + east_degrees
    test.loc[ours, "lat"] = case.train.loc[theirs, "lat"].to_numpy() + north_km / 111.19492664455873
    return replace(case, test=_with_footprints(test), planted=len(ours))


def shared_id(case: Case, seed: int) -> Case:
    return _copy(case, seed, "id")


def id_written_otherwise(case: Case, seed: int) -> Case:
    ours, theirs = _pairs(case, seed)
    test = case.test.copy()
    test.loc[ours, "id"] = [f" {value.lstrip('0') or '0'}" for value in case.train.loc[theirs, "id"]]
    return replace(case, test=test, planted=len(ours))


def shared_tile(case: Case, seed: int) -> Case:
    return _copy(case, seed, "tile")


def near(case: Case, seed: int) -> Case:
    moved = _move(case, seed, 0.0, north_km=0.7)
    points = [frame.drop(columns="geometry") for frame in (moved.train, moved.test)]
    return replace(moved, train=points[0], test=points[1])


def touching(case: Case, seed: int) -> Case:
    # Beyond about 55 degrees two footprints that share an edge would have centres under 1 km apart; cases stay within 56 + jitter.
    return _move(case, seed, 2 * HALF, north_km=0.5)


def overlapping(case: Case, seed: int) -> Case:
    return _move(case, seed, 1.8 * HALF, north_km=0.6)


def same_place_other_year(case: Case, seed: int) -> Case:
    copied = _copy(case, seed, "lon", "lat", "place")
    ours, theirs = _pairs(case, seed)
    copied.test.loc[ours, "year"] = case.train.loc[theirs, "year"].to_numpy() + 10
    return replace(copied, test=_with_footprints(copied.test))


def year_that_trains(case: Case, seed: int) -> Case:
    return _copy(case, seed, "year")


def overlapping_vintage(case: Case, seed: int) -> Case:
    """A five-year census vintage that reaches back into the training years."""
    ours, _ = _pairs(case, seed)
    test = case.test.copy()
    test.loc[ours, "first"] = "2018-01-01"
    return replace(case, test=test, planted=len(ours))


def same_content(case: Case, seed: int) -> Case:
    return _copy(case, seed, "content")


def same_features(case: Case, seed: int) -> Case:
    return _copy(case, seed, *[f"F{k:02d}" for k in range(DIMENSIONS)])


def nearly_same_features(case: Case, seed: int) -> Case:
    copied = same_features(case, seed)
    names = [f"F{k:02d}" for k in range(DIMENSIONS)]
    noise = np.random.default_rng([seed, 7]).normal(0, 0.001, (len(copied.test), DIMENSIONS)).astype(np.float32)
    copied.test[names] = copied.test[names].to_numpy() + noise
    return copied


def smooth_label(case: Case, seed: int) -> Case:
    """Labels of a field that stays alike over some 100 km, against a buffer of 20 km."""
    rng = np.random.default_rng([seed, 8])
    bumps = [(rng.uniform(-1, 1, 2), rng.choice([-1.0, 1.0])) for _ in range(12)]
    both = pd.concat([case.train, case.test])
    middle = both["lon"].mean()

    def field(frame: pd.DataFrame) -> np.ndarray:
        total = np.zeros(len(frame))
        for region, lat in both.groupby("region")["lat"].mean().items():
            for centre, sign in bumps:
                # Another arrangement in every region, so that regions are not copies of each other.
                x, y = np.roll(centre, int(region)) * (1 if int(region) % 3 else -1)
                km = great_circle_m(frame["lon"].to_numpy(), frame["lat"].to_numpy(), np.float64(middle + x), np.float64(lat + y)) / 1000
                total += sign * np.exp(-((km / 45.0) ** 2))
        return total

    train, test = case.train.assign(label=field(case.train)), case.test.assign(label=field(case.test))
    return replace(case, train=train, test=test, buffer_km=20.0)


def lost_position(case: Case, seed: int) -> Case:
    ours, _ = _pairs(case, seed)
    test = case.test.copy()
    test.loc[ours, ["lon", "lat"]] = np.nan
    return replace(case, test=test, planted=len(ours))


@dataclass(frozen=True)
class Kind:
    """A kind of leak: how it is planted, which check must find it, and what else follows from it."""

    name: str
    plant: Callable[[Case, int], Case]
    check: str
    level: str = "leak"
    shift: str = "none"
    follows: frozenset[str] = frozenset()
    counted: bool = True


KINDS = [
    Kind("shared id", shared_id, "shared_ids"),
    Kind("id written otherwise", id_written_otherwise, "shared_ids", level="warning", counted=False),
    Kind("shared tile", shared_tile, "shared_group:tile"),
    Kind("0.7 km from training", near, "distance"),
    Kind("footprints touch", touching, "touching"),
    Kind("footprints overlap", overlapping, "touching"),
    Kind("same place, another year", same_place_other_year, "same_place", follows=frozenset({"distance", "touching"})),
    Kind("a test year that trains", year_that_trains, "shared_year", shift="year"),
    Kind("overlapping census vintage", overlapping_vintage, "time_windows", shift="year"),
    Kind("same content hash", same_content, "content_hash"),
    Kind("identical features", same_features, "near_duplicates"),
    Kind("nearly identical features", nearly_same_features, "near_duplicates"),
    Kind("label range beyond the buffer", smooth_label, "autocorrelation:label", level="warning", counted=False),
    Kind("no position", lost_position, "location", level="note"),
]


def alarms(report: AuditReport) -> set[str]:
    """Checks that report a leak or a warning."""
    return {finding.check for finding in report.findings if finding.level in ("leak", "warning")}


def faults(kind: Kind, seed: int) -> list[str]:
    """What the audit does wrong on one case; empty when it does nothing wrong."""
    case = clean_case(seed, shift=kind.shift)
    report = case.audit()
    wrong = [f"false alarm: {check}: {report.finding(check).sentence}" for check in sorted(alarms(report))]
    if report.verdict != "clean":
        wrong.append(f"clean case called {report.verdict}")
    planted = kind.plant(case, seed)
    found = planted.audit()
    here = next((finding for finding in found.findings if finding.check == kind.check), None)
    if here is None or here.level != kind.level:
        wrong.append(f"not found: {here.sentence if here else kind.check}")
    elif kind.counted and here.count != planted.planted:
        wrong.append(f"planted {planted.planted}, counted {here.count}: {here.sentence}")
    extra = alarms(found) - {kind.check} - kind.follows
    wrong += [f"beside it: {check}: {found.finding(check).sentence}" for check in sorted(extra)]
    expected = "leaks" if kind.level == "leak" else "unlocated" if kind.check == "location" else "clean"
    if found.verdict != expected:
        wrong.append(f"verdict {found.verdict}, expected {expected}")
    return wrong


def main(cases: int = CASES) -> int:
    """Run the cases and print the table."""
    tried = {kind.name: 0 for kind in KINDS}
    bad: dict[str, list[str]] = {kind.name: [] for kind in KINDS}
    for seed in range(cases):
        kind = KINDS[seed % len(KINDS)]
        tried[kind.name] += 1
        bad[kind.name] += [f"seed {seed}: {text}" for text in faults(kind, seed)]
    print("# Planted leaks\n")
    print("<!-- printed by studies/audit_planted_leaks.py -->\n")
    print(f"{cases} seeded simulated cases, each audited clean and with one kind of leak planted in a known number of test units.\n")
    print("| planted | cases | found, with the right count | missed or wrong | false alarms |")
    print("|---|---:|---:|---:|---:|")
    for kind in KINDS:
        seeds = {text.split(":")[0] for text in bad[kind.name] if "false alarm" not in text and "beside it" not in text}
        false = sum("false alarm" in text or "beside it" in text for text in bad[kind.name])
        print(f"| {kind.name} | {tried[kind.name]} | {tried[kind.name] - len(seeds)} | {len(seeds)} | {false} |")
    wrong = [text for texts in bad.values() for text in texts]
    print(f"\n{len(wrong)} faults in {2 * cases} audits.")
    for text in wrong:
        print(f"- {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else CASES))
