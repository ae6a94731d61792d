"""Columns that a task card derives from those of its table, one record a builder (`preprocessing.derive`)."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field

from rs05bench.protocol.strict_record import AsWritten

Statistic = Literal["mean", "max", "std"]


class _Step(AsWritten):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Aggregate(_Step):
    """Statistics of the pixels of a unit: `<column>_mean`, `<column>_max`, `<column>_std`."""

    builder: Literal["aggregate"]
    features: list[str] = Field(min_length=1)
    """Columns or globs, e.g. `A??`."""
    by: list[str] = Field(default_factory=list)
    """Columns that make a unit; default the card's `unit`."""
    statistics: list[Statistic] = Field(default_factory=lambda: list(get_args(Statistic)), min_length=1)
    """Which of them (`std` is that of the population)."""


class Indices(_Step):
    """Spectral indices of the spyndex catalogue, a column each."""

    builder: Literal["indices"]
    names: list[str] = Field(min_length=1)
    """Indices, e.g. `NDVI`, `NBR`."""
    bands: dict[str, str]
    """Letter of a band in the catalogue (`N`, `R`, `G`, `B`, `S1`, `S2`, ..) -> its column."""


class _Change(_Step):
    features: list[str] = Field(min_length=1)
    """Columns or globs, e.g. `A??`."""
    place: list[str] = Field(default_factory=list)
    """Columns that stay the same from year to year; default the card's `place`, else its `unit` without the year."""
    lag: int = Field(default=1, ge=1)
    """How many years earlier."""


class YearDifference(_Change):
    """Each column minus its value at the same place in an earlier year: `<column>_diff`; missing where there is none."""

    builder: Literal["difference"]


class Similarity(_Change):
    """Angle (radians) or dot product of a unit's vector and that of an earlier year: `embedding_angle`, `embedding_dot`."""

    builder: Literal["angle", "dot"]
    name: str = ""
    """Name of the column, where it is to be another one."""


DerivedColumns = Annotated[Aggregate | Indices | YearDifference | Similarity, Field(discriminator="builder")]
"""One step of `preprocessing.derive`."""
STEPS: tuple[type[_Step], ...] = (Aggregate, Indices, YearDifference, Similarity)
