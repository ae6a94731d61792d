"""The base of every record of the package: a field that was not declared is refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A record of which every field is declared."""

    model_config = ConfigDict(extra="forbid")


class FrozenRecord(Record):
    """A record that is not changed after it was made."""

    model_config = ConfigDict(frozen=True)
