"""Where the real data are: the catalogue of what can be downloaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_yaml_mapping

CATALOGUE = Path(__file__).parent / "catalogue.yaml"


class RemoteFile(BaseModel):
    """One file of a source.

    Attributes:
        path: Where it goes below the dataset's folder; replaces `{path}` in the mirrors.
        mirrors: URLs, tried in order; the first is the publisher's.
        size: Bytes, where known.
        sha256: Where a source we could check states it.
        checksum: What states it.
        unpack: Whether it is an archive to unpack into the dataset's folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    mirrors: Annotated[tuple[str, ...], Field(min_length=1)]
    size: int | None = Field(default=None, ge=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    checksum: str | None = None
    unpack: bool = False

    @model_validator(mode="after")
    def _check(self) -> RemoteFile:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or "\\" in self.path or not path.parts:
            raise ValueError(f"path {self.path!r} leads out of the dataset's folder")
        if self.sha256 and not self.checksum:
            raise ValueError(f"{self.path}: say under `checksum` where the SHA-256 comes from")
        return self

    def urls(self) -> tuple[str, ...]:
        """The mirrors with the path filled in."""
        return tuple(mirror.replace("{path}", self.path) for mirror in self.mirrors)


class Source(BaseModel):
    """One dataset.

    Attributes:
        title: For people.
        licence: SPDX identifier, or a sentence.
        homepage: Where it is described.
        revision: What every URL is pinned to.
        files: In the order they are fetched.
        doi: Where there is one.
        reader: What reads it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    licence: str
    homepage: str
    revision: Annotated[str, Field(min_length=7)]
    files: Annotated[tuple[RemoteFile, ...], Field(min_length=1)]
    doi: str | None = None
    reader: str | None = None


@lru_cache(maxsize=8)
def load_catalogue(path: Path = CATALOGUE) -> dict[str, Source]:
    """Read a catalogue.

    Args:
        path: A YAML file: name -> `Source`.

    Raises:
        DataError: Not a catalogue; says which entry and why.
    """
    out: dict[str, Source] = {}
    for name, entry in read_yaml_mapping(path).items():
        try:
            out[str(name)] = Source.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{name}{'.' + where if where else ''}: {first['msg']}", source=path) from None
    return out


def find_source(name: str, catalogue: Path = CATALOGUE) -> Source:
    """One source by name.

    Raises:
        DataError: No such name; lists what there is.
    """
    sources = load_catalogue(catalogue)
    if name not in sources:
        raise DataError(f"no dataset named {name!r}; there are: {', '.join(sources)}", remedy="`rs05bench download --list` says more.")
    return sources[name]
