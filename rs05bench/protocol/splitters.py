"""Splitters: from a split's name to a role for every unit in every fold.

Roles and shifts are DESIGN's: `train`, `val`, `test_id`, `test_ood`, `reserve`, `buffer`; `none`, `region`, `year`, `both`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.ground import Ground, Mask, Names, lay_ground, require_tests
from rs05bench.protocol.hashing import hash_many, hash_unit
from rs05bench.protocol.names import SplitName, parse_split
from rs05bench.protocol.units import UnitTable

ROLES = ("train", "val", "test_id", "test_ood", "reserve", "buffer")
SHIFTS = ("none", "region", "year", "both")
MIN_GROUPS_FOR_WHOLE_VALIDATION = 4
"""With at least this many groups in training, validation is a whole group (DESIGN); else blocks inside them."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold: its name, what is held out, and a role and shift for every unit, arrays of shape (n,)."""

    name: str
    held_out: tuple[str, ...]
    role: Names
    shift: Names


def draw_folds(card: TaskCard, units: UnitTable, split: str) -> tuple[Ground, list[Fold]]:
    """All folds of a split over the units of a task.

    Args:
        card: Gives group columns, options and the official column.
        units: The units.
        split: A split's name; `+k` forms share the roles of their base.

    Returns:
        The fixed ground and the folds.

    Raises:
        DataError: The split is not possible on these units (one group only, no year, …), with the reason.
    """
    try:
        name = parse_split(split)
    except ValueError as error:
        raise DataError(str(error), source=card.name) from error
    options = card.split_options
    column = card.group_column(name.group)
    if name.group and column is None:
        raise DataError(f"split {split!r} moves the group {name.group!r}, and the card declares the groups {card.groups}", source=card.name)
    column = column or options.region or (card.groups[0] if card.groups else None)
    if name.moves_year and units.frame["year"].isna().any():
        raise DataError(f"split {split!r} needs the year of every unit, and the units have none", source=units.source)
    ground = lay_ground(units, column, options, in_time=not name.moves_year)
    # A random draw and a published split have no test blocks; all others stand on them.
    if name.rule not in ("random", "official"):
        require_tests(ground)
    if name.rule == "official":
        folds = list(_official(ground, card.official.shift if card.official else "none"))
    else:
        folds = list(_RULES[name.rule](ground, name))
    if not folds:
        raise DataError(f"split {split!r} has no fold on these units", source=units.source)
    return ground, folds


def _random(ground: Ground, name: SplitName) -> Iterator[Fold]:
    ids, options = ground.units.frame["unit_id"], ground.options
    share = hash_many(ids, options.seed, "random").astype(np.float64) / 2.0**64
    pool = 1 - options.test_fraction
    role = np.where(share >= pool, "test_id", np.where(share >= pool * (1 - options.val_fraction), "val", "train"))
    yield Fold("random", (), role.astype(object), _none(len(ids)))


def _spatial_block(ground: Ground, name: SplitName) -> Iterator[Fold]:
    role = _base(ground)
    role[ground.test] = "test_id"
    _validation_blocks(ground, role, ground.pool)
    yield Fold("blocks", (), role, _none(len(role)))


def _within(ground: Ground, name: SplitName) -> Iterator[Fold]:
    regions = _at_least_two(ground, name)
    sizes = pd.Series(ground.region).value_counts()
    regions.sort(key=lambda region: (-int(sizes[region]), hash_unit(ground.options.seed, "fold", region)))
    for region in sorted(regions[: ground.options.max_folds]):
        here = ground.region == region
        if not (here & ground.test).any():
            continue
        role, shift = _base(ground), _none(len(here))
        role[ground.pool & ~here] = "reserve"
        role[ground.test & here] = "test_id"
        role[ground.test & ~here], shift[ground.test & ~here] = "test_ood", "region"
        _validation_blocks(ground, role, ground.pool & here)
        yield Fold(region, tuple(other for other in sorted(set(ground.region)) if other != region), role, shift)


def _leave_group(ground: Ground, name: SplitName) -> Iterator[Fold]:
    gathered = _gather(ground, name)
    for fold, held in gathered.items():
        out = np.isin(ground.region, held)
        role, shift = _base(ground), _none(len(out))
        role[ground.pool & out] = "reserve"
        role[ground.test & ~out] = "test_id"
        role[ground.test & out], shift[ground.test & out] = "test_ood", "region"
        _validation_groups(ground, role, gathered, fold, ground.region, ground.pool & ~out)
        yield Fold(fold, held, role, shift)


def _leave_year(ground: Ground, name: SplitName) -> Iterator[Fold]:
    year = _year_names(ground)
    years: dict[str, tuple[str, ...]] = {value: (value,) for value in sorted(set(year))}
    if len(years) < 2:
        raise DataError(f"split {name.text!r} needs at least two years, found {', '.join(years)}", source=ground.units.source)
    for fold in years:
        yield _hold_years(ground, fold, year == fold, years)


def _until(ground: Ground, name: SplitName) -> Iterator[Fold]:
    year = _year_names(ground)
    later = year.astype(int) > int(name.year or 0)
    if later.all() or not later.any():
        raise DataError(f"split {name.text!r} leaves no unit on one side (years {min(year)} to {max(year)})", source=ground.units.source)
    years: dict[str, tuple[str, ...]] = {value: (value,) for value in sorted(set(year[~later]))}
    yield _hold_years(ground, f"after-{name.year}", later, years)


def _hold_years(ground: Ground, fold: str, out: Mask, years: dict[str, tuple[str, ...]]) -> Fold:
    role, shift = _base(ground), _none(len(out))
    role[ground.pool & out] = "reserve"
    role[ground.test & ~out] = "test_id"
    role[ground.test & out], shift[ground.test & out] = "test_ood", "year"
    _validation_groups(ground, role, years, fold, _year_names(ground), ground.pool & ~out)
    return Fold(fold, tuple(sorted(set(_year_names(ground)[out]))), role, shift)


def _leave_group_year(ground: Ground, name: SplitName) -> Iterator[Fold]:
    gathered = _gather(ground, name)
    year = _year_names(ground)
    for fold, held in gathered.items():
        out = np.isin(ground.region, held)
        for value in sorted(set(year)):
            then = year == value
            role, shift = _base(ground), _none(len(out))
            role[ground.pool & (out | then)] = "reserve"
            role[ground.test & ~out & ~then] = "test_id"
            held_test = ground.test & (out | then)
            role[held_test] = "test_ood"
            shift[held_test] = np.where(out & then, "both", np.where(out, "region", "year"))[held_test]
            _validation_groups(ground, role, gathered, fold, ground.region, ground.pool & ~out & ~then)
            yield Fold(f"{fold}_{value}", (*held, value), role, shift)


def _official(ground: Ground, declared: str) -> Iterator[Fold]:
    part = ground.units.frame["official"].to_numpy(dtype=object)
    if not (part == "train").any() or not (part == "test").any():
        raise DataError(
            "split 'official' needs train and test units, and the official column names none of one", source=ground.units.source
        )
    role, shift = np.full(len(part), "buffer", dtype=object), _none(len(part))
    role[part == "train"] = "train"
    role[part == "val"] = "val"
    role[part == "test"] = "test_id" if declared == "none" else "test_ood"
    shift[part == "test"] = declared
    if not (part == "val").any():
        # The published split has no validation part: spare whole blocks of its training part, and no test unit is touched.
        role[ground.draw(part == "train", ground.options.val_fraction, "val")] = "val"
    yield Fold("official", (), role, shift)


_RULES = {
    "random": _random,
    "spatial-block": _spatial_block,
    "within": _within,
    "leave-group": _leave_group,
    "leave-year": _leave_year,
    "until": _until,
    "leave-group-year": _leave_group_year,
}


def _base(ground: Ground) -> Names:
    """Everybody trains but the test blocks (roles given by the caller) and their buffer."""
    role = np.full(len(ground.region), "train", dtype=object)
    role[ground.buffer | ground.test] = "buffer"
    return role


def _none(n: int) -> Names:
    return np.full(n, "none", dtype=object)


def _year_names(ground: Ground) -> NDArray[np.object_]:
    return ground.units.frame["year"].astype(int).astype(str).to_numpy(dtype=object)


def _at_least_two(ground: Ground, name: SplitName) -> list[str]:
    regions = sorted(set(ground.region))
    if len(regions) < 2:
        raise DataError(
            f"split {name.text!r} needs at least two groups, found only {regions[0]!r}",
            source=ground.units.source,
            remedy="Use spatial-block, or data that cover more than one group.",
        )
    return regions


def _gather(ground: Ground, name: SplitName) -> dict[str, tuple[str, ...]]:
    """Folds of held-out groups in hash order: one group each, or many gathered into balanced folds."""
    regions = _at_least_two(ground, name)
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


def _validation_groups(ground: Ground, role: Names, gathered: dict[str, tuple[str, ...]], fold: str, group: Names, pool: Mask) -> None:
    """Validation: the next whole group in hash order when at least four groups train, else buffered blocks inside them."""
    names = sorted(gathered, key=lambda name: (hash_unit(ground.options.seed, "val", name), name))
    start = names.index(fold) + 1 if fold in names else 0
    rotation = [name for name in names[start:] + names[:start] if name != fold]
    candidates = [name for name in rotation if (pool & np.isin(group, gathered[name])).any()]
    if len(candidates) < MIN_GROUPS_FOR_WHOLE_VALIDATION:
        _validation_blocks(ground, role, pool)
        return
    chosen = np.isin(group, gathered[candidates[0]])
    role[pool & chosen] = "val"
    # The validation group does not train, so its test blocks are no in-distribution test in this fold.
    role[chosen & (role == "test_id")] = "buffer"


def _validation_blocks(ground: Ground, role: Names, pool: Mask) -> None:
    val = ground.draw(pool, ground.options.val_fraction, "val")
    role[val] = "val"
    role[ground.near(val) & (role == "train")] = "buffer"


def possible_splits(card: TaskCard, units: UnitTable, splits: Sequence[str] | None = None) -> dict[str, str]:
    """For each split of the card: empty text where it is possible on these units, else the reason it is not."""
    verdicts: dict[str, str] = {}
    for split in splits or card.splits:
        try:
            draw_folds(card, units, split)
            verdicts[split] = ""
        except DataError as error:
            verdicts[split] = error.problem
    return verdicts
