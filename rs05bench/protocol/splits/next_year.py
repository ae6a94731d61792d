"""`next-year`: known places in another year."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from rs05bench.errors import DataError
from rs05bench.protocol.ground import Ground, isin, shared_with
from rs05bench.protocol.splits.roles import MIN_GROUPS_FOR_WHOLE_VALIDATION, no_shift, year_names
from rs05bench.protocol.splits.split_rule import Fold, Split, SplitRule


def draw_next_year(ground: Ground, split: Split) -> Iterator[Fold]:
    """Each year after the first is tested at *the same places* that train in earlier years: the operational question, next season.

    A place trains here in earlier years and is tested in later ones, so the test blocks of the other rules have no part in it. Units of the
    tested year whose place has no earlier year, and all later years, are used by nobody. The latest earlier year validates where at least
    four train, else blocks of places.

    >>> from rs05bench.protocol.role_map import role_map
    >>> print(role_map("next-year"))
    fold 2020
      2019  VVVVTTTTT TVVVTTTTT VTTTVVVTT TTTTVVVTT
            VVVVTTTTT TVVVTTTTT VTTTVVVTT TTTTVVVTT
      2020  ooooooooo ooooooooo ooooooooo ooooooooo
            ooooooooo ooooooooo ooooooooo ooooooooo
      2021  ......... ......... ......... .........
            ......... ......... ......... .........
    """
    year = year_names(ground)
    years = sorted(set(year))
    if len(years) < 2:
        raise DataError(f"split {str(split)!r} needs at least two years, found {', '.join(years)}", source=ground.units.source)
    place = ground.units.frame["place"].to_numpy(dtype=object)
    for position, fold in enumerate(years[1:], start=1):
        before = isin(year, years[:position])
        known = shared_with(place, before)
        tested = (year == fold) & known
        if not tested.any():
            continue
        role, shift = np.full(len(year), "buffer", dtype=object), no_shift(len(year))
        role[before] = "train"
        role[tested], shift[tested] = "test_ood", "year"
        if position > MIN_GROUPS_FOR_WHOLE_VALIDATION:
            role[year == years[position - 1]] = "val"
        else:
            # Without a buffer: every tested place keeps a label in an earlier year.
            role[ground.draw(before, ground.options.val_fraction, "val")] = "val"
        yield Fold(fold, (fold,), role, shift)


RULE = SplitRule(
    name="next-year",
    form="next-year",
    pattern=re.compile("next-year"),
    draw=draw_next_year,
    shift="year",
    may_be_main=True,
    rank=50,
    moves="year",
    meaning="the same places, another year: each year tested where earlier years train",
    title="The same places, next year",
    home="earlier years",
    held_out="the same places, a later year",
    elsewhere="at known places in a later year",
    fixed_tests=False,
    needs_year=True,
)
