"""The fixed ground of a split: regions, blocks, each region's test blocks, and the buffer around them.

All of it is drawn before any fold is looked at, so it is the same in every fold; that is what makes a drop *on the same
ground* possible.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.errors import DataError
from rs05bench.protocol.blocks import near_in_time, spatial_blocks, time_blocks
from rs05bench.protocol.geodesy import chord_to_metres, nearest_place, sphere_tree, unit_vectors
from rs05bench.protocol.hashing import hash_unit
from rs05bench.protocol.split_options import SplitOptions
from rs05bench.protocol.units import UnitTable

Mask = NDArray[np.bool_]
Names = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Ground:
    """Where every unit stands before folds are drawn; arrays of shape (n,), in the order of `units.frame`.

    Attributes:
        units: The units.
        region: Region of each unit.
        block: Block of each unit; unique over regions.
        in_time: Whether the unit's region is one place, cut into blocks of time.
        test: In its region's test blocks.
        buffer: Too near a test unit; used by nobody.
        options: How it was drawn.
        block_by: Group column used as the block, or None.
        published_shift: What changes from training to test in the published split, according to its authors.
    """

    units: UnitTable
    region: Names
    block: Names
    in_time: Mask
    test: Mask
    buffer: Mask
    options: SplitOptions
    block_by: str | None
    published_shift: Literal["none", "region", "year", "both"] = "none"

    @property
    def pool(self) -> Mask:
        """What may be trained on when its region is: neither test nor buffer."""
        return ~self.test & ~self.buffer

    def near(self, marked: Mask) -> Mask:
        """Units that are not marked and lie within the buffer (in space or time) of a marked one, or share its block column."""
        frame, options = self.units.frame, self.options
        near = np.zeros(len(frame), dtype=bool)
        if not marked.any():
            return near
        if self.block_by is not None:
            near |= shared_with(frame[self.block_by].to_numpy(dtype=object), marked)
        else:
            near |= shared_with(self.block_place, marked & ~self.in_time) & ~self.in_time
        if options.buffer_m > 0:
            near |= self._near_in_space(marked)
        if self.in_time.any() and options.buffer_days > 0:
            here = self.in_time
            near |= near_in_time(frame["time"], self.region, marked & here, options.buffer_days) & here
        return near & ~marked

    @property
    def block_place(self) -> Names:
        """Place of each unit: the same place is never on both sides, whatever the year."""
        return self.units.frame["place"].to_numpy(dtype=object)

    def _near_in_space(self, marked: Mask) -> Mask:
        frame = self.units.frame
        lon, lat = frame["lon"].to_numpy(), frame["lat"].to_numpy()
        near = np.zeros(len(frame), dtype=bool)

        def flag(candidates: Mask, against: Mask) -> None:
            distance = nearest_place(lon[candidates], lat[candidates], lon[against], lat[against])[0]
            near[candidates] |= distance < self.options.buffer_m

        flag(~marked & ~self.in_time, marked)
        if self.in_time.any():
            near |= self._near_another_region(marked)
        return near

    def _near_another_region(self, marked: Mask) -> Mask:
        """Of units in regions that are one place each: those near a marked unit of another region; their own is judged in time."""
        frame = self.units.frame
        known, codes = frame["lon"].notna().to_numpy(), pd.factorize(self.region)[0]
        near, asked = np.zeros(len(frame), dtype=bool), self.in_time & ~marked & known
        spots = pd.DataFrame({"region": codes, "lon": frame["lon"], "lat": frame["lat"]})[marked & known].drop_duplicates()
        if spots.empty or not asked.any():
            return near
        lon, lat = frame["lon"].to_numpy()[asked], frame["lat"].to_numpy()[asked]
        place, own = unit_vectors(lon, lat), codes[asked]
        chord = np.full(len(own), np.inf)
        # Two different codes differ in some bit: one search a bit and value finds the nearest spot of any other region, however many
        # spots a region has.
        for bit in range(int(codes.max()).bit_length()):
            for value in (0, 1):
                there, here = (spots["region"].to_numpy() >> bit) & 1 == value, (own >> bit) & 1 != value
                if there.any() and here.any():
                    tree = sphere_tree(spots["lon"].to_numpy()[there], spots["lat"].to_numpy()[there])
                    chord[here] = np.minimum(chord[here], tree.query(place[here])[0])
        near[asked] = np.isfinite(chord) & (chord_to_metres(chord) < self.options.buffer_m)
        return near

    def draw(self, among: Mask, fraction: float, purpose: str) -> Mask:
        """Whole blocks of each region, in hash order, until about `fraction` of the region's units among `among` are drawn.

        A region keeps at least one block that is not drawn; a region of one block gives none.
        """
        chosen = [
            block
            for region, counts in _block_sizes(self.region[among], self.block[among]).items()
            for block in _choose_blocks(counts, fraction, self.options.seed, purpose, region)
        ]
        return among & isin(self.block, chosen)


def isin(values: Names, wanted: Iterable[str]) -> Mask:
    """Whether each value is among some, shape (n,)."""
    return np.asarray(pd.Index(values, dtype=object).isin(list(wanted)))


def shared_with(values: Names, marked: Mask) -> Mask:
    """Units whose value a marked unit has too, shape (n,)."""
    codes, names = pd.factorize(values)
    found = np.zeros(len(names), dtype=bool)
    found[codes[marked]] = True
    return found[codes]


def _block_sizes(region: Names, block: Names) -> dict[str, dict[str, int]]:
    """Units of every block, by region."""
    found: dict[str, dict[str, int]] = {}
    sizes = pd.DataFrame({"region": region, "block": block}).groupby(["region", "block"], sort=True, observed=True).size()
    for (name, part), size in sizes.items():
        found.setdefault(str(name), {})[str(part)] = int(size)
    return found


def _choose_blocks(counts: dict[str, int], fraction: float, seed: int, purpose: str, region: str) -> list[str]:
    total = sum(counts.values())
    target, ceiling = fraction * total, max(1.5 * fraction, 0.5) * total
    chosen: list[str] = []
    size = 0
    for block in sorted(counts, key=lambda name: (hash_unit(seed, purpose, region, name), name)):
        if size >= target or len(chosen) == len(counts) - 1:
            break
        if size + counts[block] <= ceiling:
            chosen.append(block)
            size += counts[block]
    if not chosen and len(counts) > 1:
        chosen = [min(counts, key=lambda name: (counts[name], name))]
    return chosen


def lay_ground(
    units: UnitTable,
    region_column: str | None,
    options: SplitOptions,
    *,
    in_time: bool = True,
    published_shift: Literal["none", "region", "year", "both"] = "none",
) -> Ground:
    """Regions, blocks, fixed test blocks and their buffer.

    Args:
        units: The units.
        region_column: Group column whose values are the regions; None makes one region of all.
        options: Sizes, fractions and seed.
        in_time: Whether a region that is one place may be cut into blocks of time (not where the year itself is held out).
        published_shift: What the published split changes.

    A ground without a test unit is possible: every region is one block then (`require_tests` refuses it).
    """
    frame = units.frame
    region = frame[region_column].to_numpy(dtype=object) if region_column else np.full(len(frame), "all", dtype=object)
    block, timed = _blocks(units, region, options, in_time)
    bare = Ground(
        units, region, block, timed, np.zeros(len(frame), bool), np.zeros(len(frame), bool), options, options.block_by, published_shift
    )
    test = bare.draw(np.ones(len(frame), dtype=bool), options.test_fraction, "test")
    laid = replace(bare, test=test, buffer=bare.near(test))
    return replace(laid, block=_finer_pool(laid))


LEAST_OF_VALIDATION = 0.75
"""Blocks of a region's pool are cut finer where whole ones cannot give this part of its validation share."""
MOST_HALVINGS = 4


def _finer_pool(ground: Ground) -> Names:
    """Blocks in which every region's pool can give its validation share: where whole blocks cannot, those of its pool are halved.

    A region whose pool is one large block and two crumbs would validate on the crumbs, which hold few units and fewer classes. Only units
    are counted here, never labels, and test blocks stay as they are.
    """
    block, options, frame = ground.block.copy(), ground.options, ground.units.frame
    if ground.block_by is not None:
        return block
    pool = ground.pool
    for region, counts in _block_sizes(ground.region[pool], ground.block[pool]).items():
        total = sum(counts.values())
        least = LEAST_OF_VALIDATION * options.val_fraction * total
        if _validating(counts, options, region) >= least:
            continue
        here = np.flatnonzero(pool & (ground.region == region))
        if ground.in_time[here].any() or not np.isfinite(frame["lon"].to_numpy()[here]).all():
            continue
        rows, best = frame.iloc[here], float("inf")
        lon, lat = (rows.groupby("place", sort=False)[axis].transform("mean").to_numpy() for axis in ("lon", "lat"))
        for halving in range(1, MOST_HALVINGS + 1):
            size = options.block_size_m / 2**halving
            if size < 2 * options.buffer_m:
                break
            parts = np.char.add(spatial_blocks(lon, lat, size).astype(str), f"@{size:g}").astype(object)
            names = _within_region(ground.region[here], parts)
            share = _validating(_block_sizes(ground.region[here], names)[region], options, region)
            # The size whose share is nearest to the one asked for.
            off = abs(share - options.val_fraction * total)
            if share >= least and off < best:
                block[here], best = names, off
    return block


def _validating(counts: dict[str, int], options: SplitOptions, region: str) -> int:
    """Units of a region's validation blocks."""
    return sum(counts[name] for name in _choose_blocks(counts, options.val_fraction, options.seed, "val", region))


def require_tests(ground: Ground) -> None:
    """Refuses a ground on which nothing could be tested.

    Raises:
        DataError: No region can be cut into blocks.
    """
    if not ground.test.any():
        raise DataError(
            "no region can be cut into blocks: every region is a single block, so nothing could be tested beside training",
            source=ground.units.source,
            remedy=f"Use smaller blocks (split_options.block_size_m is {ground.options.block_size_m:g} m), or declare a time column.",
        )


def _blocks(units: UnitTable, region: Names, options: SplitOptions, in_time: bool) -> tuple[Names, Mask]:
    frame = units.frame
    timed = np.zeros(len(frame), dtype=bool)
    if options.block_by is not None:
        return _within_region(region, frame[options.block_by].to_numpy(dtype=object)), timed
    place = frame["place"].to_numpy(dtype=object)
    lon = frame.groupby("place", sort=False)["lon"].transform("mean").to_numpy()
    lat = frame.groupby("place", sort=False)["lat"].transform("mean").to_numpy()
    names = spatial_blocks(lon, lat, options.block_size_m)
    names = np.where(names == "", np.array([f"p{value}" for value in place], dtype=object), names)
    dated = in_time and bool(frame["time"].notna().all())
    spans = time_blocks(frame["time"], options.block_days) if dated else None
    codes, uniques = pd.factorize(region, sort=True)
    distinct = pd.DataFrame({"region": codes, "block": names, "place": place, "unit": frame["unit_id"]}).groupby("region").nunique()
    for code in range(len(uniques)):
        if distinct.loc[code, "block"] > 1:
            continue
        here = codes == code
        if spans is not None and len(np.unique(spans[here])) > 1:
            names[here], timed[here] = spans[here], True
        elif distinct.loc[code, "place"] > 1:
            names[here] = np.array([f"p{value}" for value in place[here]], dtype=object)
        elif in_time and distinct.loc[code, "unit"] > 1 and not np.isfinite(lon[here]).any():
            names[here] = np.array([f"u{value}" for value in frame["unit_id"][here]], dtype=object)
            timed[here] = True
    return _within_region(region, names), timed


def _within_region(region: Names, block: Names) -> Names:
    return np.array([f"{a}/{b}" for a, b in zip(region, block, strict=True)], dtype=object)
