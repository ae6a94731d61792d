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
    """A task that can be run; `load_task(entry.load)` gives its card."""

    name: str
    load: str
    kind: str
    target: str
    splits: list[str]
    budgets: list[str]
    features: list[str]
    simulated: bool
    source: str
    title: str


def tasks(cards: Sequence[str | Path] = ()) -> list[TaskEntry]:
    """The tasks there are: the simulated benchmark's, those over published data, then the cards given (files, or folders of them).

    >>> [task.load for task in tasks()]
    ['simulated/burn-scar', 'simulated/crop', 'simulated/urban', 'burn-scar', 'counties', 'crop', 'fuel-moisture']

    Raises:
        DataError: A path that is not there, or a faulty card.
    """
    entries = [_entry(load_task(name), name, "built in" if name.startswith("simulated/") else "published") for name in _KNOWN]
    for given in map(Path, cards):
        if not given.exists():
            raise DataError("no such file or folder", source=given, remedy="Give a card, or a folder of cards.")
        found = [path for ending in ("*.yaml", "*.yml") for path in sorted(given.glob(ending))] if given.is_dir() else [given]
        if not found:
            raise DataError("holds no card (*.yaml)", source=given)
        entries += [_entry(TaskCard.load(path), str(path), str(path)) for path in found]
    return entries


def load_task(name: str | Path) -> TaskCard:
    """The card of a task.

    >>> load_task("counties").groups
    ['state', 'division']

    Args:
        name: A task of `tasks()`, e.g. `crop` or `simulated/crop`, or the path of a card (YAML).

    Raises:
        DataError: There is no such task, or the card is faulty.
    """
    if str(name) in _KNOWN:
        room, _, task = str(name).rpartition("/")
        with as_file(files(f"rs05bench.datasets.{room or 'published'}").joinpath(f"cards/{task}.yaml")) as path:
            return TaskCard.load(path)
    if Path(name).suffix in (".yaml", ".yml") or Path(name).exists():
        return TaskCard.load(name)
    raise DataError(f"no task {str(name)!r}", remedy=f"There are {', '.join(_KNOWN)}; or give the path of a card (YAML).")


_KNOWN = ("simulated/burn-scar", "simulated/crop", "simulated/urban", "burn-scar", "counties", "crop", "fuel-moisture")


def _entry(card: TaskCard, load: str, source: str) -> TaskEntry:
    return TaskEntry(
        name=card.name, load=load, kind=card.kind, target=", ".join(card.targets), splits=card.splits, budgets=card.budgets,
        features=list(card.features), simulated=card.simulated, source=source, title=card.title,
    )  # fmt: skip
