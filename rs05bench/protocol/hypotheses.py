"""Verdicts on the three hypotheses of the benchmark: the claim, its contrasts with interval and p-value, and what they rest on.

Each contrast is a paired comparison inside each group (`rs05bench.compare`), p-values corrected over all contrasts of a store (Holm 1979).
What a baseline is, is read from its columns: H1 counts models on optical bands and nothing else, H3 only models that beat the floor held
out. Contrasts of one data set depend on each other, so a verdict counts data sets: one is decided where at least half of its contrasts
agree and none contradicts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.compared_sides import Difference, Side
from rs05bench.protocol.comparison import against_floor, differences
from rs05bench.protocol.feature_sets import Content, content_of, is_image
from rs05bench.protocol.inference.estimate import Estimate
from rs05bench.protocol.metrics import find_metric
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Result
from rs05bench.protocol.splits import Split

Answer = Literal["supported", "refuted", "undecided", "not testable"]
FEW_LABELS = 100
"""A very small budget: at most this many labels, or the smallest there is."""
CLAIMS = {
    "H1": "A public embedding beats raw optical spectra at very small budgets, above all for crop and urban.",
    "H2": "LoRA on Prithvi or Clay beats frozen embeddings where local boundaries or short-lived change matter.",
    "H3": "Hybrid features are steadier out of domain than either alone.",
}


@dataclass(frozen=True, slots=True)
class HypothesisContrast:
    """One contrast of a hypothesis.

    Attributes:
        hypothesis: `H1`, `H2` or `H3`.
        task: Task.
        target: Target.
        split: Split.
        budget: Budget.
        labels: Labels it holds, the mean over cells.
        where: `in-domain`, `held out`, or `drop (region)` and the like.
        metric: Metric; the effect is in its unit.
        contrast: What is compared, in words.
        effect: Positive = in the direction of the claim; `p_holm` is corrected over all contrasts of the store.
        left: Value of the first side.
        right: Value of the second side.
        verdict: Supported, refuted or undecided.
        in_scope: False for a contrast that is shown and does not count.
        simulated: Whether it rests on simulated data.
        digests: The cells it rests on.
        note: Why it does not count, or what a reader has to know.
    """

    hypothesis: str
    task: str
    target: str
    split: str
    budget: str
    labels: float
    where: str
    metric: str
    contrast: str
    effect: Estimate
    left: float
    right: float
    verdict: Answer
    in_scope: bool
    simulated: bool
    digests: tuple[str, ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, NaN as None."""
        record = {name: getattr(self, name) for name in self.__slots__ if name != "effect"}
        record |= {name: None for name in ("labels", "left", "right") if not np.isfinite(record[name])}
        return record | {"effect": self.effect.to_dict(), "digests": list(self.digests)}


@dataclass(frozen=True, slots=True)
class HypothesisVerdict:
    """What some cells say about one hypothesis.

    Attributes:
        hypothesis: `H1`, `H2` or `H3`.
        claim: The claim.
        verdict: Supported, refuted, undecided or not testable.
        reason: Why, in a sentence or two.
        comparisons: Every contrast.
        simulated: Whether any contrast rests on simulated data.
    """

    hypothesis: str
    claim: str
    verdict: Answer
    reason: str
    comparisons: tuple[HypothesisContrast, ...] = ()
    simulated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data, NaN as None."""
        record = {name: getattr(self, name) for name in self.__slots__ if name != "comparisons"}
        return record | {"comparisons": [entry.to_dict() for entry in self.comparisons]}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A contrast to be made."""

    hypothesis: str
    where: str
    words: str
    first: Side
    second: Side
    metric: str
    in_scope: bool = True
    note: str = ""
    blind: bool = False


@dataclass
class _Bench:
    """The cells and what is known of their inputs."""

    pool: Pool
    cards: dict[str, TaskCard]
    asked: list[_Asked] = field(default_factory=list)
    lacks: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def tier(self, point: Point) -> str:
        """The tier; empty for a random-init control."""
        card = self.pool.model(point)
        return "" if card.random_twin else card.tier

    def content(self, point: Point) -> frozenset[Content]:
        """What a model's inputs are, as recorded with it or on the task's card; empty where neither says it."""
        model, card = self.pool.model(point), self.cards.get(point.task)
        if model.content or card is None:
            return frozenset(model.content)
        return content_of(model.inputs, card.features)


def judge_hypotheses(results: Iterable[Result] | Pool, cards: Iterable[TaskCard] = ()) -> list[HypothesisVerdict]:
    """Verdicts on H1, H2 and H3.

    Args:
        results: Results of any cells, or a pool of them. Cells of the split `random` are not looked at.
        cards: Task cards; they say what columns a model read where its own record does not.

    Returns:
        Three verdicts, in order.
    """
    pool = results if isinstance(results, Pool) else Pool.of(results)
    pool = Pool({point: cells for point, cells in pool.points.items() if cells[0].main and not Split(point.split).extra})
    bench = _Bench(pool, {card.name: card for card in cards})
    for here in _settings(pool):
        _ask_h1(bench, here)
        _ask_h2(bench, here)
        _ask_h3(bench, here)
    made = differences(pool, [(asked.first, asked.second) for asked in bench.asked], [asked.metric for asked in bench.asked])
    found: dict[str, list[HypothesisContrast]] = {name: [] for name in CLAIMS}
    for asked, difference in zip(bench.asked, made, strict=True):
        if difference is None:
            bench.lacks[asked.hypothesis].append(f"{_named(asked.first.points[0])}: no group and seed in common")
        else:
            found[asked.hypothesis].append(_contrast(bench, asked, difference))
    return [_verdict(name, contrasts, bench.lacks[name]) for name, contrasts in found.items()]


def _ask_h1(bench: _Bench, here: Sequence[Point]) -> None:
    embeddings: dict[str, list[Point]] = defaultdict(list)
    for point in here:
        if bench.tier(point) == "embedding":
            embeddings[bench.pool.model(point).inputs].append(point)
    raw = [point for point in here if bench.tier(point) == "raw"]
    optical = [point for point in raw if bench.content(point) == {"optical"}]
    if not embeddings or not optical:
        what = "embedding" if not embeddings else "model on optical bands alone"
        bench.lacks["H1"].append(f"{_named(here[0])} has no {what}{_what_raw_is(bench, raw) if embeddings else ''}")
        return
    if here[0].budget not in _small_budgets(bench.pool, here[0]):
        return
    for points in embeddings.values():
        first, second, words = _same_learners(bench.pool, points, optical)
        for role, where in _places(here[0]):
            sides, metric = (Side.score(first, role), Side.score(second, role)), _metric(bench.pool, here[0])
            bench.asked.append(_Asked("H1", where, words, *sides, metric, blind=_blind(bench, here, (first, second), role)))


def _what_raw_is(bench: _Bench, raw: Sequence[Point]) -> str:
    said = {bench.pool.model(point).inputs: sorted(bench.content(point)) for point in raw}
    return "".join(
        f" ({name} is {' and '.join(kinds) or 'of columns that nothing is recorded of'})" for name, kinds in sorted(said.items())
    )


def _ask_h2(bench: _Bench, here: Sequence[Point]) -> None:
    pool = bench.pool
    embedding = [point for point in here if bench.tier(point) == "embedding"]
    for point in here:
        if bench.tier(point) not in ("lora", "adapter"):
            continue
        backbone = point.model.split("/")[0]
        frozen = [other for other in here if bench.tier(other) == "frozen" and other.model.split("/")[0] == backbone]
        if not frozen and not embedding:
            bench.lacks["H2"].append(f"{_named(point)} has {point.model} and neither {backbone}/frozen nor an embedding")
        # Boundaries and short-lived change: maps, and the two backbones the claim names.
        maps = pool.points[point][0].kind in find_metric("boundary_f1").tasks
        scope = maps and backbone.startswith(("prithvi", "clay"))
        for others in (frozen, embedding):
            words = f"{point.model} over {' and '.join(other.model for other in others)}"
            for role, where in _places(point) if others else ():
                for metric in dict.fromkeys(["boundary_f1", _metric(pool, point)] if maps else [_metric(pool, point)]):
                    blind = _blind(bench, here, ([point], others), role)
                    asked = _Asked("H2", where, words, Side.score(point, role), Side.score(others, role), metric, scope, blind=blind)
                    bench.asked.append(asked if scope else replace(asked, note="Not a map by Prithvi or Clay, which the claim is about."))


def _ask_h3(bench: _Bench, here: Sequence[Point]) -> None:
    pool = bench.pool
    if Split(here[0].split).rule.name not in ("leave-group", "leave-year", "leave-group-year"):
        return
    if here[0].budget != _largest_budget(pool, here[0]):
        return
    hybrid = [point for point in here if bench.tier(point) == "hybrid"]
    alone = {
        "an embedding alone": [point for point in here if bench.tier(point) == "embedding"],
        "image bands alone": [point for point in here if bench.tier(point) == "raw" and is_image(bench.content(point))],
    }
    floors = [point for point in here if bench.tier(point) == "floor"]
    if not hybrid or not floors:
        bench.lacks["H3"].append(f"{_named(here[0])} has no {'hybrid model' if not hybrid else 'baseline without imagery to be above'}")
        return
    for words, others in alone.items():
        if not others:
            bench.lacks["H3"].append(f"{_named(here[0])} lacks {words.removesuffix(' alone')}")
            continue
        first, second, pair = _same_learners(pool, hybrid, others)
        below = [what for what, side in (("hybrid", first), (words, second)) if not _above(pool, side, floors)]
        note = (
            f"Does not count: held out, {' and '.join(below)} {'is' if len(below) == 1 else 'are'} not shown to be above the floor."
            if below
            else ""
        )
        for shift in ("region", "year", "both"):
            if not all(pool.inside(point, "test_ood", _metric(pool, point), shift).groups for point in (*first, *second)):
                continue
            said = f"drop of {words} minus drop of hybrid: {pair}"
            # Less of a drop is better: the side whose drop is asked to be larger is subtracted turned round.
            sides = Side.drop(second, shift), Side.drop(first, shift)
            bench.asked.append(_Asked("H3", f"drop ({shift})", said, *sides, _metric(pool, here[0]), not below, note))


def _above(pool: Pool, points: Sequence[Point], floors: Sequence[Point], role: str = "test_ood") -> bool:
    """Whether the mean of some models is above every floor, beyond chance."""
    asked = [against_floor(pool, points, floor, _metric(pool, points[0]), role) for floor in floors]
    made = differences(pool, [sides for sides, _ in asked], [metric for _, metric in asked])
    return all(entry is not None and entry.effect.above_zero for entry in made)


def _blind(bench: _Bench, here: Sequence[Point], sides: Iterable[Sequence[Point]], role: str) -> bool:
    """Whether neither side is above the floor: which of two models that see nothing scores higher is no evidence for a claim."""
    floors = [point for point in here if bench.tier(point) == "floor"]
    return bool(floors) and not any(_above(bench.pool, side, floors, role) for side in sides)


def _contrast(bench: _Bench, asked: _Asked, made: Difference) -> HypothesisContrast:
    point = asked.first.points[0]
    cells = [cell for of in (*asked.first.points, *asked.second.points) for cell in bench.pool.points[of]]
    answer: Answer = "supported" if made.effect.value > 0 else "refuted"
    decided = made.effect.significant and not asked.blind
    blind = "Decides nothing: neither side is shown to be above the floor." if asked.blind else ""
    return HypothesisContrast(
        asked.hypothesis,
        point.task,
        point.target,
        point.split,
        point.budget,
        bench.pool.labels(point),
        asked.where,
        made.metric,
        asked.words,
        made.effect,
        made.left,
        made.right,
        answer if decided else "undecided",
        asked.in_scope,
        any(cell.simulated for cell in cells),
        made.digests,
        " ".join(filter(None, [asked.note, blind, made.effect.note])),
    )


def _verdict(name: str, contrasts: list[HypothesisContrast], lacks: list[str]) -> HypothesisVerdict:
    counted = [entry for entry in contrasts if entry.in_scope]
    missing = "; ".join(dict.fromkeys(lacks))
    simulated = any(entry.simulated for entry in contrasts)
    if not counted:
        shown = f"none of the {len(contrasts)} contrasts that are shown counts, and each says why." if contrasts else ""
        lacking = f"{missing or _NOTHING[name]}." if missing or not contrasts else ""
        reason = f"Cannot be tested: {' '.join(filter(None, (lacking, shown)))}"
        return HypothesisVerdict(name, CLAIMS[name], "not testable", reason, tuple(contrasts), simulated)
    by_data: dict[str, list[HypothesisContrast]] = defaultdict(list)
    for entry in counted:
        by_data[entry.task].append(entry)
    answers = {task: _of_one(entries) for task, entries in by_data.items()}
    tally = {answer: sum(found == answer for found in answers.values()) for answer in ("supported", "refuted", "undecided")}
    verdict: Answer = "undecided"
    if 2 * tally["supported"] >= len(answers) and not tally["refuted"]:
        verdict = "supported"
    elif 2 * tally["refuted"] >= len(answers) and not tally["supported"]:
        verdict = "refuted"
    significant = sum(entry.effect.significant for entry in counted)
    blind = sum(entry.effect.significant and entry.verdict == "undecided" for entry in counted)
    said = ", ".join(f"{count} {answer}" for answer, count in tally.items() if count)
    reason = f"{len(answers)} data set{'s' if len(answers) > 1 else ''}: {said}; {significant} of {len(counted)} contrasts are significant."
    if blind:
        reason += f" {blind} of these decide nothing: neither side is shown to be above the floor."
    if tally["supported"] and tally["refuted"]:
        reason += " Data sets contradict each other."
    if len(answers) == 1 and verdict != "undecided":
        reason += " This holds for groups like those of one data set and says nothing about other data."
    if missing:
        reason += f" Not tested: {missing}."
    return HypothesisVerdict(name, CLAIMS[name], verdict, reason, tuple(contrasts), simulated)


_NOTHING = {
    "H1": "no results of an embedding next to a model on optical bands",
    "H2": "no LoRA or adapter model on Prithvi or Clay next to its frozen encoder, on chips",
    "H3": "no results under a split that holds groups or years out (leave-<group>-out)",
}


def _of_one(entries: Sequence[HypothesisContrast]) -> Answer:
    """What one data set says: at least half of its contrasts agree, and none contradicts."""
    for answer, other in (("supported", "refuted"), ("refuted", "supported")):
        agree = sum(entry.verdict == answer for entry in entries)
        if 2 * agree >= len(entries) and not any(entry.verdict == other for entry in entries):
            return "supported" if answer == "supported" else "refuted"
    return "undecided"


def _settings(pool: Pool) -> Iterator[list[Point]]:
    """Points that can be compared: the same task, target, split and budget."""
    groups: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    for point in pool.points:
        groups[point.task, point.target, point.split, point.budget].append(point)
    for key in sorted(groups):
        yield sorted(groups[key])


def _same_learners(pool: Pool, first: Sequence[Point], second: Sequence[Point]) -> tuple[list[Point], list[Point], str]:
    """The learners both sides have; all models where they share none."""
    learners = sorted({pool.model(point).learner for point in first} & {pool.model(point).learner for point in second})
    if not learners:
        names = [", ".join(point.model for point in side) for side in (first, second)]
        return list(first), list(second), f"{names[0]} over {names[1]} (their learners differ)"
    sides = [[point for point in side if pool.model(point).learner in learners] for side in (first, second)]
    inputs = [" and ".join(sorted({pool.model(point).inputs for point in side})) for side in sides]
    if len(learners) > 1:
        return sides[0], sides[1], f"{inputs[0]} over {inputs[1]}, mean over {', '.join(learners)}"
    return sides[0], sides[1], f"{inputs[0]}/{learners[0]} over {inputs[1]}/{learners[0]}"


def _places(point: Point) -> list[tuple[str, str]]:
    if Split(point.split).rule.name == "within":
        return [("test_id", "in-domain")]
    return [("test_id", "in-domain"), ("test_ood", "held out")]


def _budgets(pool: Pool, point: Point) -> dict[str, float]:
    return {
        other.budget: pool.labels(other)
        for other in pool.points
        if (other.task, other.target, other.split) == (point.task, point.target, point.split)
    }


def _small_budgets(pool: Pool, point: Point) -> set[str]:
    labels = _budgets(pool, point)
    small = {budget for budget, count in labels.items() if count <= FEW_LABELS}
    return small or {min(labels, key=lambda budget: labels[budget])}


def _largest_budget(pool: Pool, point: Point) -> str:
    labels = _budgets(pool, point)
    return max(labels, key=lambda budget: (labels[budget], budget))


def _metric(pool: Pool, point: Point) -> str:
    """The task's main metric, or its kind's where the best value of that lies inside its range (a bias)."""
    name = pool.metric(point)
    return name if find_metric(name).higher_is_better is not None else pool.points[point][0].about.main_metric


def _named(point: Point) -> str:
    return f"{point.task} ({point.target}), {point.split}"
