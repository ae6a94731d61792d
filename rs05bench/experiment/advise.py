"""Advice for a person's own data: a quick sweep within a time limit, and what can honestly be read from it.

Nothing here is a rule of thumb. Every number comes from fits on the person's own table under the fair protocol, and where the intervals
do not tell two answers apart, that is the answer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rs05bench.errors import DataError
from rs05bench.experiment.cell import Bench, make_bench
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.experiment.workers import Outcome
from rs05bench.protocol.adaptation_curve import AdaptationPoint, adaptation_curve
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.drop import drop_estimates
from rs05bench.protocol.hypotheses import contrast
from rs05bench.protocol.inference.intervals import Estimate
from rs05bench.protocol.metrics import METRICS, find_metric
from rs05bench.protocol.names import parse_split
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Result
from rs05bench.protocol.splitters import possible_splits

HOME, ELSEWHERE = "test_id", "test_ood"
SEEDS = 5
DEFAULT_LABELS = 100
MORE = 30
LEAST_LABELS = 10
SPARE = 1.3
"""A stage is begun only when this many times its expected duration is left."""
MOST_FEATURE_SETS = 4


@dataclass(frozen=True)
class Choice:
    """The best model of one place at one budget.

    Attributes:
        model: Its name.
        score: Its score there.
        rival: The best other model that is no floor.
        lead: How much better it is than the rival on the same test blocks; None where they cannot be compared.
        alike: Models whose difference to the best cannot be told from zero, cheapest first, the best among them.
    """

    model: str
    score: Estimate
    rival: str | None
    lead: Estimate | None
    alike: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """What a quick sweep says about a person's data; every field is computed.

    Attributes:
        task: Task name.
        kind: Kind of the task.
        metric: Metric.
        group: Word for what is held out; None when nothing can be.
        split: Split the scores come from.
        units: Labelled units.
        groups: Groups.
        classes: Classes; None for a regression.
        bands: AlphaEarth bands among the features.
        columns: Other feature columns.
        labels: Labels the advice is for.
        labels_used: Labels used, the mean over folds.
        here: Best at home.
        elsewhere: Best where the group is held out; None when nothing is held out.
        recommended: The model to use: cheapest of those that cannot be told from the best elsewhere (or here).
        reaches: Place -> score of the recommended model.
        drop: Drop of the best elsewhere on the same ground.
        floors: Floor -> place (`test_id`, `test_ood`) -> score.
        place_counts: How much better the nearest labelled neighbour is than the majority or mean at home; None without positions.
        by_budget: (labels, best here, best elsewhere) at each budget that was run.
        more_here: What more labels here bring to the recommended model, at home and elsewhere.
        more: How many more.
        more_there: What labels from the new group bring.
        larger: (learner, simpler learner, difference elsewhere or here) on the recommended model's inputs.
        inputs: (feature set, other, difference) of the best two kinds of input with the same learner.
        fit_s: Seconds to fit the recommended model.
        predict_s_per_1000: Seconds to predict 1,000 units.
        hardware: On what.
        models: Models compared.
        seeds: Complete seeds.
        cells: Cells behind it.
        seconds: Time it took.
        stopped: What was left out because the time was up; empty when nothing.
        notes: What a reader has to know.
        simulated: Whether the data are simulated.
        store: Where the results lie.
        in_time: Whether a group is one place, so that new units there are new dates.
    """

    task: str
    kind: str
    metric: str
    group: str | None
    split: str
    units: int
    groups: int
    classes: int | None
    bands: int
    columns: int
    labels: int
    labels_used: float
    here: Choice
    elsewhere: Choice | None
    recommended: str
    reaches: dict[str, Estimate]
    drop: Estimate | None
    floors: dict[str, dict[str, Estimate]]
    place_counts: Estimate | None
    by_budget: list[tuple[float, str, float, str | None, float | None]]
    more_here: dict[str, Estimate]
    more: int
    more_there: AdaptationPoint | None
    larger: tuple[str, str, Estimate] | None
    inputs: tuple[str, str, Estimate] | None
    fit_s: float
    predict_s_per_1000: float
    hardware: str
    models: tuple[str, ...]
    seeds: int
    cells: int
    seconds: float
    stopped: str = ""
    notes: list[str] = field(default_factory=list)
    simulated: bool = False
    store: str = ""
    in_time: bool = False


@dataclass(frozen=True)
class _Plan:
    """What is to be run, most telling first."""

    split: str
    plus: str | None
    budgets: tuple[str, ...]
    models: tuple[str, ...]
    labels: int
    more: int

    def stages(self) -> list[tuple[tuple[str, ...], str, tuple[str, ...], int]]:
        """(models, split, budgets, seed) in the order they are run."""
        simple = tuple(name for name in self.models if not name.endswith("/rf"))
        forests = tuple(name for name in self.models if name.endswith("/rf"))
        first, others = self.budgets[:1], self.budgets[1:]
        found: list[tuple[tuple[str, ...], str, tuple[str, ...], int]] = []
        for seed in range(SEEDS):
            found += [(models, self.split, first, seed) for models in (simple, forests)]
            # Forests take most of the time: what more labels buy them is asked a round later.
            for models, at in ((simple, seed), (forests, seed - 1)):
                if self.plus:
                    found.append((models, self.plus, first, at))
                if others:
                    found.append((models, self.split, others, at))
        return [stage for stage in found if stage[0] and stage[3] >= 0]


def advise(
    card_path: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    labels: int | None = None,
    minutes: float = 5.0,
    more: int = MORE,
    target: str | None = None,
    jobs: int | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Advice:
    """Runs a quick sweep on a person's data and reads it.

    Args:
        card_path: Task card.
        data: Data directory.
        out: Where results are kept; a second run with more time takes them up.
        labels: How many labels will be used in all; default 100, or as many as there are.
        minutes: Time limit. The first round of simple models is always run.
        more: How many further labels are asked about.
        target: Target; default the card's first.
        jobs: Worker processes; default all cores.
        on_stage: Told in a few words what is being run.

    Returns:
        The advice.

    Raises:
        DataError: The card is of a segmentation; no split is possible; nothing could be run.
    """
    begin = time.perf_counter()
    card = TaskCard.load(card_path)
    if card.kind == "segmentation":
        raise DataError(
            "advice is for tables, and this card is a segmentation",
            source=card_path,
            remedy="Sweep its models: rs05bench sweep CARD --out RUNS.",
        )
    target = target or card.targets[0]
    bench, split = _open(card, data)
    plan = _plan(bench, card, split, target, labels, more)
    stopped = _run(plan, card_path, data, Path(out), target, begin + 60 * minutes, jobs, on_stage)
    manifest = str(bench.manifest(split).card["digest"])
    results = [
        result
        for result in ResultStore(out).results()
        if result.cell.task == card.name
        and result.cell.target == target
        and result.digests.get("manifest") == manifest
        and result.digests.get("data") == bench.source.digest
    ]
    complete = _complete(results, len(bench.manifest(split).folds))
    if not complete:
        raise DataError(
            "no model could be run on every fold",
            source=card_path,
            remedy="Give more time with --minutes, or look at the failures in --out.",
        )
    return _read(bench, card, plan, Pool.of(complete), stopped, time.perf_counter() - begin, str(out), target)


def _open(card: TaskCard, data: str | Path) -> tuple[Bench, str]:
    from rs05bench.datamodules.sources import open_source

    source = open_source(card, data)
    verdicts = possible_splits(card, source.units())
    order = ("leave-group", "leave-group-year", "leave-year", "until", "within", "spatial-block", "official", "random")
    possible = [split for split, reason in verdicts.items() if not reason and not parse_split(split).extra]
    if not possible:
        raise DataError(f"no split is possible on these data: {next(iter(verdicts.values()), '')}", source=card.name)
    split = min(possible, key=lambda name: order.index(parse_split(name).rule))
    return make_bench(card, data, [split], source), split


def _plan(bench: Bench, card: TaskCard, split: str, target: str, labels: int | None, more: int) -> _Plan:
    counts = bench.manifest(split).counts()
    known = bench.source.labels(target).notna().mean()
    there = int((counts["train"] + counts["val"]).min() * known)
    wanted = min(labels or min(DEFAULT_LABELS, there), there)
    if wanted < LEAST_LABELS:
        raise DataError(f"{wanted} labels are too few for any advice: at least {LEAST_LABELS} are needed", source=card.name)
    sizes = [wanted]
    if wanted >= 2 * LEAST_LABELS:
        sizes.append(wanted // 2)
    if wanted + more <= there:
        sizes.append(wanted + more)
    plus = None
    if parse_split(split).rule == "leave-group":
        classes = len(_classes(bench, card, target) or ())
        plus = f"{split}+{max(1, round(more / classes)) if classes else more}"
    return _Plan(split, plus, tuple(f"{size}-units" for size in sizes), tuple(_models(bench, card)), wanted, more)


def _models(bench: Bench, card: TaskCard) -> list[str]:
    """The floors, and a linear model and a forest on each feature set: cheap, and between them hard to beat with few labels."""
    plain, linear = ("majority", "logistic") if card.kind == "classification" else ("mean", "ridge")
    models = [f"floor/{plain}"]
    if np.isfinite(bench.source.units().frame["lon"]).any():
        models.append("floor/nearest")
    sets = list(card.features)
    # The widest sets say most: a set inside another is left out when there are many.
    sets = sorted(sets, key=lambda name: -len(bench.source.features(name)[0]))[:MOST_FEATURE_SETS]
    return [*models, *(f"{name}/{learner}" for learner in (linear, "rf") for name in sets)]


def _run(
    plan: _Plan,
    card_path: str | Path,
    data: str | Path,
    out: Path,
    target: str,
    deadline: float,
    jobs: int | None,
    on_stage: Callable[[str], None] | None,
) -> str:
    """Runs stages until the time is up; returns what was left out."""
    pace: dict[str, list[float]] = defaultdict(list)
    for number, (models, split, budgets, seed) in enumerate(plan.stages()):
        left = deadline - time.perf_counter()
        expected = _expected(models, len(budgets), pace)
        if number and (left <= 0 or (expected is not None and SPARE * expected > left)):
            return f"seed {seed}, {split}, {', '.join(budgets)}" if number else ""
        if on_stage:
            on_stage(
                f"seed {seed}: {len(models)} models, {split}, {' and '.join(budget.replace('-units', '') for budget in budgets)} labels"
            )
        started = time.perf_counter()

        def watch(outcomes: Iterable[Outcome], first: bool = number == 0) -> None:
            # The sweep's own way to stop: unfinished cells are left for the next run.
            if not first and time.perf_counter() > deadline:
                raise KeyboardInterrupt

        summary = sweep(
            card_path,
            data,
            out,
            models=models,
            splits=[split],
            budgets=budgets,
            seeds=[seed],
            targets=[target],
            jobs=jobs,
            costs=False,
            on_progress=watch,
        )
        if summary.stopped:
            if time.perf_counter() < deadline:
                raise KeyboardInterrupt
            return f"seed {seed}, {split}, {', '.join(budgets)}"
        if summary.done:
            for name in models:
                pace[name].append((time.perf_counter() - started) / len(models) / len(budgets))
    return ""


def _expected(models: Sequence[str], budgets: int, pace: dict[str, list[float]]) -> float | None:
    known = [float(np.mean(pace[name])) for name in models if pace.get(name)]
    return None if not known else float(np.mean(known)) * len(models) * budgets


def _complete(results: Iterable[Result], folds: int) -> list[Result]:
    """Cells of seeds that have every fold: others stand on less ground and cannot be set beside them."""
    by_fit: dict[tuple[Point, int], list[Result]] = defaultdict(list)
    for result in results:
        by_fit[Point.of(result), result.cell.seed].append(result)
    return [result for cells in by_fit.values() if len(cells) == folds for result in cells]


def _read(bench: Bench, card: TaskCard, plan: _Plan, pool: Pool, stopped: str, seconds: float, store: str, target: str) -> Advice:
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
    name = parse_split(plan.split)
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
        group=name.group or ("year" if name.moves_year else None),
        split=plan.split,
        units=int(bench.source.labels(target).notna().sum()),
        groups=int(units[column].nunique()) if column else 1,
        classes=len(_classes(bench, card, target) or ()) or None,
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
        notes=_notes(judged.score, base, name.can_be_main, metric, card),
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
        goodness = find_metric(self.metric, METRICS).goodness
        order = sorted(scores, key=lambda name: (-goodness(scores[name].value), name))
        first = order[0]
        rivals = [name for name in order[1:] if not name.startswith("floor/")]
        leads = {name: self.difference(points[first], points[name], role) for name in order[1:]}
        alike = [first, *(name for name in order[1:] if (lead := leads[name]) is not None and not lead.low > 0)]
        alike.sort(key=lambda name: _costs(self.pool, points[name])[0])
        # A floor is recommended only where nothing beats it: it would give no map of its own.
        models = [name for name in alike if not name.startswith("floor/")] or alike
        rival = rivals[0] if rivals else None
        return Choice(first, scores[first], rival, leads[rival] if rival else None, tuple(models))


def _metric(pool: Pool, point: Point, card: TaskCard) -> str:
    cell = pool.points[point][0]
    kept = next((sums for role in cell.sums if (sums := pool.kept(cell, role)) is not None), None)
    if kept is not None and kept.gives(card.main_metric) and find_metric(card.main_metric, METRICS).higher_is_better is not None:
        return card.main_metric
    return "macro_f1" if card.kind == "classification" else "r2"


def _classes(bench: Bench, card: TaskCard, target: str) -> tuple[str, ...] | None:
    from rs05bench.protocol.taskdata import class_values

    return class_values(card, bench.source.labels(target)) if card.kind == "classification" else None


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


def _by_budget(pool: Pool, plan: _Plan, reader: _Reader) -> list[tuple[float, str, float, str | None, float | None]]:
    found: list[tuple[float, str, float, str | None, float | None]] = []
    for budget in plan.budgets:
        points = {point.model: point for point in pool.points if point.split == plan.split and point.budget == budget}
        here, there = reader.best(points, HOME), reader.best(points, ELSEWHERE)
        if here is not None:
            labels = float(budget.removesuffix("-units"))
            found.append((labels, here.model, here.score.value, there.model if there else None, there.score.value if there else None))
    return sorted(found)


def _more_here(pool: Pool, plan: _Plan, reader: _Reader, chosen: Point) -> dict[str, Estimate]:
    larger = chosen._replace(budget=f"{plan.labels + plan.more}-units")
    if larger not in pool.points:
        return {}
    found = {role: reader.difference(larger, chosen, role) for role in (HOME, ELSEWHERE)}
    return {role: gain for role, gain in found.items() if gain is not None}


def _more_there(pool: Pool, chosen: Point, metric: str) -> AdaptationPoint | None:
    mine = {
        point: cells
        for point, cells in pool.points.items()
        if point.model == chosen.model and point.budget == chosen.budget and parse_split(point.split).base == chosen.split
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


def to_dict(advice: Advice) -> dict[str, Any]:
    """Plain data; NaN as None."""
    from dataclasses import asdict

    record: dict[str, Any] = _plain(asdict(advice))
    return record


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
