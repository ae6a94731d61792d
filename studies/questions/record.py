"""What a study is: a question, the grids that answer it, and the paired comparisons its page shows."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rs05bench.errors import DataError
from rs05bench.protocol.pooling import Point

ROOT = Path(__file__).parent
ROLES = {"test_id": "in-domain", "test_ood": "held out"}
"""Roles in the words of a row."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SideFields(_Record):
    """One side of a comparison: the fields of a curve point and the role it is scored in; what is left out comes from `each`."""

    split: str | None = None
    model: str | None = None
    budget: str | None = None
    target: str | None = None
    role: str | None = None
    options: dict[str, Any] | None = None

    def point(self, task: str, shared: dict[str, Any]) -> tuple[Point, str]:
        """The point and the role, with what this side leaves out taken from `shared`."""
        fields = shared | {name: value for name, value in self if value is not None}
        options = str(sorted((fields.get("options") or {}).items()))
        return Point(task, fields["target"], fields["split"], fields["model"], fields["budget"], options), fields["role"]


class Contrast(_Record):
    """A paired difference, first minus second, once for every combination of `each`.

    Attributes:
        label: What a row is called; `{model}` and the like are filled in.
        task: Name of the task card.
        first: One side.
        second: The other.
        each: Field -> values; both sides share them where they do not say otherwise.
    """

    label: str
    task: str
    first: SideFields = SideFields()
    second: SideFields = SideFields()
    each: dict[str, list[Any]] = Field(default_factory=dict)

    def rows(self, target: str) -> list[tuple[str, tuple[Point, str], tuple[Point, str]]]:
        """Label, first and second of every row."""
        found = []
        for values in product(*self.each.values()):
            shared = {"target": target} | dict(zip(self.each, values, strict=True))
            label = self.label.format(**shared | {"role": ROLES.get(str(shared.get("role")), "")})
            found.append((label, self.first.point(self.task, shared), self.second.point(self.task, shared)))
        return found


class Grid(_Record):
    """A grid over a card of `examples/cards`, as in a grid file.

    Attributes:
        card: Name of the card.
        data: Folder of its data in the folder of real data.
    """

    card: str
    data: str
    models: list[str]
    splits: list[str]
    budgets: list[str]
    seeds: str = "0-4"
    targets: list[str] | None = None
    options: dict[str, Any] | None = None


class Says(_Record):
    """Sentences written after a run, and the digest of the numbers they were written for: they are not printed under other numbers."""

    digest: str
    sentences: list[str] = Field(max_length=6)


class StudyRecord(_Record):
    """One study.

    Attributes:
        name: Its folder.
        title: Title of the page.
        question: The question.
        design: What is compared with what.
        data: Folders of real data it reads.
        minutes: Time at full size on one core, as measured or estimated.
        grids: Cells over public cards.
        contrasts: The comparisons; p-values are corrected (Holm) over all of them together.
        also: Metrics shown for every model beside the main one, with drop and cost; none where empty.
        limits: What the answer does not say.
        says: The answer in words, for the numbers named.
    """

    name: str
    title: str
    question: str
    design: str
    data: list[str]
    minutes: float
    grids: list[Grid] = Field(default_factory=list)
    contrasts: list[Contrast] = Field(default_factory=list)
    also: list[str] = Field(default_factory=list)
    limits: list[str]
    says: Says | None = None

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return ROOT / self.name


def load_study(name: str) -> StudyRecord:
    """A study by name.

    Raises:
        DataError: There is none, or its record is faulty.
    """
    path = ROOT / name / "study.yaml"
    if not path.is_file():
        raise DataError(f"no study {name!r}; there are: {', '.join(study_names())}", source=ROOT)
    try:
        return StudyRecord.model_validate({"name": name, **yaml.safe_load(path.read_text(encoding="utf-8"))})
    except (ValidationError, yaml.YAMLError) as error:
        raise DataError(str(error), source=path) from error


def study_names() -> list[str]:
    """Names of all studies."""
    return sorted(path.parent.name for path in ROOT.glob("*/study.yaml"))
