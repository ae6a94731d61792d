"""The roles that rules share: who trains, whole groups in folds, and who validates."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.ground import Ground, Mask, Names, isin
from rs05bench.protocol.hashing import hash_unit
from rs05bench.protocol.splits.split_rule import Split

MIN_GROUPS_FOR_WHOLE_VALIDATION = 4
"""With at least this many groups in training, validation is a whole group (DESIGN); else blocks inside them."""


def everybody_trains(ground: Ground) -> Names:
    """Everybody trains but the test blocks (whose roles the rule gives) and their buffer, shape (n,)."""
    role = np.full(len(ground.region), "train", dtype=object)
    role[ground.buffer | ground.test] = "buffer"
    return role


def no_shift(n: int) -> Names:
    """`none` for every unit, shape (n,)."""
    return np.full(n, "none", dtype=object)


def year_names(ground: Ground) -> NDArray[np.object_]:
    """Year of every unit as text, shape (n,)."""
    return ground.units.frame["year"].astype(int).astype(str).to_numpy(dtype=object)


def at_least_two_regions(ground: Ground, split: Split) -> list[str]:
    """The regions, sorted.

    Raises:
        DataError: There is only one.
    """
    regions = sorted(set(ground.region))
    if len(regions) < 2:
        raise DataError(
            f"split {str(split)!r} needs at least two groups, found only {regions[0]!r}",
            source=ground.units.source,
            remedy="Use spatial-block, or data that cover more than one group.",
        )
    return regions


def gathered_regions(ground: Ground, split: Split) -> dict[str, tuple[str, ...]]:
    """Folds of held-out regions in hash order: one region each, or many gathered into balanced folds."""
    regions = at_least_two_regions(ground, split)
    seed, most = ground.options.seed, ground.options.max_folds

    def order(region: str) -> tuple[int, str]:
        return hash_unit(seed, "fold", region), region

    if len(regions) <= most:
        return {region: (region,) for region in sorted(regions, key=order)}
    sizes = pd.Series(ground.region).value_counts()
    members: list[list[str]] = [[] for _ in range(most)]
    load = [0] * most
    for region in sorted(regions, key=lambda value: (-int(sizes[value]), *order(value))):
        lightest = min(range(most), key=lambda index: (load[index], index))
        members[lightest].append(region)
        load[lightest] += int(sizes[region])
    return {f"fold-{index + 1:02d}": tuple(sorted(held)) for index, held in enumerate(members)}


def validate_on_a_group(ground: Ground, role: Names, gathered: dict[str, tuple[str, ...]], fold: str, group: Names, pool: Mask) -> None:
    """Validation: the next whole group in hash order when at least four groups train, else buffered blocks inside them."""
    names = sorted(gathered, key=lambda name: (hash_unit(ground.options.seed, "val", name), name))
    start = names.index(fold) + 1 if fold in names else 0
    rotation = [name for name in names[start:] + names[:start] if name != fold]
    candidates = [name for name in rotation if (pool & isin(group, gathered[name])).any()]
    if len(candidates) < MIN_GROUPS_FOR_WHOLE_VALIDATION:
        validate_on_blocks(ground, role, pool)
        return
    chosen = isin(group, gathered[candidates[0]])
    role[pool & chosen] = "val"
    # The validation group does not train, so its test blocks are not an in-distribution test in this fold.
    role[chosen & (role == "test_id")] = "buffer"


def validate_on_blocks(ground: Ground, role: Names, pool: Mask) -> None:
    """Validation: whole blocks of the pool, with a buffer around them."""
    val = ground.draw(pool, ground.options.val_fraction, "val")
    role[val] = "val"
    role[ground.near(val) & (role == "train")] = "buffer"
