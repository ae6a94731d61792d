"""What counts on the leaderboard: tasks, splits, budgets, folds and the digests of everything a score rests on.

`leaderboard/tasks.yaml` is this record. It holds no label and no position: the digest of the labels, and per fold how many test units
there are and the digest of their names, which is enough to say whether predictions are complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import yaml
from pydantic import Field, ValidationError

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.documents import read_yaml_mapping
from rs05bench.protocol.hashing import content_digest
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.scoring import TEST_ROLES
from rs05bench.protocol.splits import Split
from rs05bench.protocol.strict_record import Record
from rs05bench.protocol.task_kinds import TASK_KINDS, Kind, TaskKind

LEAST_SEEDS = 5
SIMULATED = "-simulated"
"""How the name of a simulated task ends on the board."""
_PACKAGE = Path(__file__).parents[2]


class BoardFold(Record):
    """Test units of a fold.

    Attributes:
        units: How many, both test roles together.
        digest: First 16 hex digits of `units_digest`.
    """

    units: int
    digest: str


class BoardSplit(Record):
    """A split that counts.

    Attributes:
        version: Version of the manifest.
        manifest: Its digest.
        main: Whether its results can be main results.
        budgets: Budgets every submission must hold.
        folds: Folds every submission must hold.
    """

    version: int = 1
    manifest: str
    main: bool = True
    budgets: list[str] = Field(min_length=1)
    folds: dict[str, BoardFold] = Field(min_length=1)


class BoardTask(Record):
    """A task that counts.

    Attributes:
        task: Name.
        title: One line for people.
        kind: Kind of the task.
        targets: Targets; each is a table of its own.
        classes: Class values in order; None for regression.
        main_metric: Metric the table is ordered by.
        simulated: Simulated results never rank.
        card: Digest of the task card.
        card_file: Where the card lies in the repository.
        preprocessing: Digest of the preprocessing.
        labels: target -> digest of the frozen labels (chips: of the label pack); empty in a sealed round, whose labels do not exist yet.
        splits: Splits that count.
        note: What a reader must know of it.
    """

    task: str
    title: str = ""
    kind: Kind
    targets: list[str] = Field(min_length=1)
    classes: list[str] | None = None
    main_metric: str
    simulated: bool = False
    card: str
    card_file: str = ""
    preprocessing: str
    labels: dict[str, str] = Field(default_factory=dict)
    splits: dict[str, BoardSplit]
    note: str = ""

    @property
    def about(self) -> TaskKind:
        """What follows from the kind of the task."""
        return TASK_KINDS[self.kind]


class BoardLinks(Record):
    """Where the board's site leads to.

    Attributes:
        repository: Address of the source code.
        documentation: Address of the documentation.
    """

    repository: Annotated[str, Field(pattern=r"^(https://\S+)?$")] = ""
    documentation: Annotated[str, Field(pattern=r"^(https://\S+)?$")] = ""


class Board(Record):
    """`leaderboard/tasks.yaml`.

    Attributes:
        schema_version: Always 1.
        links: Addresses for the site.
        least_seeds: Seeds every cell must have.
        tasks: Tasks that count.
    """

    schema_version: Literal[1] = 1
    links: BoardLinks = Field(default_factory=BoardLinks)
    least_seeds: Annotated[int, Field(ge=1)] = LEAST_SEEDS
    tasks: list[BoardTask] = Field(default_factory=list)

    def task(self, name: str) -> BoardTask | None:
        """A task by name."""
        return next((task for task in self.tasks if task.task == name), None)

    @classmethod
    def load(cls, path: str | Path) -> Board:
        """Reads the board from its file, or from the folder that holds `tasks.yaml`.

        Raises:
            DataError: There is none, or it is faulty.
        """
        path = Path(path)
        path = path / "tasks.yaml" if path.is_dir() else path
        try:
            return cls.model_validate(read_yaml_mapping(path, remedy="Give the leaderboard's folder: --board leaderboard."))
        except ValidationError as error:
            raise DataError(f"is not a list of tasks: {error}", source=path) from error

    def save(self, path: str | Path) -> Path:
        """Writes the board as YAML."""
        head = "# Which tasks, splits, budgets and targets count. Written by `rs05bench leaderboard freeze`; a change is a new version.\n"
        data = self.model_dump(mode="json", exclude_none=True)
        return write_text(path, head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=140))

    def frozen(self, task: BoardTask) -> Board:
        """This board with a task added, or with its splits, and the labels of a sealed task, added to what is there.

        Raises:
            DataError: The task is there with other content: frozen means frozen.
        """
        there = self.task(task.task)
        if there is None:
            return self.model_copy(update={"tasks": [*self.tasks, task]})
        revealed = not there.labels  # a sealed round: what did not exist yet may be added, once
        for name in ("card", "labels", "classes", "main_metric"):
            if getattr(there, name) != getattr(task, name) and not (name == "labels" and revealed):
                raise DataError(f"{task.task} is frozen with another {name}", remedy="Give the changed task a new name.")
        for split, found in task.splits.items():
            if split in there.splits and there.splits[split].manifest != found.manifest:
                raise DataError(f"{task.task}/{split} is frozen with another manifest", remedy="Give the changed split a new version.")
        more = {"splits": there.splits | task.splits, "card_file": task.card_file or there.card_file}
        merged = there.model_copy(update=more | ({"labels": task.labels} if revealed else {}))
        return self.model_copy(update={"tasks": [merged if known is there else known for known in self.tasks]})


def published_board(asked: str | Path | None = None) -> Path:
    """The folder that tasks, manifests and cards are read from.

    Args:
        asked: The folder; None takes `./leaderboard` or, where there is none, what came with the package: `rs05bench/board` of a wheel,
            `leaderboard` of a checkout.
    """
    places = (Path("leaderboard"), _PACKAGE / "board", _PACKAGE.parent / "leaderboard")
    return Path(asked) if asked is not None else next((place for place in places if (place / "tasks.yaml").is_file()), places[0])


def units_digest(units: pd.Series, roles: pd.Series) -> str:
    """First 16 hex digits of the SHA-256 over the sorted lines `role<TAB>unit_id`."""
    return content_digest(sorted(f"{role}\t{unit}" for role, unit in zip(roles, units, strict=True)))[:16]


def labels_digest(labels: pd.Series) -> str:
    """SHA-256 over the lines `unit_id<TAB>label` sorted by unit; numbers as float64 in hexadecimal, missing ones left out."""
    known = labels.dropna()
    if pd.api.types.is_numeric_dtype(known):
        known = known.map(lambda value: float(value).hex())
    return content_digest(f"{unit}\t{value}" for unit, value in sorted(zip(known.index.astype(str), known.astype(str), strict=True)))


def freeze_task(
    card: TaskCard, manifests: Mapping[str, SplitManifest], labels: Mapping[str, pd.Series | str], budgets: list[str], card_file: str = ""
) -> BoardTask:
    """Writes down what scores on a task rest on.

    Args:
        card: The task.
        manifests: Split (with its `+k`, if any) -> manifest.
        labels: target -> labels by unit, or for chips the digest of their label pack; empty for labels that do not exist yet.
        budgets: Budgets that every submission must hold.
        card_file: Where the card lies in the repository.

    Raises:
        DataError: The task is simulated, and its name does not say so: a real task of that name will want it.
    """
    if card.simulated and not card.name.endswith(SIMULATED):
        raise DataError(
            f"{card.name} is simulated, and its name does not say so",
            source=card_file or None,
            remedy=f"Name the card {card.name}{SIMULATED} and sweep it under that name.",
        )
    splits = {}
    for split, manifest in manifests.items():
        folds = {}
        for fold in manifest.folds:
            rows = manifest.fold(fold)
            rows = rows[rows["role"].astype(str).isin(TEST_ROLES)]
            folds[fold] = BoardFold(units=len(rows), digest=units_digest(rows["unit_id"], rows["role"].astype(str)))
        main = bool(manifest.card.get("can_be_main", Split(split).rule.may_be_main))
        splits[split] = BoardSplit(version=manifest.version, manifest=manifest.digest, main=main, budgets=budgets, folds=folds)
    return BoardTask(
        task=card.name,
        title=card.title,
        kind=card.kind,
        targets=card.targets,
        classes=card.classes,
        main_metric=card.main_metric,
        simulated=card.simulated,
        card=card.digest,
        card_file=card_file,
        preprocessing=card.preprocessing_digest,
        labels={target: found if isinstance(found, str) else labels_digest(found) for target, found in labels.items()},
        splits=splits,
        note=card.notes,
    )
