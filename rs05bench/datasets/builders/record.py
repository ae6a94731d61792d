"""What a builder says of itself: its sources, what leaks in them, which splits they allow. Docs, command and messages read this record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rs05bench.errors import DataError

if TYPE_CHECKING:
    from rs05bench.datasets.builders.job import BuildJob
    from rs05bench.protocol.card import TaskCard

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """Files that must lie under `--root`, and where a user gets them.

    Attributes:
        name: What the builder calls them.
        patterns: Globs relative to the root; files that match any of them are taken.
        format: What they are, with the columns or bands that are read.
        title: Name of the product; taken from the catalogue where `catalogue` is given.
        url: Where to get it.
        licence: Licence of the product.
        citation: What to cite.
        size: How much there is to fetch, in words; empty where nobody measured it.
        required: Whether the builder does without.
        bulk: Many or large rasters: `build.json` then holds a digest over names and sizes instead of one over every byte.
        catalogue: Name in `sources/catalogue.yaml`, where what is already said there is taken from.
    """

    name: str
    patterns: tuple[str, ...]
    format: str
    title: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    size: str = ""
    required: bool = True
    bulk: bool = False
    catalogue: str = ""

    def described(self) -> SourceFiles:
        """The same with title, licence and address from the catalogue."""
        if not self.catalogue:
            return self
        from dataclasses import replace

        from rs05bench.datasets.sources import find_source

        known = find_source(self.catalogue)
        size = sum(file.size or 0 for file in known.files)
        return replace(
            self,
            title=self.title or known.title,
            url=self.url or known.homepage,
            licence=self.licence or known.licence,
            citation=self.citation or (f"https://doi.org/{known.doi}" if known.doi else ""),
            size=self.size or (f"{size / 1e9:.2f} GB" if size else ""),
        )


@dataclass(frozen=True, slots=True)
class Option:
    """A choice a builder offers: `--set name=value`.

    Attributes:
        name: Its name.
        default: Its value where nobody says otherwise; the type of a given value must be the same.
        help: What it does, with its unit.
        choices: Allowed values; empty allows any.
    """

    name: str
    default: Value
    help: str
    choices: tuple[str, ...] = ()

    def parse(self, given: Any, builder: str) -> Value:
        """A value of the default's type.

        Raises:
            DataError: It cannot be one, or is not among the choices.
        """
        kind = type(self.default)
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
        value: Value
        try:
            if kind is bool and not isinstance(given, bool):
                value = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(given).strip().lower()]
            else:
                value = kind(given)
        except (KeyError, TypeError, ValueError):
            raise DataError(f"option {self.name} takes {wanted}, found {given!r}", source=f"builder {builder}") from None
        if self.choices and str(value) not in self.choices:
            raise DataError(f"option {self.name} is one of {', '.join(self.choices)}, found {given!r}", source=f"builder {builder}")
        return value


@dataclass(frozen=True, slots=True)
class Builder:
    """Source files -> a folder that `rs05bench sweep` runs on.

    Attributes:
        name: What `rs05bench build` calls it.
        title: One line for people.
        task: Which of the three tasks it belongs to.
        kind: What is predicted.
        summary: What is done with the sources, in a few sentences.
        sources: What must lie under the root.
        leaks: What leaks in these data, a sentence each; goes into the card's notes too.
        splits: Split -> what it asks here, in the card's order; `until-<year>` where the year depends on the data.
        main_split: The split whose result can be the main one.
        make: Writes the data files into `job.out` and returns the card; all heavy imports inside.
        options: What a user may choose.
        verified: What of the source formats was checked, and against what.
        unverified: What was not.
    """

    name: str
    title: str
    task: Literal["burn-scar", "crop", "urban"]
    kind: Literal["classification", "regression", "segmentation"]
    summary: str
    sources: tuple[SourceFiles, ...]
    leaks: tuple[str, ...]
    splits: Mapping[str, str]
    main_split: str
    make: Callable[[BuildJob], TaskCard]
    options: tuple[Option, ...] = ()
    verified: tuple[str, ...] = ()
    unverified: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.main_split not in self.splits:
            raise ValueError(f"builder {self.name}: main_split {self.main_split!r} is not in splits")

    def source(self, name: str) -> SourceFiles:
        """One source by its name."""
        return next(source for source in self.sources if source.name == name)

    def values(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """All options with their values.

        Raises:
            DataError: An option the builder does not have, or a value that does not fit.
        """
        known = {option.name: option for option in self.options}
        if unknown := sorted(set(given) - set(known)):
            have = f"it has {', '.join(known)}" if known else "it has none"
            raise DataError(f"no option {', '.join(unknown)} ({have})", source=f"builder {self.name}")
        return {name: option.parse(given[name], self.name) if name in given else option.default for name, option in known.items()}

    def record(self) -> dict[str, Any]:
        """Everything but the code, as plain data."""
        from dataclasses import asdict

        return {
            "name": self.name,
            "title": self.title,
            "task": self.task,
            "kind": self.kind,
            "summary": self.summary,
            "sources": [asdict(source.described()) for source in self.sources],
            "leaks": list(self.leaks),
            "splits": dict(self.splits),
            "main_split": self.main_split,
            "options": [asdict(option) for option in self.options],
            "verified": list(self.verified),
            "unverified": list(self.unverified),
        }
