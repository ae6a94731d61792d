"""What an audit says: thresholds, cases, findings, and the report with its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from rs05bench.protocol.atomic import write_text

Level = Literal["leak", "warning", "pass", "note", "not_checked"]
Verdict = Literal["clean", "leaks", "unlocated"]
Shift = Literal["none", "region", "year", "both"]

REPORTED_KM = (1, 10, 30, 100)


class Thresholds(BaseModel):
    """From where on something counts as a leak; every one can be changed: in the file that `rs05bench audit --thresholds` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_km: float = Field(1.0, ge=0, description="A test unit closer than this to a training unit leaks; 0 switches the rule off.")
    touch_m: float = Field(0.01, ge=0, description="Footprints nearer than this (metres) touch; covers rounding of shared corners.")
    gap_days: float = Field(
        0.0, ge=0, description="Days that must lie between the windows of training and test where the year is what shifts."
    )
    cosine: float = Field(0.9999, gt=0, le=1, description="Feature vectors with at least this cosine are the same content.")
    content_sample: tuple[int, int] = Field((10_000, 50_000), description="Most test and training vectors compared by cosine.")
    variogram_sample: int = Field(1_500, ge=50, description="Most units whose pairs enter the variogram.")
    range_leaks: bool = Field(False, description="Whether an autocorrelation range beyond the buffer is a leak, not only a warning.")
    buffer_km: float | None = Field(None, ge=0, description="The buffer the split claims, which a range is judged against.")
    seed: int = Field(0, description="Seed of the subsamples.")
    cases: int = Field(5, ge=0, description="Worst cases named for each finding.")


class Case(BaseModel):
    """One test unit and the training unit (or the group) it shares something with."""

    test: str
    train: str | None = None
    detail: str
    distance_km: float | None = None
    test_lonlat: tuple[float, float] | None = None
    train_lonlat: tuple[float, float] | None = None


class Finding(BaseModel):
    """The outcome of one check.

    ``count`` is the number of test units concerned, ``of`` the number that could be checked.
    """

    check: str
    level: Level
    sentence: str
    count: int | None = None
    of: int | None = None
    numbers: dict[str, Any] = Field(default_factory=dict)
    cases: list[Case] = Field(default_factory=list)


class AuditReport(BaseModel):
    """Everything found between one training list and one test list."""

    schema_version: Literal[1] = 1
    train_source: str
    test_source: str
    shift: Shift
    n_train: int
    n_test: int
    shared_ids: int | None
    shared_groups: dict[str, int]
    touching: int | None
    within_km: dict[str, int]
    median_nearest_km: float | None
    unlocated: int
    unlocated_train: int
    verdict: Verdict
    findings: list[Finding]
    thresholds: Thresholds
    # Positions for the map; a million points are not written to JSON.
    located: list[tuple[str, float, float]] = Field(default_factory=list, exclude=True, repr=False)
    # Distances of every test unit, for totals over several reports.
    _nearest_km: Any = PrivateAttr(default=None)

    @property
    def leaks(self) -> list[Finding]:
        """The findings that make the verdict ``leaks``."""
        return [finding for finding in self.findings if finding.level == "leak"]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        import pandas as pd

        from rs05bench.protocol.notebook import bars, html

        rows = [{"check": found.check, "level": found.level, "what": found.sentence} for found in self.findings]
        near = {f"within {km} km": float(count) for km, count in self.within_km.items()}
        picture = bars(list(near), list(near.values()), "#D55E00", "test units near a training unit") if near else None
        return html(f"Audit: {self.verdict}", pd.DataFrame(rows), picture, f"{self.n_train:,} training and {self.n_test:,} test units.")

    def finding(self, check: str) -> Finding:
        """The finding of one check, for example ``"shared_ids"`` or ``"shared_group:tile"``.

        Raises:
            KeyError: There is no such check in the report.
        """
        for found in self.findings:
            if found.check == check:
                return found
        raise KeyError(f"no check {check!r}; this report has {', '.join(found.check for found in self.findings)}")

    def to_json(self) -> str:
        """The report as JSON text."""
        return self.model_dump_json(indent=2)

    def save(self, path: str | Path) -> Path:
        """Write the JSON and return where it is."""
        target = Path(path)
        write_text(target, self.to_json() + "\n")
        return target


class ManifestPart(BaseModel):
    """The audit of one fold's test units of one role and shift."""

    fold: str
    role: str
    shift: Shift
    against: str
    report: AuditReport


class ManifestReport(BaseModel):
    """The audit of a manifest: totals over its folds, and every part.

    Counts are of fold-units: a unit that is tested in three folds counts three times.
    """

    schema_version: Literal[1] = 1
    manifest: str
    digest: str
    folds: int
    n_train: int
    n_test: int
    shared_ids: int
    shared_groups: dict[str, int]
    touching: int | None
    within_km: dict[str, int]
    median_nearest_km: float | None
    unlocated: int
    unlocated_train: int
    verdict: Verdict
    thresholds: Thresholds
    parts: list[ManifestPart]

    @property
    def leaks(self) -> list[Finding]:
        """The findings of all parts that make the verdict ``leaks``."""
        return [finding for part in self.parts for finding in part.report.leaks]

    def to_json(self) -> str:
        """The report as JSON text."""
        return self.model_dump_json(indent=2)

    def save(self, path: str | Path) -> Path:
        """Write the JSON and return where it is."""
        target = Path(path)
        write_text(target, self.to_json() + "\n")
        return target


def verdict_of(findings: list[Finding], *, unlocated: int) -> Verdict:
    """``leaks`` when any check leaks; else ``unlocated`` when a unit has no position (nobody can say how near it is); else ``clean``."""
    if any(finding.level == "leak" for finding in findings):
        return "leaks"
    return "unlocated" if unlocated else "clean"
