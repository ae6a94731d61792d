"""Grid files: a benchmark of many cells as one YAML file that can be kept, shared and taken up again.

An example::

    kind: grid
    name: crops-2026
    preset: paper                       # quick, paper or leaderboard: what is not said below
    tasks:
      - card: crop/card.yaml            # relative to this file
        data: crop                      # default: the card's folder
        splits: [leave-state-out, within-state]
      - {card: urban/card.yaml, targets: [log_income], budgets: [20-units, 50-units]}
    models: [shallow, "prithvi-*/lora"] # names, patterns, or `shallow`, `all`
    seeds: 0-4
    exclude:
      - {model: "*/mlp", budget: full}  # drops the cells that match all of these
    resources:
      - {model: "*/lora", gpus: 1, memory_mb: 16000, time_s: 7200}
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from rs05bench.errors import DataError
from rs05bench.experiment.executors import Needs
from rs05bench.experiment.grid import parse_seeds
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.documents import read_yaml_mapping
from rs05bench.protocol.hashing import text_digest
from rs05bench.protocol.names import parse_budget
from rs05bench.protocol.option_values import Options
from rs05bench.protocol.result import Cell
from rs05bench.protocol.splits import Split
from rs05bench.protocol.strict_record import Record

PRESETS = Path(__file__).parent / "presets"
_SHARED = ("models", "splits", "budgets", "seeds", "targets", "folds")


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple | range) else value if value is None else [value]


class Pattern(Record):
    """Cells whose every named field matches: a glob, or any of a list of globs.

    Attributes:
        task: Task name.
        target: Target.
        split: Split.
        fold: Fold.
        model: Model.
        budget: Budget.
        seed: Seed.
    """

    task: list[str] | None = None
    target: list[str] | None = None
    split: list[str] | None = None
    fold: list[str] | None = None
    model: list[str] | None = None
    budget: list[str] | None = None
    seed: list[str] | None = None

    @field_validator("task", "target", "split", "fold", "model", "budget", "seed", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return None if value is None else [str(item) for item in _listed(value)]

    def matches(self, cell: Cell) -> bool:
        """Whether a cell is meant."""
        for name in ("task", "target", "split", "fold", "model", "budget", "seed"):
            patterns = getattr(self, name)
            if patterns is not None and not any(fnmatch.fnmatchcase(str(getattr(cell, name)), pattern) for pattern in patterns):
                return False
        return True


class Resources(Pattern):
    """What matching cells need, and may take at most (`rs05bench.experiment.executors.Needs`)."""

    cpus: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0)
    memory_mb: float | None = Field(default=None, gt=0)
    time_s: float | None = Field(default=None, gt=0)

    @property
    def needs(self) -> Needs:
        """The same for an executor."""
        return Needs(self.cpus, self.gpus, self.memory_mb, self.time_s)


class GridChoice(Record):
    """What is crossed with what; a field left out is taken from the grid, its preset, or the card.

    Attributes:
        models: Names, patterns, `shallow`, `all`.
        splits: Names, or `main`: those of the card that can be a main result.
        budgets: Names, or how many of the card's first.
        seeds: `0-4`, or a list.
        targets: Targets.
        folds: Only these folds.
    """

    models: list[str] | None = None
    splits: list[str] | None = None
    budgets: list[str] | int | None = None
    seeds: list[int] | None = None
    targets: list[str] | None = None
    folds: list[str] | None = None

    @field_validator("models", "splits", "targets", "folds", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return None if value is None else [str(item) for item in _listed(value)]

    @field_validator("splits")
    @classmethod
    def _known_splits(cls, value: list[str] | None) -> list[str] | None:
        for split in value or []:
            if split != "main":
                Split(split)
        return value

    @field_validator("budgets", mode="before")
    @classmethod
    def _known_budgets(cls, value: Any) -> Any:
        if value is None or isinstance(value, int):
            return value
        names = [str(item) for item in _listed(value)]
        for name in names:
            parse_budget(name)
        return names

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        if value is None or (isinstance(value, list | tuple | range) and all(isinstance(item, int) for item in value)):
            return _listed(value)
        try:
            return parse_seeds(",".join(str(item) for item in _listed(value)))
        except DataError as error:
            raise ValueError(str(error)) from error


class GridTask(GridChoice):
    """One task of a grid.

    Attributes:
        card: Its card.
        data: Its data directory; default the card's folder.
        options: Options that every model of this entry is made with, e.g. `{rank: 2}`; shallow learners take none. The same card may stand
            in several entries with other options.
        manifests: Frozen manifests to use instead of those the data make: files, folders of some, or names of shipped ones.
    """

    card: str
    data: str | None = None
    options: Options | None = None
    manifests: list[str] | None = None

    @field_validator("manifests", mode="before")
    @classmethod
    def _listed_manifests(cls, value: Any) -> Any:
        return None if value is None else [str(item) for item in _listed(value)]


class GridFile(GridChoice):
    """A grid as its file says it, paths made absolute and preset filled in.

    Attributes:
        kind: `grid`.
        name: For people.
        preset: Whose values stand in for what is not said.
        tasks: The tasks.
        include: Keep only cells that match one of these.
        exclude: Drop cells that match one of these.
        resources: Needs and limits; the first that matches counts.
        costs: Whether to measure costs alone at the end.
        keep_predictions: Whether predictions are kept beside results.
    """

    schema_version: Literal[1] = 1
    kind: Literal["grid"]
    name: str = ""
    preset: str | None = None
    tasks: list[GridTask] = Field(min_length=1)
    include: list[Pattern] = Field(default_factory=list)
    exclude: list[Pattern] = Field(default_factory=list)
    resources: list[Resources] = Field(default_factory=list)
    costs: bool = True
    keep_predictions: bool = True

    @classmethod
    def load(cls, path: str | Path) -> GridFile:
        """Reads a grid file.

        Raises:
            DataError: It is missing or faulty; every fault is listed.
        """
        path = Path(path)
        record = _read(path)
        preset = record.get("preset")
        if preset is not None:
            record = load_preset(str(preset), source=path) | record
        try:
            grid = cls.model_validate(record)
        except ValidationError as error:
            faults = "\n".join(f"  {'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors())
            raise DataError(f"is no grid file:\n{faults}", source=path, remedy="docs/grid describes the fields.") from error
        for entry in grid.tasks:
            card = (path.parent / entry.card).resolve()
            entry.data = str((path.parent / entry.data).resolve() if entry.data else card.parent)
            entry.card = str(card)
            if entry.manifests:
                entry.manifests = [
                    str((path.parent / name).resolve()) if (path.parent / name).exists() else name for name in entry.manifests
                ]
        return grid

    @classmethod
    def over(
        cls,
        card: str | Path,
        data: str | Path,
        choice: GridChoice,
        *,
        manifests: Sequence[str | Path] | None = None,
        costs: bool = True,
        keep_predictions: bool = True,
    ) -> GridFile:
        """The grid over one card.

        Args:
            card: The task card.
            data: Its data directory.
            choice: What is crossed with what; seed 0 alone where it names none.
            manifests: Frozen manifests to use instead of those the data make.
            costs: Whether to measure, when all is done, one cell per target, split, model and budget alone in a fresh process.
            keep_predictions: Whether predictions are kept with results.
        """
        entry: dict[str, Any] = {"card": str(Path(card).resolve()), "data": str(Path(data).resolve())}
        if manifests:
            entry["manifests"] = [str(Path(name).resolve()) if Path(name).exists() else str(name) for name in manifests]
        chosen = {"seeds": [0]} | choice.model_dump(exclude_none=True)
        return cls.model_validate({"kind": "grid", "tasks": [entry], "costs": costs, "keep_predictions": keep_predictions, **chosen})

    @property
    def digest(self) -> str:
        """SHA-256 over the content."""
        text = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True, ensure_ascii=False)
        return text_digest(text)

    def text(self) -> str:
        """The file's text."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True, exclude={"preset"}), sort_keys=False, allow_unicode=True)

    def of(self, entry: GridTask, name: str) -> Any:
        """A field of a task, or else of the grid."""
        value = getattr(entry, name)
        return getattr(self, name) if value is None else value

    def splits_of(self, entry: GridTask, card: TaskCard) -> list[str]:
        """Splits of a task."""
        names = self.of(entry, "splits") or card.splits
        main = [split for split in card.splits if Split(split).rule.may_be_main]
        return list(dict.fromkeys(split for name in names for split in (main if name == "main" else [name])))

    def budgets_of(self, entry: GridTask, card: TaskCard) -> list[str]:
        """Budgets of a task."""
        chosen = self.of(entry, "budgets")
        if isinstance(chosen, int):
            return card.budgets[: max(chosen, 1)]
        return list(chosen or card.budgets)

    def keeps(self, cell: Cell) -> bool:
        """Whether a cell passes `include` and `exclude`."""
        if self.include and not any(pattern.matches(cell) for pattern in self.include):
            return False
        return not any(pattern.matches(cell) for pattern in self.exclude)

    def needs_of(self, cell: Cell, usual: Needs) -> Needs:
        """What a cell needs."""
        return next((entry.needs for entry in self.resources if entry.matches(cell)), usual)


def is_grid(path: str | Path) -> bool:
    """Whether a YAML file is a grid rather than a task card.

    Raises:
        DataError: It is missing or no YAML mapping.
    """
    return _read(Path(path)).get("kind") == "grid"


def load_preset(name: str, *, source: str | Path = "preset") -> dict[str, Any]:
    """The fields of a preset.

    Raises:
        DataError: There is none of this name.
    """
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        raise DataError(f"no preset {name!r}", source=source, remedy=f"There are {', '.join(preset_names())}.")
    return _read(path)


def preset_names() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _read(path: Path) -> dict[str, Any]:
    return read_yaml_mapping(path)
