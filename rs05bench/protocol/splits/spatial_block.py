"""`spatial-block`: the fixed test blocks of every region."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rs05bench.protocol.ground import Ground
from rs05bench.protocol.splits.roles import everybody_trains, no_shift, validate_on_blocks
from rs05bench.protocol.splits.split_rule import Fold, Split, SplitRule


def draw_spatial_block(ground: Ground, split: Split) -> Iterator[Fold]:
    """Buffered blocks of every region are tested, and the rest of every region trains: new places in known regions.

    >>> from rs05bench.protocol.role_map import role_map
    >>> print(role_map("spatial-block"))
    fold blocks
            TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
            TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
    """
    role = everybody_trains(ground)
    role[ground.test] = "test_id"
    validate_on_blocks(ground, role, ground.pool)
    yield Fold("blocks", (), role, no_shift(len(role)))


RULE = SplitRule(
    name="spatial-block",
    form="spatial-block",
    pattern=re.compile("spatial-block"),
    draw=draw_spatial_block,
    shift="none",
    may_be_main=True,
    rank=70,
    moves="block",
    meaning="buffered blocks of every region, seeded",
    title="Blocks next to training",
)
