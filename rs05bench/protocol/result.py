"""Results: one record a cell, and the words a cell is named by."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from pydantic import ConfigDict, Field

from rs05bench.protocol.cell_record import BudgetRecord, GroupReport, Provenance, TrainingRecord
from rs05bench.protocol.feature_sets import Content
from rs05bench.protocol.hashing import text_digest
from rs05bench.protocol.option_values import Options
from rs05bench.protocol.predictions import RolePredictions
from rs05bench.protocol.splits import Split
from rs05bench.protocol.strict_record import Record
from rs05bench.protocol.task_kinds import TASK_KINDS, Kind, TaskKind

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rs05bench.protocol.kept import KeptSums

SCHEMA_VERSION = 1
SAME_SCORE = 1e-6
"""A stored score and its recomputation may differ by the rounding of float32 predictions."""
CODE, OPTION = "code", "option."
"""Names of digests of files that only some cells rest on: of a one-file model, and (with the option's name) of a file an option names."""

Tier = Literal["floor", "raw", "embedding", "hybrid", "frozen", "decoder", "adapter", "lora", "full"]
TIERS: tuple[Tier, ...] = get_args(Tier)


class ModelCard(Record):
    """What a model is.

    Attributes:
        name: `<input or backbone>/<learner or adaptation>`, with `@random` for the random-initialised twin.
        tier: Its tier.
        inputs: Feature set or backbone.
        learner: Learner or adaptation.
        parameters_total: Parameters (None where the notion does not apply).
        parameters_trainable: Parameters that were fitted.
        licence: Licence of weights or code.
        open_weights: Whether the weights behind its inputs can be had.
        pretraining: Data the inputs were pretrained on, for the overlap rule.
        random_twin: Whether the encoder is random-initialised.
        pretrained: Whether an encoder with trained weights of its own is inside.
        citation: What to cite.
        options: Options it was created with.
        content: What its inputs are (`rs05bench.protocol.feature_sets.Content`): judged by their columns, not by the tier's name; empty
            where nothing is recorded.
    """

    name: str
    tier: Tier
    inputs: str
    learner: str
    parameters_total: int | None = None
    parameters_trainable: int | None = None
    licence: str = ""
    open_weights: bool = True
    pretraining: list[str] = Field(default_factory=list)
    random_twin: bool = False
    pretrained: bool = False
    citation: str = ""
    options: Options = Field(default_factory=dict)
    content: list[Content] = Field(default_factory=list)


class Model[View](Protocol):
    """The one interface every tier fits behind.

    `View` is what the model reads: `rs05bench.protocol.taskdata.TaskData` of tables, the view of a data module of chips. Whoever runs
    models without asking which takes a `Model[TaskView]`; the card's kind decides both.
    """

    @property
    def card(self) -> ModelCard:
        """What the model is; parameter counts may be known after a fit only."""

    def fit(self, data: View, /) -> Model[View]:
        """Learns from a view; returns self."""

    def predict(self, data: View, role: str, /) -> RolePredictions:
        """Predicts the units of a role: rows of a table, or chips one after another."""


@runtime_checkable
class WarmsUp(Protocol):
    """A model that can run once what a process does once, before its time is measured."""

    def warm_up(self, data: Any, /) -> None:
        """Fits a model of this kind for one step and forgets it."""


@runtime_checkable
class CountsOperations(Protocol):
    """A model that counts its operations."""

    def gflops_per_unit(self, data: Any, /) -> float | None:
        """Billions of operations to predict one unit; None where they cannot be counted."""


@runtime_checkable
class StatesTraining(Protocol):
    """A model that states how it was fitted."""

    @property
    def training_record(self) -> TrainingRecord:
        """Schedule, early stopping and chosen settings of the fit; an empty record before it."""


class Cell(Record):
    """One cell of the grid: task x target x split x fold x model x budget x seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    target: str
    split: Split
    fold: str
    model: str
    budget: str
    seed: int
    options: Options = Field(default_factory=dict)

    def digest(self, **content: str) -> str:
        """SHA-256 over the cell and the digests of what it rests on, so that stale results are never reused.

        Args:
            **content: Digests of card, manifest and data, and of the files the cell names, where it names any (`Result.rests_on`).
        """
        text = json.dumps({"cell": self.model_dump(mode="json"), "content": content}, sort_keys=True, ensure_ascii=False)
        return text_digest(text)


class Cost(Record):
    """What a cell cost; a field that could not be measured is None, never 0.

    Attributes:
        fit_s: Wall time of fitting, seconds (tuning included).
        predict_s: Wall time of predicting all test roles, seconds.
        predict_s_per_1000: Prediction time per 1,000 units, after a warm-up, seconds.
        device_hours: Hours on an accelerator.
        peak_memory_mb: Peak resident memory of the process beyond what it held before, MiB.
        peak_device_memory_mb: Peak memory on the accelerator, MiB.
        parameters_total: Parameters of the model.
        parameters_trainable: Parameters that were fitted.
        gflops_per_unit: Floating-point operations to predict one unit, 1e9.
        energy_wh: Energy of fitting and predicting, watt-hours, other programs' share included.
        energy_of: Whose: `processor`, `accelerator`, or `processor + accelerator`.
        labels_used: Labels of the budget, validation included.
        labels_inspected: Labels somebody had to look at to have those: more than were used where they were picked by their class.
        hardware: Name of processor or accelerator.
        alone: True where measured in a fresh process with nothing beside it.
        measured_at: ISO time of the measurement (UTC).
    """

    fit_s: float | None = None
    predict_s: float | None = None
    predict_s_per_1000: float | None = None
    device_hours: float | None = None
    peak_memory_mb: float | None = None
    peak_device_memory_mb: float | None = None
    parameters_total: int | None = None
    parameters_trainable: int | None = None
    gflops_per_unit: float | None = None
    energy_wh: float | None = None
    energy_of: str | None = None
    labels_used: int | None = None
    labels_inspected: int | None = None
    hardware: str | None = None
    alone: bool = False
    measured_at: str | None = None


class Stratum(Record):
    """Scores inside one group, for one role and shift: what main scores, drops and differences are made of (`rs05bench.compare`).

    The test units of a group are a fixed set. They are scored in every fold: with the group in training (`test_id`) and with it held
    out (`test_ood`).

    Attributes:
        role: `test_id` or `test_ood`.
        shift: What changes from training to these units: `none`, `region`, `year` or `both`.
        ground: The fold that holds these units out (it may gather several groups); empty where no fold does.
        group: What the split moves, a region or (`leave-year-out`) a year; empty in results of earlier versions, where it is the ground.
        units: Units.
        scores: Metric -> score.
    """

    role: str
    shift: str
    ground: str
    group: str = ""
    units: int
    scores: dict[str, float]


class Result(Record):
    """One cell's result.

    Attributes:
        cell: Which cell.
        digest: Digest of the cell and what it rests on.
        kind: Kind of the task.
        main_metric: Metric tables are ordered by.
        higher_is_better: Its direction.
        simulated: True where anything in it comes from simulated data.
        model: The model card.
        scores: role -> metric -> value, pooled over the role's units (`test_ood` also by shift: `test_ood:year`).
        per_group: role -> group column -> group -> metric -> value, for the main metric and the count (`units`).
        strata: Scores per role, shift and group.
        calibration: role -> reliability curve (`confidence`, `accuracy`, `units`).
        sums: role -> packed sums per test block, from which intervals and drops follow without predictions (`kept` reads them); empty in
            results of earlier versions.
        group_sums: role -> declared group column -> packed sums per test block and group, where `sums` are not split by that column.
        fairness: Reports that results of earlier versions hold; `group_report` gives them, and makes those of all others.
        budget: Labels used, shortages, digest.
        training: Schedule, early stopping, chosen settings.
        digests: Of card, manifest, data, predictions, preprocessing; of the model's file (`code`) and of files that options name
            (`option.<name>`), where there are any.
        provenance: Versions, commit, command.
        cost: What it cost.
        main: False where the split can never be a main result.
    """

    schema_version: int = SCHEMA_VERSION
    cell: Cell
    digest: str
    kind: Kind
    main_metric: str
    higher_is_better: bool
    simulated: bool
    model: ModelCard
    scores: dict[str, dict[str, float]]
    per_group: dict[str, dict[str, dict[str, dict[str, float]]]] = Field(default_factory=dict)
    strata: list[Stratum] = Field(default_factory=list)
    calibration: dict[str, dict[str, list[float]]] = Field(default_factory=dict)
    sums: dict[str, str] = Field(default_factory=dict, repr=False)
    group_sums: dict[str, dict[str, str]] = Field(default_factory=dict, repr=False)
    fairness: dict[str, dict[str, GroupReport]] = Field(default_factory=dict)
    budget: BudgetRecord = Field(default_factory=BudgetRecord)
    training: TrainingRecord = Field(default_factory=TrainingRecord)
    digests: dict[str, str] = Field(default_factory=dict)
    provenance: Provenance = Field(default_factory=Provenance)
    cost: Cost = Field(default_factory=Cost)
    main: bool = True

    @property
    def about(self) -> TaskKind:
        """What follows from the kind of the task."""
        return TASK_KINDS[self.kind]

    def rests_on(self) -> dict[str, str]:
        """The digests that the cell's own is made of: `result.cell.digest(**result.rests_on()) == result.digest`."""
        files = {name: value for name, value in self.digests.items() if name == CODE or name.startswith(OPTION)}
        return {name: self.digests.get(name, "") for name in ("card", "manifest", "data")} | files

    def kept(self, role: str) -> KeptSums | None:
        """The sums per test block of a role (`KeptSums`); None where none were kept.

        Raises:
            DataError: They cannot be read.
        """
        if role not in self.sums:
            return None
        from rs05bench.protocol.kept import KeptSums

        return KeptSums.unpack(self.sums[role])

    def contradiction(self, metric: str) -> str | None:
        """How the sums of a role contradict the score beside them; None where they give it, or were not kept."""
        for role, scores in self.scores.items():
            kept = self.kept(role) if metric in scores else None
            if kept is None or not kept.gives(metric):
                continue
            sums = kept.of(metric)
            found = float(sums.evaluate(metric, sums.vectors.sum(0)))
            if not abs(found - scores[metric]) <= SAME_SCORE * max(1.0, abs(scores[metric])):
                return f"the kept sums give {metric} {found:.6f} on {role}, and the result says {scores[metric]:.6f}"
        return None

    def group_report(self, role: str, column: str) -> GroupReport | None:
        """Scores of the groups of a column with intervals, the worst, and whether the gap is more than chance.

        Computed when asked for (intervals and permutations take tens of milliseconds), with fixed seeds.

        Args:
            role: `test_id` or `test_ood`.
            column: A declared group column.

        Returns:
            The report; None where no sums are kept by block and that column, or they do not give
            the main metric.

        Raises:
            DataError: The sums cannot be read.
        """
        if column in self.fairness.get(role, {}):
            return self.fairness[role][column]
        from rs05bench.protocol.group_report import report_of_kept
        from rs05bench.protocol.kept import KeptSums

        packed = self.group_sums.get(role, {}).get(column)
        kept = self.kept(role) if packed is None else KeptSums.unpack(packed)
        scores = self.per_group.get(role, {}).get(column)
        if kept is None or scores is None or not {"block", column} <= set(kept.keys) or not kept.gives(self.main_metric):
            return None
        return report_of_kept(self.main_metric, column, kept, {name: of["units"] for name, of in scores.items()})

    def table(self) -> pd.DataFrame:
        """The scores as a pandas DataFrame: a row a metric, a column a role."""
        import pandas as pd

        return pd.DataFrame(self.scores)

    def plot(self) -> Figure:
        """A picture of the main metric by role and, for classifications, of calibration.

        Returns:
            A matplotlib figure.
        """
        from matplotlib.figure import Figure

        from rs05bench.protocol.tiers import TIER_STYLES

        colour = TIER_STYLES[self.model.tier].colour
        figure = Figure(figsize=(8 if self.calibration else 4, 3.2), layout="constrained")
        axes = figure.subplots(1, 2 if self.calibration else 1, squeeze=False)[0]
        shown = {role: scores[self.main_metric] for role, scores in self.scores.items() if self.main_metric in scores}
        bars = axes[0].bar(list(shown), list(shown.values()), color=colour)
        axes[0].bar_label(bars, fmt="%.2f")
        axes[0].set_ylabel(self.main_metric)
        axes[0].margins(y=0.12)  # room for the values over the bars
        if self.calibration:
            axes[1].plot([0, 1], [0, 1], color="0.6", linewidth=1)
            for (role, curve), line in zip(self.calibration.items(), ("-", "--", ":"), strict=False):
                axes[1].plot(curve["confidence"], curve["accuracy"], line, marker="o", color=colour, label=role)
            axes[1].set_xlabel("confidence")
            axes[1].set_ylabel("accuracy")
            axes[1].legend(frameon=False)
        cell = self.cell
        parts = [cell.model, f"{cell.task}{' (simulated)' if self.simulated else ''}, {cell.split}", f"{cell.fold}, {cell.budget}"]
        # Names are long, and a title that does not fit is cut at both ends.
        figure.suptitle("\n".join(textwrap.fill(part, 84 if self.calibration else 40) for part in parts), fontsize=9)
        return figure

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from rs05bench.protocol.notebook import html

        cell = self.cell
        table = self.table().reset_index(names="score")
        return html(f"{cell.model} on {cell.task}, {cell.split}, {cell.fold}, {cell.budget}, seed {cell.seed}", table, self.plot())
