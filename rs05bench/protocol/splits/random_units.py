"""`random`: single units at random."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from rs05bench.protocol.ground import Ground
from rs05bench.protocol.hashing import hash_many
from rs05bench.protocol.splits.roles import no_shift
from rs05bench.protocol.splits.split_rule import Fold, Split, SplitRule

LEAST_DRAWN = 10


def draw_random(ground: Ground, split: Split) -> Iterator[Fold]:
    """Single units at random, whatever is next to them: it measures memory of the place, and is a sanity check only.

    Units of one place in one year (two dates of a season) are drawn together, unless there are too few places for that.

    >>> from rs05bench.protocol.role_map import role_map
    >>> print(role_map("random"))
    fold random
            TTTTiiVTT TTiTTiTii VTiTiTTTT VTiTiTVTT
            TViiiTVii iTiiiiTVV iTiTVViiT TTTTiVTTT
    """
    frame, options = ground.units.frame, ground.options
    drawn = frame.groupby(["place", "year"], sort=False, dropna=False)["unit_id"].transform("first")
    drawn = drawn if drawn.nunique() >= LEAST_DRAWN else frame["unit_id"]
    share = hash_many(drawn, options.seed, "random").astype(np.float64) / 2.0**64
    pool = 1 - options.test_fraction
    role = np.where(share >= pool, "test_id", np.where(share >= pool * (1 - options.val_fraction), "val", "train"))
    yield Fold("random", (), role.astype(object), no_shift(len(frame)))


RULE = SplitRule(
    name="random",
    form="random",
    pattern=re.compile("random"),
    draw=draw_random,
    shift="none",
    may_be_main=False,
    rank=90,
    moves="nothing",
    meaning="single units at random: a sanity check, never a main result",
    title="Random split",
    home="units drawn at random, next to training units",
    fixed_tests=False,
)
