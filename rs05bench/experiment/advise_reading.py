"""Reading a quick sweep: who is best where, whether it beats what needs no image, what more labels bring, and what stays open.

Scores, differences and intervals are those of `rs05bench.protocol.comparison`; nothing is computed here but which of them to show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rs05bench.datasets.tables.block_size import block_words, fit_task
from rs05bench.datasets.tables.design import DesignFlag, design_flags
from rs05bench.errors import DataError
from rs05bench.experiment.advice import CLOSE, ELSEWHERE, HOME, Advice, Place, Verdict
from rs05bench.experiment.advise_plan import AdvicePlan, task_classes
from rs05bench.experiment.cell import Bench
from rs05bench.protocol.audit import warnings_of_table
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.compared_sides import Side
from rs05bench.protocol.comparison import Comparison, against_floor, compare, differences
from rs05bench.protocol.independence import independence
from rs05bench.protocol.inference.estimate import LEAST, Estimate
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics import Confusion, find_metric
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.splits import Split

PERFECT = 0.98
PLAIN = ("floor/majority", "floor/mean")


@dataclass(frozen=True)
class Run:
    """What was run, for the record.

    Attributes:
        stopped: What was left out because the time was up.
        seconds: Time it took.
        store: Where the results lie.
    """

    stopped: str
    seconds: float
    store: str


def read_results(bench: Bench, card: TaskCard, plan: AdvicePlan, pool: Pool, run: Run, target: str) -> Advice:
    """The advice that a sweep's complete cells give.

    Args:
        bench: The task.
        card: Its card.
        plan: What was to be run.
        pool: Cells of seeds that have every fold.
        run: How it was run.
        target: Target.

    Raises:
        DataError: No model could be scored.
    """
    base = {point.model: point for point in pool.points if point.split == plan.split and point.budget == plan.budgets[0]}
    metric = _metric(pool, next(iter(base.values())), card)
    found = compare(Pool({point: pool.points[point] for point in base.values()}), metric=metric)
    here = _place(pool, found, base, HOME, metric)
    elsewhere = _place(pool, found, base, ELSEWHERE, metric)
    if here is None:
        raise DataError("no model could be scored", source=card.name)
    judged = elsewhere or here
    units, labels = bench.source.units().frame, bench.source.labels(target)
    flags = design_flags(units, labels, bench.source.units().groups, card.kind)
    verdict = _verdict(judged, metric, flags)
    recommended = judged.floor if verdict in ("floor", "perfect-floor") else judged.alike[0]
    chosen = base[recommended]
    drop = found.drop(base[judged.best]) if elsewhere else None
    settled, unsettled = _open_questions(found, base, recommended, judged)
    gain, share, place_metric = _of_the_place(pool, found, base, here, metric)
    name = Split(plan.split)
    column = card.group_column(name.group) or card.split_options.region or (card.groups[0] if card.groups else None)
    cells = [cell for cells in pool.points.values() for cell in cells]
    cost = _costs(pool, chosen)
    larger = f"{plan.labels + plan.more}-units"
    return Advice(
        task=card.name,
        kind=card.kind,
        metric=metric,
        group=name.group or ("year" if name.rule.needs_year else None),
        split=plan.split,
        units=int(labels.notna().sum()),
        groups=int(units[column].nunique()) if column else 1,
        classes=len(task_classes(bench, card, target) or ()) or None,
        features={features: len(bench.source.features(features)[0]) for features in card.features},
        labels=plan.labels,
        labels_used=pool.labels(chosen),
        flags=flags,
        here=here,
        elsewhere=elsewhere,
        verdict=verdict,
        recommended=recommended,
        reaches=_scores(found, chosen),
        drop=drop.drop if drop else None,
        floors={model: _scores(found, point) for model, point in base.items() if model.startswith("floor/")},
        place_share=share,
        place_gain=gain,
        place_metric=place_metric,
        by_budget=_by_budget(pool, plan, metric),
        more=plan.more,
        more_random=_gains(pool, chosen._replace(budget=larger), chosen, metric),
        more_clustered=_gains(pool, chosen._replace(budget=f"{larger}-in-{plan.visits}-blocks"), chosen._replace(budget=larger), metric),
        more_there=_there(pool, plan, chosen, metric, clustered=False),
        more_there_clustered=_there(pool, plan, chosen, metric, clustered=True),
        unsettled=unsettled,
        settled=settled,
        blocks=block_words(card, fit_task(card, bench.source.units(), labels)),
        confusion=_confusion(pool, chosen, judged.role, task_classes(bench, card, target)),
        fit_s=cost[0],
        predict_s_per_1000=cost[1],
        hardware=cost[2],
        models=tuple(base),
        seeds=len({cell.cell.seed for cell in cells if cell.cell.split == plan.split and cell.cell.budget == plan.budgets[0]}),
        cells=len(cells),
        seconds=run.seconds,
        stopped=run.stopped,
        warnings=warnings_of_table(bench.source, bench.manifest(plan.split), target),
        notes=[
            *_notes(judged.score, name.rule.may_be_main, metric, card),
            *_alike(pool, base[judged.best], judged.role, bench.manifest(plan.split), metric),
        ],
        simulated=card.simulated,
        store=run.store,
    )


def _place(pool: Pool, found: Comparison, base: dict[str, Point], role: str, metric: str) -> Place | None:
    goodness = find_metric(metric).goodness
    scores = {model: entry.estimate for model, point in base.items() if (entry := found.score(point, role)) is not None}
    scores = {model: score for model, score in scores.items() if np.isfinite(score.value)}
    models = sorted((name for name in scores if not name.startswith("floor/")), key=lambda name: (-goodness(scores[name].value), name))
    floors = sorted((name for name in scores if name.startswith("floor/")), key=lambda name: (-goodness(scores[name].value), name))
    if not models:
        return None
    best = models[0]
    floor = floors[0] if floors else ""
    over, over_metric = _over_floor(pool, found, [base[model] for model in models], base[floor], role, metric) if floor else (None, metric)
    alike = [best]
    for other in models[1:]:
        lead = found.difference(base[best], base[other], role)
        if lead is not None and not lead.effect.significant and lead.effect.value < CLOSE:
            alike.append(other)
    alike.sort(key=lambda name: _costs(pool, base[name])[0])
    return Place(role, best, scores[best], floor, scores.get(floor), over, tuple(alike), over_metric)


def _over_floor(
    pool: Pool, found: Comparison, models: Sequence[Point], floor: Point, role: str, metric: str
) -> tuple[Estimate | None, str]:
    """How much better the first of some models is than a baseline without imagery, and the metric that this is in."""
    asked = [against_floor(pool, [model], floor, metric, role) for model in models]
    if asked[0][1] == metric:
        entry = found.difference(models[0], floor, role)
    else:
        entry = differences(pool, [sides for sides, _ in asked], [name for _, name in asked])[0]
    return (entry.effect if entry else None), asked[0][1]


def _verdict(judged: Place, metric: str, flags: Sequence[DesignFlag]) -> Verdict:
    goodness = find_metric(metric).goodness
    if judged.floor_score is None:
        return "model"
    if judged.floor_score.value >= PERFECT and metric != "mae":
        return "perfect-floor"
    ahead = goodness(judged.score.value) > goodness(judged.floor_score.value)
    if judged.over_floor is not None and judged.over_metric != metric:
        ahead = judged.over_floor.value > 0
    if not ahead:
        follows = judged.floor == "floor/nearest" and any(flag.what == "place" for flag in flags)
        return "perfect-floor" if follows else "floor"
    return "model" if judged.over_floor is not None and judged.over_floor.significant else "leads"


def _of_the_place(
    pool: Pool, found: Comparison, base: dict[str, Point], here: Place, metric: str
) -> tuple[Estimate | None, float | None, str]:
    """How much the nearest labelled place is better than majority or mean, its share of the best model's gain, and the metric of both."""
    plain = next((base[name] for name in PLAIN if name in base), None)
    nearest = base.get("floor/nearest")
    if plain is None or nearest is None:
        return None, None, metric
    gain, used = _over_floor(pool, found, [nearest], plain, HOME, metric)
    whole, _ = _over_floor(pool, found, [base[here.best]], plain, HOME, metric)
    if gain is None or whole is None:
        return None, None, metric
    share = gain.value / whole.value if whole.value > 0 else 1.0
    return gain, float(np.clip(share, 0.0, 1.0)) if gain.value > 0 else 0.0, used


def _open_questions(
    found: Comparison, base: dict[str, Point], recommended: str, judged: Place
) -> tuple[list[tuple[str, Estimate]], list[tuple[str, Estimate]]]:
    """Forest or linear model, embedding or raw columns: what these data settle, and what they do not."""
    settled: list[tuple[str, Estimate]] = []
    unsettled: list[tuple[str, Estimate]] = []
    inputs, _, learner = (judged.best if recommended.startswith("floor/") else recommended).partition("/")
    linear = next((f"{inputs}/{name}" for name in ("logistic", "ridge") if f"{inputs}/{name}" in base), "")
    pairs = [(f"{inputs}/rf", linear)]
    sets = [name.partition("/")[0] for name in base if name.endswith(f"/{learner}") and not name.startswith("floor/")]
    if "raw" in sets:
        pairs += [(f"{name}/{learner}", f"raw/{learner}") for name in sets if name not in ("raw", "hybrid")][:1]
    for one, other in pairs:
        if one not in base or other not in base:
            continue
        entry = found.difference(base[one], base[other], judged.role)
        if entry is None:
            continue
        if entry.effect.significant:
            first, second = (one, other) if entry.effect.value > 0 else (other, one)
            better = found.difference(base[first], base[second], judged.role) or entry
            settled.append((f"{first} beats {second}", better.effect))
        else:
            unsettled.append((f"{one} against {other}", entry.effect))
    return settled, unsettled


def _scores(found: Comparison, point: Point) -> dict[str, Estimate]:
    scores = {role: entry for role in (HOME, ELSEWHERE) if (entry := found.score(point, role)) is not None}
    return {role: entry.estimate for role, entry in scores.items()}


def _gains(pool: Pool, one: Point, other: Point, metric: str) -> dict[str, Estimate]:
    return {role: gain for role in (HOME, ELSEWHERE) if (gain := _gain(pool, one, other, role, metric)) is not None}


def _there(pool: Pool, plan: AdvicePlan, chosen: Point, metric: str, *, clustered: bool) -> Estimate | None:
    """What labels of the group held out bring there; None where it was not run."""
    split = next((name for name in plan.plus if ("-in-" in name) == clustered), None)
    return None if split is None else _gain(pool, chosen._replace(split=split), chosen, ELSEWHERE, metric)


def _gain(pool: Pool, one: Point, other: Point, role: str, metric: str) -> Estimate | None:
    """How much better one point is than another in a role; None where either was not run."""
    (entry,) = differences(pool, [(Side.score(one, role), Side.score(other, role))], metric)
    return entry.effect if entry else None


def _by_budget(pool: Pool, plan: AdvicePlan, metric: str) -> list[tuple[float, str, float, str | None, float | None]]:
    found: list[tuple[float, str, float, str | None, float | None]] = []
    for budget in plan.budgets:
        points = {point.model: point for point in pool.points if point.split == plan.split and point.budget == budget}
        if not points or "-in-" in budget:
            continue
        compared = compare(Pool({point: pool.points[point] for point in points.values()}), metric=metric)
        here, there = (_place(pool, compared, points, role, metric) for role in (HOME, ELSEWHERE))
        if here is not None:
            labels = float(budget.removesuffix("-units"))
            found.append((labels, here.best, here.score.value, there.best if there else None, there.score.value if there else None))
    return sorted(found)


def _confusion(pool: Pool, point: Point, role: str, classes: tuple[str, ...] | None) -> dict[str, dict[str, int]] | None:
    """What is taken for what, over the folds of the first draw."""
    if not classes:
        return None
    first = min(cell.cell.seed for cell in pool.points[point])
    total = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for cell in pool.points[point]:
        kept = pool.kept(cell, role) if cell.cell.seed == first else None
        for stats in kept.stats if kept is not None else ():
            if isinstance(stats, Confusion) and stats.values.shape[-1] == len(classes):
                total += stats.values.reshape(-1, len(classes), len(classes)).sum(axis=0).astype(np.int64)
    return {
        truth: {said: int(total[row, column]) for column, said in enumerate(classes) if total[row, column]}
        for row, truth in enumerate(classes)
    }


def _metric(pool: Pool, point: Point, card: TaskCard) -> str:
    cell = pool.points[point][0]
    kept = next((sums for role in cell.sums if (sums := pool.kept(cell, role)) is not None), None)
    if kept is not None and kept.gives(card.main_metric) and find_metric(card.main_metric).higher_is_better is not None:
        return card.main_metric
    return card.about.main_metric


def _costs(pool: Pool, point: Point) -> tuple[float, float, str]:
    costs = [cell.cost for cell in pool.points[point]]

    def median(values: Iterable[float | None]) -> float:
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else float("nan")

    hardware = next((cost.hardware for cost in costs if cost.hardware), "")
    return median(cost.fit_s for cost in costs), median(cost.predict_s_per_1000 for cost in costs), hardware or ""


def _alike(pool: Pool, point: Point, role: str, manifest: SplitManifest, metric: str) -> list[str]:
    """Says where groups, or blocks, are no independent draws."""
    checked = independence(pool, point, role, manifest, metric)
    return [checked.sentence] if checked is not None and checked.too_short else []


def _notes(score: Estimate, main: bool, metric: str, card: TaskCard) -> list[str]:
    notes = []
    if not main:
        notes.append("Only a random split was possible: neighbours are on both sides, and the scores are too high.")
    if score.over == "groups" and score.n_groups < LEAST:
        notes.append(f"{score.n_groups} groups give no interval; look at each group's value.")
    if score.over == "blocks":
        notes.append("Intervals resample the test blocks of this one area: they hold here, not in a new area.")
    if metric != card.main_metric:
        notes.append(f"Shown in {metric}: {card.main_metric} has no interval from what results keep.")
    return notes
