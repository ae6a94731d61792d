"""Options of deep models: one record that the API, grids in YAML, the command line and the docs share. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from rs05bench.errors import BenchError, DataError
from rs05bench.protocol.card import Training
from rs05bench.protocol.derived_columns import STEPS


@runtime_checkable
class FeatureStore(Protocol):
    """What keeps features of frozen encoders (`rs05bench.models.cache.FeatureCache`)."""

    def get(self, encoder: str, unit: str) -> list[NDArray[np.float32]] | None:
        """The maps of a unit; None where it is not kept."""

    def put(self, encoder: str, unit: str, maps: list[NDArray[np.float32]]) -> None:
        """Keep the maps of a unit."""


class OptionGroup(BaseModel):
    """Options that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)


class EncoderOptions(OptionGroup):
    """Of the encoder."""

    weights: str | Path | None = None
    """File of pretrained weights."""
    revision: str | None = None
    """Commit of the hub to download them from, where none is pinned."""
    init_seed: int | None = None
    """Seed of random weights; the model's seed where None."""
    coordinates: bool | None = None
    """Whether time and location reach an encoder that has encodings of them; the encoder's own default where None."""
    resolution_m: float | None = Field(default=None, gt=0)
    """Ground sampling distance in metres; the data's where None."""
    patch: int | None = Field(default=None, ge=1)
    """Side of a token in pixels, of encoders that take several (Galileo, OlmoEarth: 1 to 8); 4 where None."""
    white: float | None = Field(default=None, gt=0)
    """Reflectance that is white in 8-bit pictures (scale 255), for encoders of reflectance; 0.3558 where None."""


class AdaptationOptions(OptionGroup):
    """Of the adaptation."""

    rank: int = Field(default=8, ge=1)
    """Rank of the low-rank update."""
    alpha: float = Field(default=8.0, gt=0)
    """Scale of the update, which is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in front of the update; an encoder whose weights are read and not called (Swin) takes none on its attention."""
    targets: tuple[Literal["q", "k", "v", "o", "mlp", "conv"], ...] | None = Field(default=None, min_length=1)
    """Which layers of a block get an update; q and v, or conv for an encoder without attention, where None."""
    bottleneck: int = Field(default=16, ge=1)
    """Width of the bottleneck adapter."""
    blocks: str = "all"
    """Which blocks are adapted: `all`, `top<n>`, `bottom<n>`, or numbers joined by commas. The stem and the final norm train with `all`
    alone."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Of full fine-tuning: what the learning rate is multiplied by for each block below the last."""


class HeadOptions(OptionGroup):
    """Of the head of a segmentation."""

    head: Literal["linear", "decoder"] | None = None
    """A 1 x 1 convolution or a decoder; linear for the tier frozen and a decoder for the others where None."""
    decoder: Literal["unet", "upernet", "fpn"] = "unet"
    """The decoder."""
    decoder_width: int | None = Field(default=None, ge=1)
    """Channels of its finest level; 32 for encoders of at most 256 channels, 64 for others, where None."""


class SeriesOptions(OptionGroup):
    """Of Presto on pixel series."""

    features: str = "presto"
    """Feature set of the series."""
    location: bool = True
    """Whether it is told where a unit is."""
    calendar: bool = True
    """Whether it is told the months."""
    batch_size: int | None = Field(default=None, ge=1)
    """Units per step; the card's where None."""


class RunOptions(OptionGroup):
    """Of the run, and nothing of what the model is."""

    cache: str | Path | FeatureStore | None = None
    """Folder in which features of frozen encoders are kept."""
    checkpoints: str | Path | None = None
    """Folder from which an interrupted fit goes on."""
    accelerator: str = "auto"
    """Lightning's accelerator: `auto`, `cpu`, `gpu`."""
    window: int | None = Field(default=None, ge=1)
    """Side of the sliding window in pixels; the training image's where None."""
    batch: int = Field(default=8, ge=1)
    """Windows that are predicted at once."""


_OF_THE_DATA = ("augmentation", "batch_size")
ScheduleOptions = create_model(
    "ScheduleOptions",
    __base__=OptionGroup,
    __doc__="Of the training, which the task card decides where an option does not.",
    **{
        name: (Annotated[field.annotation, name, *field.metadata] | None, Field(default=None, description=field.description))  # type: ignore[call-overload]
        for name, field in Training.model_fields.items()
        if name not in _OF_THE_DATA
    },
)


class DeepOptions(EncoderOptions, AdaptationOptions, HeadOptions, SeriesOptions, RunOptions, ScheduleOptions):
    """Every option of a deep model. Which of them a model takes depends on its tier; one that it would ignore is refused."""

    @classmethod
    def of(cls, name: str, given: Mapping[str, Any], known: tuple[str, ...]) -> Self:
        """The options of a model.

        Args:
            name: Name of the model, for messages.
            given: Options by name.
            known: Those that the model takes.

        Raises:
            DataError: A name it does not take, or a value that is none.
        """
        if unknown := sorted(set(given) - set(known)):
            raise DataError(f"{name} does not know the option {', '.join(unknown)}", remedy=f"It takes {', '.join(sorted(known))}.")
        try:
            return cls.model_validate(_listed(given))
        except ValidationError as error:
            raise DataError(f"{name}: {faults_of(error)}", remedy="rs05bench models --options shows values and defaults.") from None

    def given(self, *groups: type[OptionGroup]) -> dict[str, Any]:
        """The options that were given by name, those of some groups or all."""
        names = names_of(*groups) if groups else tuple(DeepOptions.model_fields)
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}


GROUPS: tuple[type[OptionGroup], ...] = (EncoderOptions, AdaptationOptions, HeadOptions, ScheduleOptions, SeriesOptions, RunOptions)
TIER_OPTIONS: dict[str, tuple[str, ...]] = {
    "frozen": (),
    "decoder": (),
    "adapter": ("bottleneck", "blocks"),
    "lora": ("rank", "alpha", "dropout", "targets", "blocks"),
    "full": ("blocks", "layer_decay"),
}
"""Options of the adaptation that a tier looks at."""


def names_of(*groups: type[OptionGroup]) -> tuple[str, ...]:
    """Names of the options of some groups."""
    return tuple(name for group in groups for name in group.model_fields)


RUN_NAMES = names_of(RunOptions)


def for_chips(tier: str, *, encoder: bool, shallow: bool) -> tuple[str, ...]:
    """Options that a model of chips takes.

    Args:
        tier: Its tier.
        encoder: Whether it has a pretrained encoder, or that encoder's random-init control.
        shallow: Whether a shallow learner goes on the encoder's features.
    """
    if shallow:
        return (*names_of(EncoderOptions), "cache", "accelerator", "window", "batch")
    own = (*names_of(EncoderOptions, HeadOptions), *TIER_OPTIONS[tier]) if encoder else ()
    return (*own, *names_of(RunOptions, ScheduleOptions))


def for_series(tier: str, *, shallow: bool) -> tuple[str, ...]:
    """Options that Presto takes, or a shallow learner on its features."""
    own = ("weights", "revision", "init_seed", "features", "location", "calendar", "cache", "accelerator")
    return own if shallow else (*own, *TIER_OPTIONS[tier], "batch_size", "checkpoints", *names_of(ScheduleOptions))


def faults_of(error: ValidationError) -> str:
    """What pydantic found, in one line: the option, what is wrong, what was found."""
    found = {str(part["loc"][0]): part for part in reversed(error.errors())}
    return "; ".join(f"{name}: {part['msg'][0].lower()}{part['msg'][1:]} (found {part['input']!r})" for name, part in found.items())


def validated(tier: str, given: Mapping[str, Any]) -> AdaptationOptions:
    """Options of an adaptation.

    Raises:
        BenchError: A value that is none.
    """
    try:
        return AdaptationOptions.model_validate(dict(given))
    except ValidationError as error:
        raise BenchError(f"{tier}: {faults_of(error)}") from None


def option_rows() -> list[dict[str, str]]:
    """Every option: its group, values, default and meaning; what the docs and the command show."""
    schema = DeepOptions.model_json_schema()["properties"]
    return [
        {
            "option": name,
            "of": str(group.__doc__).partition(",")[0].removeprefix("Of the ").removeprefix("Of ").rstrip("."),
            "values": _values(schema[name]),
            "default": "" if field.default is None else str(field.default),
            "meaning": " ".join(str(field.description).split()),
        }
        for group in GROUPS
        for name, field in group.model_fields.items()
    ]


def options_table() -> str:
    """`option_rows` in Markdown."""
    return _markdown(option_rows())


def derived_table() -> str:
    """The steps of `preprocessing.derive` on a task card, in Markdown."""
    rows = []
    for step in STEPS:
        schema = step.model_json_schema()["properties"]
        builders = ", ".join(get_args(step.model_fields["builder"].annotation))
        rows += [
            {
                "field": name,
                "of": builders,
                "values": _values(schema[name]),
                "default": "needed" if field.is_required() else _default(field.get_default(call_default_factory=True)),
                "meaning": " ".join(str(field.description).split()),
            }
            for name, field in step.model_fields.items()
            if name != "builder"
        ]
    return _markdown(rows)


def _default(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    names = list(rows[0])
    head = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*head, *(f"| `{row[names[0]]}` | {' | '.join(row[name] for name in names[1:])} |" for row in rows)])


def _values(schema: Mapping[str, Any]) -> str:
    """What an option can be, in words, from its JSON schema."""
    if "anyOf" in schema:
        kinds = [_values(part) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_values(schema['items'])}"
    if schema.get("type") == "object":
        return f"{{text: {_values(schema['additionalProperties'])}}}"
    text = "path" if schema.get("format") == "path" else "text"
    words = {"integer": "whole number", "number": "number", "boolean": "true, false", "string": text}
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[key]:g}" for key, word in bounds.items() if key in schema]
    return " ".join([words.get(str(schema.get("type")), ""), *limits]).strip()


def _listed(given: Mapping[str, Any]) -> dict[str, Any]:
    """One learning rate is a grid of one."""
    rates = given.get("learning_rates")
    return {**given, "learning_rates": [rates]} if isinstance(rates, int | float) else dict(given)
