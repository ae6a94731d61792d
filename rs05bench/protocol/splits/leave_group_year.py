"""`leave-<group>-year-out`: a region and a year held out together."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from rs05bench.protocol.ground import Ground, isin
from rs05bench.protocol.splits.roles import everybody_trains, gathered_regions, no_shift, validate_on_a_group, year_names
from rs05bench.protocol.splits.split_rule import Fold, Split, SplitRule


def draw_leave_group_year(ground: Ground, split: Split) -> Iterator[Fold]:
    """A region and a year held out together; what only the region, only the year, or both change is scored apart.

    >>> from rs05bench.protocol.role_map import role_map
    >>> print(role_map("leave-state-year-out"))
    fold C_2019
      2019  rrr.ooo.r .ooo.rrr. o.rrrr.oo o.rrrr.oo
            rrr.ooo.r .ooo.rrr. o.rrrr.oo o.rrrr.oo
      2020  TTT.iii.V .iii.T.V. o.rrrr.oo i.T.VV.ii
            TTT.iii.V .iii.T.V. o.rrrr.oo i.T.VV.ii
      2021  TTT.iii.V .iii.T.V. o.rrrr.oo i.T.VV.ii
            TTT.iii.V .iii.T.V. o.rrrr.oo i.T.VV.ii
    """
    gathered = gathered_regions(ground, split)
    year = year_names(ground)
    for fold, held in gathered.items():
        out = isin(ground.region, held)
        for value in sorted(set(year)):
            then = year == value
            role, shift = everybody_trains(ground), no_shift(len(out))
            role[ground.pool & (out | then)] = "reserve"
            role[ground.test & ~out & ~then] = "test_id"
            held_test = ground.test & (out | then)
            role[held_test] = "test_ood"
            shift[held_test] = np.where(out & then, "both", np.where(out, "region", "year"))[held_test]
            validate_on_a_group(ground, role, gathered, fold, ground.region, ground.pool & ~out & ~then)
            yield Fold(f"{fold}_{value}", (*held, value), role, shift)


RULE = SplitRule(
    name="leave-group-year",
    form="leave-<group>-year-out",
    pattern=re.compile(r"leave-(?P<group>[A-Za-z][\w-]*?)-year-out"),
    draw=draw_leave_group_year,
    shift="both",
    may_be_main=True,
    rank=20,
    moves="both",
    meaning="a group and a year held out together",
    title="Another {group} in another year",
    home="regions and years that train",
    held_out="another region, another year, or both",
    elsewhere="in {a_group} and year without training labels",
    needs_year=True,
    same_units="fold",
)
