"""Embedding angle and dot product against dNBR and dNDVI as change features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.experiment.gridfile import GridFile
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure
from rs05bench.report.style import number, with_interval
from rs05bench.studies.evidence import Side, difference, score
from rs05bench.studies.pictures import by_category, row
from rs05bench.studies.record import Claim, Findings, Study, compared, tally
from rs05bench.studies.setting import Setting

SPLIT = "leave-region-out"
SETS = {
    "angle": ["change_angle"],
    "dot": ["change_dot"],
    "dnbr": ["dNBR"],
    "dndvi": ["dNDVI"],
    "indices": ["dNBR", "dNDVI"],
    "components": ["dA[0-9][0-9]"],
    "both": ["indices", "components", "angle"],
}
SHOWN = {
    "angle": "angle of the embeddings",
    "dot": "dot product of the embeddings",
    "dnbr": "dNBR",
    "dndvi": "dNDVI",
    "indices": "dNBR and dNDVI",
    "components": "64 differences of components",
    "both": "all of them",
}
PAIRS = (("angle", "dnbr"), ("angle", "dndvi"), ("dot", "dnbr"), ("components", "indices"), ("both", "indices"))
ROLES = {"test_id": "in fires of regions that train", "test_ood": "in a region held out"}


def run(setting: Setting) -> Findings:
    """Writes the pixels, runs the grids and reads what came out."""
    size = "tiny" if setting.quick else "medium"
    folder = setting.store / "data" / f"change-{size}"
    if not (folder / "SIMULATED.json").is_file():
        write_pixels(folder, size)
    found = Findings()
    for kind, budgets in (
        ("classification", ["5-per-class", "25-per-class", "100-per-class"]),
        ("regression", ["20-units", "100-units", "full"]),
    ):
        card = setting.card(change_card(kind))
        learner = "logistic" if kind == "classification" else "ridge"
        grid = GridFile.model_validate(
            {
                "kind": "grid",
                "tasks": [{"card": str(card), "data": str(folder)}],
                "models": [f"{name}/{learner}" for name in SETS],
                "splits": [SPLIT],
                "budgets": budgets[1:2] if setting.quick else budgets,
                "seeds": [0] if setting.quick else list(range(5)),
            }
        )
        results = setting.sweep(grid)
        found.take(results)
        _read(found, Pool.of(results), kind, learner, budgets[1])
    return found


def _read(found: Findings, pool: Pool, kind: str, learner: str, lead: str) -> None:
    points = list(pool.points)
    task = points[0].task
    metric = "macro-F1 of burned and unburned" if kind == "classification" else "R² of severity"
    about = "Telling burned from unburned" if kind == "classification" else "Severity"
    budgets = sorted({point.budget for point in points}, key=lambda name: pool.labels(next(p for p in points if p.budget == name)))
    rows, lines = [], []
    for budget in budgets:
        for name in SETS:
            point = Point(task, points[0].target, SPLIT, f"{name}/{learner}", budget)
            line = [SHOWN[name], f"{pool.labels(point):.0f}" if point in pool.points else "–"]
            for role, words in ROLES.items():
                estimate = score(pool, point, role)
                rows.append(row(estimate, category=SHOWN[name], series=words, budget=budget, model=point.model))
                line.append("–" if estimate is None else with_interval(estimate.value, estimate.low, estimate.high))
            lines.append(line)
    frame = pd.DataFrame(rows)
    shown = frame[frame["budget"] == lead]
    digests = sorted(digest for point in points if point.budget == lead for digest in pool.digests(point))
    found.figures.append(
        Figure(
            f"{kind}-scores",
            f"{about} by change features",
            f"{metric}, {lead}; one number (or a few) a pixel and a {learner} learner. Bars are 95 % intervals over test blocks and seeds.",
            [by_category(shown, title=about, axis=metric)],
            shown,
            digests,
        )
    )
    found.tables.append(
        Table(
            f"{kind}-all",
            f"{about}, every budget ({metric})",
            ["Features", "#Labels", *(f"#{words}" for words in ROLES.values())],
            lines,
            frame,
        )
    )
    gaps, made_here = [], []
    for first, second in PAIRS:
        for role, words in ROLES.items():
            one, two = (Point(task, points[0].target, SPLIT, f"{name}/{learner}", lead) for name in (first, second))
            made = difference(pool, Side.of(one, role), Side.of(two, role))
            if made is None:
                continue
            effect, rests = made
            claim = compared(
                effect,
                rests,
                above=f"{about}, {lead}, {words}: {SHOWN[first]} beats {SHOWN[second]} by {{size}}",
                below=f"{about}, {lead}, {words}: {SHOWN[first]} falls behind {SHOWN[second]} by {{size}}",
                unclear=f"{about}, {lead}, {words}: {SHOWN[first]} and {SHOWN[second]} cannot be told apart",
            )
            made_here.append((first, claim))
            gaps.append(row(effect, category=f"{SHOWN[first]} − {SHOWN[second]}", series=words))
    single = [claim for first, claim in made_here if first in ("angle", "dot")]
    if single:
        found.claims.append(
            tally(
                single, f"{about}, {lead}, one number a pixel", "the embedding's angle or dot product is better", "dNBR or dNDVI is better"
            )
        )
    found.claims += [claim for _, claim in made_here]
    rest = tuple(sorted({digest for _, claim in made_here for digest in claim.digests}))
    if gaps:
        found.figures.append(
            Figure(
                f"{kind}-differences",
                f"{about}: embedding against indices",
                f"Paired differences in {metric} on the same test blocks, {lead}; right of zero the first is better.",
                [by_category(pd.DataFrame(gaps), title="difference", axis=f"difference in {metric}", zero=True)],
                pd.DataFrame(gaps),
                rest,
            )
        )
    means = {
        name: [r["value"] for r in rows if r["model"] == f"{name}/{learner}" and r["budget"] == lead and r["value"] is not None]
        for name in SETS
    }
    best = max(("angle", "dot", "dnbr", "dndvi"), key=lambda name: float(np.mean(means[name] or [-np.inf])))
    found.notes.append(
        f"{about}: {sum(len(cells) for cells in pool.points.values()):,} cells; of the single numbers, {SHOWN[best]} has the best "
        "mean score."
    )
    found.claims.append(_drop(pool, task, points[0].target, learner, lead, about))


def _drop(pool: Pool, task: str, target: str, learner: str, lead: str, about: str) -> Claim:
    """Which of the single numbers loses least when the region is held out."""
    losses, rests = {}, set()
    for name in ("angle", "dot", "dnbr", "dndvi"):
        point = Point(task, target, SPLIT, f"{name}/{learner}", lead)
        here, away = score(pool, point, "test_id"), score(pool, point, "test_ood")
        if here is not None and away is not None:
            losses[name] = here.value - away.value
            rests |= set(pool.digests(point))
    said = ", ".join(f"{SHOWN[name]} {number(loss)}" for name, loss in sorted(losses.items(), key=lambda item: item[1]))
    return Claim(f"{about}, {lead}: from regions that train to a region held out the mean score falls by: {said}.", tuple(sorted(rests)))


def write_pixels(folder: Path, size: str) -> None:
    """Pixels in and around every simulated fire, with the embedding of the year before it and of its year.

    Args:
        folder: Where to write `pixels.csv`.
        size: Size of the simulated world.
    """
    from rs05bench.datasets.simulated import embedding, simulate
    from rs05bench.embeddings import change_features

    world = simulate(size, 0)
    table = world.table("burn-scar")
    parts = []
    for wild in world.wildlands:
        for fire in wild.fires:
            rows = table[table["fire"] == fire.name]
            place = rows["pixel_id"].str.rsplit("-", n=2, expand=True)[[1, 2]].astype(int).to_numpy()
            before, after = (embedding.at_pixels(wild, year, place[:, 0], place[:, 1]) for year in (fire.year - 1, fire.year))
            values, names = change_features(before, after)
            parts.append(pd.concat([rows.reset_index(drop=True), pd.DataFrame(values, columns=names)], axis=1))
    whole = pd.concat(parts, ignore_index=True).dropna(subset=["change_angle"])
    kept = ["pixel_id", "label", "severity", "region", "biome", "fire", "year", "longitude", "latitude", "dNBR", "dNDVI"]
    folder.mkdir(parents=True, exist_ok=True)
    whole[[*kept, *names]].to_csv(folder / "pixels.csv", index=False, float_format="%.8g")
    (folder / "SIMULATED.json").write_text(json.dumps({"simulated": True, "size": size, "pixels": len(whole)}) + "\n", encoding="utf-8")


def change_card(kind: str) -> TaskCard:
    """The task over those pixels: burned or not, or how severely."""
    classes = kind == "classification"
    return TaskCard.model_validate(
        {
            "kind": kind,
            "name": "burned-change" if classes else "severity-change",
            "title": "Burned pixels from change (simulated)" if classes else "Burn severity from change (simulated)",
            "targets": ["label" if classes else "severity"],
            "classes": ["unburned", "burned"] if classes else None,
            "unit": ["pixel_id", "year"],
            "place": ["pixel_id"],
            "groups": ["region", "biome", "fire"],
            "coordinates": {"x": "longitude", "y": "latitude", "crs": "EPSG:4326"},
            "files": ["pixels.csv"],
            "features": SETS,
            "tiers": {
                name: "embedding" if name in ("angle", "dot", "components") else ("hybrid" if name == "both" else "raw") for name in SETS
            },
            "never_features": ["severity"] if classes else ["label"],
            "splits": [SPLIT],
            "split_options": {"block_size_m": 2500, "buffer_m": 200, "max_folds": 10},
            "budgets": ["25-per-class"] if classes else ["100-units"],
            "main_metric": "macro_f1" if classes else "r2",
            "simulated": True,
            "licence": "MIT",
            "source": "rs05bench.datasets.simulated",
            "overlap": "The simulated embedding was trained on nothing; its map is random and fixed.",
        }
    )


STUDY = Study(
    "change-features",
    "Does an embedding's angle say what dNBR says?",
    "How well do the angle and the dot product between two years' embeddings tell burned ground and its severity, against dNBR and dNDVI?",
    "Pixels in and around every fire of the simulated world. dNBR and dNDVI come from one clear image before and one after the fire; "
    "angle and dot "
    "product from the annual embedding of the year before and of the year of the fire, as unit vectors. Each feature goes by itself into "
    "the same "
    "linear learner with the same labels, so what is compared is the feature; the 64 differences of components and the two indices "
    "together stand "
    "beside them. Tested in fires of regions that train, and in regions held out.",
    3,
    (),
    "simulated burned pixels",
    (
        "Simulated: the embedding is a fixed random map of a simulated year, not AlphaEarth. What carries over is the method, not "
        "the numbers.",
        "The year of the fire mixes the ground before and after it; a fire late in the year shows less, and the year after would "
        "show more.",
        "Angle and dot product are the same number but for a monotone curve; a linear learner can still cut them at other places.",
        "dNBR here has one clear pair of images; in cloudy places it would wait, and the season would move on between the two.",
    ),
    run,
)
