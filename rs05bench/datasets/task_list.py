"""What there is to run: the simulated benchmark's tasks, the user's own cards, and the forms of splits."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from pydantic import BaseModel

from rs05bench.errors import DataError
from rs05bench.protocol import TaskCard
from rs05bench.protocol.splits import RULES


def split_forms() -> list[dict[str, str | bool]]:
    """Forms of splits, what each moves, and whether its result can be a main one (rule 2)."""
    return [
        {"split": rule.form, "moves": rule.moves, "main_result": rule.may_be_main, "meaning": rule.meaning}
        for rule in sorted(RULES.values(), key=lambda rule: rule.rank)
    ]


class TaskEntry(BaseModel):
    """A task that can be run."""

    name: str
    kind: str
    target: str
    splits: list[str]
    budgets: list[str]
    features: list[str]
    simulated: bool
    source: str
    title: str


def list_tasks(cards: Sequence[str | Path] = ()) -> list[TaskEntry]:
    """The built-in simulated tasks, then the cards given (files, or folders of them).

    Raises:
        DataError: A path that is not there, or a faulty card.
    """
    entries: list[TaskEntry] = []
    built_in = files("rs05bench.datasets.simulated").joinpath("cards")
    for resource in sorted(built_in.iterdir(), key=lambda item: item.name):
        if resource.name.endswith(".yaml"):
            with as_file(resource) as path:
                entries.append(_entry(TaskCard.load(path), "built in"))
    for given in map(Path, cards):
        if not given.exists():
            raise DataError("no such file or folder", source=given, remedy="Give a card, or a folder of cards.")
        found = [path for ending in ("*.yaml", "*.yml") for path in sorted(given.glob(ending))] if given.is_dir() else [given]
        if not found:
            raise DataError("holds no card (*.yaml)", source=given)
        entries += [_entry(TaskCard.load(path), str(path)) for path in found]
    return entries


def _entry(card: TaskCard, source: str) -> TaskEntry:
    return TaskEntry(
        name=card.name, kind=card.kind, target=", ".join(card.targets), splits=card.splits, budgets=card.budgets,
        features=list(card.features), simulated=card.simulated, source=source, title=card.title,
    )  # fmt: skip
