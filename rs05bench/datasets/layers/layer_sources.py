"""One YAML record a layer: its documented source, and which sampler reads it how."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_yaml_mapping
from rs05bench.protocol.strict_record import FrozenRecord

RECORDS = Path(__file__).parent / "records"
_ORDER = ("dem", "climate", "road", "water", "urban", "poi", "buildings")
"""The order of the packaged layers' columns in a table."""


class RasterSampling(FrozenRecord):
    """How a raster becomes columns.

    Attributes:
        kind: `raster`.
        dtypes: Pixel types the files may have.
        missing: Values that mean missing, whether or not a file declares them.
        range: Least and largest value that can be true.
        classes: Code -> name where the pixels are classes: one column of 0 and 1 each, over a polygon the share.
        text: A column with the name of the class, for splits.
        levels: Choices of the columns: each class counts for the column whose name it begins with; no columns take the classes.
        level: Which of them; default the first.
        reach: How many pixels a place may be from the nearest pixel with data.
        derive: `terrain` gives slope and aspect next to the height.
        aspect: Whether `terrain` gives the direction; leave it out where images are flipped and turned in training.
        one_file: Whether one file is meant, and not tiles.
        remedy: What to do where a value cannot be true.
    """

    kind: Literal["raster"] = "raster"
    dtypes: tuple[str, ...] = ("uint8", "int8", "int16", "uint16", "int32", "float32", "float64")
    missing: tuple[float, ...] = ()
    range: tuple[float, float] | None = None
    classes: dict[int, str] = Field(default_factory=dict)
    text: str = ""
    levels: dict[str, list[str]] = Field(default_factory=dict)
    level: str | None = None
    reach: int = Field(default=0, ge=0, le=16)
    derive: Literal["terrain"] | None = None
    aspect: bool = True
    one_file: bool = False
    remedy: str = ""

    @model_validator(mode="after")
    def _fits(self) -> RasterSampling:
        if self.level is not None and self.level not in self.levels:
            listed = " and ".join(f"{one} ({len(groups) or len(self.classes)} columns)" for one, groups in self.levels.items())
            raise ValueError(f"no level {self.level!r}; there are {listed}" if listed else f"the layer has no levels, found {self.level!r}")
        if not self.aspect and self.derive != "terrain":
            raise ValueError("aspect: only terrain has one")
        return self

    @property
    def groups(self) -> list[str]:
        """What the columns of classes are named after: the classes, or the groups of the level."""
        level = self.level or next(iter(self.levels), None)
        return self.levels.get(level or "") or list(self.classes.values())


class DistanceSampling(FrozenRecord):
    """Metres to the nearest feature.

    Attributes:
        kind: `distance`.
        max_m: How far to look.
    """

    kind: Literal["distance"]
    max_m: float = Field(default=50_000, gt=0, le=500_000)


class CountSampling(FrozenRecord):
    """How many features there are.

    Attributes:
        kind: `count`.
        radius_m: Radius around a point.
    """

    kind: Literal["count"]
    radius_m: float = Field(default=500, gt=0, le=50_000)


class LayerSource(FrozenRecord):
    """A layer.

    Attributes:
        name: The layer's name, and the folder its files are in.
        title: For people.
        sampler: Which sampler reads it, and how.
        reads: Formats the reader accepts.
        columns: Column -> meaning and unit; `<...>` stands for a part that options fill in.
        resolution: In words, with units.
        crs: As published.
        unit: Of the source.
        licence: SPDX identifier, or a sentence.
        citation: What to cite.
        homepage: Where it is described.
        get: How to get it.
        leaks: What in it may be the label, or name the group.
        checked: What of this record was looked up, and where.
    """

    name: str
    title: str
    sampler: Annotated[RasterSampling | DistanceSampling | CountSampling, Field(discriminator="kind")]
    reads: str
    columns: dict[str, str] = Field(min_length=1)
    resolution: str
    crs: str
    unit: str
    licence: str
    citation: str
    homepage: str
    get: str
    leaks: str
    checked: str

    def with_options(self, options: dict[str, Any], *, file: str | Path = "options") -> LayerSource:
        """The layer with other settings of its sampler.

        Args:
            options: Field of the sampler -> value.
            file: Where they are written, for messages.

        Raises:
            DataError: No such field, or a value that does not fit.
        """
        kind = type(self.sampler)
        if strange := sorted(set(options) - (set(kind.model_fields) - {"kind"})):
            raise DataError(
                f"{self.name}: a {self.sampler.kind} layer takes no {strange[0]!r}",
                source=file,
                remedy=f"It takes {', '.join(sorted(set(kind.model_fields) - {'kind'}))}.",
            )
        sampler = validated(kind, {**self.sampler.model_dump(), **options}, file, self.name)
        return self.model_copy(update={"sampler": sampler})


@lru_cache(maxsize=1)
def _packaged() -> dict[str, LayerSource]:
    return {name: load_layer(RECORDS / f"{name}.yaml") for name in _ORDER}


def load_layer(path: str | Path) -> LayerSource:
    """Reads one record; the file's name is the layer's.

    Raises:
        DataError: Not a record; says which field and why.
    """
    return validated(LayerSource, {"name": Path(path).stem, **read_yaml_mapping(path)}, path)


def list_sources() -> list[LayerSource]:
    """Every packaged layer, in the order of its columns in a table."""
    return list(_packaged().values())


def find_source(name: str) -> LayerSource:
    """One packaged layer.

    Raises:
        DataError: No such layer; lists what there is.
    """
    if name not in _packaged():
        raise DataError(
            f"no layer named {name!r}; there are: {', '.join(_packaged())}",
            remedy="`rs05bench layers --list` shows them; `source` in layers.yaml may also name a record (YAML) of your own.",
        )
    return _packaged()[name]


def validated[Record: BaseModel](kind: type[Record], values: dict[str, Any], source: str | Path, at: str = "") -> Record:
    """A record from plain data.

    Raises:
        DataError: The first field that does not fit, and why.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([*([at] if at else []), *(str(part) for part in first["loc"])])
        raise DataError(f"{where or 'record'}: {first['msg']}", source=source) from None
