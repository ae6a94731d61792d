"""What the site shows, as plain records. Only `adapter` knows how submissions lie on disk."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from rs05bench.protocol.inference.estimate import Bounds, Estimate
from rs05bench.protocol.result import Cost, ModelCard
from rs05bench.protocol.strict_record import FrozenRecord
from rs05bench.protocol.submission.board import BoardLinks
from rs05bench.protocol.task_kinds import Kind

StandingName = Literal["self-reported", "rescored", "reproduced", "verified"]
TRACKS = {"deployment": "All models", "open": "Open weights only"}
STANDING_MEANING = {
    "self-reported": "what the authors say; the predictions were not scored here",
    "rescored": "scored here from the predictions sent; not run again yet",
    "reproduced": "run again, by the machine for models of this package or by somebody else, within tolerance",
    "verified": "reproduced, and signed off by its authors",
}


class Spread(FrozenRecord):
    """A number with its interval.

    Attributes:
        value: Mean over groups (and seeds) of the value inside each.
        low: Lower end, 95 %; None where no interval can be given.
        high: Upper end.
        median: Median over groups with its interval, where the mean has none.
        groups: Groups it is the mean of.
        seeds: Seeds a group.
    """

    value: float
    low: float | None = None
    high: float | None = None
    median: Bounds | None = None
    groups: int = 1
    seeds: int = 1

    @classmethod
    def of(cls, estimate: Estimate, seeds: int) -> Spread:
        """What `compare` gives, as the site shows it."""
        low, high = (end if math.isfinite(end) else None for end in (estimate.low, estimate.high))
        return cls(value=estimate.value, low=low, high=high, median=estimate.median, groups=estimate.n_groups, seeds=seeds)


class BoardPoint(FrozenRecord):
    """One submission on one table at one budget.

    Attributes:
        budget: The budget.
        labels: Labels used, mean over cells.
        ood: Main metric on `test_ood`.
        home: Main metric on `test_id`.
        drop: How much worse on the same ground with it held out; positive is worse.
        calibration: ECE, or coverage of 90 % intervals for a regression, on `test_ood`.
        cost: What it cost.
        measured: Whether `leaderboard reproduce` measured the cost; else it is what the authors report.
        by_fold: Fold -> main metric on `test_ood`, mean over seeds.
        by_group: Group -> main metric on `test_ood`, mean over seeds.
        drops: Group -> drop.
        curves: role -> reliability curve.
        groups: group column -> group -> (main metric, units) on `test_ood`.
        missing: What the board asks for and is not there; empty when complete.
    """

    budget: str
    labels: float | None = None
    ood: Spread | None = None
    home: Spread | None = None
    drop: Spread | None = None
    calibration: float | None = None
    cost: Cost | None = None
    measured: bool = False
    by_fold: dict[str, float] = Field(default_factory=dict)
    by_group: dict[str, float] = Field(default_factory=dict)
    drops: dict[str, float] = Field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = Field(default_factory=dict)
    groups: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    missing: str = ""


class Row(FrozenRecord):
    """One submission on one table.

    Attributes:
        slug: The submission.
        points: Budget -> point; budgets that were not run are not there.
        barred: Why it holds no headline rank in this table at any budget; empty where it may.
    """

    slug: str
    points: dict[str, BoardPoint]
    barred: str = ""


class BoardTable(FrozenRecord):
    """One task, target and split.

    Attributes:
        key: Name of its page.
        task: Task.
        target: Target.
        split: Split.
        metric: Main metric.
        budgets: Budgets in order of size.
        folds: Folds the board asks for.
        main: False where the split can never be a main result.
        simulated: Simulated results never rank.
        kind: Kind of the task.
        rows: One entry a submission.
    """

    key: str
    task: str
    target: str
    split: str
    metric: str
    budgets: list[str]
    folds: list[str]
    main: bool = True
    simulated: bool = False
    kind: Kind
    rows: list[Row] = Field(default_factory=list)


class FoldPlace(FrozenRecord):
    """A fold of a split on the map: role -> (lon, lat) of some of its units, and the middle of what it holds out."""

    points: dict[str, list[tuple[float, float]]]
    centre: tuple[float, float] | None = None


class SplitInfo(FrozenRecord):
    """A frozen split.

    Attributes:
        split: Split.
        name: `task/split@vN`.
        digest: Digest of the manifest.
        audit: What the audit found; empty where it was not audited.
        places: Fold -> where it is; empty where the manifest is not available.
        counts: Fold -> role -> units.
    """

    split: str
    name: str
    digest: str
    audit: dict[str, Any] = Field(default_factory=dict)
    places: dict[str, FoldPlace] = Field(default_factory=dict)
    counts: dict[str, dict[str, int]] = Field(default_factory=dict)


class Task(FrozenRecord):
    """A task.

    Attributes:
        name: Name.
        title: One line for people.
        kind: Kind of the task.
        targets: Targets.
        classes: Class values; None for a regression.
        metric: Main metric.
        simulated: Whether its data are simulated.
        digest: Digest of the card.
        source: Where the data come from.
        licence: Their licence.
        citation: What to cite.
        overlap: How pretraining data overlap with it.
        note: What a reader must know.
        splits: Its splits.
    """

    name: str
    title: str
    kind: Kind
    targets: list[str]
    classes: list[str] | None
    metric: str
    simulated: bool
    digest: str
    source: str = ""
    licence: str = ""
    citation: str = ""
    overlap: str = ""
    note: str = ""
    splits: list[SplitInfo] = Field(default_factory=list)


class Mark(FrozenRecord):
    """A rule's verdict or a reviewer's flag on a submission."""

    title: str
    verdict: str
    reason: str


class Event(FrozenRecord):
    """How a submission came to its standing."""

    standing: str
    when: str = ""
    text: str = ""


class Entry(FrozenRecord):
    """A submission.

    Attributes:
        slug: Name of its folder and page.
        title: One line for people.
        model: Its card.
        standing: Its standing.
        history: How it came to it.
        tracks: Tracks it takes part in.
        simulated: Whether any of it rests on simulated data.
        authors: Names with affiliations.
        submitted: Day.
        overlap: Declared overlap of pretraining data with the tasks.
        licence: Licence of the predictions.
        code: Address of the code.
        weights: Address of the weights.
        hardware: Machines the costs were measured on.
        environment: Package -> version.
        notes: What the authors add.
        rules: Verdicts of the protocol's rules.
        flags: What a reviewer must look at.
        digests: Name -> digest of what it rests on.
    """

    slug: str
    title: str
    model: ModelCard
    standing: StandingName
    history: list[Event] = Field(default_factory=list)
    tracks: list[str] = Field(default_factory=list)
    simulated: bool = False
    authors: list[str] = Field(default_factory=list)
    submitted: str = ""
    overlap: str = ""
    licence: str = ""
    code: str = ""
    weights: str = ""
    hardware: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    notes: str = ""
    rules: list[Mark] = Field(default_factory=list)
    flags: list[Mark] = Field(default_factory=list)
    digests: dict[str, str] = Field(default_factory=dict)


class Leaderboard(FrozenRecord):
    """Everything the site shows.

    Attributes:
        entries: Slug -> submission.
        tables: Tables, in the order of the board.
        tasks: Task name -> task.
        links: Where the site leads to.
    """

    entries: dict[str, Entry]
    tables: list[BoardTable]
    tasks: dict[str, Task]
    links: BoardLinks = Field(default_factory=BoardLinks)
