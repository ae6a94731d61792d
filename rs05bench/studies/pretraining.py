"""Does pretraining pay? Every real backbone at hand against its random-initialised twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from rs05bench.protocol.pooling import Point, Pool
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure
from rs05bench.report.style import metric_name, with_interval
from rs05bench.studies.evidence import Side, difference
from rs05bench.studies.moisture import FOLDER, PLACES, Variant, moisture_card, run_variants
from rs05bench.studies.pictures import by_category, row
from rs05bench.studies.record import Claim, Findings, Study, compared, tally
from rs05bench.studies.setting import Setting

TIERS = ("presto/frozen", "presto/lora", "presto/full")
FOREST = "raw-context/rf"
TWIN = "@random"
BUDGETS = ("100-units", "400-units", "full")


@dataclass(frozen=True)
class Pair:
    """One comparison of a pretrained model with something that was not pretrained."""

    point: Point
    other: Point
    role: str
    where: str
    claim: Claim


def run(setting: Setting) -> Findings:
    """Runs what is missing of the grid and reads what is there."""
    card, data = moisture_card(setting, "pretraining")
    names = [name for tier in TIERS[: 1 if setting.quick else None] for name in (tier, f"{tier}{TWIN}")]
    names += [] if setting.quick else [FOREST]
    splits = ["official"] if setting.quick else ["official", "leave-region-out"]
    budgets = BUDGETS[:1] if setting.quick else BUDGETS
    results = run_variants(
        setting, card, data, [Variant(name, name) for name in names], splits, budgets, [0] if setting.quick else range(5)
    )
    found = Findings()
    found.take(results)
    found.notes += [
        f"{len(results):,} cells, seeds {', '.join(map(str, sorted({r.cell.seed for r in results})))}. A comparison takes the folds and "
        "seeds that both sides have.",
        "Backbones with real weights at hand: Presto. Galileo-nano's weights are at hand too, and no builder of the package loads them: "
        "it is not compared.",
    ]
    read(found, Pool.of(results))
    return found


def read(found: Findings, pool: Pool) -> None:
    """Writes claims, figures and tables of every pretrained model beside its twin, and beside a forest on the same inputs."""
    twins = pairs(pool, lambda point: point._replace(model=f"{point.model}{TWIN}"), "its random twin")
    forest = pairs(pool, lambda point: point._replace(model=FOREST), "a forest on the same inputs")
    if twins:
        found.claims.append(
            tally([pair.claim for pair in twins], "Pretrained against its random twin", "pretraining pays", "the random twin is better")
        )
    if forest:
        found.claims.append(
            tally(
                [pair.claim for pair in forest],
                "Pretrained against a forest on the same inputs",
                "the pretrained is better",
                "the forest is better",
            )
        )
    found.claims += [pair.claim for pair in (*twins, *forest)]
    for key, made, words in (("twins", twins, "Pretrained minus its random twin"), ("forest", forest, f"Pretrained minus {FOREST}")):
        if made:
            figure, table = drawn(key, made, words, metric_name(pool.metric(made[0].point)))
            found.figures.append(figure)
            found.tables.append(table)


def pairs(pool: Pool, other_of: object, words: str) -> list[Pair]:
    """Comparisons of every pretrained point with another of the same task, split and budget."""
    made = []
    for point in sorted(pool.points, key=lambda p: (p.task, p.target, p.split, _amount(pool, p), p.model)):
        if not pool.model(point).pretrained or pool.model(point).random_twin:
            continue
        other = other_of(point)  # type: ignore[operator]
        if other not in pool.points:
            continue
        for role in ("test_id", "test_ood"):
            compare = difference(pool, Side.of(point, role), Side.of(other, role))
            if compare is None:
                continue
            where = PLACES.get((point.split, role), f"{point.split}, {'at home' if role == 'test_id' else 'held out'}")
            metric = metric_name(pool.metric(point))
            here = f"{where.capitalize()}, {point.budget}: pretrained {point.model}"
            claim = compared(
                *compare,
                above=f"{here} beats {words} by {{size}} {metric}",
                below=f"{here} falls behind {words} by {{size}} {metric}",
                unclear=f"{here} and {words} cannot be told apart in {metric}",
            )
            made.append(Pair(point, other, role, where, claim))
    return made


def drawn(key: str, made: Sequence[Pair], words: str, metric: str) -> tuple[Figure, Table]:
    """A figure and a table of comparisons."""
    rows = [row(pair.claim.effect, category=f"{pair.where}, {pair.point.budget}", series=pair.point.model) for pair in made]
    frame = pd.DataFrame(rows)
    digests = sorted({digest for pair in made for digest in pair.claim.digests})
    figure = Figure(
        key,
        words,
        f"Paired difference in {metric} on the same test blocks, folds and seeds; right of zero pretraining pays. Bars are 95 % intervals.",
        [by_category(frame, title=words, axis=f"difference in {metric}", zero=True)],
        frame,
        digests,
    )
    lines = []
    for pair in made:
        effect = pair.claim.effect
        if effect is not None:
            lines.append(
                [pair.point.model, pair.where, pair.point.budget, with_interval(effect.value, effect.low, effect.high), f"{effect.n_seeds}"]
            )
    return figure, Table(f"{key}-table", words, ["Model", "Tested", "Budget", f"#Difference in {metric}", "#Seeds"], lines, frame)


def _amount(pool: Pool, point: Point) -> float:
    labels = pool.labels(point)
    return labels if labels == labels else float("inf")


STUDY = Study(
    "pretraining",
    "Does pretraining pay?",
    "Does a pretrained backbone score better than the same network started from random weights, and than a forest on the same inputs?",
    "Every tier of the backbone (frozen, LoRA, full) beside its random-initialised twin: the same network, head, labels, steps and early "
    "stopping, only "
    "the weights it starts from differ. Beside both, a forest that reads the same numbers. Live fuel moisture at 150 real sites: the "
    "published site "
    "split, and regions held out; 100, 400 and all labels.",
    90,
    (FOLDER,),
    "",
    (
        "One backbone, one task: a small network on three months of pixels. It says nothing about image backbones of hundreds of millions "
        "of weights.",
        "A short schedule, the same for all tiers; a random network may catch up, or overfit, with more steps.",
        "A frozen random network is a random projection of its inputs, which can be a fair feature by itself: that is why the twin is run.",
    ),
    run,
)
