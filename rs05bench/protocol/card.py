"""Task cards: what is predicted, over which units, from which inputs, under which splits and budgets.

A card is a YAML file anyone can write without Python. A faulty card lists every fault at once.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from rs05bench.errors import DataError
from rs05bench.protocol.atomic import write_text
from rs05bench.protocol.documents import field_name, read_yaml
from rs05bench.protocol.feature_sets import FeatureSet, set_of
from rs05bench.protocol.hashing import json_digest
from rs05bench.protocol.names import group_word, parse_budget
from rs05bench.protocol.preprocessing import Preprocessing
from rs05bench.protocol.split_options import SplitOptions
from rs05bench.protocol.splits import Split
from rs05bench.protocol.strict_record import Record
from rs05bench.protocol.task_kinds import TASK_KINDS, Kind, TaskKind

SCHEMA_VERSION = 1

# Words for people, and lists a cell names its own item of: changing them makes no result stale.
_LATER_IN_TRAINING = ("class_weights", "accumulate", "weight_decay", "warmup", "precision")
"""Fields that cards got later: at their defaults they mean what cards without them meant, and change no digest."""
_NOT_IN_DIGEST = ("title", "notes", "citation", "licence", "source", "overlap", "splits", "budgets", "fairness_groups")


class _CardRecord(Record):
    model_config = ConfigDict(validate_assignment=True)


class Coordinates(_CardRecord):
    """Where the columns of position are and what they mean.

    `geometry: true` takes a representative point of each unit's geometry instead of two columns.
    """

    x: str | None = None
    y: str | None = None
    crs: str = "EPSG:4326"
    geometry: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Coordinates:
        if not self.geometry and (self.x is None or self.y is None):
            raise ValueError("coordinates need both x and y, or geometry: true")
        return self


class Join(_CardRecord):
    r"""A second file whose columns (or geometry) are joined to the units by key.

    Attributes:
        file: Glob relative to the data directory.
        on: Column of the main table, or `{left: .., right: ..}` where the names differ.
        columns: Columns to bring along; empty brings all that are not in the main table.
        how: `inner` drops units without a partner (reported), `left` keeps them with blanks.
        melt: Wide columns of the joined file to turn into one column and a year, e.g. `{value: rate, pattern: "Rate(\d{4})"}`.
    """

    file: str
    on: str | dict[str, str]
    columns: list[str] = Field(default_factory=list)
    how: Literal["inner", "left"] = "inner"
    melt: dict[str, str] | None = None


class Official(_CardRecord):
    """The split a dataset was published with, as a column of the table.

    Attributes:
        column: Column that says where a unit belongs.
        train: Values that mean training.
        test: Values that mean test.
        val: Values that mean validation; empty when none was published.
        shift: What changes from training to test according to its authors.
    """

    column: str
    train: list[str]
    test: list[str]
    val: list[str] = Field(default_factory=list)
    shift: Literal["none", "region", "year", "both"] = "none"

    @field_validator("train", "test", "val", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        values = value if isinstance(value, list) else [value]
        return [str(item) for item in values]


class Training(_CardRecord):
    """Schedule shared by all gradient-trained tiers (rule 4)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    steps: int = Field(default=200, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(default=4, ge=1)
    """Units per step."""
    learning_rates: list[float] = Field(default_factory=lambda: [1e-3], min_length=1)
    """The declared grid; the rate with the lowest validation loss is kept. With no validation labels the middle one is used."""
    patience: int = Field(default=5, ge=0)
    """Looks at the validation labels without improvement before stopping; 0 never stops early."""
    val_every: int = Field(default=20, ge=1)
    """Steps between two looks at the validation labels."""
    augmentation: list[str] = Field(default_factory=list)
    """kornia operations by name; applied to every tier that trains its encoder."""
    class_weights: Literal["none", "balanced"] = "none"
    """`none`, or `balanced`: inverse frequency of the training labels, at most 10 times the mean."""
    accumulate: int = Field(default=1, ge=1)
    """Batches per step."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    warmup: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps in which the rate rises; a cosine follows."""
    precision: str = "auto"
    """`auto` (bfloat16 on a device that has it, else 32 bit), or a name of Lightning's."""

    @property
    def middle_rate(self) -> float:
        """The rate of the grid that is taken where none can be chosen."""
        return sorted(self.learning_rates)[len(self.learning_rates) // 2]


class TaskCard(_CardRecord):
    """What is predicted, over which units, from which inputs, under which splits, budgets and metrics.

    Attributes:
        kind: `classification`, `regression` or `segmentation`.
        name: Task name, lower-case with dashes.
        title: One line for people.
        targets: Target columns; one result each.
        classes: Class values in order (classification, segmentation); None takes the sorted values found.
        class_names: Names shown for `classes`, in the same order.
        unit: Columns that together name a unit; empty makes the id from file name and row.
        place: Columns that name the place; default is `unit` without the year column.
        groups: Group columns a split may move.
        coordinates: Position of the units, or None where only groups are declared.
        year: Column of the year.
        time: Column of the date.
        files: Globs of the table's files relative to the data directory.
        reader: Which dataset class reads them; `table` is `EmbeddingTable`.
        joins: Further files joined by key.
        features: Named feature sets: a list of columns, globs or names of other sets, or a `FeatureSet`, which may name the public
            embedding it holds: `{name: {product: name-v1}}`.
        tiers: Tier of a feature set, where its name does not say it.
        never_features: Columns or globs that may never be features.
        missing: What happens to units with a missing feature: `drop` (reported) or `keep` (the model imputes).
        splits: Splits this card supports.
        split_options: Block size, buffer and the like.
        official: The split the data were published with.
        budgets: Label budgets.
        main_metric: The metric tables are ordered by.
        training: Schedule shared by the trained tiers.
        preprocessing: Fixed preprocessing, pinned by hash (rule 3).
        fairness_groups: Group columns whose errors are reported apart.
        covariates: Columns known without any image (population density, rural-urban code); they have a floor of their own.
        simulated: True marks everything made from this card as simulated.
        licence: Licence of the data.
        citation: What to cite.
        source: Where the data come from, with the revision.
        overlap: Declared overlap with pretraining data (rule 14).
        notes: Anything a reader must know, e.g. that labels are a model product.
    """

    schema_version: Literal[1] = 1
    kind: Kind
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str = ""
    targets: list[str] = Field(min_length=1)
    classes: list[str] | None = None
    class_names: list[str] | None = None
    unit: list[str] = Field(default_factory=list)
    place: list[str] = Field(default_factory=list)
    groups: list[str] = Field(default_factory=list)
    coordinates: Coordinates | None = None
    year: str | None = None
    time: str | None = None
    files: list[str] = Field(default_factory=lambda: ["*.csv"], min_length=1)
    reader: str = "table"
    joins: list[Join] = Field(default_factory=list)
    features: dict[str, FeatureSet] = Field(default_factory=dict)
    tiers: dict[str, str] = Field(default_factory=dict)
    never_features: list[str] = Field(default_factory=list)
    missing: Literal["drop", "keep"] = "drop"
    splits: list[str] = Field(min_length=1)
    split_options: SplitOptions = Field(default_factory=SplitOptions)
    official: Official | None = None
    budgets: list[str] = Field(default_factory=list)
    main_metric: str = ""
    training: Training = Field(default_factory=Training)
    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    fairness_groups: list[str] = Field(default_factory=list)
    covariates: list[str] = Field(default_factory=list)
    simulated: bool = False
    licence: str = ""
    citation: str = ""
    source: str = ""
    overlap: str = ""
    notes: str = ""

    @field_validator("classes", "class_names", mode="before")
    @classmethod
    def _text_classes(cls, value: Any) -> Any:
        return _texts(value)

    @field_validator("unit", "place", "groups", "covariates", "files", "targets", "budgets", "splits", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return _texts([value] if isinstance(value, (str, int)) else value)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("kind"), str) and data["kind"] in TASK_KINDS:
            data, usual = dict(data), TASK_KINDS[data["kind"]]
            data["main_metric"] = data.get("main_metric") or usual.main_metric
            data["budgets"] = data.get("budgets") or list(usual.budgets)
            if data.get("covariates"):
                own = {"columns": data["covariates"], "content": "covariate"}
                data["features"] = {**(data.get("features") or {}), "covariates": own}
        return data

    @property
    def about(self) -> TaskKind:
        """What follows from the kind of the task."""
        return TASK_KINDS[self.kind]

    def faults(self) -> list[str]:
        """Everything that is wrong between the fields, one sentence a fault."""
        found: list[str] = []
        for split in self.splits:
            try:
                parsed = Split(split)
            except ValueError as error:
                found.append(f"splits: {error}")
                continue
            if parsed.group and self.group_column(parsed.group) is None:
                found.append(f"splits: {split!r} moves the group {parsed.group!r}, which is not in groups {self.groups}")
            if parsed.rule.needs_year and self.year is None:
                found.append(f"splits: {split!r} needs a year column, and the card declares none (field: year)")
            if parsed.rule.name == "official" and self.official is None:
                found.append("splits: 'official' needs the field official (column, train, test)")
        for budget in self.budgets:
            try:
                spec = parse_budget(budget)
            except ValueError as error:
                found.append(f"budgets: {error}")
                continue
            if why := self.about.refused_budgets.get(spec.kind):
                found.append(f"budgets: {budget!r} {why}")
            if spec.kind == "groups" and self.group_column(spec.group) is None:
                found.append(f"budgets: {budget!r} counts groups {spec.group!r}, which is not in groups {self.groups}")
        for name, members in self.features.items():
            for item in members.columns:
                if item in self.targets:
                    found.append(f"features.{name}: {item!r} is the target")
        for name in self.tiers:
            if name not in self.features:
                found.append(f"tiers: {name!r} is no feature set (there are {sorted(self.features)})")
        for column in self.fairness_groups:
            if column not in self.groups:
                found.append(f"fairness_groups: {column!r} is not in groups {self.groups}")
        if self.class_names is not None and (self.classes is None or len(self.classes) != len(self.class_names)):
            found.append("class_names: needs classes, one name each")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            found.append("classes: holds a class twice")
        if self.kind == "regression" and self.classes is not None:
            found.append("classes: a regression has none")
        for field in ("region", "block_by"):
            column = getattr(self.split_options, field)
            if column is not None and column not in self.groups:
                found.append(f"split_options.{field}: {column!r} is not in groups {self.groups}")
        return found

    def group_column(self, word: str | None) -> str | None:
        """The group column a split or budget means: its own name, or its plural or dashed form."""
        if word is None:
            return None
        if word in self.groups:
            return word
        for column in self.groups:
            # `SITE_ID` is a site and `State` a state to whoever names a split.
            base = group_word(column).lower().replace("_", "-")
            singular = {base, base.removesuffix("-id")}
            if word.lower().replace("_", "-") in singular | {f"{form}s" for form in singular} | {
                re.sub("y$", "ies", form) for form in singular
            }:
                return column
        return None

    def feature_columns(self, name: str, columns: Sequence[str], *, source: str | Path | None = None) -> list[str]:
        """Columns of a feature set, in the table's order.

        Args:
            name: A key of `features`, or several joined with `+`.
            columns: All columns of the table.
            source: The card's file, for the error message.

        Raises:
            DataError: Unknown set, a pattern that matches nothing, or one that matches a column that may not be a feature.
        """
        if set_of(name, self.features) is None:
            raise DataError(f"no feature set {name!r} (there are {sorted(self.features)})", source=source or self.name)
        matched = self._expand(name, columns, source, ())
        return [column for column in columns if column in matched]

    def _expand(self, name: str, columns: Sequence[str], source: str | Path | None, seen: tuple[str, ...]) -> set[str]:
        if name in seen:
            raise DataError(f"features.{name} contains itself ({' -> '.join([*seen, name])})", source=source or self.name)
        matched: set[str] = set()
        members = set_of(name, self.features)
        assert members is not None
        if not members.columns:
            raise DataError(
                f"features.{name} names the product {members.product} and no columns",
                source=source or self.name,
                remedy="Read the table with EmbeddingTable, which finds them, or list the columns.",
            )
        for item in members.columns:
            if item in self.features and item not in columns:
                matched |= self._expand(item, columns, source, (*seen, name))
                continue
            hits = [column for column in columns if fnmatch.fnmatchcase(column, item)]
            if not hits:
                raise DataError(
                    f"features.{name}: {item!r} matches no column (columns: {_some(columns)})",
                    source=source or self.name,
                    remedy="Correct the name or the pattern.",
                )
            forbidden = self.forbidden(hits)
            for column, why in forbidden.items():
                raise DataError(
                    f"column {column!r} {why} and also matches the feature pattern {item!r} (columns: {_some(hits)}).",
                    source=source or self.name,
                    remedy=f"Remove it from features.{name}, or list it under never_features.",
                )
            matched |= {column for column in hits if not self._never(column)}
        return matched

    def forbidden(self, columns: Iterable[str]) -> dict[str, str]:
        """Columns among these that would leak, and why."""
        why: dict[str, str] = {}
        for column in columns:
            if self._never(column):
                continue
            if column in self.targets:
                why[column] = "holds the target"
            elif self.official is not None and column == self.official.column:
                why[column] = "holds the official split"
        return why

    def _never(self, column: str) -> bool:
        return any(fnmatch.fnmatchcase(column, pattern) for pattern in self.never_features)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        import pandas as pd

        from rs05bench.protocol.notebook import bars, html

        shown = {
            "kind": self.kind,
            "targets": ", ".join(self.targets),
            "classes": ", ".join(str(name) for name in self.class_names or self.classes or ()),
            "groups": ", ".join(self.groups),
            "splits": ", ".join(self.splits),
            "budgets": ", ".join(self.budgets),
            "metric": self.main_metric,
            "source": self.source,
            "licence": self.licence,
        }
        table = pd.DataFrame([{"field": name, "value": value} for name, value in shown.items() if value])
        sizes = {name: float(len(members.columns)) for name, members in self.features.items()}
        picture = bars(list(sizes), list(sizes.values()), "#0072B2", "columns and patterns of each feature set") if sizes else None
        return html(self.title or self.name, table, picture)

    @property
    def digest(self) -> str:
        """SHA-256 over what results rest on (not over the bytes of the file, nor over words for people)."""
        content = self.model_dump(mode="json", exclude=set(_NOT_IN_DIGEST))
        if not self.covariates:
            # Cards got it later: without any they are what they were.
            del content["covariates"]
        usual = Training().model_dump(mode="json")
        content["training"] = {
            name: value for name, value in content["training"].items() if name not in _LATER_IN_TRAINING or value != usual[name]
        }
        return _digest(content)

    def with_preprocessing(self, **fields: object) -> TaskCard:
        """The same card with some fields of its preprocessing set.

        Raises:
            pydantic.ValidationError: An unknown field, or a value that does not fit it.
        """
        return self.model_copy(update={"preprocessing": self.preprocessing.with_fields(**fields)})

    @property
    def preprocessing_digest(self) -> str:
        """SHA-256 over what is done to the data before any model sees them (rule 3)."""
        return _digest(
            {
                "preprocessing": self.preprocessing.model_dump(),
                "features": self.model_dump(mode="json")["features"],
                "never": self.never_features,
                "missing": self.missing,
            }
        )

    @classmethod
    def parse(cls, data: Any, *, source: str | Path | None = None) -> TaskCard:
        """Builds a card from plain data.

        Raises:
            DataError: Lists every fault.
        """
        if not isinstance(data, dict):
            raise DataError(f"a task card is a mapping of fields, found {type(data).__name__}", source=source)
        faults: list[str] = []
        card: TaskCard | None = None
        try:
            card = cls.model_validate(data)
        except ValidationError as error:
            faults = [f"{field_name(item['loc']) or 'card'}: {item['msg']}" for item in error.errors()]
        if card is not None:
            faults = card.faults()
        if faults or card is None:
            lines = "\n".join(f"  - {fault}" for fault in faults)
            raise DataError(f"{len(faults)} fault{'s' if len(faults) != 1 else ''} in the task card:\n{lines}", source=source)
        return card

    @classmethod
    def load(cls, path: str | Path) -> TaskCard:
        """Reads a card from YAML.

        Raises:
            DataError: Unreadable file, or every fault of the card.
        """
        remedy = "Give the path of a task card (YAML), or make one: rs05bench card init TABLE."
        return cls.parse(read_yaml(path, remedy=remedy), source=path)

    def save(self, path: str | Path) -> Path:
        """Writes the card as YAML, fields in declared order, defaults left out."""
        path = Path(path)
        data = {"schema_version": self.schema_version, **self.model_dump(mode="json", exclude_defaults=True)}
        write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))
        return path


def _texts(value: Any) -> Any:
    """The words of a list as text; what is neither word nor number stays, for pydantic to refuse."""
    if not isinstance(value, list):
        return value
    return [str(item) if isinstance(item, (str, int, float)) else item for item in value]


def _digest(data: Any) -> str:
    return json_digest(data)


def _some(columns: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(columns[:limit])
    return shown + (f", … ({len(columns)} in all)" if len(columns) > limit else "")
