"""Where LoRA goes: top blocks, all, none; attention or MLP; which rank; at small budgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from rs05bench.protocol.pooling import Pool
from rs05bench.protocol.result import Result
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure
from rs05bench.report.style import metric_name, with_interval
from rs05bench.studies.evidence import Side, difference, score
from rs05bench.studies.moisture import FOLDER, PLACES, Variant, moisture_card, places, run_variants
from rs05bench.studies.pictures import by_category, row
from rs05bench.studies.record import Findings, Study, compared, tally
from rs05bench.studies.setting import Setting

USUAL = "all blocks, query and value, rank 8"


def lora_variants(backbone: str, twin: str = "") -> list[Variant]:
    """Every placement of a backbone; the first trains no encoder weight."""
    lora = f"{backbone}/lora{twin}"
    return [
        Variant("head only", f"{backbone}/frozen{twin}"),
        Variant(USUAL, lora),
        Variant("top block, query and value, rank 8", lora, {"blocks": "top1"}),
        Variant("all blocks, all of attention, rank 8", lora, {"targets": ["q", "k", "v", "o"]}),
        Variant("all blocks, MLP, rank 8", lora, {"targets": ["mlp"]}),
        Variant("all blocks, query and value, rank 2", lora, {"alpha": 2.0, "rank": 2}),
        Variant("all blocks, query and value, rank 32", lora, {"alpha": 32.0, "rank": 32}),
        Variant("full fine-tuning", f"{backbone}/full{twin}"),
    ]


def run(setting: Setting) -> Findings:
    """Runs the placements and reads what came out."""
    found = Findings()
    if setting.folder(FOLDER) is None:
        found.notes.append("The real samples are not at hand: simulated chips and a Prithvi with random weights stand in.")
        results, there, splits = _simulated(setting)
    else:
        card, data = moisture_card(setting, "lora-placement")
        there = lora_variants("presto")[: 3 if setting.quick else None]
        splits = ["official"] if setting.quick else ["official", "leave-region-out"]
        seeds = [0] if setting.quick else range(3)
        results = run_variants(setting, card, data, there, splits, ["100-units"], seeds)
        if not setting.quick:
            results += run_variants(setting, card, data, there, splits[:1], ["400-units"], seeds)
    found.take(results)
    _read(found, Pool.of(results), results, there)
    return found


def _read(found: Findings, pool: Pool, results: Sequence[Result], there: list[Variant]) -> None:
    cell, metric = results[0].cell, metric_name(results[0].main_metric)
    budgets = sorted({result.cell.budget for result in results}, key=lambda name: int(name.partition("-")[0]))
    found.notes.append(
        f"{len(results):,} cells, {len({r.cell.seed for r in results})} seeds, {', '.join(budgets)}; {len(there)} placements."
    )
    rows, lines, claims = [], [], []
    asked = places(pool) if any(point.split == split for split, _ in PLACES for point in pool.points) else []
    asked = asked or [(split, "test_ood", "a group held out") for split in dict.fromkeys(point.split for point in pool.points)]
    for budget in budgets:
        for split, role, where in asked:
            at = {variant.title: variant.point(cell.task, cell.target, split, budget) for variant in there}
            if not any(point in pool.points for point in at.values()):
                continue
            for variant in there:
                point = at[variant.title]
                estimate = score(pool, point, role)
                if estimate is None:
                    continue
                trained = pool.points[point][0].model.parameters_trainable
                rows.append(row(estimate, category=variant.title, series=f"{where}, {budget}", trained=trained))
                lines.append(
                    [variant.title, f"{trained or 0:,}", where, budget, with_interval(estimate.value, estimate.low, estimate.high)]
                )
            for variant in there:
                if variant.title == USUAL:
                    continue
                made = difference(pool, Side.of(at[USUAL], role), Side.of(at[variant.title], role))
                if made is None:
                    continue
                here = f"{where.capitalize()}, {budget}: LoRA on {USUAL}"
                claims.append(
                    compared(
                        *made,
                        above=f"{here} beats {variant.title} by {{size}} {metric}",
                        below=f"{here} falls behind {variant.title} by {{size}} {metric}",
                        unclear=f"{here} and {variant.title} cannot be told apart in {metric}",
                    )
                )
    if claims:
        found.claims = [
            tally(claims, f"LoRA on {USUAL}, against other placements", "the usual placement is better", "the other is better"),
            *claims,
        ]
    frame = pd.DataFrame(rows)
    found.figures.append(
        Figure(
            "placements",
            "Where the update goes",
            f"{metric}; bars are 95 % intervals over test blocks and seeds. The same steps, head and early stopping for all.",
            [by_category(frame, title="Placements", axis=metric)],
            frame,
            sorted(found.results),
        )
    )
    found.tables.append(
        Table("placements-table", "Every placement", ["Placement", "#Trained weights", "Tested", "Budget", f"#{metric}"], lines, frame)
    )


def _simulated(setting: Setting) -> tuple[list[Result], list[Variant], list[str]]:
    """Small simulated chips under a Prithvi with random weights, decoder only among the placements."""
    from rs05bench.experiment.demo_chips import SPLIT, chips_card, write_small_chips
    from rs05bench.experiment.gridfile import GridFile

    folder = setting.store / "data" / ("chips-quick" if setting.quick else "chips")
    card = folder / "card.yaml"
    if not card.is_file():
        write_small_chips(folder, count=8 if setting.quick else 28, side=64 if setting.quick else 128)
        chips_card(folder, steps=2 if setting.quick else 60).save(card)
    there = lora_variants("prithvi-tiny", "@random")
    there.insert(1, Variant("decoder only", "prithvi-tiny/decoder@random"))
    if setting.quick:
        there = [variant for variant in there if variant.title in ("head only", USUAL)]
    results = []
    for variant in there:
        entry = {"card": str(card), "data": str(folder), "models": [variant.model], "options": variant.options or None}
        grid: dict[str, Any] = {
            "kind": "grid",
            "tasks": [entry],
            "splits": [SPLIT],
            "budgets": ["2-fires"] if setting.quick else ["2-fires", "8-fires"],
        }
        grid |= {"seeds": [0] if setting.quick else [0, 1, 2], "folds": ["forest"] if setting.quick else ["forest", "shrubland"]}
        results += setting.sweep(GridFile.model_validate(grid))
    return results, there, [SPLIT]


STUDY = Study(
    "lora-placement",
    "Where should LoRA go when labels are few?",
    "At small budgets, does it matter whether a low-rank update goes to the top block or all blocks, to attention or the MLP, and at "
    "which rank?",
    "One real pretrained backbone (Presto) on live fuel moisture, 100 labels (and 400 on the official split), the same steps, head and "
    "early stopping "
    "for every placement. The usual placement (all blocks, query and value, rank 8) is set against a head alone, the top block alone, all "
    "of attention, "
    "the MLP, ranks 2 and 32 (with the scale of the update kept), and full fine-tuning.",
    20,
    (FOLDER,),
    "simulated chips with a Prithvi of random weights, decoder only among the placements",
    (
        "Presto has two blocks and 0.4 million weights: 'top' is one block of two, and what holds here need not hold for 300 million.",
        "Presto has a linear head and no decoder, so 'decoder only' is answered by the simulated chips alone.",
        "One learning rate for all; a placement that trains more weights may want a lower one.",
        "Three seeds: small differences cannot be told apart, and are not claimed.",
    ),
    run,
)
