"""Reading a quick sweep: who is best where, what more labels bring, what a larger model brings, and how sure all of it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from rs05bench.errors import DataError
from rs05bench.experiment.advice import ELSEWHERE, HOME, Advice, Choice
from rs05bench.experiment.advise_plan import Plan, task_classes
from rs05bench.experiment.cell import Bench
from rs05bench.protocol.adaptation_curve import AdaptationPoint, adaptation_curve
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.drop import drop_estimates
from rs05bench.protocol.inference.intervals import Estimate
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.pooled_contrast import contrast
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.splits import Split


def read_results(bench: Bench, card: TaskCard, plan: Plan, pool: Pool, stopped: str, seconds: float, store: str, target: str) -> Advice:
    """The advice that a sweep's complete cells give.

    Args:
        bench: The task.
        card: Its card.
        plan: What was to be run.
        pool: Cells of seeds that have every fold.
        stopped: What was left out because the time was up.
        seconds: Time it took.
        store: Where the results lie.
        target: Target.

    Raises:
        DataError: No model could be scored.
    """
    base = {point.model: point for point in pool.points if point.split == plan.split and point.budget == plan.budgets[0]}
    metric = _metric(pool, next(iter(base.values())), card)
    reader = _Reader(pool, metric)
    here = reader.best(base, HOME)
    if here is None:
        raise DataError("no model could be scored", source=card.name)
    elsewhere = reader.best(base, ELSEWHERE)
    judged, role = (elsewhere, ELSEWHERE) if elsewhere else (here, HOME)
    recommended = judged.alike[0]
    chosen = base[recommended]
    floors = {
        name: {place: score for place in (HOME, ELSEWHERE) if (score := reader.score(point, place)) is not None}
        for name, point in base.items()
        if name.startswith("floor/")
    }
    plain = next((point for name, point in base.items() if name in ("floor/majority", "floor/mean")), None)
    nearest = base.get("floor/nearest")
    name = Split(plan.split)
    units = bench.source.units().frame
    column = card.group_column(name.group) or card.split_options.region or (card.groups[0] if card.groups else None)
    features = sorted({item for features in card.features for item in bench.source.features(features)[0]})
    bands = [item for item in features if len(item) == 3 and item[0] == "A" and item[1:].isdigit()]
    cells = [cell for cells in pool.points.values() for cell in cells]
    cost = _costs(pool, chosen)
    return Advice(
        task=card.name,
        kind=card.kind,
        metric=metric,
        group=name.group or ("year" if name.rule.needs_year else None),
        split=plan.split,
        units=int(bench.source.labels(target).notna().sum()),
        groups=int(units[column].nunique()) if column else 1,
        classes=len(task_classes(bench, card, target) or ()) or None,
        bands=len(bands),
        columns=len(features) - len(bands),
        labels=plan.labels,
        labels_used=pool.labels(chosen),
        here=here,
        elsewhere=elsewhere,
        recommended=recommended,
        reaches={place: score for place in (HOME, ELSEWHERE) if (score := reader.score(chosen, place)) is not None},
        drop=_drop_of(pool, base[judged.model], metric) if elsewhere else None,
        floors=floors,
        place_counts=reader.difference(nearest, plain, HOME) if nearest and plain else None,
        by_budget=_by_budget(pool, plan, reader),
        more_here=_more_here(pool, plan, reader, chosen),
        more=plan.more,
        more_there=_more_there(pool, chosen, metric),
        larger=_larger(base, reader, recommended, role),
        inputs=_inputs(base, reader, recommended, role),
        fit_s=cost[0],
        predict_s_per_1000=cost[1],
        hardware=cost[2],
        models=tuple(base),
        seeds=len({cell.cell.seed for cell in cells if cell.cell.split == plan.split and cell.cell.budget == plan.budgets[0]}),
        cells=len(cells),
        seconds=seconds,
        stopped=stopped,
        notes=_notes(judged.score, base, name.rule.may_be_main, metric, card),
        simulated=card.simulated,
        store=store,
        in_time=bool(column) and int(units.groupby(column)["place"].nunique().max()) == 1,
    )


@dataclass
class _Reader:
    """Scores and differences of one metric, computed once."""

    pool: Pool
    metric: str
    _scores: dict[tuple[Point, str], Estimate | None] = field(default_factory=dict)

    def score(self, point: Point, role: str) -> Estimate | None:
        """Score of a point with interval."""
        if (point, role) not in self._scores:
            self._scores[point, role] = self.pool.score(point, role, self.metric)
        return self._scores[point, role]

    def difference(self, one: Point, other: Point, role: str) -> Estimate | None:
        """How much better one is than the other on the same blocks, positive for better."""
        sides = [self.pool.fits(point, self.metric, role) for point in (one, other)]
        if not all(sides):
            return None
        return contrast([(1.0, sides[0])], [(1.0, sides[1])], self.metric, self.pool.regions(one) | self.pool.regions(other))[0]

    def best(self, points: dict[str, Point], role: str) -> Choice | None:
        """The best of some models, and who cannot be told from it."""
        scores = {
            name: score for name, point in points.items() if (score := self.score(point, role)) is not None and np.isfinite(score.value)
        }
        if not scores:
            return None
        goodness = find_metric(self.metric).goodness
        order = sorted(scores, key=lambda name: (-goodness(scores[name].value), name))
        first = order[0]
        rivals = [name for name in order[1:] if not name.startswith("floor/")]
        leads = {name: self.difference(points[first], points[name], role) for name in order[1:]}
        alike = [first, *(name for name in order[1:] if (lead := leads[name]) is not None and not lead.low > 0)]
        alike.sort(key=lambda name: _costs(self.pool, points[name])[0])
        # A floor is recommended only where nothing beats it: it would give no map of its own.
        models = [name for name in alike if not name.startswith("floor/")] or alike
        rival = rivals[0] if rivals else None
        floor = next((name for name in order[1:] if name.startswith("floor/")), None) if not first.startswith("floor/") else None
        return Choice(first, scores[first], rival, leads[rival] if rival else None, tuple(models), leads[floor] if floor else None)


def _metric(pool: Pool, point: Point, card: TaskCard) -> str:
    cell = pool.points[point][0]
    kept = next((sums for role in cell.sums if (sums := pool.kept(cell, role)) is not None), None)
    if kept is not None and kept.gives(card.main_metric) and find_metric(card.main_metric).higher_is_better is not None:
        return card.main_metric
    return "macro_f1" if card.kind == "classification" else "r2"


def _costs(pool: Pool, point: Point) -> tuple[float, float, str]:
    costs = [cell.cost for cell in pool.points[point]]

    def median(values: Iterable[float | None]) -> float:
        known = [value for value in values if value is not None]
        return float(np.median(known)) if known else float("nan")

    hardware = next((cost.hardware for cost in costs if cost.hardware), "")
    return median(cost.fit_s for cost in costs), median(cost.predict_s_per_1000 for cost in costs), hardware or ""


def _drop_of(pool: Pool, point: Point, metric: str) -> Estimate | None:
    found = drop_estimates(Pool({point: pool.points[point]}), metric)
    return found[0].drop if found else None


def _by_budget(pool: Pool, plan: Plan, reader: _Reader) -> list[tuple[float, str, float, str | None, float | None]]:
    found: list[tuple[float, str, float, str | None, float | None]] = []
    for budget in plan.budgets:
        points = {point.model: point for point in pool.points if point.split == plan.split and point.budget == budget}
        here, there = reader.best(points, HOME), reader.best(points, ELSEWHERE)
        if here is not None:
            labels = float(budget.removesuffix("-units"))
            found.append((labels, here.model, here.score.value, there.model if there else None, there.score.value if there else None))
    return sorted(found)


def _more_here(pool: Pool, plan: Plan, reader: _Reader, chosen: Point) -> dict[str, Estimate]:
    larger = chosen._replace(budget=f"{plan.labels + plan.more}-units")
    if larger not in pool.points:
        return {}
    found = {role: reader.difference(larger, chosen, role) for role in (HOME, ELSEWHERE)}
    return {role: gain for role, gain in found.items() if gain is not None}


def _more_there(pool: Pool, chosen: Point, metric: str) -> AdaptationPoint | None:
    mine = {
        point: cells
        for point, cells in pool.points.items()
        if point.model == chosen.model and point.budget == chosen.budget and Split(point.split).base == chosen.split
    }
    return next((entry for entry in adaptation_curve(Pool(mine), metric) if entry.gain is not None), None)


def _larger(base: dict[str, Point], reader: _Reader, recommended: str, role: str) -> tuple[str, str, Estimate] | None:
    """The forest against the linear model, on the recommended model's inputs."""
    inputs = recommended.split("/")[0]
    forest = base.get(f"{inputs}/rf")
    linear = next((base[f"{inputs}/{learner}"] for learner in ("logistic", "ridge") if f"{inputs}/{learner}" in base), None)
    if inputs == "floor" or forest is None or linear is None:
        return None
    gain = reader.difference(forest, linear, role)
    return None if gain is None else (forest.model, linear.model, gain)


def _inputs(base: dict[str, Point], reader: _Reader, recommended: str, role: str) -> tuple[str, str, Estimate] | None:
    """AlphaEarth against raw columns with the recommended model's learner, where the card has both."""
    learner = recommended.split("/")[1]
    tiers = {reader.pool.model(point).tier: point for name, point in base.items() if name.endswith(f"/{learner}")}
    if "embedding" not in tiers or "raw" not in tiers:
        return None
    gain = reader.difference(tiers["embedding"], tiers["raw"], role)
    return None if gain is None else (tiers["embedding"].model, tiers["raw"].model, gain)


def _notes(score: Estimate, base: dict[str, Point], main: bool, metric: str, card: TaskCard) -> list[str]:
    notes = []
    if score.scope == "within-groups":
        notes.append("The intervals hold for these groups, not for any new one: there are too few of them to say more.")
    if len(base) > 2:
        notes.append(
            f"The best of {len(base)} models was picked on the same test blocks that score it, so its score is a little flattered."
        )
    if not main:
        notes.append("Only a random split was possible: neighbours stand on both sides, and the scores promise too much.")
    if metric != card.main_metric:
        notes.append(f"Shown in {metric}, for {card.main_metric} cannot be given with intervals from what results keep.")
    notes.append("Models that train on images (frozen encoders, LoRA) were not run: a table holds no images.")
    return notes
