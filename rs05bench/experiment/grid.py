"""The grid: models x splits x folds x budgets x seeds over one task."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from rs05bench.errors import DataError
from rs05bench.experiment.cell import Bench
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.names import parse_budget
from rs05bench.protocol.result import Cell
from rs05bench.protocol.splits import Split


def parse_seeds(text: str) -> list[int]:
    """Seeds from `0-4`, `0,1,7` or a mixture.

    Raises:
        DataError: Not such a list.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None:
            raise DataError(f"seeds {text!r} are not a list like 0-4 or 0,1,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise DataError(f"seeds {part!r} run backwards")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def choose_models(text: str | Sequence[str], card: TaskCard) -> list[str]:
    """Model names of a task.

    Args:
        text: Names and patterns, separated by commas or as a list. `shallow` stands for every floor and shallow learner of this task,
            `all` for every model its data can feed, a pattern such as `*/rf` for those of `all` that match. All three leave out, with a
            warning, models whose packages are not installed.
        card: The task.

    Raises:
        DataError: A name no model has, or nothing that this task has a model for.
    """
    from rs05bench import models

    names: list[str] = []
    for part in (piece.strip() for piece in (text.split(",") if isinstance(text, str) else text)):
        if part in ("shallow", "all"):
            names += [name for name, built_in in _listed(card) if built_in or part == "all"]
        elif any(mark in part for mark in "*?["):
            names += [name for name, _ in _listed(card) if fnmatch.fnmatchcase(name, part)]
        elif part:
            models.model_card(part, card)
            names.append(part)
    if not names:
        raise DataError(f"no model of this task matches {text!r}", source=card.name, remedy="rs05bench models lists what there is.")
    return list(dict.fromkeys(names))


def _listed(card: TaskCard) -> list[tuple[str, bool]]:
    """Models that do a task and whose packages are installed: name, and whether it is a floor or shallow learner."""
    from rs05bench import models

    found = [listed for listed in models.list_models(card) if card.kind in listed.kinds]
    absent: dict[str, list[str]] = {}
    for listed in found:
        if listed.extra is not None:
            absent.setdefault(listed.extra, []).append(listed.card.name)
    for extra, names in absent.items():
        some = f"{names[0]}, {names[1]} and {len(names) - 2} more" if len(names) > 2 else " and ".join(names)
        warnings.warn(f"left out, because an extra is not installed: {some}; pip install 'rs05bench[{extra}]'", stacklevel=3)
    return [(listed.card.name, listed.source == "built in") for listed in found if listed.extra is None]


def expand(
    bench: Bench,
    models: Sequence[str],
    splits: Sequence[str],
    budgets: Sequence[str],
    seeds: Sequence[int],
    targets: Sequence[str] | None = None,
    folds: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Cell]:
    """All cells of a grid, ordered so that cells sharing data and budget stand together.

    Args:
        bench: The task; its manifests give the folds.
        models: Model names.
        splits: Split names.
        budgets: Budget names.
        seeds: Seeds.
        targets: Targets; default all of the card.
        folds: Keep only these folds; default all.
        options: Options of every model.

    Raises:
        DataError: A name that the task does not know.
    """
    card = bench.card
    targets = list(targets or card.targets)
    unknown = [target for target in targets if target not in card.targets]
    if unknown:
        raise DataError(f"targets {unknown} are not among {card.targets}", source=card.name)
    for split in splits:
        _checked(Split, split, card.name)
    for budget in budgets:
        _checked(parse_budget, budget, card.name)
        if (group := parse_budget(budget).group) is not None and card.group_column(group) is None:
            raise DataError(
                f"budget {budget!r} counts {group}, and the card declares no such group",
                source=card.name,
                remedy=f"Its groups: {', '.join(card.groups) or 'none'}. Budgets of the card: {', '.join(card.budgets)}.",
            )
    cells = [
        Cell(task=card.name, target=target, split=split, fold=fold, model=model, budget=budget, seed=seed, options=dict(options or {}))
        for target in targets
        for split in splits
        for fold in bench.manifest(split).folds
        if folds is None or fold in folds
        for budget in budgets
        for seed in seeds
        for model in models
    ]
    if not cells and folds is not None:
        there = {str(split): ", ".join(bench.manifest(split).folds) for split in splits}
        raise DataError(
            f"no fold is named {' or '.join(map(repr, folds))}",
            source=card.name,
            remedy="Choose among " + "; ".join(f"those of {split}: {names}" for split, names in there.items()) + ".",
        )
    if not cells:
        raise DataError("the grid is empty", source=card.name, remedy="Give at least one model, split, budget and seed that exist.")
    return cells


def _checked(parse: object, name: str, source: str) -> None:
    try:
        parse(name)  # type: ignore[operator]
    except ValueError as error:
        raise DataError(str(error), source=source) from error
