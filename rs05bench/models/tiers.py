"""Which tier a feature set belongs to, read from what it holds rather than from what it is called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rs05bench.protocol import TaskCard

#: Feature sets that are embeddings by name.
EMBEDDINGS = (
    "alphaearth",
    "aef",
    "presto",
    "prithvi",
    "clay",
    "satlas",
    "terramind",
    "dinov3",
    "dofa",
    "galileo",
    "tessera",
    "croma",
    "embedding",
)

_ALPHAEARTH_ITEM = re.compile(r"A(\?\?|\*|[0-6]\?|\d{2}|\[.*)([_*].*)?")

#: What AlphaEarth's encoder saw or was trained towards, for the overlap rule.
#: Brown et al. 2025, AlphaEarth Foundations, https://arxiv.org/abs/2507.22291 (inputs, targets and text of the training set).
ALPHAEARTH: dict[str, Any] = {
    "licence": "CC BY 4.0",
    "open_weights": False,
    "pretrained": True,
    "pretraining": [
        "Sentinel-2", "Landsat 8/9", "Sentinel-1", "ALOS PALSAR-2", "GEDI", "Copernicus DEM GLO-30", "ERA5-Land", "GRACE", "NLCD",
        "Wikipedia", "GBIF",
    ],
    "citation": "Brown et al. 2025, AlphaEarth Foundations, https://arxiv.org/abs/2507.22291",
}  # fmt: skip


def is_alphaearth(features: str, card: TaskCard | None) -> bool:
    """Whether a feature set holds AlphaEarth's bands, by name or by pattern, directly or through another set."""
    if features.split("-")[0].split("_")[0] in ("alphaearth", "aef"):
        return True
    members = card.features.get(features) if card is not None else None
    items = members.columns if members is not None else []
    return any(is_alphaearth(item, card) if card and item in card.features and item != features else _names_bands(item) for item in items)


def tier_of(features: str, card: TaskCard | None) -> str:
    """`raw`, `embedding` or `hybrid`.

    The card's `tiers` decide where they name the set. Else a set is an embedding when it is named like one or takes AlphaEarth's
    columns, hybrid when embeddings come with other columns, and raw otherwise; calling it `hybrid` does not make it one.
    """
    if card is None:
        return _by_name(features) or "raw"
    if features in card.tiers:
        return card.tiers[features]
    kinds = _kinds(features, card, ())
    if len(kinds) > 1:
        return "hybrid"
    return kinds.pop() if kinds else "raw"


def _kinds(features: str, card: TaskCard, seen: tuple[str, ...]) -> set[str]:
    named = card.tiers.get(features)
    if named is not None:
        return {"embedding", "raw"} if named == "hybrid" else {named}
    kinds: set[str] = set()
    members = card.features.get(features)
    for item in members.columns if members is not None else []:
        if item in card.features and item not in (*seen, features):
            kinds |= _kinds(item, card, (*seen, features))
        elif _names_bands(item) or _by_name(features) == "embedding":
            kinds.add("embedding")
        else:
            kinds.add("raw")
    return kinds


def _names_bands(item: str) -> bool:
    return _ALPHAEARTH_ITEM.fullmatch(item) is not None


def _by_name(features: str) -> str | None:
    word = re.split(r"[-_.+]", features.lower())[0]
    if word == "hybrid":
        return "hybrid"
    return "embedding" if word in EMBEDDINGS else None
