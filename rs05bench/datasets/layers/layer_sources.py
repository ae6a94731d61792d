"""The documented public source of every layer: licence, resolution, CRS, unit, citation, and what leaks in it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_yaml_mapping

CATALOGUE = Path(__file__).parent / "catalogue.yaml"


class LayerSource(BaseModel):
    """One layer's source.

    Attributes:
        name: The layer's name, and the folder its files lie in.
        title: For people.
        kind: Which reader answers for it.
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
        checked: What of this entry was looked up, and where.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    kind: Literal["terrain", "climate", "distance", "counts"]
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


@lru_cache(maxsize=1)
def _load() -> dict[str, LayerSource]:
    return {name: LayerSource.model_validate({"name": name, **entry}) for name, entry in read_yaml_mapping(CATALOGUE).items()}


def list_sources() -> list[LayerSource]:
    """Every layer there is, in the order of its columns in a table."""
    return list(_load().values())


def find_source(name: str) -> LayerSource:
    """One layer's source.

    Raises:
        DataError: No such layer; lists what there is.
    """
    known = _load()
    if name not in known:
        raise DataError(f"no layer named {name!r}; there are: {', '.join(known)}", remedy="`rs05bench layers --list` says more.")
    return known[name]
