"""The answer of a task in one sentence, what is broken and what to do about it, and the one figure over all tasks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rs05bench.datasets.tables.design import design_flags
from rs05bench.models.learner_names import SHALLOW_NAMES
from rs05bench.protocol.metrics import find_metric
from rs05bench.report.data import best_here, unbeaten_floor
from rs05bench.report.drawing import Figure, Spec, records
from rs05bench.report.figures import POINT, SAID
from rs05bench.report.style import elsewhere, metric_name, number, tier_scale, with_interval

if TYPE_CHECKING:
    from rs05bench.protocol.result import Result
    from rs05bench.report.compose import Chapter
    from rs05bench.report.data import Lead, Study
    from rs05bench.report.loading import Section

REMEDIES = {
    1: "Run the sweep again with the card's budgets; a budget counts validation labels too.",
    2: "Add a spatial split to the card, for example leave-<group>-out, and read the random split as a sanity check.",
    3: "Run all cells again on data with one preprocessing digest.",
    4: "Run all models with the card's schedule; do not set steps or early stopping per model.",
    5: "Run the sweep with --costs, so that one cell per model is measured alone.",
    6: "Add a floor and a baseline on image bands that beats it, for example --model floor/nearest --model raw/rf.",
    7: "Add a hybrid baseline, for example --model hybrid/rf.",
    8: "Run every model with at least two budgets.",
    9: "Run a split that holds groups out (leave-<group>-out), so that the same test blocks are scored both ways.",
    10: "Keep the predictions of the cells and write their maps: rs05bench errors RUNS --out DIR.",
    11: "Run each pretrained encoder with random weights too: the same model name with @random.",
    12: "Run at least five seeds: --seeds 0,1,2,3,4.",
    13: "Run the models that give probabilities or intervals, or leave out those that give neither.",
    14: "State in the card how pretraining data overlap with the labels (overlap: ...).",
}
"""Rule -> what to do where it is broken."""
_NO_IMAGE = "The best score needs no image: the labels follow the place, or the features do not help here."
WIDEST = 0.5
"""An interval wider than this share of the scale says nothing: there are not enough groups to say."""


@dataclass(frozen=True)
class Answer:
    """What a person repeats of a task.

    Attributes:
        sentence: One sentence with at most two numbers.
        warnings: What makes it wrong to act on it.
        notes: What else belongs to it.
    """

    sentence: str
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def says_nothing(low: float, high: float, metric: str) -> bool:
    """Whether an interval spans so much of a metric's scale that it is no result."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return True
    least, most = find_metric(metric).range
    span = most - least if np.isfinite(most - least) else 2.0 if metric == "r2" else np.inf
    return bool((high - low) > WIDEST * span)


def answer(study: Study, leaders: Sequence[Lead]) -> Answer:
    """The answer at the largest budget of the split that holds groups out; a design that gives the labels away stands before it."""
    found = _best(study, leaders)
    return replace(found, warnings=[*_design(study.section), *found.warnings, *identical(study.section.results)])


def _design(section: Section) -> list[str]:
    """Labels that follow from the place, the year or a group, under which no score shows that a model sees the land."""
    data = section.results[0].digests.get("data")  # results of earlier versions name no data
    kept = section.store.labels(data) if data else None
    manifest = next(iter(section.manifests.values()), None)
    if kept is None or manifest is None or section.target not in kept:
        return []
    units = manifest.units.reset_index(drop=True)
    labels = kept[section.target].reindex(units["unit_id"]).reset_index(drop=True)
    groups = tuple(name for name in section.card.groups if name in units)
    return [f"Design fault: {flag.sentence}." for flag in design_flags(units, labels, groups, section.card.kind)]


def _best(study: Study, leaders: Sequence[Lead]) -> Answer:
    section = study.section
    if not leaders or section.lead_split is None:
        return _best_here(study)
    lead, where, name = leaders[-1], elsewhere(section.lead_split), metric_name(section.metric)
    start = f"With {lead.labels:.0f} {section.labels_word} {where}"
    warnings = _below_baselines(study, section.lead_split, lead.budget, "test_ood")
    ends = ("low", "high") if np.isfinite(lead.score["low"]) else ("median_low", "median_high")
    low, high = (float(lead.score[name]) for name in ends)
    if says_nothing(low, high, section.metric):
        return Answer(f"{start}, there are not enough groups to say which method is best.", warnings)
    if lead.tier == "floor":
        warnings.insert(0, _NO_IMAGE)
    found = _best_is(study, section.lead_split, lead.budget, lead.model, "test_ood")
    sentence = f"{start}, {found}: {name} {number(float(lead.score['value']))}."
    return Answer(sentence, warnings, [_support(lead)])


def _best_is(study: Study, split: str, budget: str, model: str, role: str) -> str:
    """`raw/rf is best`, or that it only leads by value where nothing is shown to be better than the best baseline without imagery."""
    floor = unbeaten_floor(study, split, budget, model, role)
    return f"nothing is shown to be better than {floor}, which sees no image; {model} leads by value" if floor else f"{model} is best"


def identical(results: Sequence[Result]) -> list[str]:
    """Names results that are the same to the last bit although their settings differ.

    Compared are cells of one fold: other models or options, another number of labels, and another seed of a random-init control. Two fits
    do not share the scores of their probabilities (or their errors) by chance, so a setting had no effect, weights were not loaded, or
    nothing was learnt. Models that see no image and perfect scores are left out, which may well be equal.
    """
    same: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        inexact = [scores.get("brier", scores.get("mae", 0.0)) for scores in result.scores.values()]
        if result.model.tier != "floor" and any(value > 0 for value in inexact):
            scores = repr(sorted((role, sorted(found.items())) for role, found in result.scores.items()))
            same.setdefault((str(result.cell.split), result.cell.fold, scores), []).append(result)
    pairs: dict[tuple[str, str, str], int] = {}
    for (split, _, _), found in same.items():
        for at, one in enumerate(found):
            for other in found[at + 1 :]:
                if what := _unlike(one, other):
                    pairs[split, *what] = pairs.get((split, *what), 0) + 1
    return [
        f"{first} and {second} give the same scores to the last bit in {count} {'cells' if count > 1 else 'cell'} of {split}: "
        "a setting had no effect, weights were not loaded, or nothing was learnt."
        for (split, first, second), count in pairs.items()
    ]


def _unlike(one: Result, other: Result) -> tuple[str, str] | None:
    """Names of two cells by the setting in which they differ, where that should change the result; else None."""
    a, b = one.cell, other.cell
    if (a.model, a.options) != (b.model, b.options):
        if (a.budget, a.seed) != (b.budget, b.seed):
            return None
        first, second = (cell.model if a.model != b.model else f"{cell.model} {dict(cell.options)}" for cell in (a, b))
        return first, second
    if a.seed == b.seed and one.budget.labels_used != other.budget.labels_used:
        return f"{a.model} with {a.budget} labels", f"with {b.budget}"
    if a.budget == b.budget and a.seed != b.seed and a.model.endswith("@random"):
        return f"{a.model} of seed {a.seed}", f"of seed {b.seed}"
    return None


def _best_here(study: Study) -> Answer:
    """Where nothing is held out: what is best in the one area there is."""
    section = study.section
    split = section.splits[0]
    budget = section.budgets[split][-1]
    best = best_here(study)
    note = "No split of these runs holds anything out, so nothing can be said about another place."
    if best is None:
        return Answer(note)
    warnings = _below_baselines(study, split, budget, "test_id")
    if section.models[best["model"]].tier == "floor":
        warnings.insert(0, _NO_IMAGE)
    score = f"{metric_name(section.metric)} {number(float(best['value']))}"
    found = _best_is(study, split, budget, str(best["model"]), "test_id")
    return Answer(f"With {best['labels']:.0f} {section.labels_word} in this area, {found}: {score}.", warnings, [note])


def _support(lead: Lead) -> str:
    if lead.rival is None:
        return "Only one tier was run, so there is nothing to compare it with."
    if lead.difference is None:
        return f"Whether it is better than {lead.rival} is not known: a test needs the sums of two groups or blocks at least."
    if lead.supported:
        return f"Significantly better than {lead.rival}, the best of another tier."
    return f"No significant difference from {lead.rival}, the best of another tier."


DEEP = ("frozen", "decoder", "adapter", "lora", "full")
NETWORKS = ("unet", "segformer")
"""Learners of the tier raw that are networks."""


def _below_baselines(study: Study, split: str, budget: str, role: str) -> list[str]:
    """Networks that score below the best baseline without imagery, or the best on single pixels, have not learnt the task."""
    section = study.section
    goodness = find_metric(section.metric).goodness
    table = study.estimates
    rows = table[(table["split"] == split) & (table["budget"] == budget) & (table["role"] == role)].dropna(subset=["value"])
    scores = {str(model): goodness(float(value)) for model, value in zip(rows["model"], rows["value"], strict=True)}
    cards = {model: section.models[model] for model in scores}
    networks = [study.representatives[tier] for tier in DEEP if study.representatives.get(tier) in scores]
    networks += [model for model, card in cards.items() if card.tier == "raw" and card.learner in NETWORKS]
    pixels = [model for model, card in cards.items() if card.tier == "raw" and card.inputs == "raw" and card.learner in SHALLOW_NAMES]
    baselines = [
        ([model for model, card in cards.items() if card.tier == "floor"], "which sees no image: training did not work."),
        (
            pixels if section.card.about.pixel_labels else [],
            "which classifies every pixel by its own bands: no gain from a network was detected.",
        ),
    ]
    warnings = []
    for models, words in baselines:
        best = max(models, key=scores.__getitem__, default=None)
        low = [model for model in networks if best is not None and scores[model] < scores[best]]
        if low:
            named = " and ".join(filter(None, (", ".join(low[:-1]), low[-1])))
            warnings.append(f"{named} {'score' if len(low) > 1 else 'scores'} below {best}, {words}")
            networks = [model for model in networks if model not in low]
    return warnings


def overview(chapters: Sequence[Chapter]) -> Figure:
    """One panel a task: the best model of each tier, in-domain and held out."""
    frames = [chapter.overview for chapter in chapters if len(chapter.overview)]
    tiers = max((frame["model"].nunique() for frame in frames), default=1)
    shown = [chapter for chapter in chapters if len(chapter.overview)]
    titles = [textwrap.wrap(chapter.section.title, _TITLE_LETTERS) for chapter in shown]
    lines = max((len(title) for title in titles), default=1)
    # Every title takes the lines of the longest, so that all panels have one height.
    panels = [_panel(chapter, title + [" "] * (lines - len(title))) for chapter, title in zip(shown, titles, strict=True)]
    frame = pd.concat([chapter.overview.assign(task=chapter.section.key) for chapter in chapters], ignore_index=True)
    caption = (
        "The best model of each tier at the largest budget. Filled: held out, with its 95 % interval. Hollow: in-domain (regions that "
        "also train). An interval that is not drawn could not be given."
    )
    digests = sorted({digest for chapter in chapters for digest in chapter.overview_digests})
    return Figure("overview", "All tasks", caption, panels, frame, digests, 92 + 26 * tiers + 15 * (lines - 1))


_TITLE_LETTERS = 38
"""Letters of a title that fit above a panel."""


def _panel(chapter: Chapter, title: list[str]) -> Spec:
    frame, metric = chapter.overview, chapter.section.metric
    models = dict(zip(frame["model"], frame["tier"], strict=True))
    look = tier_scale(models)
    held, home = frame[frame["role"] == "test_ood"], frame[frame["role"] == "test_id"]
    values = frame["value"].dropna()
    reach = 0.6 * max(float(np.ptp(values)), 0.05)
    low, high = find_metric(metric).range
    ends = [max(float(values.min()) - reach, low), min(float(values.max()) + reach, high)]
    x: Spec = {"type": "quantitative", "scale": {"domain": ends, "nice": False, "zero": False}, "title": metric_name(metric)}
    x["axis"] = {"tickCount": 5}
    y: Spec = {
        "field": "model",
        "type": "nominal",
        "sort": list(models),
        "axis": {"title": None, "labelLimit": 165, "ticks": False, "domain": False, "grid": True},
    }
    layers: list[Spec] = [
        {
            "data": {"values": records(held.dropna(subset=["low", "high"])[["model", "low", "high"]])},
            "mark": {"type": "rule", "strokeWidth": 2.5, "opacity": 0.5, "clip": True},
            "encoding": {"y": y, "x": x | {"field": "low"}, "x2": {"field": "high"}, "color": look["color"]},
        }
    ]
    for rows, filled in ((home, False), (held, True)):
        said = [f"{row['model']}, {row['where']}: {with_interval(row)}" for row in rows.to_dict("records")]
        layers.append(
            {
                "data": {"values": records(rows.assign(said=said)[["model", "value", "said"]])},
                "mark": {**POINT, "size": 90, "filled": filled, **({} if filled else {"strokeWidth": 1.6})},
                "encoding": {"y": y, "x": x | {"field": "value"}, **look, **SAID},
            }
        )
    labels = frame["labels"].dropna()
    subtitle = f"{labels.iloc[0]:.0f} {chapter.section.labels_word}" if len(labels) else ""
    return {"title": {"text": title, "subtitle": subtitle}, "layer": layers}
