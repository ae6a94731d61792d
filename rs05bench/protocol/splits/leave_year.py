"""`leave-year-out`: new places in another year."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rs05bench.errors import DataError
from rs05bench.protocol.ground import Ground, Mask
from rs05bench.protocol.splits.roles import everybody_trains, no_shift, validate_on_a_group, year_names
from rs05bench.protocol.splits.split_rule import Fold, Split, SplitRule


def draw_leave_year(ground: Ground, split: Split) -> Iterator[Fold]:
    """Each year held out in turn, at the test blocks' places, which train in no year: *new places*, another year.

    Whether known places can be predicted in another year is the question of `next-year`.

    >>> from rs05bench.protocol.role_map import role_map
    >>> print(role_map("leave-year-out"))
    fold 2019
      2019  rrr.ooo.r .ooo.rrr. o.rrrr.oo o.rrrr.oo
            rrr.ooo.r .ooo.rrr. o.rrrr.oo o.rrrr.oo
      2020  TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
            TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
      2021  TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
            TTT.iii.V .iii.T.V. i.T.VV.ii i.T.VV.ii
    """
    year = year_names(ground)
    years: dict[str, tuple[str, ...]] = {value: (value,) for value in sorted(set(year))}
    if len(years) < 2:
        raise DataError(f"split {str(split)!r} needs at least two years, found {', '.join(years)}", source=ground.units.source)
    for fold in years:
        yield hold_years_out(ground, fold, year == fold, years)


def hold_years_out(ground: Ground, fold: str, out: Mask, years: dict[str, tuple[str, ...]]) -> Fold:
    """A fold that holds some years out at the test blocks; `years` are those that may validate."""
    role, shift = everybody_trains(ground), no_shift(len(out))
    role[ground.pool & out] = "reserve"
    role[ground.test & ~out] = "test_id"
    role[ground.test & out], shift[ground.test & out] = "test_ood", "year"
    year = year_names(ground)
    validate_on_a_group(ground, role, years, fold, year, ground.pool & ~out)
    return Fold(fold, tuple(sorted(set(year[out]))), role, shift)


RULE = SplitRule(
    name="leave-year",
    form="leave-year-out",
    pattern=re.compile("leave-year-out"),
    draw=draw_leave_year,
    shift="year",
    may_be_main=True,
    rank=30,
    moves="year",
    meaning="new places, another year: each year held out in turn, at test blocks that train in no year",
    title="New places, another year",
    home="new places, years that train",
    held_out="the same places, a year that did not train",
    elsewhere="at new places in a year without training labels",
    needs_year=True,
    same_units="fold",
)
