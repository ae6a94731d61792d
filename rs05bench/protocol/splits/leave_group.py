"""`leave-<group>-out`, and its `+k` forms."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rs05bench.protocol.ground import Ground, isin
from rs05bench.protocol.splits.roles import everybody_trains, gathered_regions, no_shift, validate_on_a_group
from rs05bench.protocol.splits.split_rule import Fold, Split, SplitRule


def draw_leave_group(ground: Ground, split: Split) -> Iterator[Fold]:
    """Each group (or fold of groups) held out in turn: a new region, tested on blocks that other folds test in domain.

    The rest of the held-out group is its reserve, from which the `+k` forms take labels.

    >>> from rs05bench.protocol.role_map import role_map
    >>> print(role_map("leave-state-out"))
    fold C
            TTT.iii.V .iii.T.V. o.rrrr.oo i.T.VV.ii
            TTT.iii.V .iii.T.V. o.rrrr.oo i.T.VV.ii
    """
    gathered = gathered_regions(ground, split)
    for fold, held in gathered.items():
        out = isin(ground.region, held)
        role, shift = everybody_trains(ground), no_shift(len(out))
        role[ground.pool & out] = "reserve"
        role[ground.test & ~out] = "test_id"
        role[ground.test & out], shift[ground.test & out] = "test_ood", "region"
        validate_on_a_group(ground, role, gathered, fold, ground.region, ground.pool & ~out)
        yield Fold(fold, held, role, shift)


RULE = SplitRule(
    name="leave-group",
    form="leave-<group>-out, leave-<group>-out+<k>, leave-<group>-out+<n>-units, leave-<group>-out+<n>-units-in-<b>-blocks",
    # Not `leave-year-out`, and not `leave-<group>-year-out`: other rules' names.
    pattern=re.compile(r"leave-(?P<group>(?!year-out)[A-Za-z][\w-]*?)(?<!-year)-out(?:\+(?P<extra>\d+(?:-units(?:-in-\d+-blocks)?)?))?"),
    draw=draw_leave_group,
    shift="region",
    may_be_main=True,
    rank=10,
    moves="region",
    meaning="each group (or fold of groups) held out in turn; +<k> adds labels of the held-out group",
    title="Another {group}",
    elsewhere="in {a_group} without training labels",
    same_units="fold",
)
