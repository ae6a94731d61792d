"""Coordinates and time embeddings on and off: does it learn the land or the place?"""

from __future__ import annotations

import pandas as pd

from rs05bench.protocol.pooling import Pool
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure
from rs05bench.report.style import metric_name, with_interval
from rs05bench.studies.evidence import Side, difference, score
from rs05bench.studies.moisture import FOLDER, Variant, moisture_card, places, run_variants
from rs05bench.studies.pictures import by_category, row
from rs05bench.studies.record import Claim, Findings, Study, compared, tally
from rs05bench.studies.setting import Setting

OFF = {"calendar": False, "location": False}
KNOWN = ("presto/frozen", "presto/lora")
FLOOR = Variant("coordinates alone: nearest labelled site", "floor/nearest")
SHALLOW = (
    FLOOR,
    Variant("place and month alone, forest", "context/rf"),
    Variant("pixels alone, forest", "raw/rf"),
    Variant("pixels, place and month, forest", "raw-context/rf"),
)


def variants(quick: bool) -> list[Variant]:
    """Every model of the study."""
    found = list(SHALLOW[:1] if quick else SHALLOW)
    for model in KNOWN[:1] if quick else KNOWN:
        found += [
            Variant(f"{model}, told place and month", model),
            Variant(f"{model}, not told the place", model, {"location": False}),
            Variant(f"{model}, not told the month", model, {"calendar": False}),
            Variant(f"{model}, told neither", model, OFF),
        ]
    return found


def run(setting: Setting) -> Findings:
    """Runs the variants and reads what came out."""
    card, data = moisture_card(setting, "coordinates")
    there = variants(setting.quick)
    budget = "100-units" if setting.quick else "400-units"
    splits = ["official"] if setting.quick else ["official", "leave-region-out"]
    results = run_variants(setting, card, data, there, splits, [budget], [0] if setting.quick else range(3))
    found = Findings()
    found.take(results)
    pool = Pool.of(results)
    cell, metric = results[0].cell, metric_name(results[0].main_metric)
    seeds = len({result.cell.seed for result in results})
    found.notes.append(f"{len(results):,} cells, {seeds} seeds, {budget}; {len(there)} models and variants.")
    rows, lines, claims = [], [], []
    for split, role, where in places(pool):
        at = {variant.title: variant.point(cell.task, cell.target, split, budget) for variant in there}
        for variant in there:
            estimate = score(pool, at[variant.title], role)
            rows.append(row(estimate, category=variant.title, series=where))
            if estimate is not None:
                lines.append([variant.title, where, with_interval(estimate.value, estimate.low, estimate.high)])
        pairs = [(f"{model}, told place and month", f"{model}, told neither") for model in KNOWN]
        pairs += [(f"{model}, told place and month", f"{model}, not told the place") for model in KNOWN]
        pairs += [(f"{model}, told place and month", f"{model}, not told the month") for model in KNOWN]
        pairs += [(SHALLOW[3].title, SHALLOW[2].title), *((f"{model}, told neither", FLOOR.title) for model in KNOWN)]
        for first, second in pairs:
            if first not in at or second not in at:
                continue
            made = difference(pool, Side.of(at[first], role), Side.of(at[second], role))
            if made is not None:
                claims.append((where, first, second, _claim(made, where, first, second, metric)))
    telling = [claim for _, first, second, claim in claims if "told neither" in second]
    if telling:
        found.claims.append(
            tally(telling, "Presto told place and month, against the same model told neither", "telling helps", "telling hurts")
        )
    found.claims += [claim for *_, claim in claims]
    frame = pd.DataFrame(rows)
    found.figures.append(
        Figure(
            "scores",
            "With and without coordinates and months",
            f"{metric}, {budget}; bars are 95 % intervals over test blocks and seeds. Switched off means held at one place, or one run of "
            "months, for all units.",
            [by_category(frame, title="Live fuel moisture", axis=metric)],
            frame,
            sorted(found.results),
        )
    )
    found.tables.append(Table("scores-table", "Every score", ["Model", "Tested", f"#{metric}"], lines, frame))
    return found


def _claim(made: tuple, where: str, first: str, second: str, metric: str) -> Claim:
    effect, digests = made
    return compared(
        effect,
        digests,
        above=f"{where.capitalize()}: {first} beats {second} by {{size}} {metric}",
        below=f"{where.capitalize()}: {first} falls behind {second} by {{size}} {metric}",
        unclear=f"{where.capitalize()}: {first} and {second} cannot be told apart in {metric}",
    )


STUDY = Study(
    "coordinates",
    "Does it learn the land or the place?",
    "What do the coordinates and months that a backbone is told bring, at home and in a region held out, and how far above knowing the "
    "place alone is it?",
    "Presto reads three months of pixels and is told latitude, longitude and month. Switched off, every unit is given the same place (the "
    "mean of the "
    "training units) or the same months, so that the pixels are all that differs. Against it: the nearest labelled site (coordinates "
    "alone), a forest on "
    "place, month and land cover class alone, on pixels alone, and on both. Live fuel moisture at real sites, 400 labels, validation "
    "included.",
    25,
    (FOLDER,),
    "",
    (
        "One backbone and one task. Prithvi's models with time and location need weights that are not at hand.",
        "Presto was pretrained with coordinates: switching them off takes something it expects, so a loss can be surprise as well as lost "
        "knowledge.",
        "The official split parts sites and promises no distance between them.",
        "A short schedule, the same for all; a longer one may use the coordinates more.",
    ),
    run,
)
