"""Public embeddings as records: one YAML file per product, version and variant, in `records/`.

Everything that is true of one product and of no other stands in its record: how many components it has and what they are called, how its
numbers are stored, which values mean "missing", which years there are, who made it and on what it was trained. Code asks the record.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rs05bench.embeddings.codec import FloatCodec, TableCodec
from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_yaml_mapping

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECORDS = Path(__file__).parent / "records"
DEFAULT, DEFAULT_FAMILY = "alphaearth-v1", "alphaearth"
"""The product that is meant where none is named, and its family."""

_TOLERANCE = 1e-3  # of the expected range: what rounding to text or to float16 may add
_FILLS = (-9999.0, -999.0, -99999.0, -32768.0, 9999.0)
"""What exporters write for "no data" where nothing else was asked for."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TableScale(_Part):
    """A byte `q` stands for `sign(q) * (|q| / divisor) ** power`."""

    kind: Literal["table"]
    divisor: float = Field(gt=0)
    power: float = Field(gt=0)


class PixelScale(_Part):
    """Each pixel has a float32 factor for all of its components; one that is not finite marks a pixel without an embedding."""

    kind: Literal["per-pixel"]
    array: str = "scales"


class CodeScale(_Part):
    """Each stored integer holds several codes: `((i // basis) % L - L // 2) / (L // 2)` for every number of levels `L`."""

    kind: Literal["codes"]
    levels: tuple[int, ...] = Field(min_length=1)


class NoScale(_Part):
    """The stored floats are the components."""

    kind: Literal["none"]


type Scale = Annotated[TableScale | PixelScale | CodeScale | NoScale, Field(discriminator="kind")]


class EmbeddingProduct(_Part):
    """A public embedding data set: one version, one variant.

    Attributes:
        name: What a card names, e.g. `tessera-v1.1-dclimate`.
        title: For people.
        family: Versions and variants of one family are never mixed; also the usual name of its feature set.
        version: The maker's version.
        variant: The maker's variant of that version; empty where there is one only.
        dimensions: Components of a vector; None where every file has its own number.
        columns: Names its components have in tables and files, the usual one first: a prefix and a number pattern, e.g. `A{:02d}`.
        pixel_m: Size of a pixel, or of a patch, in metres; None where it differs or is not recorded.
        unit: What has a vector: a pixel, a patch of an image, or a place.
        dtype: How components are stored.
        scale: How stored numbers become components.
        nodata: The stored value of a missing pixel, where there is one.
        unit_norm: Whether published vectors have length one (means of them are shorter).
        range: Smallest and largest component that can be true; None where that is not known.
        years: First and last year; None where vectors have dates, or none.
        layouts: The readers that read it (`rs05bench.embeddings.embedding_source`).
        access: Where it is, by name.
        licence: SPDX identifier or the maker's words.
        citation: What to cite.
        attribution: The sentence the licence asks for.
        open_weights: Whether the encoder's weights are public; None where that is not known.
        pretrained_on: What the encoder saw or was trained towards (protocol rule 14).
        observation_counts: Arrays or columns that say how many observations went into a vector.
        hemispheres: `own` where southern zones have their own CRS, `north` where both lie in the northern one.
        overlap: Where tiles of two zones overlap: `nominal` if only the zone a place is in counts, since the other's vectors are different
            ones; `any` if the other may fill in.
        tags: Metadata tags of its GeoTIFFs that state `year`, `version` and `variant`.
        traps: What goes wrong with it, one sentence each.
        homepage: Where it is described.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")
    title: str
    family: str = Field(pattern=r"^[a-z0-9-]+$")
    version: str
    variant: str = ""
    dimensions: int | None = Field(default=None, ge=1)
    columns: tuple[str, ...] = Field(min_length=1)
    pixel_m: float | None = None
    unit: Literal["pixel", "patch", "place"] = "pixel"
    dtype: Literal["int8", "uint16", "uint32", "float16", "float32"]
    scale: Scale
    nodata: float | None = None
    unit_norm: bool = False
    range: tuple[float, float] | None = None
    years: tuple[int, int] | None = None
    layouts: tuple[str, ...] = ()
    access: dict[str, str] = Field(default_factory=dict)
    licence: str
    citation: str
    attribution: str = ""
    open_weights: bool | None = None
    pretrained_on: tuple[str, ...] = ()
    observation_counts: tuple[str, ...] = ()
    hemispheres: Literal["own", "north"] = "own"
    overlap: Literal["any", "nominal"] = "any"
    tags: dict[Literal["year", "version", "variant"], str] = Field(default_factory=dict)
    traps: tuple[str, ...] = ()
    homepage: str = ""

    @model_validator(mode="after")
    def _check(self) -> EmbeddingProduct:
        for pattern in self.columns:
            if pattern.format(0) == pattern.format(1):
                raise ValueError(f"columns: {pattern!r} has no place for the number, e.g. 'A{{:02d}}'")
        if self.scale.kind == "table" and self.dtype != "int8":
            raise ValueError(f"scale: a table is of int8, found {self.dtype}")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range: {self.range} is empty")
        return self

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """The usual names of the components, in order."""
        return tuple(self.columns[0].format(number) for number in range(self.size))

    @property
    def glob(self) -> str:
        """A pattern of its usual column names and of no statistics of them, e.g. `emb_[0-9][0-9]`."""
        return re.sub(r"\{(?::0(\d)d)?\}", lambda found: "[0-9]" * int(found[1]) if found[1] else "[0-9]*", self.columns[0])

    @property
    def size(self) -> int:
        """Components of a vector.

        Raises:
            DataError: The record leaves it to the files, and none was opened: see `sized`.
        """
        if self.dimensions is None:
            raise DataError(f"{self.name} has another number of components in every file", remedy="Open the files first.")
        return self.dimensions

    @property
    def stored_bands(self) -> int | None:
        """Bands of a raster of it."""
        if self.dimensions is None:
            return None
        return self.dimensions // len(self.scale.levels) if isinstance(self.scale, CodeScale) else self.dimensions

    def sized(self, dimensions: int) -> EmbeddingProduct:
        """The product with the number of components that a file has."""
        if self.dimensions is None:
            return type(self).model_validate(self.model_dump() | {"dimensions": dimensions})
        if dimensions != self.dimensions:
            raise DataError(f"expected {self.dimensions} components of {self.name}, found {dimensions}")
        return self

    @cached_property
    def codec(self) -> TableCodec | FloatCodec:
        """How pixels are held in memory: bytes where a table decodes them, else decoded floats."""
        if isinstance(self.scale, TableScale):
            return TableCodec(divisor=self.scale.divisor, power=self.scale.power, masked_byte=int(self.nodata or 0))
        return FloatCodec(lowest=-np.inf if self.range is None else self.range[0], highest=np.inf if self.range is None else self.range[1])

    @property
    def formula(self) -> str:
        """How stored numbers become components, in one line."""
        match self.scale:
            case TableScale():
                return f"sign(v) * (|v| / {self.scale.divisor:g}) ** {self.scale.power:g}; {self.nodata:g} is masked"
            case PixelScale():
                return f"v * {self.scale.array}; a scale that is not finite is masked"
            case CodeScale():
                return f"codes of {', '.join(map(str, self.scale.levels))} levels in each integer"
            case _:
                return "floats as stored"

    def blank(self, vectors: NDArray[np.floating], *, axis: int = -1) -> NDArray[np.bool_]:
        """Which vectors were left empty: a component missing, all zero, or a fill value in all components.

        Args:
            vectors: Decoded components.
            axis: The axis of the components.
        """
        values = np.asarray(vectors)
        empty = ~np.isfinite(values).all(axis=axis) | (values == 0).all(axis=axis)
        first = np.take(values, 0, axis=axis)
        return empty | (np.isin(first, _FILLS) & (values == np.expand_dims(first, axis)).all(axis=axis))

    def missing(self, vectors: NDArray[np.floating], *, axis: int = -1) -> NDArray[np.bool_]:
        """Which vectors hold no embedding: those left empty (`blank`), and those with a component outside the record's range.

        Args:
            vectors: Decoded components.
            axis: The axis of the components.
        """
        values, empty = np.asarray(vectors), self.blank(vectors, axis=axis)
        if self.range is not None:
            low, high = self.range
            empty |= ((values < low - _TOLERANCE) | (values > high + _TOLERANCE)).any(axis=axis)
        return empty

    def component(self, column: str) -> int | None:
        """Which component a column is, by any of the product's names; None where it is none."""
        return self._numbers.get(column)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {pattern.format(number): number for pattern in self.columns for number in range(self.size)}

    def find_columns(self, names: Iterable[str]) -> list[str]:
        """The product's columns among the names of a table, in component order; empty where not all of them are there.

        They are found by name and count, wherever they stand: `A00..A63`, `T000..T127`, `emb_0..`, `embedding_0..`.
        """
        there = set(names)
        for pattern in self.columns:
            count = self.dimensions or next(number for number in itertools.count() if pattern.format(number) not in there)
            wanted = [pattern.format(number) for number in range(count)]
            # One component more under the same name is another product.
            if wanted and there.issuperset(wanted) and pattern.format(count) not in there:
                return wanted
        return []


ENCODERS = ("aef", "presto", "prithvi", "satlas", "terramind", "dinov3", "dofa", "galileo", "croma")
"""Encoders whose features people bring in tables, beside the families of published products."""


def families() -> set[str]:
    """The families there are: also the usual names of their feature sets and the inputs of networks that read them."""
    return {record.family for record in all_products().values()}


def pixel_families() -> tuple[str, ...]:
    """Families that have a vector for every pixel, so that a network can read chips of them; the default one first."""
    found = {record.family for record in all_products().values() if record.unit == "pixel"}
    return (DEFAULT_FAMILY, *sorted(found - {DEFAULT_FAMILY}))


def no_vector(vectors: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which rows (n, d) of an unknown embedding hold no vector: all components are one number, which no encoder gives."""
    return (vectors == vectors[:, :1]).all(axis=1)


@lru_cache(maxsize=1)
def all_products() -> dict[str, EmbeddingProduct]:
    """Every packaged record by name."""
    found = [load_record(path) for path in sorted(RECORDS.glob("*.yaml"))]
    return {record.name: record for record in found}


def load_record(path: str | Path) -> EmbeddingProduct:
    """Read one record.

    Raises:
        DataError: Not a record; says which field and why.
    """
    try:
        return EmbeddingProduct.model_validate(read_yaml_mapping(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}", source=path) from None


def product(name: str | Path | EmbeddingProduct = DEFAULT) -> EmbeddingProduct:
    """A product by name, by its family where that has one product only, or the record in a YAML file.

    Raises:
        DataError: No such product; lists what there is.
    """
    if isinstance(name, EmbeddingProduct):
        return name
    text = str(name)
    if text in all_products():
        return all_products()[text]
    if text.endswith((".yaml", ".yml")):
        return load_record(text)
    family = [record for record in all_products().values() if record.family == text]
    if len(family) == 1:
        return family[0]
    if family:
        raise DataError(
            f"{text!r} has {len(family)} versions or variants, whose vectors are not comparable",
            remedy=f"Name one: {', '.join(record.name for record in family)}.",
        )
    raise DataError(f"no embedding product {text!r}", remedy=f"There are {', '.join(all_products())}; or give a record (YAML).")


def of_columns(names: Sequence[str]) -> EmbeddingProduct | None:
    """The product whose usual column names these are, none more and none less.

    None where no product or several fit, and where the names are anybody's (`embedding_0`, `emb_1`): as many other encoders have vectors of
    the same length.
    """
    fit = [record for record in _own_names(names) if set(record.bands) == set(names)]
    return fit[0] if len(fit) == 1 else None


def family_of_columns(names: Sequence[str]) -> str:
    """The family whose usual column names these are in upper or lower case, of whichever version; empty where none or several fit."""
    lowered = {name.lower() for name in names}
    fit = {record.family for record in _own_names(names) if {band.lower() for band in record.bands} == lowered}
    return fit.pop() if len(fit) == 1 else ""


def _own_names(names: Sequence[str]) -> list[EmbeddingProduct]:
    """The records with vectors of this length, none where the names are anybody's."""
    if all(re.fullmatch(r"(?i)emb(edding)?s?_\d+", name) for name in names):
        return []
    return [record for record in all_products().values() if record.dimensions == len(names)]


def refuse_mixture(named: Iterable[tuple[str, EmbeddingProduct]], *, source: str) -> None:
    """Refuse two versions or variants of one family under one roof.

    Args:
        named: Feature set (or source) and product.
        source: For the message.

    Raises:
        DataError: Which two.
    """
    seen: dict[str, tuple[str, EmbeddingProduct]] = {}
    for label, record in named:
        before = seen.setdefault(record.family, (label, record))
        if before[1].name != record.name:
            raise DataError(
                f"{before[0]} is of {before[1].name} and {label} of {record.name}: vectors of two variants are not comparable",
                source=source,
                remedy="Use one of them.",
            )
