"""The names of budgets, parsed in one place: `50-units`, `50-units-in-5-blocks`, `10-per-class`, `5pct`, `10-fires`, `1pct-pixels`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

BudgetKind = Literal["percent", "per-class", "units", "clustered", "groups", "pixels", "full"]

BUDGET_FORMS = "<n>-units, <n>-units-in-<b>-blocks, <p>pct, <n>-per-class, <n>-<groups> (e.g. 10-fires), <p>pct-pixels, full"


@dataclass(frozen=True, slots=True)
class BudgetName:
    """A budget's name taken apart.

    Attributes:
        text: The name itself.
        kind: What it counts.
        amount: Percentage, or number of labels, units or groups.
        group: Word for the counted group.
        blocks: How many blocks are visited, where the units lie in a few.
    """

    text: str
    kind: BudgetKind
    amount: float = 0.0
    group: str | None = None
    blocks: int | None = None


def parse_budget(name: str) -> BudgetName:
    """Takes a budget's name apart.

    Raises:
        ValueError: No such form.
    """
    if name == "full":
        return BudgetName(name, "full", 100.0)
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)pct(-pixels)?", name):
        amount = float(match[1])
        if not 0 < amount <= 100:
            raise ValueError(f"{name!r}: a percentage is above 0 and at most 100")
        return BudgetName(name, "pixels" if match[2] else "percent", amount)
    if match := re.fullmatch(r"(\d+)-units-in-(\d+)-blocks", name):
        amount, blocks = int(match[1]), int(match[2])
        if not 1 <= blocks <= amount:
            raise ValueError(f"{name!r}: visits at least one block, and not more blocks than it has labels")
        return BudgetName(name, "clustered", amount, blocks=blocks)
    if match := re.fullmatch(r"(\d+)-(per-class|units|[A-Za-z][\w-]*)", name):
        amount = int(match[1])
        if amount < 1:
            raise ValueError(f"{name!r}: a budget holds at least one label")
        if match[2] == "per-class":
            return BudgetName(name, "per-class", amount)
        if match[2] == "units":
            return BudgetName(name, "units", amount)
        return BudgetName(name, "groups", amount, group=match[2])
    raise ValueError(f"{name!r} is not a budget; the forms are {BUDGET_FORMS}")


def group_word(column: str) -> str:
    """What a split or a budget calls a group column: its name, or, where that holds blanks or accents, its letters with dashes.

    Empty where the name has no Latin letter.

    Example:
        >>> group_word("State"), group_word("NUMBER OF AGENCIES (2020)"), group_word("Ökoregion")
        ('State', 'number-of-agencies-2020', 'okoregion')
    """
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", column):
        return column
    plain = unicodedata.normalize("NFKD", column).encode("ascii", "ignore").decode().lower()
    return re.sub(r"^[^a-z]+|[^a-z0-9]+$", "", re.sub(r"[^a-z0-9]+", "-", plain))
