"""The tiers, and the one colour, marker and line each is drawn with everywhere.

Colours after Okabe & Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/ (yellow darkened for white paper); marker and
dash repeat what colour says.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TierStyle:
    """How a tier is drawn.

    Attributes:
        colour: Hex colour.
        marker: Vega shape.
        dash: Line dash, pixels on and off; empty is solid.
        meaning: One line for people.
    """

    colour: str
    marker: str
    dash: tuple[int, ...]
    meaning: str


TIER_STYLES: dict[str, TierStyle] = {
    "floor": TierStyle("#7F7F7F", "cross", (2, 2), "what knowing the place alone gives"),
    "raw": TierStyle("#8C5A2B", "square", (), "bands and indices, trained from scratch"),
    "embedding": TierStyle("#0072B2", "circle", (), "a public embedding and a shallow learner"),
    "hybrid": TierStyle("#009E73", "diamond", (), "embedding with indices, terrain, distances"),
    "frozen": TierStyle("#C9A800", "triangle-up", (6, 2), "encoder frozen, light head"),
    "decoder": TierStyle("#E69F00", "triangle-down", (6, 2), "encoder frozen, full decoder trained"),
    "adapter": TierStyle("#D55E00", "triangle-right", (4, 2, 1, 2), "small adapters inside a frozen encoder"),
    "lora": TierStyle("#D55E00", "triangle-left", (4, 2), "low-rank updates of a frozen encoder"),
    "full": TierStyle("#CC79A7", "wedge", (8, 3), "all weights fine-tuned"),
}
