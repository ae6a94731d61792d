"""The fair protocol's rules as code: each has a number, a sentence and a check over results and manifests.

A verdict is pass, fail or not applicable, always with its reason. Nothing is taken on trust that the results can show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.comparison import against_floor, cell_drops, differences
from rs05bench.protocol.feature_sets import Content, content_of, is_image, set_of
from rs05bench.protocol.inference.estimate import Estimate
from rs05bench.protocol.manifest import SplitManifest
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.names import parse_budget
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Result
from rs05bench.protocol.splits import Split

Outcome = Literal["pass", "fail", "not applicable"]

LEAST_SEEDS = 5
LEAST_BUDGETS = 2
DISSENT = 9
"""Groups from which on a sign test can reject at 5 % with one group against it: 2 (1 + 9) / 2^9 = .039."""
ENCODER_TIERS = ("frozen", "decoder", "adapter", "lora", "full")
MOST_KINDS = 2
"""Kinds of breaches that a reason names; `breaches` has all."""


class RuleVerdict(BaseModel):
    """What a rule says of a set of runs.

    Attributes:
        rule: Its number in the protocol.
        key: A short name.
        sentence: The rule.
        verdict: Pass, fail or not applicable.
        reason: Why, with what was found.
        breaches: Every breach, one plain sentence each.
    """

    rule: int
    key: str
    sentence: str
    verdict: Outcome
    reason: str
    breaches: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Runs:
    """What the rules look at."""

    results: Sequence[Result]
    manifests: Mapping[tuple[str, str], SplitManifest] = field(default_factory=dict)
    cards: Mapping[str, TaskCard] = field(default_factory=dict)

    def grouped(self, *names: str, among: Iterable[Result] | None = None) -> dict[tuple[Hashable, ...], list[Result]]:
        """Results by some fields of their cells, in order of appearance."""
        groups: dict[tuple[Hashable, ...], list[Result]] = defaultdict(list)
        for result in self.results if among is None else among:
            groups[tuple(getattr(result.cell, name) for name in names)].append(result)
        return dict(groups)


class RuleNotApplicable(Exception):
    """Raised by a check that has nothing to look at; carries the reason."""


Check = Callable[[Runs], tuple[list[str], str]]


def sum_up(runs: Runs, breaches: list[str]) -> str:
    """Breaches in one sentence: the most frequent kinds, how often each occurs, and an example."""
    if len(breaches) <= MOST_KINDS:
        return "; ".join(breaches)
    places: dict[str, list[str]] = defaultdict(list)
    for breach in breaches:
        where, _, what = breach.partition(": ")
        places[what].append(where)
    kinds = sorted(places.items(), key=lambda kind: -len(kind[1]))[:MOST_KINDS]
    told = [f"{what} ({len(where)} times, e.g. {where[0]})" if len(where) > 1 else f"{where[0]}: {what}" for what, where in kinds]
    left = len(breaches) - sum(len(where) for _, where in kinds)
    return "; ".join(told) + (f"; and {left} more" if left else "")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; its check returns the breaches, and what holds where there is none; breaches are told in one sentence."""

    number: int
    key: str
    sentence: str
    check: Check
    sum_up: Callable[[Runs, list[str]], str] = sum_up


def check_rules(
    results: Iterable[Result | Mapping[str, Any]], manifests: Iterable[SplitManifest] = (), cards: Iterable[TaskCard] = ()
) -> list[RuleVerdict]:
    """Check every rule over a set of runs.

    Args:
        results: Results, or the records read from their JSON.
        manifests: Manifests the results rest on; with them the digests are compared.
        cards: Task cards; with them a baseline that the data cannot give is not asked for, and overlap can be declared there.

    Returns:
        One verdict a rule, in order.

    Raises:
        DataError: There are no results, or a record is not one.
    """
    read = [_as_result(result) for result in results]
    if not read:
        raise DataError("no results to check", remedy="Run a sweep first, and give its folder.")
    runs = Runs(read, {(manifest.task, manifest.split): manifest for manifest in manifests}, {card.name: card for card in cards})
    return [_judge(rule, runs) for rule in RULES]


def _as_result(record: Result | Mapping[str, Any]) -> Result:
    if isinstance(record, Result):
        return record
    try:
        return Result.model_validate(record)
    except ValidationError as error:
        raise DataError(f"is no result: {error}", source=str(record.get("digest", "result"))[:16]) from error


def _judge(rule: Rule, runs: Runs) -> RuleVerdict:
    try:
        breaches, held = rule.check(runs)
    except RuleNotApplicable as nothing:
        return RuleVerdict(rule=rule.number, key=rule.key, sentence=rule.sentence, verdict="not applicable", reason=str(nothing))
    breaches = list(dict.fromkeys(breaches))
    reason = rule.sum_up(runs, breaches) if breaches else held
    verdict: Outcome = "fail" if breaches else "pass"
    return RuleVerdict(rule=rule.number, key=rule.key, sentence=rule.sentence, verdict=verdict, reason=reason, breaches=breaches)


def _budgets(runs: Runs) -> tuple[list[str], str]:
    wrong = []
    for result in runs.results:
        labels, name = result.budget, f"{_name(result)}, {result.cell.budget}"
        used = labels.labels_used
        if used is None or not labels.digest:
            wrong.append(f"{name}: the labels used are not recorded")
            continue
        train, val = labels.train or 0, labels.val or 0
        if val > train:
            wrong.append(f"{name}: {val} labels validate, more than the {train} that train")
        if labels.train is not None and labels.val is not None and train + val != used:
            wrong.append(f"{name}: {train} + {val} labels, but {used} are reported as used")
        most = _most_labels(result, runs.cards.get(result.cell.task))
        # What a +k split takes from the held-out region is declared by the split, beside the budget.
        if most is not None and used - (labels.extra or 0) > most:
            wrong.append(f"{name}: {used} labels used, the budget allows {most}")
    for key, group in runs.grouped("task", "target", "split", "fold", "budget", "seed").items():
        digests = {result.budget.digest for result in group}
        if len(digests) > 1:
            wrong.append(f"{' / '.join(map(str, key))}: models were given {len(digests)} different label sets")
    return wrong, f"{len(runs.grouped('budget'))} budgets, every label counted, the same labels for every model"


def _most_labels(result: Result, card: TaskCard | None) -> int | None:
    """Labels a budget allows where its name alone says it; None where it depends on the data."""
    try:
        budget = parse_budget(result.cell.budget)
    except ValueError:
        return None
    if budget.kind in ("units", "clustered"):
        return int(budget.amount)
    if budget.kind == "per-class":
        classes = len(card.classes) if card and card.classes else None
        return int(budget.amount) * classes if classes else None
    return None


def _splits(runs: Runs) -> tuple[list[str], str]:
    wrong = []
    for (task, split), group in runs.grouped("task", "split").items():
        name = Split(str(split))
        manifest = runs.manifests.get((str(task), name.base))
        can_be_main = manifest.card.get("can_be_main", name.rule.may_be_main) if manifest else name.rule.may_be_main
        if not can_be_main and any(result.main for result in group):
            wrong.append(f"{task} / {split}: a {name.rule.name} split is given as a main result")
        digests = {result.digests.get("manifest") for result in group}
        if None in digests or len(digests) > 1:
            wrong.append(f"{task} / {split}: {'no manifest digest' if None in digests else f'{len(digests)} different manifests'}")
        elif manifest is not None and digests != {manifest.digest}:
            wrong.append(f"{task} / {split}: the results rest on another manifest than the one available")
    for (task,), group in runs.grouped("task").items():
        if not any(result.main for result in group):
            wrong.append(f"{task}: no result under a fixed spatial split")
    return wrong, "main results rest on frozen spatial splits"


def _preprocessing(runs: Runs) -> tuple[list[str], str]:
    wrong = []
    for (task,), group in runs.grouped("task").items():
        digests = {result.digests.get("preprocessing") for result in group}
        if None in digests:
            wrong.append(f"{task}: the preprocessing digest is missing from {sum('preprocessing' not in r.digests for r in group)} results")
        elif len(digests) > 1:
            wrong.append(f"{task}: {len(digests)} different preprocessings")
    return wrong, "one preprocessing digest a task"


def _schedule(runs: Runs) -> tuple[list[str], str]:
    wrong = []
    for result in runs.results:
        role = result.training.early_stopping_role
        if role is not None and role != "val":
            wrong.append(f"{_name(result)}: stopped early on {role}, not on a validation region")
    for (task,), group in runs.grouped("task").items():
        trained = [result for result in group if result.training.steps_given is not None]
        for what, read in (("schedules", _steps), ("batch sizes", _batch_size), ("precisions", _precision)):
            wrong += _unequal(f"{task}", f"unequal {what}", trained, read)
    for (task, split, budget), group in runs.grouped("task", "split", "budget").items():
        # A floor is no method that is tuned against others.
        learners = [result for result in group if result.model.tier != "floor"]
        wrong += _unequal(f"{task} / {split} / {budget}", "unequal numbers of configurations tried", learners, _tries)
    return wrong, "the same steps, batch, precision and number of configurations tried for every tier; nothing stops on a test region"


def _unequal(where: str, what: str, results: Sequence[Result], read: Callable[[Result], str | None]) -> list[str]:
    """One breach where models were given different amounts of something."""
    models: dict[str, set[str]] = defaultdict(set)
    for result in results:
        said = read(result)
        if said is not None:
            models[said].add(result.cell.model)
    if len(models) < 2:
        return []
    told = ", ".join(f"{said} ({', '.join(sorted(names)[:3])})" for said, names in sorted(models.items()))
    return [f"{where}: {what}: {told}"]


def _steps(result: Result) -> str | None:
    steps = result.training.steps_given
    return None if steps is None else f"{steps} steps"


def _batch_size(result: Result) -> str | None:
    size = result.training.batch_size
    return None if size is None else f"batch size {size}"


def _precision(result: Result) -> str | None:
    value = result.cell.options.get("precision") if result.training.precision is None else result.training.precision
    return None if value is None else f"precision {value}"


def _tries(result: Result) -> str | None:
    """Configurations that were fitted and compared on validation labels: entries of a grid, or learning rates."""
    tried = result.training.configurations_tried
    return f"{tried} tried" if tried else None


def _costs(runs: Runs) -> tuple[list[str], str]:
    wrong = []
    for key, group in runs.grouped("task", "model").items():
        costs = [result.cost for result in group]
        asked = ["fit_s", "predict_s", "peak_memory_mb", "labels_used"]
        if group[0].model.tier in ENCODER_TIERS:
            asked += ["parameters_total", "parameters_trainable"]
        if any(cost.peak_device_memory_mb is not None for cost in costs):
            asked.append("device_hours")
        missing = [name for name in asked if all(getattr(cost, name) is None for cost in costs)]
        if missing:
            wrong.append(f"{' / '.join(map(str, key))}: no {', '.join(missing)}")
    return wrong, "parameters, time, memory and labels are reported for every model"


def _needs_tier(tier: str, word: str) -> Callable[[Runs], list[str]]:
    def missing(runs: Runs) -> list[str]:
        wrong = []
        for (task, split), group in runs.grouped("task", "split", among=[result for result in runs.results if result.main]).items():
            if not any(result.model.tier == tier for result in group):
                wrong.append(f"{task} / {split}: no {word}")
        return wrong

    return missing


def _baselines(runs: Runs) -> tuple[list[str], str]:
    """At least one model on image bands that beats every floor, and the floor, with declared covariates where the card has them."""
    wrong = _needs_tier("floor", "floor")(runs)
    pool = Pool.of(result for result in runs.results if result.main)
    settings: dict[tuple[str, str, str], list[Point]] = defaultdict(list)
    for point in pool.points:
        settings[point.task, point.target, point.split].append(point)
    for (task, target, split), points in settings.items():
        where = f"{task} ({target}) / {split}"
        card = runs.cards.get(task)
        if card is not None and card.covariates and not any(point.model.startswith("floor/covariates") for point in points):
            wrong.append(f"{where}: no floor on the declared covariates ({', '.join(card.covariates)})")
        raw = [point for point in points if pool.model(point).tier == "raw"]
        images = [point for point in raw if is_image(_content(pool, point, card))]
        if not images:
            kinds = " and ".join(sorted({kind for point in raw for kind in _content(pool, point, card)}))
            what = f"raw is {kinds}" if kinds else "what raw is, is not recorded" if raw else "no model of tier raw"
            wrong.append(f"{where}: no baseline on image bands ({what})")
        elif not any(_beats_floors(pool, point, points) for point in images):
            names = ", ".join(sorted({point.model for point in images}))
            wrong.append(f"{where}: no baseline on image bands beats the floor ({names})")
    return wrong, "a baseline on image bands beats the floor under every main split"


def _content(pool: Pool, point: Point, card: TaskCard | None) -> frozenset[Content]:
    """What a model's inputs are: as recorded, else as the card's columns say; chips of unnamed bands are images."""
    model = pool.model(point)
    if model.content:
        return frozenset(model.content)
    known = content_of(model.inputs, card.features) if card is not None else frozenset()
    return known or pool.points[point][0].about.content


def _beats_floors(pool: Pool, point: Point, points: Sequence[Point]) -> bool:
    """Whether a model is above every floor of its budget: beyond chance where there are groups enough to tell, else by its score.

    A sign test tolerates one group against it from `DISSENT` groups on; with fewer it would ask that all agree, and one is tolerated too.
    """
    floors = [other for other in points if other.budget == point.budget and pool.model(other).tier == "floor"]
    name = pool.metric(point)
    if not floors or find_metric(name).higher_is_better is None:
        return False
    role = "test_ood" if pool.inside(point, "test_ood", name).groups else "test_id"
    asked = [against_floor(pool, [point], floor, name, role) for floor in floors]
    made = differences(pool, [sides for sides, _ in asked], [metric for _, metric in asked])
    return all(entry is not None and _above(entry.effect) for entry in made)


def _above(effect: Estimate) -> bool:
    if effect.bounds is None or (effect.median is not None and effect.n_groups < DISSENT):
        against = sum(value <= 0 for value in effect.points.values())
        return effect.value > 0 and (effect.bounds is None or against <= 1)
    return effect.above_zero


def _hybrid(runs: Runs) -> tuple[list[str], str]:
    if runs.cards and not any("hybrid" in card.features for card in runs.cards.values()):
        raise RuleNotApplicable("no card declares hybrid features")
    wrong = [fault for fault in _needs_tier("hybrid", "hybrid baseline")(runs) if _has(runs, fault, "hybrid")]
    return wrong, "a hybrid baseline stands beside the others under every main split"


def _has(runs: Runs, fault: str, features: str) -> bool:
    """Whether the task's data could give such a baseline; without its card they are taken to."""
    card = runs.cards.get(fault.partition(" / ")[0])
    return card is None or not card.features or set_of(features, card.features) is not None


def _curve(runs: Runs) -> tuple[list[str], str]:
    wrong = [
        f"{' / '.join(map(str, key))}: only {group[0].cell.budget}"
        for key, group in runs.grouped("task", "target", "split", "model").items()
        if len({result.cell.budget for result in group}) < LEAST_BUDGETS
    ]
    return wrong, "every model has more than one budget"


def _drop(runs: Runs) -> tuple[list[str], str]:
    moved = [result for result in runs.results if result.main and result.cell.split.rule.same_units == "fold"]
    if not moved:
        raise RuleNotApplicable("no split holds a region or a year out")
    wrong = [f"{_name(result)}: no scores inside groups" for result in moved if not _inside(result)]
    drops = cell_drops(moved)
    wrong += [
        f"{' / '.join(map(str, key))}: no drop on the same ground (a fold that trains on the held-out region is missing)"
        for key, group in runs.grouped("task", "target", "split", "model", among=moved).items()
        if not any(result.digest in drops for result in group)
    ]
    return wrong, "each held-out group is also scored with it in training; main scores are means over groups"


def _inside(result: Result) -> bool:
    return any(stratum.role == "test_ood" and result.main_metric in stratum.scores for stratum in result.strata)


def _error_maps(runs: Runs) -> tuple[list[str], str]:
    wrong = [
        f"{_name(result)}: no {'predictions' if 'predictions' not in result.digests else 'scores by group'} to say where it fails"
        for result in runs.results
        # One area without groups has no score by group: its error map is by test block.
        if "predictions" not in result.digests or ("test_ood" in result.scores and not any(result.per_group.values()))
    ]
    return wrong, "every result keeps its unit predictions and its scores by group, where there are groups"


def _twin(runs: Runs) -> tuple[list[str], str]:
    pretrained = [r for r in runs.results if r.model.tier in ENCODER_TIERS and r.model.pretrained and not r.model.random_twin]
    if not pretrained:
        raise RuleNotApplicable("no model has a pretrained encoder with open weights")
    there = {(r.cell.task, r.cell.split, r.cell.budget, r.cell.model) for r in runs.results if r.model.random_twin}
    wrong = [
        f"{r.cell.task} / {r.cell.split} / {r.cell.budget}: {r.cell.model} has no {r.cell.model}@random"
        for r in pretrained
        if r.model.open_weights and (r.cell.task, r.cell.split, r.cell.budget, f"{r.cell.model}@random") not in there
    ]
    return wrong, "every pretrained encoder has its random-initialised twin"


def _seeds(runs: Runs) -> tuple[list[str], str]:
    wrong = []
    for key, group in runs.grouped("task", "target", "split", "fold", "budget").items():
        seeds: dict[str, set[int]] = defaultdict(set)
        for result in group:
            seeds[result.cell.model].add(result.cell.seed)
        where = " / ".join(str(part) for part in key)
        wrong += [f"{where}: {model} has {len(found)} of {LEAST_SEEDS} seeds" for model, found in seeds.items() if len(found) < LEAST_SEEDS]
        # Pairs are made over equal seeds; a model with others has nothing to be paired with.
        if len({frozenset(found) for found in seeds.values()}) > 1 and all(len(found) >= LEAST_SEEDS for found in seeds.values()):
            wrong.append(f"{where}: models ran different seeds, so they cannot be paired")
    return wrong, f"at least {LEAST_SEEDS} seeds everywhere, the same for every model"


def _sum_up_seeds(runs: Runs, breaches: list[str]) -> str:
    fewest: dict[tuple[Hashable, ...], int] = {}
    for (*point, _), group in runs.grouped("task", "target", "split", "budget", "model", "fold").items():
        fewest[tuple(point)] = min(fewest.get(tuple(point), len(group)), len({result.cell.seed for result in group}))
    short = {point: seeds for point, seeds in fewest.items() if seeds < LEAST_SEEDS}
    if not short:
        return sum_up(runs, breaches)
    task, _, split, budget, model = min(short, key=lambda point: short[point])
    example = f"{model} on {task} / {split} / {budget} has {min(short.values())} of {LEAST_SEEDS} seeds"
    return example if len(short) == 1 else f"{len(short)} of {len(fewest)} points of the curves have too few seeds; the fewest: {example}"


def _calibration(runs: Runs) -> tuple[list[str], str]:
    wrong = []
    for result in runs.results:
        missing = sorted({name for scores in result.scores.values() for name in result.about.calibration if name not in scores})
        if missing or not result.scores:
            wrong.append(f"{_name(result)}: no {', '.join(missing) or 'scores'}")
    return wrong, "ECE and Brier, or interval coverage, for every cell"


def _overlap(runs: Runs) -> tuple[list[str], str]:
    learnt = [r for r in runs.results if not r.model.random_twin and (r.model.pretrained or r.model.tier in ("embedding", "hybrid"))]
    if not learnt:
        raise RuleNotApplicable("no model rests on anything pretrained")
    wrong = [f"{r.cell.model}: does not say what it was pretrained on" for r in learnt if not r.model.pretraining]
    wrong += [
        f"{name}: the card does not declare its overlap with pretraining data" for name, card in runs.cards.items() if not card.overlap
    ]
    return wrong, "every model says what it was pretrained on" + (", every card its overlap" if runs.cards else "")


def _name(result: Result) -> str:
    cell = result.cell
    return f"{cell.model} on {cell.task} / {cell.split} / {cell.fold}"


RULES: tuple[Rule, ...] = (
    Rule(
        1,
        "budgets",
        "A fixed label budget counts every label that is used, validation included, and is the same for every model.",
        _budgets,
    ),
    Rule(2, "splits", "Main results rest on fixed spatial splits; a random split is only a sanity check.", _splits),
    Rule(3, "preprocessing", "Preprocessing is fixed and pinned by hash.", _preprocessing),
    Rule(
        4,
        "schedule",
        "All tiers get the same optimiser steps, batch, precision and number of configurations, and stop early on a validation region.",
        _schedule,
    ),
    Rule(5, "cost", "Parameters, time, memory and labels are reported.", _costs),
    Rule(
        6,
        "baselines",
        "At least one traditional baseline on image bands beats the floor, judged by its columns; declared covariates have a floor.",
        _baselines,
    ),
    Rule(7, "hybrid", "At least one hybrid baseline stands beside the others.", _hybrid),
    Rule(8, "curve", "Every model has a few-shot curve, never one budget alone.", _curve),
    Rule(
        9,
        "drop",
        "The main score is the mean over groups of the score inside each; the drop is measured on the same test units.",
        _drop,
    ),
    Rule(10, "error-maps", "It is shown where a model fails, not only how often.", _error_maps),
    Rule(11, "twin", "Every pretrained encoder is run beside its random-initialised twin.", _twin),
    Rule(12, "seeds", "At least 5 seeds, and paired tests.", _seeds, _sum_up_seeds),
    Rule(13, "calibration", "Every cell is calibrated: ECE and Brier, or interval coverage.", _calibration),
    Rule(14, "overlap", "Overlap with pretraining data is declared.", _overlap),
)
