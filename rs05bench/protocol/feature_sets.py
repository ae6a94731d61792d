"""Named sets of feature columns on a task card."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator


class FeatureSet(BaseModel):
    """Columns a model may be given together, and what they are.

    A plain list on a card is a set with these columns and nothing else; it is written as a list again, and changes no digest.

    Attributes:
        columns: Columns, globs, or names of other sets. Empty where `product` says which columns they are.
        product: Name of the public embedding the columns hold, e.g. of a record of `rs05bench.embeddings`.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    columns: list[str] = Field(default_factory=list)
    product: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        return {"columns": [str(item) for item in value]} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _not_empty(self) -> FeatureSet:
        if not self.columns and self.product is None:
            raise ValueError("needs columns, or the product that they are of")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Any:
        values = {name: value for name, value in handler(self).items() if value not in (None, [])}
        return self.columns if set(values) == {"columns"} else values
