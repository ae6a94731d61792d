"""`until-<year>`: train until a year, test after it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rs05bench.errors import DataError
from rs05bench.protocol.ground import Ground
from rs05bench.protocol.splits.leave_year import hold_years_out
from rs05bench.protocol.splits.roles import year_names
from rs05bench.protocol.splits.split_rule import Fold, Split, SplitRule


def draw_until(ground: Ground, split: Split) -> Iterator[Fold]:
    """Everything until a year trains, and the test blocks after it are tested: new places, later years.

    >>> from rs05bench.protocol.role_map import role_map
    >>> print(role_map("until-2020"))
    fold after-2020
      2019  TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
            TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
      2020  TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
            TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
      2021  rrr.ooo.r .ooo.rrr. o.rrrr.oo o.rrrr.oo
            rrr.ooo.r .ooo.rrr. o.rrrr.oo o.rrrr.oo
    """
    year = year_names(ground)
    later = year.astype(int) > int(split.year or 0)
    if later.all() or not later.any():
        raise DataError(f"split {str(split)!r} leaves no unit on one side (years {min(year)} to {max(year)})", source=ground.units.source)
    years: dict[str, tuple[str, ...]] = {value: (value,) for value in sorted(set(year[~later]))}
    yield hold_years_out(ground, f"after-{split.year}", later, years)


RULE = SplitRule(
    name="until",
    form="until-<year>",
    pattern=re.compile(r"until-(?P<year>\d{4})"),
    draw=draw_until,
    shift="year",
    may_be_main=True,
    rank=40,
    moves="year",
    meaning="new places, later years: train until that year, test after it",
    title="Years after {year}",
    home="years up to the cut",
    held_out="later years",
    elsewhere="in the years after {year}",
    needs_year=True,
)
