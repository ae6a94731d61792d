"""The names of splits and budgets, parsed in one place.

`leave-state-out+5`, `within-county`, `until-2021`, `10-per-class`, `5pct`, `10-fires`, `1pct-pixels` and so on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Rule = Literal["random", "spatial-block", "within", "leave-group", "leave-year", "until", "leave-group-year", "official"]
BudgetKind = Literal["percent", "per-class", "units", "groups", "pixels", "full"]

SPLIT_FORMS = (
    "random, spatial-block, within-<group>, leave-<group>-out, leave-<group>-out+<k>, leave-year-out, until-<year>, "
    "leave-<group>-year-out, official, official-<which>"
)
BUDGET_FORMS = "<p>pct, <n>-per-class, <n>-units, <n>-<groups> (e.g. 10-fires), <p>pct-pixels, full"


@dataclass(frozen=True, slots=True)
class SplitName:
    """A split's name taken apart.

    Attributes:
        text: The name itself.
        rule: Which splitter draws it.
        group: Word for the group it moves, if it moves one.
        year: Last training year of `until-<year>`.
        extra: `k` of the `+k` form: labels per class taken from the held-out region's reserve.
    """

    text: str
    rule: Rule
    group: str | None = None
    year: int | None = None
    extra: int = 0

    @property
    def moves_year(self) -> bool:
        """Whether the year changes from training to test."""
        return self.rule in ("leave-year", "until", "leave-group-year")

    @property
    def base(self) -> str:
        """The split whose roles this one uses: the name without its `+k`."""
        return self.text.split("+")[0]

    @property
    def can_be_main(self) -> bool:
        """Whether results under it may be a main result (rule 2): never a random split, an official one only by its audit."""
        return self.rule not in ("random", "official")


@dataclass(frozen=True, slots=True)
class BudgetName:
    """A budget's name taken apart.

    Attributes:
        text: The name itself.
        kind: What it counts.
        amount: Percentage, or number of labels, units or groups.
        group: Word for the counted group.
    """

    text: str
    kind: BudgetKind
    amount: float = 0.0
    group: str | None = None


def parse_split(name: str) -> SplitName:
    """Takes a split's name apart.

    Raises:
        ValueError: No such form.
    """
    if name in ("random", "spatial-block", "official"):
        return SplitName(name, name)  # type: ignore[arg-type]
    if re.fullmatch(r"official-[A-Za-z0-9]+", name):
        # Data published with several splits: `official-2` is the second.
        return SplitName(name, "official")
    if name == "leave-year-out":
        return SplitName(name, "leave-year")
    if match := re.fullmatch(r"until-(\d{4})", name):
        return SplitName(name, "until", year=int(match[1]))
    if match := re.fullmatch(r"within-([A-Za-z][\w-]*)", name):
        return SplitName(name, "within", group=match[1])
    if match := re.fullmatch(r"leave-([A-Za-z][\w-]*?)-year-out", name):
        return SplitName(name, "leave-group-year", group=match[1])
    if match := re.fullmatch(r"leave-([A-Za-z][\w-]*?)-out(?:\+(\d+))?", name):
        return SplitName(name, "leave-group", group=match[1], extra=int(match[2] or 0))
    raise ValueError(f"{name!r} is no split; the forms are {SPLIT_FORMS}")


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
            raise ValueError(f"{name!r}: a percentage lies above 0 and at most at 100")
        return BudgetName(name, "pixels" if match[2] else "percent", amount)
    if match := re.fullmatch(r"(\d+)-(per-class|units|[A-Za-z][\w-]*)", name):
        amount = int(match[1])
        if amount < 1:
            raise ValueError(f"{name!r}: a budget holds at least one label")
        if match[2] == "per-class":
            return BudgetName(name, "per-class", amount)
        if match[2] == "units":
            return BudgetName(name, "units", amount)
        return BudgetName(name, "groups", amount, group=match[2])
    raise ValueError(f"{name!r} is no budget; the forms are {BUDGET_FORMS}")
