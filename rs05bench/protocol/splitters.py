"""From a task, its units and a split's name to a role for every unit in every fold."""

from __future__ import annotations

from collections.abc import Sequence

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.ground import Ground, lay_ground, require_tests
from rs05bench.protocol.splits import Fold, Split
from rs05bench.protocol.units import UnitTable


def draw_folds(card: TaskCard, units: UnitTable, split: str) -> tuple[Ground, list[Fold]]:
    """All folds of a split over the units of a task.

    Args:
        card: Gives group columns, options and the official column.
        units: The units.
        split: A split's name; `+k` forms share the roles of their base.

    Returns:
        The fixed ground and the folds.

    Raises:
        DataError: The split is not possible on these units (one group only, no year, …), with the reason.
    """
    try:
        name = Split(split)
    except ValueError as error:
        raise DataError(str(error), source=card.name) from error
    rule, options = name.rule, card.split_options
    column = card.group_column(name.group)
    if name.group and column is None:
        raise DataError(f"split {split!r} moves the group {name.group!r}, and the card declares the groups {card.groups}", source=card.name)
    column = column or options.region or (card.groups[0] if card.groups else None)
    if rule.needs_year and units.frame["year"].isna().any():
        raise DataError(f"split {split!r} needs the year of every unit, and the units have none", source=units.source)
    shift = card.official.shift if card.official is not None else "none"
    ground = lay_ground(units, column, options, in_time=not rule.needs_year, published_shift=shift)
    if rule.fixed_tests:
        require_tests(ground)
    folds = list(rule.draw(ground, name))
    if not folds:
        raise DataError(f"split {split!r} has no fold on these units", source=units.source)
    return ground, folds


def possible_splits(card: TaskCard, units: UnitTable, splits: Sequence[str] | None = None) -> dict[str, str]:
    """For each split of the card: empty text where it is possible on these units, else the reason it is not."""
    verdicts: dict[str, str] = {}
    for split in splits or card.splits:
        try:
            draw_folds(card, units, split)
            verdicts[split] = ""
        except DataError as error:
            verdicts[split] = error.problem
    return verdicts
