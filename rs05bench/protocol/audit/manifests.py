"""The audit of a frozen manifest, fold by fold, judged by what each test unit's shift declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.audit.audit_report import (
    REPORTED_KM,
    AuditReport,
    Case,
    Finding,
    ManifestPart,
    ManifestReport,
    Shift,
    Thresholds,
    Verdict,
)
from rs05bench.protocol.audit.audit_side import Units
from rs05bench.protocol.audit.frames import audit_units, build_report
from rs05bench.protocol.audit.nearness import judge, nearest_train
from rs05bench.protocol.audit.shared_names import shared_group, shared_ids
from rs05bench.protocol.audit.values import as_text

if TYPE_CHECKING:
    from rs05bench.protocol.manifest import SplitManifest

Rows = npt.NDArray[np.int64]

LEARNT = ("train", "val")
TESTED = ("test_id", "test_ood")


def audit_manifest(manifest: SplitManifest, *, thresholds: Thresholds | None = None) -> ManifestReport:
    """Audit every fold of a manifest: training and validation units against the test units of each role and shift.

    The smallest distance allowed is the manifest's own buffer unless thresholds are given. A held-out region may not train, a
    held-out year neither, and no block (or tile, fire, field, where the card blocks by one) may lie on both sides. Where a region is
    one place, its blocks are spans of time: there the days between test and training are judged. The reserve, from which a ``+k``
    budget takes its labels, is audited against the test units of the held-out region too.

    Args:
        manifest: The split.
        thresholds: From where on something is a leak; by default the manifest's buffer and the usual limits.

    Raises:
        DataError: The units table does not hold the units of the manifest.
    """
    options: dict[str, Any] = manifest.card.get("parameters") or {}
    limits = thresholds or Thresholds(min_km=float(options.get("buffer_m", 1000.0)) / 1000.0)
    everything = _all_units(manifest)
    position = pd.Series(np.arange(len(everything)), index=pd.Index(manifest.units["unit_id"].astype(str)))
    parts: list[ManifestPart] = []
    trained: set[int] = set()
    for fold in manifest.folds:
        table = manifest.fold(fold)
        rows = position.reindex(table["unit_id"].astype(str)).to_numpy()
        if np.isnan(rows.astype(np.float64)).any():
            lost = table["unit_id"].astype(str).to_numpy()[np.isnan(rows.astype(np.float64))][0]
            raise DataError(f"unit {lost!r} of fold {fold!r} is not in the units table", source=manifest.name)
        folded = _in_fold(everything, table, rows.astype(np.int64))
        learnt = np.flatnonzero(table["role"].astype(str).isin(LEARNT).to_numpy())
        trained.update(rows[learnt].astype(int).tolist())
        parts += _fold_parts(manifest, fold, table, folded, learnt, options, limits)
    return _total(manifest, parts, len(trained), limits)


_ON_THE_CARD = {"verdict", "n_train", "n_test", "within_km", "median_nearest_km", "shared_groups", "unlocated"}


def with_verdict(manifest: SplitManifest) -> SplitManifest:
    """The manifest with the audit's verdict on its card.

    A published split is kept for comparison with the literature: it can be a main result only when the audit finds it clean.
    """
    report = audit_manifest(manifest)
    record = manifest.card | {"audit": report.model_dump(mode="json", include=_ON_THE_CARD)}
    if manifest.split.rule.name == "official":
        record["can_be_main"] = report.verdict == "clean"
    return replace(manifest, card=record)


def with_published_verdict(manifest: SplitManifest) -> SplitManifest:
    """A published split's manifest with its verdict, which decides whether it can be a main result; any other as it is."""
    return with_verdict(manifest) if manifest.split.rule.name == "official" else manifest


def _all_units(manifest: SplitManifest) -> Units:
    frame = manifest.units.reset_index(drop=True)
    time = frame["time"].to_numpy().astype("datetime64[D]") if bool(frame["time"].notna().any()) else None
    return Units(
        source=manifest.name,
        ids=frame["unit_id"].astype("string"),
        lon=frame["lon"].to_numpy(dtype=np.float64),
        lat=frame["lat"].to_numpy(dtype=np.float64),
        groups={name: as_text(frame[name]) for name in frame.columns if name not in ("unit_id", "lon", "lat", "place", "year", "time")},
        place=frame["place"].astype("string"),
        place_known=True,
        year=frame["year"].fillna(-1).to_numpy(dtype=np.int64) if bool(frame["year"].notna().any()) else None,
        start=time,
        end=time,
    )


def _in_fold(everything: Units, table: pd.DataFrame, rows: Rows) -> Units:
    units = everything.take(rows)
    for name in ("region", "block"):
        units.groups[name] = table[name].astype("string").reset_index(drop=True)
    return units


def _fold_parts(
    manifest: SplitManifest, fold: str, table: pd.DataFrame, units: Units, learnt: Rows, options: dict[str, Any], limits: Thresholds
) -> Iterator[ManifestPart]:
    roles, shifts = table["role"].astype(str).to_numpy(), table["shift"].astype(str).to_numpy()
    block_by = options.get("block_by")
    timed = _timed(units) if block_by is None else np.zeros(len(table), dtype=bool)
    # An official or random split was not drawn by blocks: the grid is ours, so only a declared tile or fire counts there.
    drawn = manifest.card.get("rule") not in ("official", "random")
    blocks = [block_by] if block_by else ["block"] if drawn else []
    reserve = np.flatnonzero(roles == "reserve")
    buffers = _Buffers(float(options.get("buffer_m", 0.0)) / 1000.0, float(options.get("buffer_days", 0.0)))
    for role in TESTED:
        for shift in ("none", "region", "year", "both"):
            here = (roles == role) & (shifts == shift)
            moved = ["region"] if shift in ("region", "both") and drawn else []
            for in_time in (False, True):
                rows = np.flatnonzero(here & (timed == in_time))
                if len(rows) == 0:
                    continue
                names = [*moved, *blocks]
                tested = _Tested(fold, role, shift, rows)
                yield tested.against("train and val", units, learnt, names, buffers, limits, in_time=in_time and shift == "none")
                if shift in ("region", "both") and len(reserve):
                    yield tested.against("reserve", units, reserve, blocks, buffers, limits, in_time=in_time)


@dataclass(frozen=True)
class _Buffers:
    """What the manifest keeps between test and training: kilometres between places, days at one place."""

    km: float
    days: float


@dataclass(frozen=True)
class _Tested:
    """Test units of one role and shift of a fold."""

    fold: str
    role: str
    shift: str
    rows: Rows

    def against(
        self, name: str, units: Units, learnt: Rows, groups: list[str], buffers: _Buffers, limits: Thresholds, *, in_time: bool
    ) -> ManifestPart:
        """The audit of these against the units a model may learn from."""
        train = units.take(learnt, source=f"{self.fold}: {name}", groups=groups)
        test = units.take(self.rows, source=f"{self.fold}: {self.role}", groups=groups)
        # Against the reserve of the same region nothing is declared to shift: those labels may be used with the test units.
        judged: Shift = "none" if name == "reserve" or self.shift == "none" else self.shift  # type: ignore[assignment]
        if in_time:
            regions = units.groups["region"]
            report = _audit_in_time(train, test, regions.iloc[learnt], regions.iloc[self.rows], buffers.days, limits)
        else:
            report = audit_units(train, test, shift=judged, thresholds=limits.model_copy(update={"buffer_km": buffers.km}))
        return ManifestPart.model_validate({"fold": self.fold, "role": self.role, "shift": self.shift, "against": name, "report": report})


def _timed(units: Units) -> npt.NDArray[np.bool_]:
    """Whether a unit's block is a span of time (or a single unit) of a region that is one place; see ``protocol/blocks.py``."""
    own = [block[len(region) + 1 :] for region, block in zip(units.groups["region"], units.groups["block"], strict=True)]
    return np.array([name[:1] in ("t", "u") for name in own], dtype=bool)


def _audit_in_time(
    train: Units, test: Units, train_region: pd.Series[Any], test_region: pd.Series[Any], buffer_days: float, limits: Thresholds
) -> AuditReport:
    """Test units whose region is one place: judged by days against training at that place, by distance against all other places."""
    theirs, ours = train_region.to_numpy(dtype=object), test_region.to_numpy(dtype=object)
    days = np.full(len(test), np.inf)
    at = np.full(len(test), -1, dtype=np.int64)
    km = np.full(len(test), np.nan)
    near = np.full(len(test), -1, dtype=np.int64)
    for region in np.unique(ours.astype(str)):
        rows, same, other = np.flatnonzero(ours == region), np.flatnonzero(theirs == region), np.flatnonzero(theirs != region)
        found, which = nearest_train(train.lon[other], train.lat[other], test.lon[rows], test.lat[rows])
        km[rows], near[rows] = found, np.where(which >= 0, other[which] if len(other) else -1, -1)
        if len(same) and train.start is not None and test.start is not None:
            gap = np.abs((train.start[same][None, :] - test.start[rows][:, None]).astype("timedelta64[D]").astype(np.float64))
            gap[np.isnat(train.start[same])[None, :] | np.isnat(test.start[rows])[:, None]] = np.inf
            days[rows], at[rows] = gap.min(axis=1), same[gap.argmin(axis=1)]
    all_km, _ = nearest_train(train.lon, train.lat, test.lon, test.lat)
    findings = [
        shared_ids(train, test, limits),
        *(shared_group(name, train, test, "none", limits) for name in test.groups),
        judge(train, test, km, km, near, limits, why="; other places only"),
        _days_apart(train, test, days, at, buffer_days, limits),
    ]
    return build_report(train, test, findings, all_km, None, shift="none", thresholds=limits)


def _days_apart(train: Units, test: Units, days: npt.NDArray[np.float64], at: Rows, buffer_days: float, limits: Thresholds) -> Finding:
    known = np.isfinite(days)
    of = int(known.sum())
    if of == 0:
        text = "days apart: no dated training unit at the place of a test unit"
        return Finding(check="days_apart", level="pass", sentence=text, count=0, of=0)
    close = np.flatnonzero(days < buffer_days)
    spread = f"median {np.median(days[known]):,.0f} days, smallest {days[known].min():,.0f}"
    if len(close) == 0:
        text = f"days apart: at one place none closer than {buffer_days:g} days ({spread})"
        return Finding(check="days_apart", level="pass", sentence=text, count=0, of=of)
    worst = close[np.argsort(days[close], kind="stable")[: limits.cases]]
    cases = [Case(test=test.name(int(i)), train=train.name(int(at[i])), detail=f"{days[i]:,.0f} days apart at one place") for i in worst]
    text = f"days apart: {len(close):,} of {of:,} test units lie closer than {buffer_days:g} days to training at the same place ({spread})"
    return Finding(check="days_apart", level="leak", sentence=text, count=len(close), of=of, cases=cases)


def _total(manifest: SplitManifest, parts: list[ManifestPart], n_train: int, limits: Thresholds) -> ManifestReport:
    # The reserve is a second look at the same test units and is not counted again.
    counted = [part.report for part in parts if part.against != "reserve"]
    if not counted:
        raise DataError("the manifest has no test units", source=manifest.name)
    groups: dict[str, int] = {}
    for report in counted:
        for name, count in report.shared_groups.items():
            groups[name] = groups.get(name, 0) + count
    km = np.concatenate([report._nearest_km for report in counted])
    touched = [report.touching for report in counted if report.touching is not None]
    verdicts = {part.report.verdict for part in parts}
    verdict: Verdict = "leaks" if "leaks" in verdicts else "unlocated" if "unlocated" in verdicts else "clean"
    return ManifestReport(
        manifest=manifest.name,
        digest=manifest.digest,
        folds=len(manifest.folds),
        n_train=n_train,
        n_test=sum(report.n_test for report in counted),
        shared_ids=sum(report.shared_ids or 0 for report in counted),
        shared_groups=groups,
        touching=sum(touched) if touched else None,
        within_km={str(limit): sum(report.within_km[str(limit)] for report in counted) for limit in REPORTED_KM},
        median_nearest_km=float(np.median(km)) if len(km) else None,
        unlocated=sum(report.unlocated for report in counted),
        unlocated_train=int(manifest.units["lon"].isna().sum()) if any(report.unlocated_train for report in counted) else 0,
        verdict=verdict,
        thresholds=limits,
        parts=parts,
    )
