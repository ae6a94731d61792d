"""The verdict on a submission: what was found, flagged, scored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_serializer, field_validator

from rs05bench.protocol.result import Cost, ModelCard, Stratum
from rs05bench.protocol.rules import RuleVerdict
from rs05bench.protocol.strict_record import Record

SCHEMA_VERSION = 2
_STRATUM = tuple(Stratum.model_fields)

Outcome = Literal["refused", "complete", "accepted"]
FlagKey = Literal["too-good", "far-above", "no-drop", "below-floor", "identical", "cost", "coordinates", "unmoved", "inputs"]
Track = Literal["open", "deployment"]


class Flag(Record):
    """Something a reviewer must look at; it refuses nothing by itself.

    Attributes:
        key: What was looked for.
        sentence: What was found.
        cells: The cells it was found in (at most ten).
    """

    key: FlagKey
    sentence: str
    cells: list[str] = Field(default_factory=list)


class CellVerdict(Record):
    """One cell as it was found.

    Attributes:
        task: Task.
        target: Target.
        split: Split.
        fold: Fold.
        budget: Budget.
        seed: Seed.
        units: Predicted test units.
        labels_used: Labels its budget allows, drawn here; 0 where nothing was scored.
        labels_inspected: Labels somebody had to look at to have those.
        predictions: Digest of the predictions.
        scores: role -> metric -> score, computed here; empty where no labels were given.
        strata: The main score per role, shift, ground and group, for intervals, ranks and drops. In JSON a list each, in the order of
            `Stratum`: a board of many submissions is mostly these.
    """

    task: str
    target: str
    split: str
    fold: str
    budget: str
    seed: int
    units: int
    labels_used: int
    labels_inspected: int = 0
    predictions: str
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    strata: list[Stratum] = Field(default_factory=list)

    @field_serializer("strata")
    def _as_lists(self, strata: list[Stratum]) -> list[list[object]]:
        return [[getattr(stratum, name) for name in _STRATUM] for stratum in strata]

    @field_validator("strata", mode="before")
    @classmethod
    def _from_lists(cls, strata: object) -> object:
        if not isinstance(strata, list):
            return strata
        return [dict(zip(_STRATUM, item, strict=True)) if isinstance(item, list) else item for item in strata]


class Pooled(Record):
    """Means over folds and seeds of one task, target, split and budget.

    Attributes:
        task: Task.
        target: Target.
        split: Split.
        budget: Budget.
        per_group: role -> group column -> group -> metric -> mean, units as their sum over folds for one seed.
        calibration: role -> reliability curve (`confidence`, `accuracy`, `units`), bins pooled over cells.
    """

    task: str
    target: str
    split: str
    budget: str
    per_group: dict[str, dict[str, dict[str, dict[str, float]]]] = Field(default_factory=dict)
    calibration: dict[str, dict[str, list[float]]] = Field(default_factory=dict)


class PricedCost(Record):
    """What a task, split and budget cost, as reported."""

    task: str
    target: str
    split: str
    budget: str
    cost: Cost


class Verdict(Record):
    """`verdict.json`.

    Attributes:
        schema_version: Always 2.
        outcome: `refused`; `complete` (no fault, not rescored for want of labels); `accepted` (no fault, rescored).
        slug: Name of the submission; empty where it could not be read.
        title: One line for people.
        digest: Digest of the submission: its record without the pin, and its other files.
        files: Path -> SHA-256 of every file but the record, as verified.
        verified_at: Day and time, UTC.
        version: Version of rs05bench.
        seconds: Time it took.
        submission: `submission.yaml` as read and checked; None where it could not be read.
        model: The model card; None where it could not be read.
        tracks: `deployment` for all, `open` for open weights.
        simulated: Whether any cell is of a simulated task; simulated results never rank.
        rankable: task/target/split of complete, rescored main results on real data.
        unranked: task/target/split of rescored results that never rank -> why.
        faults: Why it is refused, one plain sentence each.
        flags: What a reviewer must look at.
        notes: What else was noticed.
        rules: Verdicts of the protocol's rules over this submission.
        cells: Every cell.
        pooled: Means of groups and calibration.
        costs: Costs, as reported.
        answers: cell -> its answers, packed, by which the same answers of two teams are found (`plausibility.pack`).
    """

    schema_version: Literal[2] = 2
    outcome: Outcome
    slug: str = ""
    title: str = ""
    digest: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    verified_at: str = ""
    version: str = ""
    seconds: float = 0.0
    submission: dict[str, Any] | None = None
    model: ModelCard | None = None
    tracks: list[Track] = Field(default_factory=list)
    simulated: bool = False
    rankable: list[str] = Field(default_factory=list)
    unranked: dict[str, str] = Field(default_factory=dict)
    faults: list[str] = Field(default_factory=list)
    flags: list[Flag] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    rules: list[RuleVerdict] = Field(default_factory=list)
    cells: list[CellVerdict] = Field(default_factory=list)
    pooled: list[Pooled] = Field(default_factory=list)
    costs: list[PricedCost] = Field(default_factory=list)
    answers: dict[str, str] = Field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return self.outcome != "refused"

    def main_scores(self, metric: str, role: str = "test_ood") -> dict[tuple[str, str, str, str], list[float]]:
        """(task, target, split, budget) -> the metric of every fold and seed."""
        found: dict[tuple[str, str, str, str], list[float]] = {}
        for cell in self.cells:
            if metric in cell.scores.get(role, {}):
                found.setdefault((cell.task, cell.target, cell.split, cell.budget), []).append(cell.scores[role][metric])
        return found
