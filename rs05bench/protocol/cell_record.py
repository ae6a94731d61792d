"""What a result states of its labels, its training and its origin."""

from __future__ import annotations

from pydantic import Field, JsonValue

from rs05bench.protocol.strict_record import AsWritten, Record


class BudgetRecord(AsWritten):
    """The labels of a cell.

    Attributes:
        labels_used: Labels of the budget, validation included.
        labels_inspected: Labels somebody had to look at to have those.
        pool: Labels there were to draw from.
        train: Units that train.
        val: Units that validate.
        extra: Units of the held-out region that train (`+k` splits).
        pixel_fraction: Share of the pixels of a chip whose label is shown.
        shortages: Where fewer labels were found than asked for.
        tuning: How settings are chosen: on which labels.
        digest: Digest of the drawn units.
        labelled_pixels: Role -> labelled pixels shown, where a budget counts pixels.
        absent: Role -> units of the manifest that these data lack.
    """

    labels_used: int | None = None
    labels_inspected: int | None = None
    pool: int | None = None
    train: int | None = None
    val: int | None = None
    extra: int | None = None
    pixel_fraction: float | None = None
    shortages: list[str] = Field(default_factory=list)
    tuning: str | None = None
    digest: str | None = None
    labelled_pixels: dict[str, int] = Field(default_factory=dict)
    absent: dict[str, int] = Field(default_factory=dict)


class PlannedSteps(AsWritten):
    """The plan that results of earlier versions hold.

    Attributes:
        steps: Optimiser steps.
    """

    steps: int | None = None


class TrainingRecord(AsWritten):
    """How a model was fitted; a field that does not apply to a learner is not set.

    Attributes:
        early_stopping_role: Role whose labels could stop a fit; None where nothing stops early.
        planned_steps: Optimiser steps that every tier was given (rule 4).
        plan: What earlier versions wrote instead.
        steps: Optimiser steps that were run.
        best_step: Step whose weights were kept.
        stopped_early: Whether patience ran out.
        learning_rate: The rate that was kept.
        tried: Learning rate -> lowest validation loss; None where no label could tell.
        curves: Learning rate -> (step, validation loss) of every look at the validation labels.
        batch_size: Units of a batch.
        precision: Precision of the fit.
        setting: Entry of the tuning grid that was taken.
        grid: The tuning grid.
        losses: Validation loss of each entry.
        chosen: Why that entry was taken.
        encoder: Where the encoder's weights are from.
        note: What a reader should know of the fit.
        notes: The same, where there are several.
        warnings: What was warned of the data.
    """

    early_stopping_role: str | None = "val"
    planned_steps: int | None = None
    plan: PlannedSteps | None = None
    steps: int | None = None
    best_step: int | None = None
    stopped_early: bool = False
    learning_rate: float | None = None
    tried: dict[str, float | None] = Field(default_factory=dict)
    curves: dict[str, list[tuple[int, float | None]]] = Field(default_factory=dict)
    batch_size: int | None = None
    precision: str | int | None = None
    setting: dict[str, JsonValue] | None = None
    grid: list[dict[str, JsonValue]] = Field(default_factory=list)
    losses: list[float | None] = Field(default_factory=list)
    chosen: str | None = None
    encoder: str | None = None
    note: str = ""
    notes: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)

    @property
    def steps_given(self) -> int | None:
        """Steps the fit was given: as planned, else those it ran unless patience ended it; None for learners without steps."""
        if self.planned_steps is not None:
            return self.planned_steps
        if self.plan is not None and self.plan.steps is not None:
            return self.plan.steps
        return None if self.stopped_early else self.steps

    @property
    def configurations_tried(self) -> int:
        """Entries of a grid or learning rates that were compared on validation labels; 0 where nothing was compared."""
        return len(self.losses) or len(self.tried)


class Provenance(AsWritten):
    """Where a result comes from.

    Attributes:
        versions: Package -> version.
        commit: Commit of this package, where it is a checkout.
        command: The command that was run.
    """

    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None
    command: str | None = None


class GroupScore(Record):
    """The score of one group.

    Attributes:
        units: Scored units.
        clusters: Test blocks that hold some of them.
        value: The score; None where it has none.
        low: Lower end of its 95 % interval; None where there is none.
        high: Upper end.
    """

    units: int
    clusters: int
    value: float | None
    low: float | None
    high: float | None


class GroupGap(Record):
    """How much worse the worst group is than the best.

    Attributes:
        value: The gap.
        low: Lower bound that holds for all pairs of groups at once: the worst and the best of several groups always differ, and bounds for
            two groups named beforehand would leave out zero far too often.
        high: Upper bound.
        chance: The gap on average where groups do not differ.
        p: Permutation p-value of no difference.
    """

    value: float
    low: float
    high: float
    chance: float
    p: float


class GroupReport(Record):
    """Scores of declared groups, the worst and the gap.

    Attributes:
        metric: The score.
        groups: Group -> its score.
        worst: The group of the worst score among those of at least 30 units.
        best: The group of the best.
        gap: How far apart they are; None where there are no two.
    """

    metric: str
    groups: dict[str, GroupScore]
    worst: str | None = None
    best: str | None = None
    gap: GroupGap | None = None
