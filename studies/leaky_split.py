"""What a leaky split costs in score: the same model and budget under a random, a buffered-block and a leave-region split, on real data.

Prints a Markdown page (kept as `docs/studies/leaky_split.md`) and draws `docs/studies/leaky_split.png`. Data sets that are not on this
machine (RS05BENCH_REAL, default ../shared/real) are skipped and named.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rs05bench import models
from rs05bench.datamodules.sources import open_source
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.manifest import build_manifest
from rs05bench.protocol.metrics import classification_scores, regression_scores
from rs05bench.protocol.taskdata import TaskData, TaskSource, encode_labels

ROOT = Path(__file__).resolve().parent.parent
REAL = (ROOT / os.environ.get("RS05BENCH_REAL", "../shared/real")).resolve()
CARDS, PUBLISHED = ROOT / "examples" / "cards", ROOT / "rs05bench" / "datasets" / "published" / "cards"
SEEDS = range(10)
SPLITS = ("random", "spatial-block", "leave")
WORDS = {"random": "random", "spatial-block": "buffered blocks", "leave": "region held out"}


@dataclass(frozen=True)
class Case:
    """One data set, the group its region split holds out, one budget, its models."""

    title: str
    folder: str
    card: Path
    leave: str
    budget: str
    models: tuple[str, ...]


CASES = (
    Case(
        "Land cover, 4 regions (9 classes)",
        "aef_landcover",
        CARDS / "aef_landcover.yaml",
        "leave-region-out",
        "20-per-class",
        ("alphaearth/logistic", "raw/logistic", "floor/nearest"),
    ),
    Case(
        "County income, US",
        "aef_counties",
        CARDS / "aef_counties_income.yaml",
        "leave-state-out",
        "200-units",
        ("alphaearth/ridge", "floor/nearest"),
    ),
    Case(
        "County unemployment 2017-2018, US",
        "aef_counties",
        CARDS / "aef_counties_unemployment.yaml",
        "leave-state-out",
        "200-units",
        ("alphaearth/ridge", "floor/nearest"),
    ),
    Case(
        "Live fuel moisture, 150 sites",
        "lfmc_presto",
        PUBLISHED / "fuel-moisture.yaml",
        "leave-region-out",
        "200-units",
        ("raw/ridge", "floor/nearest"),
    ),
)


def run(case: Case) -> tuple[str, dict[tuple[str, str], list[float]]]:
    """Scores of a case: metric, and (model, split) -> a score a seed, the held-out units of all folds together."""
    base = TaskCard.load(case.card)
    source = open_source(base, REAL / case.folder)
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in SEEDS:
        # Another seed draws other blocks and other labels: the spread holds both.
        card = base.model_copy(update={"split_options": base.split_options.model_copy(update={"seed": seed})})
        for split in SPLITS:
            manifest = build_manifest(card, source.units(), case.leave if split == "leave" else split)
            role = "test_ood" if split == "leave" else "test_id"
            tested: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
            for fold in manifest.folds:
                data = TaskData.build(source, manifest, fold, case.budget, seed)
                if not len(data.unit_ids(role)):
                    continue
                for name in case.models:
                    model = models.create(name, card=card, seed=seed).fit(data)
                    found = model.predict(data, role)
                    tested[name].append((found.unit_id, found.probabilities if found.y is None else found.y))
            for name, parts in tested.items():
                scores[name, split].append(pooled(source, data.classes, parts))
    return base.main_metric, scores


def pooled(source: TaskSource, classes: tuple[str, ...] | None, parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The main metric over the test units of all folds together (a fold of one small region has no R2 worth the name)."""
    ids, answers = (np.concatenate(values) for values in zip(*parts, strict=True))
    truth = encode_labels(source.labels(source.card.targets[0]).reindex(ids), classes, source.card.name)
    known = ~np.isnan(truth.astype(float))
    if classes is not None:
        return float(classification_scores(truth[known], answers[known], classes)[source.card.main_metric])
    return float(regression_scores(truth[known], answers[known], None)[source.card.main_metric])


def text(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def main() -> None:
    """Prints the page and draws the figure."""
    print("# What a leaky split costs in score\n")
    print("The same model with the same number of labels, tested three ways. *Random*: test units drawn anywhere, as most papers do.")
    print("*Buffered blocks*: test units in whole blocks, with nobody using what lies within the buffer around them. *Region held out*:")
    print("no label from the region tested. All three are drawn by the package's own splitters from the cards named; a seed draws other")
    print(
        f"blocks and other labels. Mean and standard deviation over {len(SEEDS)} seeds; the test units of all folds are scored together.\n"
    )
    print("| data | budget | metric | model | random | buffered blocks | region held out | flattered by (random − held out) |")
    print("|---|---|---|---|---|---|---|---|")
    drawn: list[tuple[Case, str, dict[tuple[str, str], list[float]]]] = []
    for case in CASES:
        if not (REAL / case.folder).exists():
            print(f"{case.title}: skipped, no {case.folder}", file=sys.stderr)
            continue
        metric, scores = run(case)
        drawn.append((case, metric, scores))
        for name in case.models:
            gap = [a - b for a, b in zip(scores[name, "random"], scores[name, "leave"], strict=True)]
            cells = " | ".join(text(scores[name, split]) for split in SPLITS)
            print(f"| {case.title} | {case.budget} | {metric} | {name} | {cells} | {text(gap)} |", flush=True)
    if not drawn:
        print("\nNo real data on this machine; nothing was run.")
        return
    figure(drawn).savefig(ROOT / "docs" / "studies" / "leaky_split.png", dpi=130)
    print("\n![Score of each model under the three splits, a panel a data set](leaky_split.png)\n")
    largest = max(
        (
            (np.mean(scores[name, "random"]) - np.mean(scores[name, "leave"]), case, name)
            for case, _, scores in drawn
            for name in case.models
        ),
        key=lambda found: found[0],
    )
    print(f"The largest difference is {largest[0]:.2f} ({largest[2]} on {largest[1].title.split(',')[0].lower()}). `floor/nearest` knows")
    print("coordinates and nothing else: what it scores under the random split, and loses under the others, is the part of a score that is")
    print(
        "knowing the place. Under blocks no test unit lies beside a training unit, but its region trains; only the last column asks for a"
    )
    print("new region.\n")
    print("Cards: `examples/cards/` for land cover and counties, `rs05bench/datasets/published/cards/fuel-moisture.yaml`. The land-cover")
    print(
        "labels are a model product (Dynamic World). Test units differ between splits, so a difference holds both the leak and how hard the"
    )
    print("units are; the drop *on the same ground*, which results carry, keeps the units and changes only what trains.")


def figure(drawn: list[tuple[Case, str, dict[tuple[str, str], list[float]]]]) -> object:
    from matplotlib.figure import Figure

    from rs05bench.protocol.tiers import TIER_STYLES

    picture = Figure(figsize=(3.3 * len(drawn), 3.6), layout="constrained")
    for axes, (case, metric, scores) in zip(picture.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        for name, line, marker in zip(case.models, ("-", "--", ":"), ("o", "s", "^"), strict=False):
            tier = {"alphaearth": "embedding"}.get(name.split("/")[0], name.split("/")[0])
            values = [scores[name, split] for split in SPLITS]
            mean, spread = [np.mean(value) for value in values], [np.std(value, ddof=1) for value in values]
            axes.errorbar(range(len(SPLITS)), mean, spread, fmt=marker + line, color=TIER_STYLES[tier].colour, capsize=3, label=name)
        axes.set_xticks(range(len(SPLITS)), [WORDS[split].replace(" ", "\n", 1) for split in SPLITS])
        axes.set_ylabel(metric)
        axes.set_title(f"{case.title}\n{case.budget}", fontsize=9)
        axes.legend(frameon=False, fontsize=7)
        axes.grid(axis="y", color="#dddddd", lw=0.5)
    return picture


if __name__ == "__main__":
    main()
