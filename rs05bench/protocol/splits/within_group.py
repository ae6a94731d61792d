"""`within-<group>`: one region at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from rs05bench.protocol.ground import Ground
from rs05bench.protocol.hashing import hash_unit
from rs05bench.protocol.splits.roles import at_least_two_regions, everybody_trains, no_shift, validate_on_blocks
from rs05bench.protocol.splits.split_rule import Fold, Split, SplitRule


def draw_within(ground: Ground, split: Split) -> Iterator[Fold]:
    """A fold for each region: everything learned is from it, tested on its own blocks and on those of all the others.

    >>> from rs05bench.protocol.role_map import role_map
    >>> print(role_map("within-state"))
    fold A
            TTT.iii.V .ooo.rrr. o.rrrr.oo o.rrrr.oo
            TTT.iii.V .ooo.rrr. o.rrrr.oo o.rrrr.oo
    """
    regions = at_least_two_regions(ground, split)
    sizes = pd.Series(ground.region).value_counts()
    regions.sort(key=lambda region: (-int(sizes[region]), hash_unit(ground.options.seed, "fold", region)))
    for region in sorted(regions[: ground.options.max_folds]):
        here = ground.region == region
        if not (here & ground.test).any():
            continue
        role, shift = everybody_trains(ground), no_shift(len(here))
        role[ground.pool & ~here] = "reserve"
        role[ground.test & here] = "test_id"
        role[ground.test & ~here], shift[ground.test & ~here] = "test_ood", "region"
        validate_on_blocks(ground, role, ground.pool & here)
        yield Fold(region, tuple(other for other in sorted(set(ground.region)) if other != region), role, shift)


RULE = SplitRule(
    name="within",
    form="within-<group>",
    pattern=re.compile(r"within-(?P<group>[A-Za-z][\w-]*)"),
    draw=draw_within,
    shift="region",
    may_be_main=True,
    rank=60,
    moves="nothing",
    meaning="one region's own blocks: the small area itself",
    title="One {group} only",
    home="test blocks of the one region that trains",
    held_out="test blocks of all the others",
    elsewhere="outside the {group} it learned in",
    same_units="region",
)
