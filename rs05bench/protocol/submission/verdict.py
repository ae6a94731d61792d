"""The verdict on a submission: what was found, flagged, scored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rs05bench.protocol.rules import RuleVerdict
from rs05bench.protocol.strict_record import Record
from rs05bench.protocol.submission.schema import Submission

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
    """One cell as it was found. Cells are not kept on the board, which shows families.

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


class GroupTable(Record):
    """The main score of a family inside each group: what means, drops, intervals and ranks are made of.

    Attributes:
        shift: What changes from training to these units.
        groups: Groups.
        units: Test units of each group.
        scores: Group -> score by seed, the mean over the folds that test the group; None where there is none.
    """

    shift: str
    groups: list[str]
    units: list[int]
    scores: list[list[float | None]]


class CellFamily(Record):
    """One task, target, split and budget: everything the board keeps of its cells.

    Attributes:
        task: Task.
        target: Target.
        split: Split.
        budget: Budget.
        labels_used: Labels its budget allows, the mean over cells; 0 where nothing was scored.
        labels_inspected: Labels somebody had to look at to have those, the mean over cells.
        folds: Folds.
        seeds: Seeds.
        predictions: Fold -> by seed, the first 16 hex digits of the digest of the predictions.
        answers: Fold -> some answers of the first seed, packed, by which the same answers of two teams are found (`plausibility.sketch`).
        by_fold: role -> main score by fold, the mean over seeds.
        by_seed: role -> main score by seed, the mean over folds.
        scores: role -> metric -> mean over cells.
        groups: role -> main score inside groups.
        columns: group column of the card -> group -> main score and units, held out.
        calibration: role -> reliability curve (`confidence`, `accuracy`, `units`), bins pooled over cells.
    """

    task: str
    target: str
    split: str
    budget: str
    labels_used: float = 0.0
    labels_inspected: float = 0.0
    folds: list[str]
    seeds: list[int]
    predictions: dict[str, list[str]]
    answers: dict[str, str] = Field(default_factory=dict)
    by_fold: dict[str, list[float | None]] = Field(default_factory=dict)
    by_seed: dict[str, list[float | None]] = Field(default_factory=dict)
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    groups: dict[str, GroupTable] = Field(default_factory=dict)
    columns: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    calibration: dict[str, dict[str, list[float]]] = Field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Task, target, split and budget."""
        return self.task, self.target, self.split, self.budget


class Verdict(Record):
    """`verdict.json`.

    On the board it holds neither cells, which are its families, nor the submission, which is the file beside it.

    Attributes:
        schema_version: Always 3.
        outcome: `refused`; `complete` (no fault, not rescored for want of labels); `accepted` (no fault, rescored).
        slug: Name of the submission; empty where it could not be read.
        digest: Digest of the submission: its record without the address, and what the pin says of its other files.
        verified_at: Day and time, UTC.
        version: Version of rs05bench.
        seconds: Time it took.
        submission: `submission.yaml` as read and checked; None where it could not be read.
        simulated: Whether any cell is of a simulated task; simulated results never rank.
        rankable: task/target/split of complete, rescored main results on real data.
        unranked: task/target/split of rescored results that never rank -> why.
        faults: Why it is refused, one plain sentence each.
        flags: What a reviewer must look at.
        notes: What else was noticed.
        rules: Verdicts of the protocol's rules over this submission.
        cells: Every cell.
        families: Every family of what is not refused.
    """

    schema_version: Literal[3] = 3
    outcome: Outcome
    slug: str = ""
    digest: str = ""
    verified_at: str = ""
    version: str = ""
    seconds: float = 0.0
    submission: Submission | None = None
    simulated: bool = False
    rankable: list[str] = Field(default_factory=list)
    unranked: dict[str, str] = Field(default_factory=dict)
    faults: list[str] = Field(default_factory=list)
    flags: list[Flag] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    rules: list[RuleVerdict] = Field(default_factory=list)
    cells: list[CellVerdict] = Field(default_factory=list)
    families: list[CellFamily] = Field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return self.outcome != "refused"

    @property
    def tier(self) -> str:
        """The model's tier; empty where the record could not be read."""
        return "" if self.submission is None else self.submission.model.tier

    @property
    def tracks(self) -> list[Track]:
        """`deployment` for all, `open` for open weights."""
        return ["open", "deployment"] if self.submission is not None and self.submission.model.open_weights else ["deployment"]
