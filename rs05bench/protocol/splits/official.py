"""`official`: the split the data were published with."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from rs05bench.errors import DataError
from rs05bench.protocol.ground import Ground
from rs05bench.protocol.splits.roles import no_shift
from rs05bench.protocol.splits.split_rule import Fold, Split, SplitRule


def draw_official(ground: Ground, split: Split) -> Iterator[Fold]:
    """The published parts as they are, kept for comparison with the literature.

    Where no validation part was published, whole blocks of the training part validate, and no test unit is touched.

    >>> from rs05bench.protocol.role_map import role_map
    >>> print(role_map("official"))
    fold official
            VVVVTTTTT TVVVTTTTT VTTTVViii iiiiiiiii
            VVVVTTTTT TVVVTTTTT VTTTVViii iiiiiiiii
    """
    part = ground.units.frame["official"].to_numpy(dtype=object)
    if not (part == "train").any() or not (part == "test").any():
        raise DataError(
            "split 'official' needs train and test units, and the official column names none of one", source=ground.units.source
        )
    role, shift = np.full(len(part), "buffer", dtype=object), no_shift(len(part))
    role[part == "train"] = "train"
    role[part == "val"] = "val"
    role[part == "test"] = "test_id" if ground.published_shift == "none" else "test_ood"
    shift[part == "test"] = ground.published_shift
    if not (part == "val").any():
        role[ground.draw(part == "train", ground.options.val_fraction, "val")] = "val"
    yield Fold("official", (), role, shift)


RULE = SplitRule(
    name="official",
    form="official, official-<which>",
    # Data published with several splits: `official-2` is the second.
    pattern=re.compile(r"official(?:-[A-Za-z0-9]+)?"),
    draw=draw_official,
    shift="none",
    may_be_main=False,
    rank=80,
    moves="as published",
    meaning="as the data were published; main only where its audit is clean",
    title="As published",
    home="the published test set",
    held_out="the published test set",
    elsewhere="on the published test set",
    fixed_tests=False,
)
