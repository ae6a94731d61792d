"""What a recipe says of itself: its sources, what leaks in them, which splits they allow. Docs, command and messages read this record."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, ValidationError, model_validator

from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_yaml_mapping
from rs05bench.protocol.strict_record import FrozenRecord

if TYPE_CHECKING:
    from rs05bench.datasets.recipes.job import BuildJob
    from rs05bench.protocol.card import TaskCard

Value = StrictBool | StrictInt | StrictFloat | str
Words = Annotated[str, BeforeValidator(lambda text: text.strip() if isinstance(text, str) else text)]
VECTOR_ENDINGS = ("shp", "gpkg", "geojson", "json", "parquet")


class SourceFiles(FrozenRecord):
    """Files that must be under `--root`, and where a user gets them.

    Attributes:
        name: What the recipe calls them.
        patterns: Globs relative to the root; files that match any of them are taken.
        layers: Stems of globs for a vector layer in any of the formats of `VECTOR_ENDINGS`; added to `patterns`.
        format: What they are, with the columns or bands that are read.
        title: Name of the product; taken from the catalogue where `catalogue` is given.
        url: Where to get it.
        licence: Licence of the product.
        citation: What to cite.
        size: How much there is to fetch, in words; empty where nobody measured it.
        required: Whether the recipe needs it.
        bulk: Many or large rasters: `build.json` then holds a digest over names and sizes instead of one over every byte.
        catalogue: Name in `sources/catalogue.yaml`, where what is already said there is taken from.
    """

    name: str
    patterns: tuple[str, ...] = ()
    layers: tuple[str, ...] = Field(default=(), exclude=True)
    format: Words
    title: Words = ""
    url: str = ""
    licence: Words = ""
    citation: Words = ""
    size: str = ""
    required: bool = True
    bulk: bool = False
    catalogue: str = ""

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("layers"):
            spelt = [f"{stem}.{ending}" for stem in fields["layers"] for ending in VECTOR_ENDINGS]
            return fields | {"patterns": (*fields.get("patterns", ()), *spelt)}
        return fields

    def described(self) -> SourceFiles:
        """The same with title, licence and address from the catalogue."""
        if not self.catalogue:
            return self
        from rs05bench.datasets.sources import find_source

        known = find_source(self.catalogue)
        size = sum(file.size or 0 for file in known.files)
        found = {
            "title": known.title,
            "url": known.homepage,
            "licence": known.licence,
            "citation": f"https://doi.org/{known.doi}" if known.doi else "",
            "size": f"{size / 1e9:.2f} GB" if size else "",
        }
        return self.model_copy(update={name: getattr(self, name) or text for name, text in found.items()})


class Option(FrozenRecord):
    """A choice a recipe offers: `--set name=value`.

    Attributes:
        name: Its name.
        default: Its value where nobody says otherwise; the type of a given value must be the same.
        help: What it does, with its unit.
        choices: Allowed values; empty allows any.
    """

    name: str
    default: Value
    help: Words
    choices: tuple[str, ...] = ()

    def parse(self, given: Any, recipe: str) -> Value:
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
            raise DataError(f"option {self.name} takes {wanted}, found {given!r}", source=f"recipe {recipe}") from None
        if self.choices and str(value) not in self.choices:
            raise DataError(f"option {self.name} is one of {', '.join(self.choices)}, found {given!r}", source=f"recipe {recipe}")
        return value


class Recipe(FrozenRecord):
    """Source files -> a folder that `rs05bench sweep` runs on.

    Attributes:
        name: What `rs05bench build` calls it: the name of its file.
        title: One line for people.
        task: Which of the three tasks it belongs to.
        kind: What is predicted.
        summary: What is done with the sources, in a few sentences.
        function: What writes the data files into `job.out` and returns the card: `module.function` of this package, or
            `file.py:function` next to a record of your own.
        sources: What must be under the root.
        leaks: What leaks in these data, a sentence each; goes into the card's notes too.
        splits: Split -> what it asks here, in the card's order; `until-<year>` where the year depends on the data.
        main_split: The split whose result can be the main one.
        options: What a user may choose.
        card: What the task card always says; its texts may hold `{option}` and `{credit}`, which a run fills in.
        verified: What of the source formats was checked, and against what.
        unverified: What was not.
    """

    name: str
    title: Words
    task: Literal["burn-scar", "crop", "urban"]
    kind: Literal["classification", "regression", "segmentation"]
    function: str
    summary: Words
    sources: tuple[SourceFiles, ...]
    leaks: tuple[Words, ...]
    splits: dict[str, Words]
    main_split: str
    options: tuple[Option, ...] = ()
    card: dict[str, object] = Field(default_factory=dict, exclude=True)
    verified: tuple[Words, ...] = ()
    unverified: tuple[Words, ...] = ()
    folder: Path = Field(default=Path(__file__).parent, exclude=True)

    @model_validator(mode="after")
    def _main_is_a_split(self) -> Recipe:
        if self.main_split not in self.splits:
            raise ValueError(f"main_split {self.main_split!r} is not in splits")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Reads a record; a source or option given as a word, and a card that is `like` another, are those of `shared.yaml`.

        Raises:
            DataError: The file is missing, not YAML, or a field is not what it should be.
        """
        path = Path(path)
        fields = read_yaml_mapping(path, remedy="`rs05bench build --list` names the recipes of the package.")
        for kind in ("sources", "options"):
            listed = fields.get(kind, [])
            if not isinstance(listed, list):
                raise DataError(f"{kind} is a list, found {type(listed).__name__}", source=path)
            fields[kind] = [_shared(kind, item, path) if isinstance(item, str) else item for item in listed]
        if isinstance(card := fields.get("card"), dict) and (like := card.pop("like", None)):
            fields["card"] = {**_shared("cards", str(like), path), **card}
        try:
            return cls.model_validate({"name": path.stem, "folder": path.resolve().parent, **fields})
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc'])) or 'record'}: {fault['msg']}" for fault in error.errors()]
            raise DataError("; ".join(faults), source=path) from error

    def make(self, job: BuildJob) -> TaskCard:
        """Runs the recipe's function.

        Raises:
            DataError: There is no such function.
        """
        return self._function()(job)

    def _function(self) -> Callable[[BuildJob], TaskCard]:
        place, sign, own = self.function.partition(":")
        if sign:
            path = self.folder / place
            spec = importlib.util.spec_from_file_location(path.stem, path) if path.is_file() else None
            if spec is None or spec.loader is None:
                raise DataError(f"function: no file {place!r}", source=path, remedy="Put it next to the record.")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            name, _, own = self.function.rpartition(".")
            module = importlib.import_module(f"{__package__}.{name}")
        if not hasattr(module, own):
            raise DataError(f"function: no {own!r} in {module.__name__}", source=f"recipe {self.name}")
        function: Callable[[BuildJob], TaskCard] = getattr(module, own)
        return function

    def source(self, name: str) -> SourceFiles:
        """One source by its name."""
        return next(source for source in self.sources if source.name == name)

    def values(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """All options with their values.

        Raises:
            DataError: An option the recipe does not have, or a value that does not fit.
        """
        known = {option.name: option for option in self.options}
        if unknown := sorted(set(given) - set(known)):
            have = f"it has {', '.join(known)}" if known else "it has none"
            raise DataError(f"no option {', '.join(unknown)} ({have})", source=f"recipe {self.name}")
        return {name: option.parse(given[name], self.name) if name in given else option.default for name, option in known.items()}

    def described(self) -> Recipe:
        """The same with what the catalogue says of the sources."""
        return self.model_copy(update={"sources": tuple(source.described() for source in self.sources)})


@lru_cache(maxsize=1)
def _shared_records() -> dict[str, Any]:
    return read_yaml_mapping(Path(__file__).parent / "shared.yaml")


def _shared(kind: str, name: str, path: Path) -> Any:
    known = _shared_records()[kind]
    if name not in known:
        raise DataError(f"{kind}: no shared {name!r} (there are: {', '.join(known)})", source=path)
    return known[name]
