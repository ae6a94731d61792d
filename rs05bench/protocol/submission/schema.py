"""The records of a bundle, format version 1. Every field is checked strictly: no unknown field, no number in quotes, no odd letter."""

from __future__ import annotations

import datetime
import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from rs05bench.protocol.result import Cell, Cost, ModelCard, Tier

FORMAT = "rs05bench-submission"
FORMAT_VERSION = 1
SLUG = r"^[a-z0-9](?:[a-z0-9-]{1,58})[a-z0-9]$"


def _clean(text: str) -> str:
    for letter in text:
        kind = unicodedata.category(letter)
        if kind in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and letter != "\n":
            raise ValueError(f"holds U+{ord(letter):04X} ({unicodedata.name(letter, 'a control character')}), which cannot be seen")
    if unicodedata.normalize("NFC", text) != text:
        raise ValueError("is not in Unicode normal form C")
    return text


def _link(text: str) -> str:
    _clean(text)
    if not re.fullmatch(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[!-~]*)?", text) or "@" in text.split("/")[2]:
        raise ValueError("is no plain https:// address")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._/+@()=,:-]*", text):
        raise ValueError("may hold only ASCII letters, digits, spaces and . _ / + @ ( ) = , : -")
    return text


Word = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_clean)]
Text = Annotated[str, Field(max_length=2000), AfterValidator(_clean)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_name)]
Link = Annotated[str, Field(max_length=300), AfterValidator(_link)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=10**13)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Author(_Record):
    """Who submits.

    Attributes:
        name: Full name.
        affiliation: Where they work.
        orcid: ORCID, as `0000-0000-0000-0000`.
        github: Account that opens the pull request and signs off.
    """

    name: Word
    affiliation: Annotated[str, Field(max_length=200), AfterValidator(_clean)] = ""
    orcid: Annotated[str, Field(pattern=r"^\d{4}-\d{4}-\d{4}-\d{3}[\dX]$")] | None = None
    github: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}$")] | None = None


class SubmittedModel(_Record):
    """What was run.

    Attributes:
        name: `<input or backbone>/<learner or adaptation>`, as on the leaderboard.
        tier: Its tier.
        inputs: Feature set or backbone.
        learner: Learner or adaptation.
        parameters_total: Parameters; null where the notion does not apply.
        parameters_trainable: Parameters that were fitted.
        licence: Licence of the weights or the method.
        open_weights: Whether anyone can have the weights behind its inputs; decides the track.
        pretraining: Data sets the inputs were pretrained on.
        pretrained: Whether an encoder with trained weights is inside.
        random_twin: Whether the encoder is random-initialised.
        citation: What to cite.
    """

    name: Name
    tier: Tier
    inputs: Name
    learner: Name
    parameters_total: Count | None = None
    parameters_trainable: Count | None = None
    licence: Word
    open_weights: bool
    pretraining: list[Word] = Field(default_factory=list, max_length=50)
    pretrained: bool = False
    random_twin: bool = False
    citation: Text = ""

    def card(self) -> ModelCard:
        """The model card results carry."""
        return ModelCard(**self.model_dump())


class Hardware(_Record):
    """A machine the costs were measured on.

    Attributes:
        name: Processor or accelerator.
        kind: What it is.
        count: How many were used at once.
        cores: Cores used (cpu).
        memory_gb: Memory, GB.
    """

    name: Word
    kind: Literal["cpu", "gpu", "tpu", "other"]
    count: Annotated[int, Field(ge=1, le=4096)] = 1
    cores: Annotated[int, Field(ge=1, le=4096)] | None = None
    memory_gb: Annotated[float, Field(gt=0, le=1e5)] | None = None


class Environment(_Record):
    """What it ran in.

    Attributes:
        python: Version of Python, or of another language's runtime.
        system: Operating system.
        packages: Name -> version of what results depend on.
    """

    python: Word
    system: Word = "not said"
    packages: dict[Name, Word] = Field(default_factory=dict, max_length=500)


class Statement(_Record):
    """What the authors stand for; each must be true to be accepted.

    Attributes:
        test_labels_unused: No label of a test unit was used, directly or through a choice made by its score.
        budget_counts_all: Every label used, for tuning and stopping too, is within the budget.
        may_publish: The predictions and this card may be published under the licence named.
    """

    test_labels_unused: Literal[True]
    budget_counts_all: Literal[True]
    may_publish: Literal[True]


class Submission(_Record):
    """`submission.json`: who submits what.

    Attributes:
        format: Always `rs05bench-submission`.
        format_version: Version of the format.
        slug: Name of the folder on the leaderboard.
        title: One line for people.
        authors: Who submits.
        submitted: Day of the submission.
        model: What was run.
        overlap: How the pretraining data overlap with the tasks' places, years and labels, or why they do not.
        licence: Licence of the predictions.
        code: Where the code is; `rs05bench` where only this package's own models and commands were used.
        weights: Where the weights are; null where there are none or they are closed.
        hardware: What the costs were measured on.
        environment: What it ran in.
        manifests: `task/split@vN` -> digest of the manifest that was used.
        cards: task -> digest of the task card.
        statement: What the authors stand for.
        round: Name of the sealed round it takes part in.
        notes: Anything a reader should know.
    """

    format: Literal["rs05bench-submission"]
    format_version: Literal[1]
    slug: Annotated[str, Field(pattern=SLUG)]
    title: Word
    authors: list[Author] = Field(min_length=1, max_length=50)
    submitted: datetime.date
    model: SubmittedModel
    overlap: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_clean)]
    licence: Word
    code: Link | Literal["rs05bench"]
    weights: Link | None = None
    hardware: list[Hardware] = Field(min_length=1, max_length=20)
    environment: Environment
    manifests: dict[Name, Digest] = Field(min_length=1, max_length=100)
    cards: dict[Name, Digest] = Field(min_length=1, max_length=100)
    statement: Statement
    round: Annotated[str, Field(pattern=SLUG)] | None = None
    notes: Text = ""

    @model_validator(mode="after")
    def _declared(self) -> Submission:
        if self.model.open_weights and self.model.pretrained and not self.model.random_twin and self.weights is None:
            raise ValueError("model.open_weights is true, so `weights` must say where they are")
        if self.model.pretrained and not self.model.random_twin and not self.model.pretraining:
            raise ValueError("model.pretrained is true, so model.pretraining must name the data")
        return self


class CellName(_Record):
    """Which cell predictions are for; the fields of `Cell`, without options."""

    task: Name
    target: Name
    split: Name
    fold: Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_clean)]
    budget: Name
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)]

    def cell(self, model: str) -> Cell:
        """As results name it."""
        return Cell(model=model, **self.model_dump())

    @property
    def family(self) -> tuple[str, str, str]:
        """Task, target and split."""
        return self.task, self.target, self.split


class UsedBudget(_Record):
    """Labels a cell used."""

    labels_used: Count
    digest: Digest | None = None


class UsedTraining(_Record):
    """How a cell was trained.

    Attributes:
        planned_steps: Optimiser steps it was given; null for learners without steps.
        early_stopping_role: Role whose score could stop it; null where nothing stops early.
    """

    planned_steps: Count | None = None
    early_stopping_role: Literal["val"] | None = "val"


class CellRecord(_Record):
    """`cells/<n>/predictions.json`: what the predictions beside it are.

    Attributes:
        schema_version: Always 1.
        kind: Kind of the task.
        classes: Class values in the card's order; null for regression.
        cell: Which cell.
        preprocessing: Digest of the preprocessing that was used (`preprocessing_digest` of the card).
        budget: Labels used.
        training: Schedule.
        reported: role -> metric -> score as the authors found it. Never trusted: compared with what is found here.
    """

    schema_version: Literal[1]
    kind: Literal["classification", "regression", "segmentation"]
    classes: list[Word] | None = Field(default=None, max_length=1000)
    cell: CellName
    preprocessing: Digest
    budget: UsedBudget
    training: UsedTraining = Field(default_factory=UsedTraining)
    reported: dict[Name, dict[Name, float]] = Field(default_factory=dict, max_length=20)


class CostRecord(_Record):
    """What cells cost: one entry a task, split and budget at least; the fields of `Cost`, unknown ones null and never 0.

    Attributes:
        task: Task.
        target: Target.
        split: Split.
        budget: Budget.
    """

    task: Name
    target: Name
    split: Name
    budget: Name
    fit_s: Amount
    predict_s: Amount
    predict_s_per_1000: Amount
    device_hours: Amount | None = None
    peak_memory_mb: Amount
    peak_device_memory_mb: Amount | None = None
    parameters_total: Count | None = None
    parameters_trainable: Count | None = None
    gflops_per_unit: Amount | None = None
    energy_wh: Amount | None = None
    energy_of: Word | None = None
    labels_used: Count
    hardware: Word
    alone: bool = False
    measured_at: Annotated[str, Field(max_length=40), AfterValidator(_clean)] | None = None

    def cost(self) -> Cost:
        """As results carry it."""
        return Cost(**self.model_dump(exclude={"task", "target", "split", "budget"}))

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is the cost of."""
        return self.task, self.target, self.split, self.budget


class Costs(_Record):
    """`costs.json`."""

    schema_version: Literal[1]
    costs: list[CostRecord] = Field(min_length=1, max_length=10_000)


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas of the three records, for teams that write them without Python."""
    return {
        "submission.json": Submission.model_json_schema(),
        "cells/<n>/predictions.json": CellRecord.model_json_schema(),
        "costs.json": Costs.model_json_schema(),
    }
