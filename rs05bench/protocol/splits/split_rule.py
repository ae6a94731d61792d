"""What a split rule is, and a split's name taken apart once.

A rule is one `SplitRule` in a module of this package, under the name `RULE`: its pattern, how it draws its folds, what shifts, whether it
may be a main result, and the words it is described with. Adding a rule is adding that module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from rs05bench.protocol.ground import Ground
from rs05bench.protocol.names import BudgetName, parse_budget

Names = NDArray[np.object_]
Shift = Literal["none", "region", "year", "both"]

ROLES = ("train", "val", "test_id", "test_ood", "reserve", "buffer")
SHIFTS: tuple[Shift, ...] = ("none", "region", "year", "both")


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold: its name, what is held out, and a role and shift for every unit, arrays of shape (n,)."""

    name: str
    held_out: tuple[str, ...]
    role: Names
    shift: Names


@dataclass(frozen=True, slots=True)
class SplitRule:
    """A rule that draws splits.

    Attributes:
        name: Its name, as a manifest's card records it.
        form: The names it answers to, for people: `leave-<group>-out`.
        pattern: The names it answers to, whole; named groups `group`, `year`, `extra`. No two rules answer to one name.
        draw: Draws the folds on a ground.
        shift: What changes from training to the units it holds out.
        may_be_main: Whether its results may be main ones (rule 2).
        rank: Which split tells most, where one has to be taken: the lowest.
        moves: What changes, for lists of splits.
        meaning: One line for people.
        title: A heading; `{group}`, `{year}` and `{extra}` are filled in.
        home: What `test_id` is, for captions.
        held_out: What `test_ood` is, for captions.
        elsewhere: Where the held-out units are, to end a sentence with.
        fixed_tests: Whether it tests on every region's fixed test blocks, which train in no fold.
        needs_year: Whether every unit needs a year.
        same_units: Whether the units a fold holds out are tested in domain in other folds, so that a drop is on the same units: by `fold`,
            or by their `region`.
    """

    name: str
    form: str
    pattern: re.Pattern[str]
    draw: Callable[[Ground, Split], Iterator[Fold]]
    shift: Shift
    may_be_main: bool
    rank: int
    moves: str
    meaning: str
    title: str
    home: str = "test blocks of regions that train"
    held_out: str = "the same blocks, their region held out"
    elsewhere: str = "on held-out blocks"
    fixed_tests: bool = True
    needs_year: bool = False
    same_units: Literal["fold", "region"] | None = None


RULES: dict[str, SplitRule] = {}
"""Every rule by its name; the package's `__init__` fills it."""


class Split(str):
    """A split's name, taken apart once: the text itself, which knows its rule.

    >>> split = Split("leave-state-out+5")
    >>> split.rule.name, split.group, split.base, split.extra
    ('leave-group', 'state', 'leave-state-out', 5)

    Attributes:
        rule: The rule that draws it.
        group: Word for the group it moves, if it moves one.
        year: Last training year of `until-<year>`.
        extra: `k` of the `+k` forms: how many labels are taken from the held-out region's reserve (per class for a plain `+k` of a
            classification); 0 without.
        extra_budget: How those labels are drawn; None for a plain `+k`.
    """

    rule: SplitRule
    group: str | None
    year: int | None
    extra: int
    extra_budget: BudgetName | None

    def __new__(cls, name: str) -> Split:
        """Takes a name apart.

        Raises:
            ValueError: No rule answers to it.
        """
        if isinstance(name, Split):
            return name
        found = [(rule, match) for rule in RULES.values() if (match := rule.pattern.fullmatch(name))]
        if not found:
            raise ValueError(f"{name!r} is not a split; the forms are {', '.join(rule.form for rule in RULES.values())}")
        (rule, match) = found[0]
        parts = match.groupdict()
        self = super().__new__(cls, name)
        self.rule, self.group = rule, parts.get("group")
        self.year = int(parts["year"]) if parts.get("year") else None
        extra = parts.get("extra")
        self.extra_budget = parse_budget(extra) if extra and not extra.isdigit() else None
        self.extra = int(extra) if extra and extra.isdigit() else int(self.extra_budget.amount) if self.extra_budget else 0
        return self

    def __reduce__(self) -> tuple[type[Split], tuple[str]]:
        """A copy is parsed again, so that it holds this package's own rule."""
        return Split, (str(self),)

    @property
    def base(self) -> Split:
        """The split whose roles this one uses: the name without its `+k`."""
        return self if "+" not in self else Split(self.partition("+")[0])

    @property
    def moved(self) -> str:
        """What it moves, in a word: its group, `year`, or `region`."""
        return (self.group or ("year" if self.rule.needs_year else "region")).replace("_", " ").replace("-", " ")

    def words(self, text: str) -> str:
        """A text of its rule (`title`, `elsewhere`) with group, year and labels filled in."""
        word = (self.group or "region").replace("_", " ").replace("-", " ")
        article = "an" if word[:1].lower() in "aeio" else "a"
        return text.format(group=word, a_group=f"{article} {word}", year=self.year)

    @property
    def heading(self) -> str:
        """What it asks, in a few words."""
        more = ""
        if self.extra_budget is not None:
            more = f", with {self.extra_budget.text.replace('-', ' ')} of it labelled"
        elif self.extra:
            more = f", with {self.extra} labels per class from it"
        return self.words(self.rule.title) + more

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In a record a split is its name, parsed when the record is read."""
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema()),
        )
