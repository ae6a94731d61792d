"""How much does a leaky split flatter?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rs05bench.experiment.gridfile import GridFile
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.pooling import Pool
from rs05bench.protocol.result import Result
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure
from rs05bench.report.style import bracket, metric_name, number, signed, with_interval
from rs05bench.studies.evidence import over_draws
from rs05bench.studies.pictures import by_category, row
from rs05bench.studies.record import Claim, Findings, Study, compared
from rs05bench.studies.setting import Setting, example_card

DRAWS = 10
RANDOM, BLOCKS = "random", "spatial-block"


@dataclass(frozen=True)
class Case:
    """One data set, the group its region split holds out, one budget, its models: the last is the floor."""

    key: str
    title: str
    folder: str
    card: str
    leave: str
    budget: str
    models: tuple[str, ...]


REAL = (
    Case(
        "landcover",
        "Land cover, 4 regions (9 classes)",
        "aef_landcover",
        "aef_landcover",
        "leave-region-out",
        "20-per-class",
        ("alphaearth/logistic", "raw/logistic", "floor/nearest"),
    ),
    Case(
        "income",
        "County income, US",
        "aef_counties",
        "aef_counties_income",
        "leave-state-out",
        "200-units",
        ("alphaearth/ridge", "floor/nearest"),
    ),
    Case(
        "unemployment",
        "County unemployment 2017-2018, US",
        "aef_counties",
        "aef_counties_unemployment",
        "leave-state-out",
        "200-units",
        ("alphaearth/ridge", "floor/nearest"),
    ),
    Case(
        "moisture",
        "Live fuel moisture, 150 sites",
        "lfmc_presto",
        "fuel_moisture",
        "leave-region-out",
        "200-units",
        ("raw/ridge", "floor/nearest"),
    ),
)
STAND_IN = Case(
    "crop", "Crops of parcels", "", "crop", "leave-state-out", "20-per-class", ("alphaearth/logistic", "raw/logistic", "floor/nearest")
)


def run(setting: Setting) -> Findings:
    """Runs the grids and reads what came out."""
    found = Findings()
    cases = [case for case in REAL if setting.folder(case.folder)]
    missing = [case.title for case in REAL if case not in cases]
    if not cases:
        cases = [STAND_IN]
        found.notes.append("No real data are at hand: simulated crop parcels stand in.")
    elif missing:
        found.notes.append(f"Not at hand and left out: {', '.join(missing)}.")
    drawn, rows, gaps = [], [], []
    for case in cases[:1] if setting.quick else cases:
        results = _results(setting, case)
        found.take(results)
        scores = pooled_scores(results)
        metric = metric_name(results[0].main_metric)
        digests = {
            (model, split): tuple(r.digest for r in results if r.cell.model == model and r.cell.split == split)
            for model in case.models
            for split in (RANDOM, BLOCKS, case.leave)
        }
        draws = len({result.cell.task for result in results})
        found.notes.append(f"{case.title}: {len(results):,} cells, {draws} draws of blocks and labels, {case.budget}, {metric}.")
        for model in case.models:
            line = {split: over_draws(list(scores[model, split].values())) for split in (RANDOM, BLOCKS, case.leave)}
            shared = sorted(set(scores[model, RANDOM]) & set(scores[model, case.leave]))
            gap = over_draws([scores[model, RANDOM][draw] - scores[model, case.leave][draw] for draw in shared])
            both = (*digests[model, RANDOM], *digests[model, case.leave])
            words = f"{case.title}: a random split"
            claim = compared(
                gap,
                both,
                above=f"{words} flatters {model} by {{size}} {metric} against a held-out region",
                below=f"{words} scores {model} lower than a held-out region does, by {{size}} {metric}",
                unclear=f"{words} and a held-out region cannot be told apart for {model} in {metric}",
            )
            gaps.append((case, model, claim))
            for split, estimate in line.items():
                rows.append(
                    row(
                        estimate,
                        category=_words(split, case),
                        series=model,
                        data=case.title,
                        budget=case.budget,
                        metric=results[0].main_metric,
                    )
                )
            drawn.append(
                [case.title, case.budget, metric, model]
                + [with_interval(e.value, e.low, e.high) for e in line.values()]
                + [f"{signed(gap.value)} {bracket(gap.low, gap.high)}"]
            )
    found.claims = [_overall(gaps), *[claim for _, _, claim in gaps]]
    frame = pd.DataFrame(rows)
    models = {result.cell.model: result.model.tier for result in found.results.values()}
    for case in dict.fromkeys(case for case, _, _ in gaps):
        part = frame[frame["data"] == case.title]
        rests = sorted({digest for other, _, claim in gaps if other is case for digest in claim.digests})
        found.figures.append(
            Figure(
                case.key,
                case.title,
                f"The same model with the same labels ({case.budget}) under three splits; bars are 95 % intervals of the mean over draws "
                "of blocks "
                "and labels, the test units of all folds scored together.",
                [by_category(part, title=case.title, axis=metric_name(part["metric"].iloc[0]), tiers=models)],
                part,
                rests,
            )
        )
    head = ["Data", "Budget", "Metric", "Model", "#Random", "#Buffered blocks", "#Region held out", "#Flattered by (random − held out)"]
    found.tables.append(Table("scores", "Score under each split", head, drawn, frame))
    return found


def _overall(gaps: list[tuple[Case, str, Claim]]) -> Claim:
    """The largest gap, and how many are surely above zero."""
    case, model, claim = max(gaps, key=lambda item: item[2].effect.value if item[2].effect else 0.0)
    sure = sum(item[2].said == "above" for item in gaps)
    assert claim.effect is not None
    largest = f"the largest gap is {number(claim.effect.value)} ({model}, {case.title})"
    digests = tuple(sorted({digest for item in gaps for digest in item[2].digests}))
    return Claim(
        f"A random split flatters in {sure} of {len(gaps)} comparisons of model and data, by an interval above zero; {largest}.", digests
    )


def _results(setting: Setting, case: Case) -> list[Result]:
    """A card a draw: another seed of its splits draws other blocks, another seed of the budget other labels."""
    folder = setting.folder(case.folder) if case.folder else None
    path = example_card(case.card) if folder else setting.simulated(case.card)
    card = TaskCard.load(path)
    results = []
    for draw in range(2 if setting.quick else DRAWS):
        options = card.split_options.model_dump() | {"seed": draw}
        asked = setting.card(card, name=f"{card.name}.draw{draw}", split_options=options)
        grid = GridFile.model_validate(
            {
                "kind": "grid",
                "tasks": [{"card": str(asked), "data": str(folder or path.parent)}],
                "models": list(case.models),
                "splits": [RANDOM, BLOCKS, case.leave],
                "budgets": [case.budget],
                "seeds": [draw],
                "targets": card.targets[:1],
            }
        )
        results += setting.sweep(grid)
    return results


def pooled_scores(results: list[Result]) -> dict[tuple[str, str], dict[str, float]]:
    """(model, split) -> draw -> the main metric over the test units of all folds together (one small region has no R² worth the name)."""
    pool = Pool.of(results)
    scores: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for point in pool.points:
        role = "test_ood" if point.split.startswith("leave") else "test_id"
        metric = pool.metric(point)
        for stats in pool.fits(point, metric, role).values():
            total = np.asarray(stats.vectors, dtype=np.float64).sum(0)
            scores[point.model, point.split][point.task] = float(stats.evaluate(metric, total))
    return dict(scores)


def _words(split: str, case: Case) -> str:
    return {RANDOM: "random", BLOCKS: "buffered blocks", case.leave: "region held out"}[split]


STUDY = Study(
    "leaky-split",
    "What a leaky split costs in score",
    "How much does a random split flatter a model, against buffered blocks and against a region held out?",
    "The same model with the same number of labels, tested three ways. *Random*: test units drawn anywhere, as most papers do. *Buffered "
    "blocks*: test "
    "units in whole blocks, with nobody using what lies within the buffer around them. *Region held out*: no label from the region "
    "tested. All three "
    "are drawn by the package's own splitters; a draw takes other blocks and other labels. `floor/nearest` knows coordinates and nothing "
    "else: what it "
    "scores under a random split and loses under the others is the part of a score that is knowing the place.",
    6,
    ("aef_landcover", "aef_counties", "lfmc_presto"),
    "simulated crop parcels",
    (
        "Test units differ between splits, so a gap holds both the leak and how hard the units are; the drop on the same ground, which "
        "results carry, "
        "keeps the units and changes only what trains.",
        "Draws share the same data: the interval says how far another draw would move the number, not what other data would give.",
        "Under blocks no test unit lies beside a training unit, but its region trains; only the last split asks for a new region.",
        "The land-cover labels are a model product (Dynamic World).",
    ),
    run,
)
