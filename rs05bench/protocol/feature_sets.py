"""Named sets of feature columns on a task card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

Content = Literal["optical", "radar", "covariate", "coordinates", "embedding", "layer", "other"]
"""What columns are: bands or indices of an optical sensor, radar backscatter, a number about people or places (density, area), the
position, a learnt embedding, a layer (terrain, climate, distances, land cover), or none of these."""


class FeatureSet(BaseModel):
    """Columns a model may be given together, and what they are.

    A plain list on a card is a set with these columns and nothing else; it is written as a list again, and changes no digest.

    Attributes:
        columns: Columns, globs, or names of other sets. Empty where `product` says which columns they are.
        product: Name of the public embedding the columns hold, e.g. of a record of `rs05bench.embeddings`.
        pooling: Which statistics of the product's components over a unit are taken (`<column>_std` ..); empty for the mean alone.
        content: What the columns are; where it is not declared it is read from known band names (`content_of`).
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    columns: list[str] = Field(default_factory=list)
    product: str | None = None
    content: Content | None = None
    pooling: list[Literal["mean", "std", "min", "max"]] = Field(default_factory=list)

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


_OPTICAL = (
    r"(s2|sentinel_?2|l[5789]|landsat|hls|modis|planet|naip)_?\W?.*",
    r"b\d{1,2}a?|b\W?",
    r"(ultra)?blue|green|red|nir\d{0,2}|swir\d{0,2}|red_?edge\d?|coastal(_aerosol)?|pan",
    r"d?(ndvi|evi2?|savi|msavi2?|gndvi|ndre|ndwi|mndwi|ndmi|nbr2?|ndbi|ndsi|bsi|gci|nirv|kndvi|lswi|tcw|tcg|tcb)",
)
_RADAR = (r"(s1|sentinel_?1|palsar\d?|sar)_?\W?.*", r"(vv|vh|hh|hv)((_div|_ratio|_minus)?_?(vv|vh|hh|hv))?")
_EMBEDDING = (
    r"a\d{2}",
    r"a(\?\?|\*|\[0.[69]\](\[0.9\]|\?))",
    r"emb(edding)?s?_.*",
)
_COORDINATES = (r"lon(gitude)?|lat(itude)?|easting|northing|x|y",)
_COVARIATE = (
    r"(pop(ulation)?|dens(ity)?|rural|urban|rucc|nchs|households?|housing|income|gdp|census).*",
    r".*(population|density|rural_?urban|_code|census_?area)|censusarea|area(_\w+)?",
)
_LAYER = (
    r"(elev(ation)?|dem|slope|aspect|altitude|twi|tpi|climate|koppen|biome|ecoregion|soil|landcover|land_cover|dynamic_world|worldcover).*",
    r"(road|water|coast|river|rail|building|poi|footprint)s?_(m|km|dist\w*|count|density|share)|dist(ance)?_.*",
    r"(temperature|precipitation|t2m|tp|t2min|t2max|t2mean|prec\w*|rain\w*|wind\w*)(_.*)?",
)
_FORMS: dict[Content, tuple[str, ...]] = {
    "embedding": _EMBEDDING,
    "radar": _RADAR,
    "optical": _OPTICAL,
    "coordinates": _COORDINATES,
    "layer": _LAYER,
    "covariate": _COVARIATE,
}
_KNOWN = {content: re.compile("|".join(f"(?:{form})" for form in forms)) for content, forms in _FORMS.items()}
_STATISTIC = re.compile(r"_(mean|median|std|min|max|sum|p\d{1,2}|pre|post|diff|t\W?\d*|\d{1,4}|\[.*\]|\*|\?)$|[*?]+$")
"""What follows a band's name: a statistic, a date or a place in a series, or the wildcard for one."""


def content_of(features: str, sets: Mapping[str, FeatureSet]) -> frozenset[Content]:
    """What the columns of a feature set are: as declared, else read from known band names; never from the name of a tier.

    Args:
        features: Name of the set.
        sets: The card's feature sets; a set may hold others.

    Returns:
        One or several kinds; `other` for columns that nothing is known of. Empty where there is no such set.
    """
    return _content(features, sets, ())


def set_of(features: str, sets: Mapping[str, FeatureSet]) -> FeatureSet | None:
    """A feature set by its name; the union of several is named by joining theirs with `+`."""
    parts = features.split("+")
    if features in sets or len(parts) < 2 or not all(part in sets for part in parts):
        return sets.get(features)
    return FeatureSet(columns=parts)


def _content(features: str, sets: Mapping[str, FeatureSet], seen: tuple[str, ...]) -> frozenset[Content]:
    members = set_of(features, sets)
    if members is None or features in seen:
        return frozenset()
    if members.content is not None:
        return frozenset({members.content})
    found: set[Content] = {"embedding"} if members.product is not None else set()
    for item in members.columns if members.product is None else ():
        nested = _content(item, sets, (*seen, features)) if item in sets and item != features else frozenset()
        found |= nested or {content_of_column(item)}
    return frozenset(found)


def content_of_column(name: str) -> Content:
    """What a column is by its name (or glob), as sensors, indices and common layers are called.

    Example:
        >>> [content_of_column(name) for name in ("S1_VV", "B8A_mean", "NDVI_t3", "A07", "CENSUSAREA", "noise")]
        ['radar', 'optical', 'optical', 'embedding', 'covariate', 'other']
    """
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    while True:
        for content, pattern in _KNOWN.items():
            if pattern.fullmatch(plain):
                return content
        shorter = _STATISTIC.sub("", plain)
        if shorter in (plain, ""):
            return "other"
        plain = shorter


def is_image(content: Iterable[Content]) -> bool:
    """Whether there is an image band among it, of an optical sensor or a radar, and no embedding."""
    kinds = set(content)
    return bool(kinds & {"optical", "radar"}) and "embedding" not in kinds
