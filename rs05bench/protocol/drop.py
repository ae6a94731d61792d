"""The out-of-domain drop on the same ground (rule 9).

For the units one fold holds out: their score in the folds that train on their region, minus their score with it held out. Both are over
the same units, so a hard region does not pass for a bad transfer. The raw difference of `test_id` and `test_ood` is kept beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rs05bench.protocol.inference.intervals import Estimate, ood_drop, relative_drop, score_interval
from rs05bench.protocol.metrics import Sums, find_metric
from rs05bench.protocol.pooling import Fits, Point, Pool, line_up
from rs05bench.protocol.result import Result


@dataclass(frozen=True, slots=True)
class GroundDrop:
    """The drop on one ground for one cell.

    Attributes:
        ground: Name of the ground.
        shift: What changed.
        units: Test units on it.
        at_home: Mean score over the folds that train on the ground's region.
        held_out: Score with it held out.
        drop: How much worse, positive for worse, in the metric's unit.
        folds_at_home: How many folds `at_home` is the mean of.
    """

    ground: str
    shift: str
    units: int
    at_home: float
    held_out: float
    drop: float
    folds_at_home: int


def matched_drops(results: Sequence[Result], metric: str | None = None) -> dict[str, list[GroundDrop]]:
    """Drops of every cell, keyed by the result's digest.

    Args:
        results: Results of any cells; cells are matched when all but the fold is equal.
        metric: Metric; default each task's main metric.

    Returns:
        One entry a result; the list is empty where no other fold tests the same ground at home.
    """
    families: dict[tuple[object, ...], list[Result]] = defaultdict(list)
    for result in results:
        cell = result.cell
        key = (cell.task, cell.target, cell.split, cell.model, cell.budget, cell.seed, str(sorted(cell.options.items())))
        families[key].append(result)
    drops: dict[str, list[GroundDrop]] = {}
    for family in families.values():
        name = metric or family[0].main_metric
        turned = find_metric(name)
        home: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for result in family:
            for stratum in result.strata:
                if stratum.role == "test_id" and stratum.ground and name in stratum.scores:
                    home[stratum.ground].append((stratum.scores[name], stratum.units))
        for result in family:
            found: list[GroundDrop] = []
            for stratum in result.strata:
                if stratum.role != "test_ood" or name not in stratum.scores:
                    continue
                # Only folds that test the whole ground at home: the same units on both sides.
                scores = [value for value, units in home.get(stratum.ground, ()) if units == stratum.units]
                if not scores:
                    continue
                at_home = sum(scores) / len(scores)
                held = stratum.scores[name]
                found.append(
                    GroundDrop(stratum.ground, stratum.shift, stratum.units, at_home, held, turned.drop(at_home, held), len(scores))
                )
            drops[result.digest] = found
    return drops


def mean_drop(drops: Iterable[GroundDrop], shift: str | None = None) -> float | None:
    """Mean over grounds, each weighted by its units; None where there is none."""
    kept = [drop for drop in drops if shift is None or drop.shift == shift]
    units = sum(drop.units for drop in kept)
    return sum(drop.drop * drop.units for drop in kept) / units if units else None


def raw_drop(result: Result, metric: str | None = None) -> float | None:
    """Score on `test_id` minus score on `test_ood`, other units on each side (positive for worse); None where one is missing."""
    name = metric or result.main_metric
    at_home, held = result.scores.get("test_id", {}).get(name), result.scores.get("test_ood", {}).get(name)
    if at_home is None or held is None:
        return None
    return find_metric(name).drop(at_home, held)


@dataclass(frozen=True, slots=True)
class GroundEstimate:
    """The drop on one ground, over all seeds.

    Attributes:
        ground: Name of the ground.
        units: Test units on it.
        at_home: Score in the folds that train on its region.
        held_out: Score with it held out.
        drop: How much worse, positive for worse, with interval and p.
        relative: The drop as a share of `at_home`.
    """

    ground: str
    units: int
    at_home: float
    held_out: float
    drop: Estimate
    relative: float


@dataclass(frozen=True, slots=True)
class DropEstimate:
    """The drop of one model under one split and budget, over all folds and seeds, for one shift.

    Attributes:
        point: Which model, split and budget.
        tier: The model's tier.
        metric: Metric.
        shift: What changes: `region`, `year` or `both`.
        at_home: Score at home, the mean over seeds, on the units of `held_out`.
        held_out: Score with them held out.
        drop: How much worse, positive for worse, with interval and p.
        relative: The drop as a share of `at_home`.
        raw: Mean of `raw_drop` over cells: other units on each side, so a hard region passes for a bad transfer. None where unknown.
        grounds: The same for each ground.
        worst: The ground with the worst held-out score.
        digests: The cells it rests on.
    """

    point: Point
    tier: str
    metric: str
    shift: str
    at_home: float
    held_out: float
    drop: Estimate
    relative: float
    raw: float | None
    grounds: tuple[GroundEstimate, ...]
    worst: str | None
    digests: tuple[str, ...]


def drop_estimates(results: Iterable[Result] | Pool, metric: str | None = None, *, draws: int = 1000) -> list[DropEstimate]:
    """The drop on the same ground with intervals, pooled over folds and seeds, from the sums that results keep.

    Both sides are over the same blocks, each weighing the same however many folds test it. Pooled scores are those of the pooled counts, so
    they differ a little from a mean of fold scores.

    Args:
        results: Results of any cells, or a pool of them.
        metric: Metric; default each task's main metric.
        draws: Bootstrap draws.

    Returns:
        One entry a model, split, budget and shift; none where no fold tests the same ground at home, or no sums were kept.
    """
    pool = results if isinstance(results, Pool) else Pool.of(results)
    found = []
    for point, cells in pool.points.items():
        name = metric or pool.metric(point)
        if find_metric(name).higher_is_better is None:
            continue
        home = pool.fits(point, name, "test_id")
        regions = pool.regions(point) if home else {}
        for shift in ("region", "year", "both"):
            held = pool.fits(point, name, "test_ood", shift=shift)
            if home and held and (entry := _drop(pool, point, cells, name, shift, home, held, regions, draws)):
                found.append(entry)
    return found


def _drop(
    pool: Pool,
    point: Point,
    cells: Sequence[Result],
    metric: str,
    shift: str,
    home: Fits,
    held: Fits,
    regions: Mapping[str, str],
    draws: int,
) -> DropEstimate | None:
    home, held = (_on_a_ground(side) for side in (home, held))
    (at_home, held_out), groups = line_up([home, held], regions)
    if not at_home:
        return None
    drop = ood_drop(at_home, held_out, metric, groups=groups, draws=draws)
    score = _mean(at_home, metric)
    seeds = set(home) & set(held)
    shared = set.intersection(*(set(side[seed].clusters) for side in (home, held) for seed in seeds))
    grounds = []
    for ground in sorted({name.split("\t", 1)[0] for name in shared}):
        (here, there), inside = line_up([_only(home, ground), _only(held, ground)], regions)
        if not here:
            continue
        of_ground = ood_drop(here, there, metric, groups=inside, draws=draws)
        value = _mean(here, metric)
        units = round(float(there[0].units.sum()))
        grounds.append(GroundEstimate(ground, units, value, _mean(there, metric), of_ground, relative_drop(of_ground, value)))
    goodness = find_metric(metric).goodness
    ranked = [entry for entry in grounds if np.isfinite(entry.held_out)]
    worst = min(ranked, key=lambda entry: goodness(entry.held_out)).ground if ranked else None
    raws = [value for value in (raw_drop(cell, metric) for cell in cells) if value is not None]
    return DropEstimate(
        point,
        pool.model(point).tier,
        metric,
        shift,
        score,
        _mean(held_out, metric),
        drop,
        relative_drop(drop, score),
        float(np.mean(raws)) if raws else None,
        tuple(grounds),
        worst,
        pool.digests(point),
    )


def _on_a_ground(side: Fits) -> Fits:
    """Without clusters that stand on no ground: they have no other side."""
    kept = {seed: [name for name in stats.clusters if not name.startswith("\t")] for seed, stats in side.items()}
    return {seed: stats.select(kept[seed]) for seed, stats in side.items() if kept[seed]}


def _only(side: Fits, ground: str) -> Fits:
    kept = {seed: [name for name in stats.clusters if name.split("\t", 1)[0] == ground] for seed, stats in side.items()}
    return {seed: stats.select(kept[seed]) for seed, stats in side.items() if kept[seed]}


def _mean(fits: Sequence[Sums], metric: str) -> float:
    return float(np.mean([stats.evaluate(metric, stats.vectors.sum(0)) for stats in fits]))


@dataclass(frozen=True, slots=True)
class ShiftRow:
    """One line of "same county, other county, other year".

    Attributes:
        point: Which model, split and budget.
        metric: Metric.
        shift: `none` (same place, same years), `region`, `year` or `both`.
        score: Score with interval.
        drop: Against the same test blocks under no shift; None for `none` and where there is no such ground.
    """

    point: Point
    metric: str
    shift: str
    score: Estimate
    drop: Estimate | None


def shift_table(results: Iterable[Result] | Pool, metric: str | None = None, *, draws: int = 1000) -> list[ShiftRow]:
    """Scores at the same place, elsewhere, in another year, and both: one fit answers all of them."""
    pool = results if isinstance(results, Pool) else Pool.of(results)
    drops = {(entry.point, entry.shift): entry.drop for entry in drop_estimates(pool, metric, draws=draws)}
    rows = []
    for point in pool.points:
        name = metric or pool.metric(point)
        for shift, role in (("none", "test_id"), ("region", "test_ood"), ("year", "test_ood"), ("both", "test_ood")):
            score = pool.score(point, role, name, shift=shift, draws=draws)
            if score is not None:
                rows.append(ShiftRow(point, name, shift, score, drops.get((point, shift))))
    return rows


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Scores of one value of a group column: a biome, a county, a city, a year, an income fifth.

    Attributes:
        point: Which model, split and budget.
        metric: Metric.
        column: Group column.
        group: Its value.
        units: Units tested under either role, counted once.
        at_home: Score with its region in training; None where it is never tested so.
        held_out: Score with its region held out.
    """

    point: Point
    metric: str
    column: str
    group: str
    units: int
    at_home: Estimate | None
    held_out: Estimate | None


def group_table(results: Iterable[Result] | Pool, column: str, metric: str | None = None, *, draws: int = 1000) -> list[GroupRow]:
    """Scores of each value of a group column with intervals, over all folds and seeds.

    Returns:
        Nothing for points whose sums are not split by the column (too many rows, or results of an earlier version).
    """
    pool = results if isinstance(results, Pool) else Pool.of(results)
    rows = []
    for point, cells in pool.points.items():
        name = metric or pool.metric(point)
        kept = [sums for cell in cells for role in cell.sums if (sums := pool.kept(cell, role)) is not None]
        values = sorted({str(value) for sums in kept if column in sums.keys for value in sums.keys[column]})
        regions = pool.regions(point) if values else {}
        for value in values:
            found: dict[str, Estimate] = {}
            units = 0
            for role in ("test_id", "test_ood"):
                fits = pool.fits(point, name, role, where=(column, value))
                if not fits:
                    continue
                (side,), groups = line_up([fits], regions)
                if side:
                    found[role] = score_interval(side, name, groups=groups, draws=draws)
                    units = max(units, round(float(side[0].units.sum())))
            if found:
                rows.append(GroupRow(point, name, column, value, units, found.get("test_id"), found.get("test_ood")))
    return rows


def worst_group(rows: Sequence[GroupRow], *, least_units: int = 30) -> GroupRow | None:
    """The group with the worst held-out score (at home where nothing is held out) among those with enough units."""
    ranked = []
    for row in rows:
        estimate = row.held_out or row.at_home
        if estimate is not None and row.units >= least_units and np.isfinite(estimate.value):
            ranked.append((find_metric(row.metric).goodness(estimate.value), row))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None
