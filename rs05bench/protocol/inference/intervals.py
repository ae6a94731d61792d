"""Intervals of scores and of differences, by resampling whole clusters.

Units beside each other are alike, so drawing single units pretends to more information than there is; drawing whole test blocks, fires
or counties does not (Künsch 1989; Cameron, Gelbach & Miller 2008, https://doi.org/10.1162/rest.90.3.414).
`docs/studies/coverage.md` shows how often the intervals hold the truth.

Below 20 groups nothing honest can be said about a *new* group from the bootstrap: what is returned then are the points of each group
and an interval *within* these groups, and `scope` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from rs05bench.errors import ProtocolError
from rs05bench.protocol.inference.contrast import Contrast, build_contrast
from rs05bench.protocol.metrics import SufficientStats, find_metric

FEW_GROUPS = 20
ENOUGH_TO_STUDENTISE = 7  # degrees of freedom: with fewer, some draws have next to no error of their own
Method = Literal["auto", "percentile", "bca", "studentised", "t"]
Stats = SufficientStats | Sequence[SufficientStats]


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty.

    Args:
        value: The score or difference (the mean over seeds when several were given).
        low: Lower end; NaN when no interval can be given.
        high: Upper end.
        level: Nominal level of the interval.
        se: Standard error.
        method: How the interval was made: `percentile`, `bca`, `studentised`, `t`, or `none`.
        scope: `between-groups` (holds for new groups like these), `within-groups` (for these groups only), `few-clusters` (fewer
            than 20 clusters and nothing finer known: rough).
        n_groups: Groups.
        n_clusters: What was resampled.
        n_seeds: Fits whose variation is part of the standard error (1 = it is not).
        p: Two-sided p-value of no difference; None for a score.
        points: The value of each group, when there are fewer than 20.
        note: What a reader has to know, in a sentence; empty when nothing.
    """

    value: float
    low: float
    high: float
    level: float
    se: float
    method: str
    scope: str
    n_groups: int
    n_clusters: int
    n_seeds: int = 1
    p: float | None = None
    points: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a number that is not defined becomes None."""
        record = asdict(self)
        for name in ("value", "low", "high", "se", "p"):
            record[name] = record[name] if record[name] is not None and np.isfinite(record[name]) else None
        record["points"] = {name: value if np.isfinite(value) else None for name, value in self.points.items()}
        return record


def score_interval(
    stats: Stats,
    metric: str,
    *,
    groups: Mapping[str, str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    method: Method = "auto",
    rng: np.random.Generator | None = None,
) -> Estimate:
    """A score with its interval.

    Args:
        stats: Sums per cluster; several = one fit (seed) each, the score is their mean and their variation enters the interval.
        metric: The score.
        groups: Group of each cluster (county of each block). With at least 20 groups these are resampled, else the clusters within them.
            None: the clusters are the groups.
        level: Nominal level.
        draws: Bootstrap draws.
        method: `auto` = studentised for one fit, t (Satterthwaite) for several fits or fewer than 8 clusters.
        rng: Source of chance; seed 0 when None.
    """
    fits = _as_list(stats)
    terms = [(1.0 / len(fits), fit) for fit in fits]
    estimate = _estimate(terms, metric, groups, level, draws, method, rng, test=False)
    bounds = find_metric(metric).range
    return replace(estimate, low=max(estimate.low, bounds[0]), high=min(estimate.high, bounds[1]))


def paired_difference(
    a: Stats,
    b: Stats,
    metric: str,
    *,
    groups: Mapping[str, str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    method: Method = "auto",
    rng: np.random.Generator | None = None,
) -> Estimate:
    """Score of `a` minus score of `b` on the same clusters, with interval and p-value.

    Args:
        a: Sums per cluster of one model; several = one fit (seed) each.
        b: The same for the other; equally many fits are paired in order.
        metric: The score.
        groups: See `score_interval`.
        level: Nominal level.
        draws: Bootstrap draws.
        method: See `score_interval`.
        rng: Source of chance; seed 0 when None.

    Raises:
        ProtocolError: The two were not scored on the same clusters.
    """
    of_a, of_b = _as_list(a), _as_list(b)
    covers = {frozenset(fit.clusters) for fit in (*of_a, *of_b)}
    if len(covers) > 1:
        odd = sorted(frozenset.union(*covers) - frozenset.intersection(*covers))
        raise ProtocolError(
            f"a paired comparison needs the same clusters on both sides; not on all: {odd[:5]}", remedy="Select the common ones."
        )
    terms = [(1.0 / len(of_a), fit) for fit in of_a] + [(-1.0 / len(of_b), fit) for fit in of_b]
    return _estimate(terms, metric, groups, level, draws, method, rng, test=True)


def ood_drop(
    at_home: Stats,
    held_out: Stats,
    metric: str,
    *,
    groups: Mapping[str, str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    method: Method = "auto",
    rng: np.random.Generator | None = None,
) -> Estimate:
    """How much worse a model is on the same blocks when their region was held out; positive = worse, whatever the metric's direction."""
    better = find_metric(metric).higher_is_better
    if better is None:
        raise ProtocolError(
            f"{metric!r} has its best value inside its range: its drop is not a difference of means", remedy="Use an error or a score."
        )
    first, second = (at_home, held_out) if better else (held_out, at_home)
    return paired_difference(first, second, metric, groups=groups, level=level, draws=draws, method=method, rng=rng)


def relative_drop(drop: Estimate, at_home: float) -> float:
    """The drop as a share of the score at home; NaN when that is 0."""
    return drop.value / abs(at_home) if at_home else float("nan")


def _as_list(stats: Stats) -> list[SufficientStats]:
    return list(stats) if isinstance(stats, Sequence) else [stats]


def _estimate(
    terms: list[tuple[float, SufficientStats]],
    metric: str,
    groups: Mapping[str, str] | None,
    level: float,
    draws: int,
    method: Method,
    rng: np.random.Generator | None,
    *,
    test: bool,
) -> Estimate:
    contrast, scope, points, notes = _lay_out(terms, metric, groups)
    value = float(contrast.value())
    n_clusters = len(contrast.clusters)
    n_groups = n_clusters if groups is None or scope == "between-groups" else len(points)
    base = Estimate(value, np.nan, np.nan, level, np.nan, "none", scope, n_groups, n_clusters, 1, None, points, "")
    if not np.isfinite(value):
        return replace(base, note="The score is not defined on these units.")
    variance = float(contrast.variance()[0])
    df = float(n_clusters - (contrast.strata.max(initial=0) + 1))
    if df < 1:
        return replace(base, note="Too few clusters for an interval.")
    spread, seed_df, n_seeds = _seed_variance(contrast)
    if method == "auto":
        method = "studentised" if n_seeds == 1 and df >= ENOUGH_TO_STUDENTISE else "t"
    if n_seeds > 1 and method != "t":
        notes.append("The interval holds for these fits; how fits differ is not in it.")
        spread, n_seeds = 0.0, 1
    if method == "studentised" and df < ENOUGH_TO_STUDENTISE:
        # Of two blocks most draws take one of them twice and have no error of their own: the interval would close on the score.
        method = "t"
    se = (variance + spread) ** 0.5
    if se == 0:
        note = "All clusters agree exactly; the interval has no width."
        return replace(
            base,
            low=value,
            high=value,
            se=0.0,
            method="t",
            n_seeds=n_seeds,
            p=_certain(value) if test else None,
            note=" ".join([*notes, note]),
        )
    if method == "t":
        total_df = (variance + spread) ** 2 / (variance**2 / df + (spread**2 / seed_df if spread else 0.0))
        low, high, p = _by_t(value, se, total_df, level)
    else:
        low, high, p = _by_bootstrap(contrast, value, se, level, draws, method, rng or np.random.default_rng(0))
    return replace(base, low=low, high=high, se=se, method=method, n_seeds=n_seeds, p=p if test else None, note=" ".join(notes))


def _lay_out(
    terms: list[tuple[float, SufficientStats]], metric: str, groups: Mapping[str, str] | None
) -> tuple[Contrast, str, dict[str, float], list[str]]:
    """Choose what is resampled."""
    names = sorted({name for _, stats in terms for name in stats.clusters})
    group_of = {name: name for name in names} if groups is None else {name: str(groups[name]) for name in names}
    n_groups = len(set(group_of.values()))
    if n_groups >= FEW_GROUPS:
        if groups is not None:
            terms = [(c, stats.regroup([group_of[name] for name in stats.clusters])) for c, stats in terms]
        return build_contrast(metric, terms), "between-groups", {}, []
    points = _points(terms, metric, group_of)
    if groups is None:
        note = f"Only {n_groups} clusters: the interval is rough and says little about a new one."
        return build_contrast(metric, terms), "few-clusters", points, [note]
    note = f"Only {n_groups} groups: the interval holds within these groups, not for a new one."
    alone = [group for group in points if sum(g == group for g in group_of.values()) == 1]
    notes = [note, f"Groups of one cluster add no width: {', '.join(alone)}."] if alone else [note]
    return build_contrast(metric, terms, strata=[group_of[name] for name in names], clusters=names), "within-groups", points, notes


def _points(terms: list[tuple[float, SufficientStats]], metric: str, group_of: Mapping[str, str]) -> dict[str, float]:
    totals: dict[str, float] = dict.fromkeys(sorted(set(group_of.values())), 0.0)
    for coefficient, stats in terms:
        by_group = stats.regroup([group_of[name] for name in stats.clusters])
        scores = np.atleast_1d(by_group.evaluate(metric, by_group.vectors))
        here = dict(zip(by_group.clusters, scores.tolist(), strict=True))
        totals = {group: total + coefficient * here.get(group, float("nan")) for group, total in totals.items()}
    return totals


def _seed_variance(contrast: Contrast) -> tuple[float, float, int]:
    """What fits add to the variance of their mean, its degrees of freedom, and the number of fits.

    The spread between fits also holds what each fit does on each cluster by chance (fit x cluster), which the variance over clusters
    counts too; it is taken off once, as in two-way clustering (Cameron, Gelbach & Miller 2011,
    https://doi.org/10.1198/jbes.2010.07136).
    """
    scores = contrast.of_terms()
    sides = [scores[contrast.coefficients > 0], scores[contrast.coefficients < 0]]
    sides = [side for side in sides if len(side)]
    n = min(len(side) for side in sides)
    if n < 2:
        return 0.0, 1.0, 1
    if len({len(side) for side in sides}) > 1:
        return float(sum(side.var(ddof=1) / len(side) for side in sides)), float(n - 1), n
    paired = sides[0] - sides[1] if len(sides) == 2 else sides[0]
    influence = contrast.influence_of_fits()
    own = influence - influence.mean(0)
    n_clusters = len(contrast.clusters)
    counted_twice = n_clusters / (n_clusters - 1) * (own**2).sum() / (n * (n - 1))
    return max(0.0, float(paired.var(ddof=1) / n - counted_twice)), float(n - 1), n


def _certain(value: float) -> float:
    return 1.0 if value == 0 else 0.0


def _by_t(value: float, se: float, df: float, level: float) -> tuple[float, float, float]:
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(df, 0.5 + level / 2)) * se
    return value - reach, value + reach, float(2 * stdtr(df, -abs(value) / se))


def _by_bootstrap(
    contrast: Contrast, value: float, se: float, level: float, draws: int, method: Method, rng: np.random.Generator
) -> tuple[float, float, float]:
    from scipy.special import ndtr, ndtri

    drawn, errors = contrast.draws(draws, rng, studentise=method == "studentised")
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "studentised":
        # A draw of nearly equal clusters has no usable error of its own.
        usable = np.isfinite(drawn) & (errors > 1e-6 * se)
        t = (drawn[usable] - value) / errors[usable]
        upper, lower = np.quantile(t, tails)
        p = (1 + np.count_nonzero(np.abs(t) >= abs(value) / se)) / (len(t) + 1)
        return float(value - lower * se), float(value - upper * se), float(p)
    drawn = np.sort(drawn[np.isfinite(drawn)])
    below = (np.count_nonzero(drawn < value) + 0.5 * np.count_nonzero(drawn == value)) / len(drawn)
    # Draws below zero and above, half of those at zero to each side: the share beyond, doubled.
    beyond = (min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0)) + 1) / (len(drawn) + 1)
    if method == "percentile":
        low, high = np.quantile(drawn, tails)
        return float(low), float(high), float(min(1.0, 2 * beyond))
    # BCa (Efron 1987): the bias from where the estimate lies among the draws, the acceleration from the influences.
    influence = contrast.influence(np.ones((1, len(contrast.clusters))))[0]
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    shift = ndtri(np.clip(below, 1 / (len(drawn) + 1), len(drawn) / (len(drawn) + 1)))
    reached = shift + ndtri(tails)
    low, high = np.quantile(drawn, ndtr(shift + reached / (1 - acceleration * reached)))
    return float(low), float(high), float(min(1.0, 2 * beyond))
