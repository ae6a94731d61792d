"""`submission.yaml`, format version 2. Every field is checked strictly: no unknown field, no number in quotes, no odd letter."""

from __future__ import annotations

import datetime
import re
import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from rs05bench.protocol.feature_sets import Content
from rs05bench.protocol.result import Cell, Cost, ModelCard, Tier
from rs05bench.protocol.strict_record import Record

FORMAT = "rs05bench-submission"
FORMAT_VERSION = 2
FIRST_DAY = datetime.date(2025, 1, 1)
_UNSEEN = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs that are drawn as nothing: Hangul fillers, the blank of Braille."""
SLUG = r"^[a-z0-9](?:[a-z0-9-]{1,58})[a-z0-9]$"


def _clean(text: str) -> str:
    for letter in text:
        kind = unicodedata.category(letter)
        if kind in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and letter != "\n":
            raise ValueError(f"holds U+{ord(letter):04X} ({unicodedata.name(letter, 'a control character')}), which cannot be seen")
    if unicodedata.normalize("NFC", text) != text:
        raise ValueError("is not in Unicode normal form C")
    marks = "".join("m" if unicodedata.category(letter) == "Mn" else "." for letter in text)
    if "mmm" in marks or any(0xFE00 <= ord(letter) <= 0xFE0F or 0xE0100 <= ord(letter) <= 0xE01EF for letter in text):
        raise ValueError("holds piled marks or variation selectors")
    if re.fullmatch(r"\s*<.*>\s*", text, re.DOTALL):
        raise ValueError(f"still holds what the template asks for: {text.strip()}")
    return text


_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")


def _one_line(text: str) -> str:
    """A name or title: one line, seen, and no word of letters that only look alike."""
    _clean(text)
    if "\n" in text:
        raise ValueError("must be one line")
    if not any(unicodedata.category(letter)[0] in "LNPS" and letter not in _UNSEEN for letter in text):
        raise ValueError("shows nothing")
    for word in text.split():
        found = {script for letter in word for script in _SCRIPTS if unicodedata.name(letter, "").startswith(script)}
        if len(found) > 1:
            raise ValueError(f"mixes {' and '.join(sorted(name.capitalize() for name in found))} letters in the word {word!r}")
    return text


def _link(text: str) -> str:
    _clean(text)
    if not re.fullmatch(r"https://[A-Za-z0-9.-]+\.[A-Za-z0-9-]{2,}(?::[0-9]{1,5})?(?:/[!-~]*)?", text) or "@" in text.split("/")[2]:
        raise ValueError("is not a plain https:// address")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._/+@()=,:-]*", text):
        raise ValueError("may hold only ASCII letters, digits, spaces and . _ / + @ ( ) = , : -")
    return text


Word = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_one_line)]
Text = Annotated[str, Field(max_length=2000), AfterValidator(_clean)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_name)]
Link = Annotated[str, Field(max_length=300), AfterValidator(_link)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=10**13)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


def _stated(value: bool) -> bool:
    if not value:
        raise ValueError("must be true")
    return value


Stated = Annotated[bool, AfterValidator(_stated)]


class _SubmittedRecord(Record):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Author(_SubmittedRecord):
    """Who submits.

    Attributes:
        name: Full name.
        affiliation: Where they work.
        orcid: ORCID, as `0000-0000-0000-0000`.
        github: Account that opens the pull request and signs off.
    """

    name: Word
    affiliation: Annotated[str, Field(max_length=200), AfterValidator(_clean)] = ""
    orcid: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]$")] | None = None
    github: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}$")] | None = None


class SubmittedModel(_SubmittedRecord):
    """What was run.

    Attributes:
        name: `<input or backbone>/<learner or adaptation>`, as on the leaderboard.
        tier: Its tier.
        inputs: Feature set or backbone.
        content: What the inputs are: rules and hypotheses judge a baseline by this, not by its tier.
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
    content: list[Content] = Field(default_factory=list, max_length=7)
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


class Hardware(_SubmittedRecord):
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


class Environment(_SubmittedRecord):
    """What it ran in.

    Attributes:
        python: Version of Python, or of another language's runtime.
        system: Operating system.
        packages: Name -> version of what results depend on.
    """

    python: Word
    system: Word = "not said"
    packages: dict[Name, Word] = Field(default_factory=dict, max_length=500)


class Statement(_SubmittedRecord):
    """What the authors stand for; each must be true to be accepted.

    Attributes:
        test_labels_unused: No label of a test unit was used, directly or through a choice made by its score.
        budget_counts_all: Every label used, for tuning and stopping too, is within the budget.
        may_publish: The predictions and this card may be published under the licence named.
    """

    test_labels_unused: Stated
    budget_counts_all: Stated
    may_publish: Stated


class CostRecord(_SubmittedRecord):
    """What cells cost: one entry per task, target, split and budget; the fields of `Cost`, unknown ones null and never 0.

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


class TrainingDeclared(_SubmittedRecord):
    """How cells were trained.

    Attributes:
        planned_steps: Optimiser steps each was given; null for learners without steps.
        early_stopping_role: Role whose score could stop it; null where nothing stops early.
    """

    planned_steps: Count | None = None
    early_stopping_role: Literal["val"] | None = "val"


class Pin(_SubmittedRecord):
    """Where the predictions are, and which they are.

    Attributes:
        address: `https://` address of `predictions.parquet`, or `hf://datasets/OWNER/NAME` for a folder in a Hugging Face data set
            repository; `rs05bench` where `leaderboard reproduce` makes them with this package.
        revision: Commit of that repository, 40 hex digits; null elsewhere.
        sha256: SHA-256 of `predictions.parquet`.
        files: SHA-256 over the sorted lines `<sha256>  <path>` of all other files (maps, samples); null where there is none.
    """

    address: Annotated[str, Field(pattern=r"^(?:https://[!-~]{3,290}|hf://datasets/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+|rs05bench)$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    sha256: Digest
    files: Digest | None = None

    @model_validator(mode="after")
    def _pinned(self) -> Pin:
        if self.address.startswith("hf://") and self.revision is None:
            raise ValueError("a Hugging Face address needs `revision`, the commit")
        return self


class Submission(_SubmittedRecord):
    """`submission.yaml`: who submits what.

    Attributes:
        format: Always `rs05bench-submission`.
        format_version: Version of the format.
        slug: Name of the folder on the leaderboard.
        title: One line for people.
        authors: Who submits.
        submitted: Day of the submission.
        model: What was run.
        inputs: `card` where the features are those of the task card; else what was used in their place and how it was made (another
            embedding, another preprocessing), with its digest or address.
        overlap: How the pretraining data overlap with the tasks' places, years and labels, or why they do not.
        licence: Licence of the predictions.
        code: Where the code is; `rs05bench` where only this package's own models and commands were used.
        weights: Where the weights are; null where there are none or they are closed.
        hardware: What the costs were measured on.
        environment: What it ran in.
        training: Schedule.
        costs: What it cost.
        manifests: `task/split@vN` -> digest of the manifest that was used.
        cards: task -> digest of the task card.
        statement: What the authors stand for.
        predictions: Where the predictions are; null until they are published.
        round: Name of the sealed round it takes part in.
        notes: Anything a reader should know.
    """

    format: Literal["rs05bench-submission"]
    format_version: Literal[2]
    slug: Annotated[str, Field(pattern=SLUG)]
    title: Word
    authors: list[Author] = Field(min_length=1, max_length=50)
    submitted: datetime.date
    model: SubmittedModel
    inputs: Literal["card"] | Annotated[str, Field(min_length=10, max_length=2000), AfterValidator(_clean)] = "card"
    overlap: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_clean)]
    licence: Word
    code: Link | Literal["rs05bench"]
    weights: Link | None = None
    hardware: list[Hardware] = Field(min_length=1, max_length=20)
    environment: Environment
    training: TrainingDeclared = TrainingDeclared()
    costs: list[CostRecord] = Field(min_length=1, max_length=10_000)
    manifests: dict[Name, Digest] = Field(min_length=1, max_length=100)
    cards: dict[Name, Digest] = Field(min_length=1, max_length=100)
    statement: Statement
    predictions: Pin | None = None
    round: Annotated[str, Field(pattern=SLUG)] | None = None
    notes: Text = ""

    @model_validator(mode="after")
    def _declared(self) -> Submission:
        if self.model.open_weights and self.model.pretrained and not self.model.random_twin and self.weights is None:
            raise ValueError("model.open_weights is true, so `weights` must say where they are")
        if self.model.pretrained and not self.model.random_twin and not self.model.pretraining:
            raise ValueError("model.pretrained is true, so model.pretraining must name the data")
        content, tier = set(self.model.content), self.model.tier
        if not content and tier in ("raw", "embedding", "hybrid"):
            raise ValueError("model.content must say what the inputs are")
        if (tier == "raw" and "embedding" in content) or (tier == "floor" and content & {"optical", "radar", "embedding"}):
            raise ValueError(f"model.content is {', '.join(sorted(content))}, and the tier {tier} has no such inputs")
        if (self.model.parameters_trainable or 0) > (self.model.parameters_total or self.model.parameters_trainable or 0):
            raise ValueError("model.parameters_trainable is more than model.parameters_total")
        embedded = self.model.tier in ("embedding", "hybrid") or "embedding" in self.model.content
        if embedded and (self.model.random_twin or not self.model.pretrained):
            raise ValueError("its inputs are an embedding, so model.pretrained must be true and model.random_twin false")
        if self.model.tier in ("frozen", "decoder", "adapter", "lora") and self.model.pretrained == self.model.random_twin:
            raise ValueError("it holds an encoder: either model.pretrained or model.random_twin must be true")
        if self.model.random_twin and self.model.pretraining:
            raise ValueError("model.random_twin is true, so model.pretraining must be empty")
        if self.model.pretraining and not self.model.pretrained:
            raise ValueError("model.pretraining names data, so model.pretrained must be true")
        if self.submitted < FIRST_DAY:
            raise ValueError(f"submitted is {self.submitted}, before there was a board")
        if self.submitted > datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1):
            raise ValueError(f"submitted is {self.submitted}, a day that has not come")
        return self


class CellName(_SubmittedRecord):
    """Which cell predictions are for: the cell columns of `predictions.parquet`."""

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

    def __str__(self) -> str:
        return "/".join((self.task, self.target, self.split, self.fold, self.budget, f"seed {self.seed}"))
