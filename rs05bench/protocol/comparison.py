"""The one place that makes scores with intervals, drops, paired differences and corrected p-values.

The main score is the mean over groups (regions, states, fires, years: what the split moves) of the score inside each group, because a
person maps one region and not all of them together. Drops and differences are made inside each group on the same test units and then
averaged, so a hard region does not pass for a bad transfer. Intervals are over groups and hold for groups like these; a metric's
declaration (`Metric.over_groups`) says whether they are for the mean or for the median over groups. Where there is one
group only, its test blocks are resampled instead, and the record says so (`over = "blocks"`).

Reports, advice, studies, verdicts and the leaderboard show what is made here and compute nothing of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rs05bench.errors import ProtocolError
from rs05bench.protocol.compared_sides import Difference, Drop, GroupDrop, Score, Side, Term
from rs05bench.protocol.inference.estimate import LEVEL, Bounds, Estimate, limits
from rs05bench.protocol.inference.hypothesis_tests import holm
from rs05bench.protocol.inference.over_blocks import over_blocks
from rs05bench.protocol.inference.over_groups import over_groups
from rs05bench.protocol.metrics import Sums, find_metric
from rs05bench.protocol.pooling import GroupScores, Point, Pool, line_up, shift_of
from rs05bench.protocol.result import Result

By = Literal["model", "budget", "split", "options"]


ROLES = ("test_id", "test_ood")


SHIFTS = ("region", "year", "both")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found.

    Attributes:
        by: Which field of a point the differences vary.
        reference: The value every other one is compared with; None for all pairs.
        scores: Every point and role.
        drops: Every point and shift whose groups are tested both in training and held out.
        differences: Every pair; `effect.p_holm` is corrected over all of them.
    """

    by: str
    reference: str | None
    scores: tuple[Score, ...]
    drops: tuple[Drop, ...]
    differences: tuple[Difference, ...]

    def score(self, point: Point, role: str) -> Score | None:
        """The score of a point in a role; None where there is none."""
        return next((entry for entry in self.scores if entry.point == point and entry.role == role), None)

    def drop(self, point: Point, shift: str | None = None) -> Drop | None:
        """The drop of a point, the first found where no shift is named; None where there is none."""
        return next((entry for entry in self.drops if entry.point == point and shift in (None, entry.shift)), None)

    def difference(self, first: Point, second: Point, role: str) -> Difference | None:
        """How much better one point is than another in a role; turned round where the pair was compared the other way."""
        for entry in self.differences:
            sides = (entry.first, entry.second)
            if sides == (Side.score(first, role), Side.score(second, role)):
                return entry
            if sides == (Side.score(second, role), Side.score(first, role)):
                return _turned(entry)
        return None

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from rs05bench.protocol.notebook import comparison_html

        return comparison_html(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: `by`, `reference`, and the lists `scores`, `drops` and `differences`."""
        return {
            "by": self.by,
            "reference": self.reference,
            "scores": [
                {**entry.point._asdict(), **_fields(entry, "tier", "role", "metric", "labels", "pooled", "units")}
                | {"estimate": entry.estimate.to_dict()}
                for entry in self.scores
            ],
            "drops": [
                {**entry.point._asdict(), **_fields(entry, "tier", "metric", "shift", "at_home", "held_out", "relative")}
                | {"drop": entry.drop.to_dict()}
                for entry in self.drops
            ],
            "differences": [
                {
                    "first": [term.point._asdict() for term in entry.first.terms],
                    "second": [term.point._asdict() for term in entry.second.terms],
                    "role": entry.first.terms[0].role,
                    **_fields(entry, "metric", "left", "right"),
                    "effect": entry.effect.to_dict(),
                }
                for entry in self.differences
            ],
        }


def compare(results: Iterable[Result] | Pool, by: By = "model", metric: str | None = None, reference: str | None = None) -> Comparison:
    """Scores, drops and paired differences of results, with intervals and corrected p-values.

    Args:
        results: Results of any cells, or a pool of them.
        by: What the differences vary: `model` compares models of the same task, target, split and budget, `budget` budgets of the same
            model, and so on.
        metric: Metric; default each task's main metric.
        reference: Value of `by` that every other one is compared with, e.g. `raw/rf`; default all pairs.

    Returns:
        The records. `p_holm` of a difference is corrected (Holm 1979) over all differences returned.

    Raises:
        ProtocolError: `by` is no field, or no result has the reference.
    """
    if by not in Point._fields:
        raise ProtocolError(f"results cannot be compared by {by!r}", remedy=f"One of: {', '.join(Point._fields)}.")
    pool = results if isinstance(results, Pool) else Pool.of(results)
    scores = [found for point in pool.points for role in ROLES if (found := score_of(pool, point, role, metric)) is not None]
    drops = [drop for point in pool.points for shift in SHIFTS if (drop := drop_of(pool, point, metric, shift)) is not None]
    families: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    for point in pool.points:
        families[tuple(value for name, value in point._asdict().items() if name != by)].append(point)
    if reference is not None and not any(getattr(point, by) == reference for point in pool.points):
        there = sorted({str(getattr(point, by)) for point in pool.points})
        raise ProtocolError(f"no result has {by} {reference!r} to compare with", remedy=f"There are: {', '.join(there)}.")
    pairs = []
    for points in families.values():
        base = [point for point in points if getattr(point, by) == reference]
        chosen = combinations(points, 2) if reference is None else ((other, base[0]) for other in points if base and other != base[0])
        pairs += [(Side.score(one, role), Side.score(other, role)) for one, other in chosen for role in ROLES]
    return Comparison(by, reference, tuple(scores), tuple(drops), tuple(entry for entry in differences(pool, pairs, metric) if entry))


def score_of(pool: Pool, point: Point, role: str, metric: str | None = None, shift: str | None = None) -> Score | None:
    """The score of a point in a role; None where no cell has one."""
    name = metric or pool.metric(point)
    side = Side.score(point, role, shift)
    estimate = _estimate(pool, side, name, test=False)
    if estimate is None:
        return None
    fits = pool.fits(point, name, role, shift=shift)
    pooled = [float(sums.evaluate(name, sums.vectors.sum(0))) for sums in fits.values()]
    units = int(pool.inside(point, role, name, shift).units.sum())
    return Score(
        point,
        pool.model(point).tier,
        role,
        shift,
        name,
        pool.labels(point),
        estimate,
        float(np.mean(pooled)) if pooled else float("nan"),
        units,
        pool.digests(point),
    )


def score_of_sums(fits: Sequence[Sums], metric: str, group_of: Mapping[str, str]) -> Estimate:
    """The score of some units from their sums.

    Args:
        fits: Sums by cluster, one entry a fit (seed).
        metric: The score.
        group_of: Group of each cluster.

    Returns:
        The mean over groups of the score inside each, over the groups that every fit has; over clusters where there is one group.
    """
    common = sorted(set.intersection(*(set(fit.clusters) for fit in fits)))
    lined = [fit.select(common) for fit in fits]
    grouped = [fit.regroup([group_of[name] for name in common]) for fit in lined]
    names = grouped[0].clusters if common else ()
    table = np.array([np.atleast_1d(fit.evaluate(metric, np.asarray(fit.vectors, dtype=np.float64))) for fit in grouped]).T
    found = over_groups(table, names, within=limits(metric, [1.0]), of=find_metric(metric).over_groups)
    if len(names) != 1:
        return found
    of_blocks = over_blocks([[(1.0, fit)] for fit in lined], metric, within=limits(metric, [1.0]))
    return replace(of_blocks, points=found.points)


def drop_of(pool: Pool, point: Point, metric: str | None = None, shift: str | None = None) -> Drop | None:
    """The drop of a point; None where no group is tested both in training and held out, or the metric has no direction."""
    name = metric or pool.metric(point)
    known = find_metric(name)
    if known.higher_is_better is None:
        return None
    drop = _estimate(pool, Side.drop(point, shift), name, test=True, turn=1.0 if known.higher_is_better else -1.0)
    if drop is None:
        return None
    home, held = _common([pool.inside(point, "test_id", name), pool.inside(point, "test_ood", name, shift)])
    both = np.where(np.isfinite(home.values + held.values), 1.0, np.nan)
    sides = [_row_means(table.values * both) for table in (home, held)]
    groups = tuple(
        GroupDrop(group, int(units), float(here), float(there), known.drop(float(here), float(there)))
        for group, units, here, there in zip(home.groups, home.units, *sides, strict=True)
    )
    moved = shift or shift_of(point) or ""
    at_home, held_out = (float(_row_means(side[None])[0]) for side in sides)
    return Drop(point, pool.model(point).tier, name, moved, at_home, held_out, drop, groups, pool.digests(point))


def cell_drops(results: Iterable[Result] | Pool, metric: str | None = None) -> dict[str, float]:
    """The drop of every single cell: the mean over the groups its fold holds out, each against the folds that train on it.

    Args:
        results: Results of any cells, or a pool of them; cells are matched when all but the fold is equal.
        metric: Metric; default each task's main metric.

    Returns:
        Digest -> how much worse, positive for worse. Cells without a group that another fold tests in training are left out.
    """
    pool = results if isinstance(results, Pool) else Pool.of(results)
    found: dict[str, float] = {}
    for point, cells in pool.points.items():
        name = metric or pool.metric(point)
        known = find_metric(name)
        home = pool.inside(point, "test_id", name)
        for result in cells if known.higher_is_better is not None else ():
            alone = Pool({point: [result]}).inside(point, "test_ood", name)
            groups = [group for group in alone.groups if group in home.groups]
            if not groups or result.cell.seed not in home.seeds:
                continue
            there, here = alone.rows(groups), home.rows(groups)
            at_home = here.values[:, home.seeds.index(result.cell.seed)]
            both = (there.units == here.units) & np.isfinite(at_home + there.values[:, 0])
            if both.any():
                found[result.digest] = float(np.mean([known.drop(a, b) for a, b in zip(at_home[both], there.values[both, 0], strict=True)]))
    return found


def differences(pool: Pool, pairs: Sequence[tuple[Side, Side]], metric: str | Sequence[str] | None = None) -> list[Difference | None]:
    """Paired differences of a list of comparisons, with p-values corrected over the whole list.

    Args:
        pool: The cells.
        pairs: (first, second) of each comparison.
        metric: One metric for all, or one a comparison; default each task's main metric.

    Returns:
        One entry a comparison; None where the sides share no group and seed.
    """
    names = [metric] * len(pairs) if metric is None or isinstance(metric, str) else list(metric)
    found = [_difference(pool, first, second, name) for (first, second), name in zip(pairs, names, strict=True)]
    corrected = holm([np.nan if entry is None or entry.effect.p is None else entry.effect.p for entry in found])
    return [
        entry if entry is None or not np.isfinite(p) else replace(entry, effect=replace(entry.effect, p_holm=float(p)))
        for entry, p in zip(found, corrected, strict=True)
    ]


def against_floor(pool: Pool, points: Sequence[Point], floor: Point, metric: str, role: str) -> tuple[tuple[Side, Side], str]:
    """The comparison of some models with a baseline without imagery, and the metric it is made in.

    A baseline that gives one class everywhere has a lower macro-F1 than classes drawn by chance, so that columns of noise are ahead of it;
    both have a balanced accuracy of one over the number of classes, which is then taken where results have it.

    Args:
        pool: The cells.
        points: Models; the mean of their scores is compared.
        floor: The baseline.
        metric: The metric that models are compared by.
        role: `test_id` or `test_ood`.
    """
    fair = "balanced_accuracy"
    constant = metric == "macro_f1" and pool.model(floor).inputs == "none"
    found = fair if constant and all(np.isfinite(pool.inside(point, role, fair).values).any() for point in (*points, floor)) else metric
    return (Side.score(points, role), Side.score(floor, role)), found


def _difference(pool: Pool, first: Side, second: Side, metric: str | None) -> Difference | None:
    if any(point not in pool.points for side in (first, second) for point in side.points):
        return None
    name = metric or pool.metric(first.terms[0].point)
    better = find_metric(name).higher_is_better
    if better is None:
        raise ProtocolError(f"{name!r} has its best value inside its range: which of two is better is not a difference of means")
    both = Side(first.terms + tuple(replace(term, weight=-term.weight) for term in second.terms))
    effect = _estimate(pool, both, name, test=True, turn=1.0 if better else -1.0)
    if effect is None:
        return None
    tables = _common([pool.inside(term.point, term.role, name, term.shift) for term in both.terms])
    values = [float(_row_means(_row_means(table.values)[None])[0]) for table in tables]
    cut = len(first.terms)
    left = sum(term.weight * value for term, value in zip(first.terms, values[:cut], strict=True))
    right = sum(term.weight * value for term, value in zip(second.terms, values[cut:], strict=True))
    seeds = set(tables[0].seeds)
    digests = {cell.digest for point in both.points for cell in pool.points[point] if cell.cell.seed in seeds}
    return Difference(first, second, name, effect, left, right, tuple(sorted(digests)))


def _estimate(pool: Pool, side: Side, metric: str, *, test: bool, turn: float = 1.0) -> Estimate | None:
    """A weighted sum of scores: over groups, or over the blocks of the one group there is."""
    weights = [turn * term.weight for term in side.terms]
    tables = _common([pool.inside(term.point, term.role, metric, term.shift) for term in side.terms])
    if not tables[0].groups or not tables[0].seeds:
        return None
    values = sum(weight * table.values for weight, table in zip(weights, tables, strict=True))
    within = limits(metric, weights)
    found = over_groups(np.asarray(values), tables[0].groups, within=within, test=test, of=find_metric(metric).over_groups)
    if small := tables[0].small:
        note = f"{len(small)} of {len(small) + len(tables[0].groups)} groups have fewer than {tables[0].least} test units and are left out."
        found = replace(found, note=f"{note} {found.note}".strip())
    if len(tables[0].groups) > 1:
        return found
    fits = [pool.fits(term.point, metric, term.role, shift=term.shift) for term in side.terms]
    lined = line_up(fits) if all(fits) else []
    if not lined or not lined[0]:
        note = f"{found.note} No sums were kept by test block.".strip()
        return replace(found, over="blocks", note=note) if np.isfinite(found.value) else None
    by_fit = [list(zip(weights, sums, strict=True)) for sums in zip(*lined, strict=True)]
    return replace(over_blocks(by_fit, metric, within=within, test=test), points=found.points)


def _common(tables: Sequence[GroupScores]) -> list[GroupScores]:
    """Tables over the groups (of as many test units) and seeds that all of them have."""
    seeds = sorted(set.intersection(*(set(table.seeds) for table in tables)))
    counts = [dict(zip(table.groups, table.units.tolist(), strict=True)) for table in tables]
    groups = sorted(group for group in set.intersection(*(set(count) for count in counts)) if len({count[group] for count in counts}) == 1)
    found = []
    for table in tables:
        columns = [table.seeds.index(seed) for seed in seeds]
        here = table.rows(groups)
        found.append(replace(here, seeds=tuple(seeds), values=here.values[:, columns]))
    return found


def _row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G,) mean of each row over what is defined there; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    return np.where(counts > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _turned(entry: Difference) -> Difference:
    effect = entry.effect
    other = replace(
        effect,
        value=-effect.value,
        low=-effect.high,
        high=-effect.low,
        new_low=-effect.new_high,
        new_high=-effect.new_low,
        median=effect.median and Bounds("median", -effect.median.value, -effect.median.high, -effect.median.low),
        points={group: -value for group, value in effect.points.items()},
    )
    return Difference(entry.second, entry.first, entry.metric, other, entry.right, entry.left, entry.digests)


def _fields(entry: Any, *names: str) -> dict[str, Any]:
    found = {name: getattr(entry, name) for name in names}
    return {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in found.items()}


__all__ = ["LEVEL", "Comparison", "Difference", "Drop", "Estimate", "GroupDrop", "Score", "Side", "Term", "compare"]
