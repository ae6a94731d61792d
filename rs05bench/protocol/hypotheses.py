"""Verdicts on the three hypotheses of the benchmark: the claim, the contrast, the effect with its interval, and what it rests on.

Each contrast is a paired comparison on the same test blocks over all seeds. P-values are corrected over all contrasts of a store together
(Holm 1979), so looking at many tasks does not make a verdict more likely. A verdict speaks of the cells that are there and of nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from rs05bench.protocol.inference.hypothesis_tests import holm, wilcoxon_signed_rank
from rs05bench.protocol.inference.intervals import Estimate
from rs05bench.protocol.pooled_contrast import contrast
from rs05bench.protocol.pooling import Fits, Point, Pool
from rs05bench.protocol.result import Result
from rs05bench.protocol.splits import Split

Answer = Literal["supported", "refuted", "undecided", "not testable"]
LEVEL = 0.05
FEW_LABELS = 100
"""A very small budget: at most this many labels, or the smallest there is."""
KIND_METRIC = {"classification": "macro_f1", "regression": "r2", "segmentation": "miou"}
CLAIMS = {
    "H1": "AlphaEarth beats raw spectra at very small budgets, above all for crop and urban.",
    "H2": "LoRA on Prithvi or Clay beats frozen embeddings where local boundaries or short-lived change matter.",
    "H3": "Hybrid features are steadier out of domain than either alone.",
}
Term = tuple[float, Point, str, str | None]
"""Coefficient, point, role, shift: one score of a contrast."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One contrast.

    Attributes:
        hypothesis: `H1`, `H2` or `H3`.
        task: Task.
        target: Target.
        split: Split.
        budget: Budget.
        labels: Labels it holds, the mean over cells.
        where: `at home`, `held out`, or `drop (region)` and the like.
        metric: Metric; the effect is in its unit.
        contrast: What is compared, in words.
        effect: Positive = in the direction of the claim; with interval and p over blocks and seeds.
        wilcoxon_p: Signed-rank test over folds (each with its mean over seeds), beside it.
        folds: Folds in that test.
        p_holm: `effect.p` corrected over all contrasts of the store; NaN where there is none.
        verdict: Supported, refuted or undecided.
        in_scope: False for a contrast shown beside the claim that takes no part in its verdict.
        simulated: Whether it rests on simulated data.
        digests: The cells it rests on.
        note: What a reader has to know beside the number.
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
    wilcoxon_p: float
    folds: int
    p_holm: float
    verdict: Answer
    in_scope: bool
    simulated: bool
    digests: tuple[str, ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, NaN as None."""
        record = {name: getattr(self, name) for name in self.__slots__ if name != "effect"}
        return _plain(record | {"effect": self.effect.to_dict(), "digests": list(self.digests)})


@dataclass(frozen=True, slots=True)
class HypothesisVerdict:
    """What the cells at hand say about one hypothesis.

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
    comparisons: tuple[Comparison, ...] = ()
    simulated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data, NaN as None."""
        record = {name: getattr(self, name) for name in self.__slots__ if name != "comparisons"}
        return record | {"comparisons": [entry.to_dict() for entry in self.comparisons]}


@dataclass
class _Found:
    """Contrasts of one hypothesis and what was missing for others."""

    comparisons: list[Comparison] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)


def judge_hypotheses(results: Iterable[Result] | Pool, *, draws: int = 2000) -> list[HypothesisVerdict]:
    """Verdicts on H1, H2 and H3.

    Args:
        results: Results of any cells, or a pool of them. Cells of the split `random` are not looked at.
        draws: Bootstrap draws, where one seed only makes them necessary.

    Returns:
        Three verdicts, in order.
    """
    pool = results if isinstance(results, Pool) else Pool.of(results)
    pool = Pool({point: cells for point, cells in pool.points.items() if cells[0].main and not Split(point.split).extra})
    found = {"H1": _h1(pool, draws), "H2": _h2(pool, draws), "H3": _h3(pool, draws)}
    everything = [entry for part in found.values() for entry in part.comparisons]
    corrected = holm([np.nan if entry.effect.p is None else entry.effect.p for entry in everything])
    judged = iter(
        [replace(entry, p_holm=float(p), verdict=_answer(entry.effect, float(p))) for entry, p in zip(everything, corrected, strict=True)]
    )
    return [_verdict(name, [next(judged) for _ in part.comparisons], part.lacks) for name, part in found.items()]


def _h1(pool: Pool, draws: int) -> _Found:
    found = _Found()
    for here in _settings(pool):
        embedding = _embeddings(pool, here)
        raw = [point for point in here if _tier(pool, point) == "raw"]
        if not embedding or not raw:
            found.lacks.append(f"{_named(here[0])} lacks {'an AlphaEarth model' if not embedding else 'a model on raw bands'}")
            continue
        if here[0].budget not in _small_budgets(pool, here[0]):
            continue
        first, second, words = _same_learners(pool, embedding, raw)
        for role, where in _places(here[0]):
            positive = [(1.0, point, role, None) for point in first]
            negative = [(1.0, point, role, None) for point in second]
            _add(found, pool, "H1", where, words, positive, negative, draws)
    return found


def _h2(pool: Pool, draws: int) -> _Found:
    found = _Found()
    for here in _settings(pool):
        adapted = [point for point in here if _tier(pool, point) in ("lora", "adapter") and not pool.model(point).random_twin]
        for point in adapted:
            backbone = point.model.split("/")[0]
            frozen = [other for other in here if _tier(pool, other) == "frozen" and other.model.split("/")[0] == backbone]
            embedding = _embeddings(pool, here)
            if not frozen and not embedding:
                found.lacks.append(f"{_named(point)} has {point.model} and lacks {backbone}/frozen and any embedding to compare it with")
            # Boundaries and short-lived change: maps, and the two backbones the claim names.
            scope = pool.points[point][0].kind == "segmentation" and backbone.startswith(("prithvi", "clay"))
            metrics = ["boundary_f1", None] if pool.points[point][0].kind == "segmentation" else [None]
            for others in (frozen, embedding):
                if not others:
                    continue
                words = f"{point.model} over {' and '.join(other.model for other in others)}"
                for role, where in _places(point):
                    for metric in metrics:
                        positive: list[Term] = [(1.0, point, role, None)]
                        negative: list[Term] = [(1.0, other, role, None) for other in others]
                        _add(found, pool, "H2", where, words, positive, negative, draws, metric=metric, scope=scope)
    if not found.comparisons and not found.lacks:
        found.lacks.append("lacks cells of a LoRA or adapter model beside its frozen encoder, on chips")
    return found


def _h3(pool: Pool, draws: int) -> _Found:
    found = _Found()
    for here in _settings(pool):
        name = Split(here[0].split)
        if name.rule.same_units != "fold" or here[0].budget != _largest_budget(pool, here[0]):
            continue
        hybrid = [point for point in here if _tier(pool, point) == "hybrid"]
        alone = {"the embedding alone": _embeddings(pool, here), "raw bands alone": [p for p in here if _tier(pool, p) == "raw"]}
        if not hybrid:
            found.lacks.append(f"{_named(here[0])} lacks a hybrid model")
            continue
        for words, others in alone.items():
            if not others:
                found.lacks.append(f"{_named(here[0])} lacks {words.removesuffix(' alone')}")
                continue
            first, second, pair = _same_learners(pool, hybrid, others)
            for shift in ("region", "year", "both"):
                positive = [term for point in second for term in _drop_terms(point, shift)]
                negative = [term for point in first for term in _drop_terms(point, shift)]
                _add(found, pool, "H3", f"drop ({shift})", f"drop of {words} minus drop of hybrid: {pair}", positive, negative, draws)
    if not found.comparisons and not found.lacks:
        found.lacks.append("lacks cells under a split that holds groups or years out (leave-<group>-out)")
    return found


def _drop_terms(point: Point, shift: str) -> list[Term]:
    return [(1.0, point, "test_id", None), (-1.0, point, "test_ood", shift)]


def _add(
    found: _Found,
    pool: Pool,
    hypothesis: str,
    where: str,
    words: str,
    positive: Sequence[Term],
    negative: Sequence[Term],
    draws: int,
    *,
    metric: str | None = None,
    scope: bool = True,
) -> None:
    """Adds a contrast, where the cells give it."""
    point = positive[0][1]
    cells = [cell for _, of, _, _ in (*positive, *negative) for cell in pool.points[of]]
    if not all(cell.sums for cell in cells):
        found.lacks.append(
            f"{_named(point)}: some results keep no sums (they are of an earlier version; run the sweep again into a new folder)"
        )
        return
    chosen = metric or _metric(pool, point)
    sides = []
    for terms in (positive, negative):
        count = len({of for _, of, _, _ in terms})
        read = [(weight / count, pool.fits(of, chosen, role, shift=shift)) for weight, of, role, shift in terms]
        if not all(fits for _, fits in read):
            return
        sides.append(read)
    regions = {name: region for _, of, _, _ in (*positive, *negative) for name, region in pool.regions(of).items()}
    effect, differences = contrast(sides[0], sides[1], chosen, regions, draws=draws)
    if effect is None:
        found.lacks.append(f"{_named(point)}: the models of this contrast have no test block and seed in common")
        return
    ranks = wilcoxon_signed_rank(differences)
    found.comparisons.append(
        Comparison(
            hypothesis,
            point.task,
            point.target,
            point.split,
            point.budget,
            pool.labels(point),
            where,
            chosen,
            words,
            effect,
            ranks.p if ranks.n else float("nan"),
            len(differences),
            float("nan"),
            "undecided",
            scope,
            any(cell.simulated for cell in cells),
            tuple(sorted({cell.digest for cell in cells})),
            " ".join(filter(None, [_held_out(sides, chosen) if hypothesis == "H3" else "", effect.note])),
        )
    )


def _held_out(sides: Sequence[Sequence[tuple[float, Fits]]], metric: str) -> str:
    """What is left of each side: a model that has little to lose falls little."""
    left = []
    for side in sides:
        scores = [
            float(stats.evaluate(metric, np.asarray(stats.vectors, dtype=np.float64).sum(0)))
            for weight, fits in side
            if weight < 0
            for stats in fits.values()
        ]
        left.append(float(np.mean(scores)))
    return f"Held out, hybrid scores {left[1]:.3f} and the other {left[0]:.3f}: one that has little to lose falls little."


def _answer(effect: Estimate, p: float) -> Answer:
    if not np.isfinite(p) or p >= LEVEL:
        return "undecided"
    return "supported" if effect.value > 0 else "refuted"


def _verdict(name: str, comparisons: list[Comparison], lacks: list[str]) -> HypothesisVerdict:
    counted = [entry for entry in comparisons if entry.in_scope]
    missing = "; ".join(dict.fromkeys(lacks))
    simulated = any(entry.simulated for entry in comparisons)
    if not counted:
        beside = f" {len(comparisons)} contrasts beside the claim are shown and do not count." if comparisons else ""
        reason = f"Not testable: {missing or 'lacks cells within the claim: maps by Prithvi or Clay with LoRA and frozen'}.{beside}"
        return HypothesisVerdict(name, CLAIMS[name], "not testable", reason, tuple(comparisons), simulated)
    tally = {answer: sum(entry.verdict == answer for entry in counted) for answer in ("supported", "refuted", "undecided")}
    verdict: Answer = "undecided"
    if tally["supported"] and not tally["refuted"]:
        verdict = "supported"
    elif tally["refuted"] and not tally["supported"]:
        verdict = "refuted"
    said = ", ".join(f"{count} {answer}" for answer, count in tally.items() if count)
    reason = f"{len(counted)} contrast{'s' if len(counted) > 1 else ''}: {said} (Holm-corrected p < {LEVEL:g})."
    if tally["supported"] and tally["refuted"]:
        reason += " They point both ways, so no verdict is given on the whole."
    if name == "H1":
        reason += _by_task(counted)
    if missing:
        reason += f" Not looked at: {missing}."
    return HypothesisVerdict(name, CLAIMS[name], verdict, reason, tuple(comparisons), simulated)


def _by_task(comparisons: Sequence[Comparison]) -> str:
    """Mean effect of each task, where several share a metric: the claim says of some that it is largest there."""
    effects: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entry in comparisons:
        effects[entry.metric][entry.task].append(entry.effect.value)
    told = [
        f" Mean effect in {metric}: " + ", ".join(f"{task} {np.mean(values):+.3f}" for task, values in sorted(by_task.items())) + "."
        for metric, by_task in sorted(effects.items())
        if len(by_task) > 1
    ]
    return "".join(told)


def _settings(pool: Pool) -> Iterator[list[Point]]:
    """Points that can be compared: the same task, target, split and budget."""
    groups: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    for point in pool.points:
        groups[point.task, point.target, point.split, point.budget].append(point)
    for key in sorted(groups):
        yield sorted(groups[key])


def _tier(pool: Pool, point: Point) -> str:
    card = pool.model(point)
    return "" if card.random_twin else card.tier


def _embeddings(pool: Pool, here: Sequence[Point]) -> list[Point]:
    """AlphaEarth models; where no model bears the name, all of the tier."""
    there = [point for point in here if _tier(pool, point) == "embedding"]
    return [point for point in there if point.model.startswith("alphaearth")] or there


def _same_learners(pool: Pool, first: Sequence[Point], second: Sequence[Point]) -> tuple[list[Point], list[Point], str]:
    """The learners both sides have; all models where they share none."""
    learners = sorted({pool.model(point).learner for point in first} & {pool.model(point).learner for point in second})
    if not learners:
        names = [", ".join(point.model for point in side) for side in (first, second)]
        return list(first), list(second), f"{names[0]} over {names[1]} (their learners differ)"
    sides = [[point for point in side if pool.model(point).learner in learners] for side in (first, second)]
    inputs = [" and ".join(sorted({pool.model(point).inputs for point in side})) for side in sides]
    return (
        sides[0],
        sides[1],
        f"{inputs[0]} over {inputs[1]}, mean over {', '.join(learners)}"
        if len(learners) > 1
        else (f"{inputs[0]}/{learners[0]} over {inputs[1]}/{learners[0]}"),
    )


def _places(point: Point) -> list[tuple[str, str]]:
    if Split(point.split).rule.name == "within":
        return [("test_id", "at home")]
    return [("test_id", "at home"), ("test_ood", "held out")]


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
    """The task's main metric, or its kind's where sums do not give it."""
    cell = pool.points[point][0]
    kept = next((sums for role in cell.sums if (sums := pool.kept(cell, role)) is not None), None)
    return cell.main_metric if kept is not None and kept.gives(cell.main_metric) else KIND_METRIC[cell.kind]


def _named(point: Point) -> str:
    return f"{point.task} ({point.target}), {point.split}, {point.budget}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
