"""The base of every record of the package: a field that was not declared is refused."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Record(BaseModel):
    """A record of which every field is declared."""

    model_config = ConfigDict(extra="forbid")


class FrozenRecord(Record):
    """A record that is not changed after it was made."""

    model_config = ConfigDict(frozen=True)


class AsWritten(Record):
    """A record that is written as it was given: a field nobody set stays out of the file, so that digests of earlier files hold."""

    @model_serializer(mode="wrap")
    def _only_what_was_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}

    def with_fields(self, **fields: object) -> Self:
        """The same record with some fields set.

        Raises:
            pydantic.ValidationError: An unknown field, or a value that does not fit it.
        """
        return self.model_validate({**self.model_dump(), **fields})
