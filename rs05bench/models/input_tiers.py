"""Which tier a feature set belongs to, read from what it holds rather than from what it is called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rs05bench.embeddings.card_products import names_components
from rs05bench.embeddings.products import ENCODERS, EmbeddingProduct, families
from rs05bench.protocol.feature_sets import set_of

if TYPE_CHECKING:
    from rs05bench.protocol import TaskCard


def tier_of(features: str, card: TaskCard | None) -> str:
    """`raw`, `embedding` or `hybrid`.

    The card's `tiers` decide where they name the set. Else a set is an embedding when it holds a product or is named like one, hybrid when
    embeddings come with other columns, and raw otherwise; calling it `hybrid` does not make it one. The union `a+b` is what its parts are.
    """
    if card is None:
        kinds = {_by_name(part) or "raw" for part in features.split("+")}
        return kinds.pop() if len(kinds) == 1 else "hybrid"
    if features in card.tiers:
        return card.tiers[features]
    kinds = _kinds(features, card, ())
    if len(kinds) > 1:
        return "hybrid"
    return kinds.pop() if kinds else "raw"


def facts_of(products: list[EmbeddingProduct]) -> dict[str, Any]:
    """What a model card says of the products behind a model's inputs: licences, openness, what they were pretrained on."""
    if not products:
        return {}
    return {
        "licence": "; ".join(dict.fromkeys(record.licence for record in products)),
        "open_weights": all(record.open_weights is not False for record in products),
        "pretrained": True,
        "pretraining": list(dict.fromkeys(what for record in products for what in record.pretrained_on)),
        "citation": "; ".join(dict.fromkeys(record.citation for record in products)),
    }


def _kinds(features: str, card: TaskCard, seen: tuple[str, ...]) -> set[str]:
    named = card.tiers.get(features)
    if named is not None:
        return {"embedding", "raw"} if named == "hybrid" else {named}
    members = set_of(features, card.features)
    if members is None:
        return set()
    if members.product is not None:
        return {"embedding"}
    kinds: set[str] = set()
    for item in members.columns:
        if item in card.features and item not in (*seen, features):
            kinds |= _kinds(item, card, (*seen, features))
        elif names_components(item) or _by_name(features) == "embedding":
            kinds.add("embedding")
        else:
            kinds.add("raw")
    return kinds


def _by_name(features: str) -> str | None:
    word = re.split(r"[-_.+]", features.lower())[0]
    if word == "hybrid":
        return "hybrid"
    return "embedding" if word in families() or word in (*ENCODERS, "embedding") else None
