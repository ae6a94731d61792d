"""Do intervals hold for a new region, and do verdicts stay undecided where there is nothing to find? Simulated worlds of known truth.

Run: python studies/new_groups.py [--worlds 400] [--tables 100]; prints Markdown. `make studies` keeps it in docs/studies/new_groups.md.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.cell_record import BudgetRecord
from rs05bench.protocol.comparison import compare
from rs05bench.protocol.hypotheses import judge_hypotheses
from rs05bench.protocol.metrics import Clusters, Confusion
from rs05bench.protocol.result import Cell, ModelCard, Result, Stratum
from rs05bench.protocol.splits import Split

GROUPS = (4, 8, 20, 50)
SEEDS, BLOCKS, UNITS = 5, 12, 20
METRIC = "overall_accuracy"
CARDS = {
    "alphaearth/ridge": ModelCard(name="alphaearth/ridge", tier="embedding", inputs="alphaearth", learner="ridge", content=["embedding"]),
    "raw/ridge": ModelCard(name="raw/ridge", tier="raw", inputs="raw", learner="ridge", content=["optical"]),
    "hybrid/ridge": ModelCard(name="hybrid/ridge", tier="hybrid", inputs="hybrid", learner="ridge", content=["embedding", "optical"]),
    "floor/majority": ModelCard(name="floor/majority", tier="floor", inputs="none", learner="majority"),
}


def result(model: str, fold: int, seed: int, strata: list[Stratum]) -> Result:
    """A result that holds what a comparison reads."""
    return Result.model_construct(
        cell=Cell.model_construct(
            task="world", target="y", split=Split("leave-region-out"), fold=f"r{fold}", model=model, budget="50-units", seed=seed
        ),
        digest=f"{model} {fold} {seed}",
        kind="classification",
        main_metric=METRIC,
        higher_is_better=True,
        simulated=True,
        model=CARDS[model],
        scores={},
        strata=strata,
        budget=BudgetRecord(labels_used=50),
    )


def stratum(role: str, group: int, score: float, units: int) -> Stratum:
    """The score inside one region."""
    shift = "region" if role == "test_ood" else "none"
    return Stratum.model_construct(role=role, shift=shift, ground=f"r{group}", group=f"r{group}", units=units, scores={METRIC: score})


def accuracies(regions: int, effect: float, varies: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Held-out accuracy of two models, (2, seeds, regions).

    Regions and their blocks have a difficulty that both models share. Which model is better varies from region to region with a
    standard deviation of `varies` on the logistic scale, by `effect` on average; every fit has its own luck in each region.
    """
    shared = 0.8 + 0.5 * rng.standard_normal((1, 1, regions, 1)) + 0.7 * rng.standard_normal((1, 1, regions, BLOCKS))
    half = (0.5 * (effect + varies * rng.standard_normal((regions, 1)))) * np.array([1.0, -1.0]).reshape(2, 1, 1, 1)
    own = 0.3 * rng.standard_normal((2, 1, regions, BLOCKS)) + 0.2 * rng.standard_normal((2, SEEDS, regions, 1))
    right = rng.binomial(UNITS, 1 / (1 + np.exp(-(shared + half + own))))
    return right.mean(-1) / UNITS


def one_world(regions: int, effect: float, varies: float, rng: np.random.Generator) -> tuple[list[Result], NDArray[np.float64]]:
    """Results of two models in the regions of a world, and the (2,) accuracies in one region more."""
    table = accuracies(regions + 1, effect, varies, rng)
    models = ("alphaearth/ridge", "raw/ridge")
    results = [
        result(model, fold, seed, [stratum("test_ood", fold, float(table[m, seed, fold]), BLOCKS * UNITS)])
        for m, model in enumerate(models)
        for seed in range(SEEDS)
        for fold in range(regions)
    ]
    return results, table[:, :, regions].mean(1)


def coverage(regions: int, worlds: int, effect: float, varies: float) -> dict[str, float]:
    """Shares of worlds in which intervals hold the truth."""
    # The truth is what an endless number of regions gives.
    many = accuracies(200_000 // SEEDS, effect, varies, np.random.default_rng(1)).mean((1, 2))
    held: Counter[str] = Counter()
    for world in range(worlds):
        results, new = one_world(regions, effect, varies, np.random.default_rng([regions, world, round(10 * varies), round(10 * effect)]))
        found = compare(results, reference="raw/ridge")
        gap = found.differences[0].effect
        score = found.scores[0].estimate
        held["difference"] += gap.low <= many[0] - many[1] <= gap.high
        held["significant"] += bool(gap.significant)
        held["score"] += score.low <= many[0] <= score.high
        held["new region"] += gap.new_low <= new[0] - new[1] <= gap.new_high
        held["new score"] += score.new_low <= new[0] <= score.new_high
    return {name: count / worlds for name, count in held.items()}


def fitted(x: NDArray[np.float64], y: NDArray[np.intp], train: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Ridge on one-hot labels (penalty 1, standardised columns): the class of every unit."""
    z = (x - x[train].mean(0)) / x[train].std(0)
    z = np.column_stack([z, np.ones(len(z))])
    weights = np.linalg.solve(z[train].T @ z[train] + np.eye(z.shape[1]), z[train].T @ np.eye(3)[y[train]])
    return np.asarray((z @ weights).argmax(1))


def table_world(embedding: str, rng: np.random.Generator, regions: int = 8, units: int = 120) -> list[Result]:
    """A table whose raw columns are noise that is declared optical, under leave-region-out with five draws of labels.

    Args:
        embedding: `noise`, or `skill`: it knows the class, and its meaning moves a little from region to region.
        rng: Source of chance.
        regions: Regions.
        units: Units of each, half of them tested.
    """
    region = np.repeat(np.arange(regions), units)
    tested = np.tile(np.arange(units) % 2 == 0, regions)
    y = rng.integers(0, 3, len(region))
    noise = rng.standard_normal((len(region), 6))
    knows = (np.eye(3)[y] if embedding == "skill" else 0.0) + 0.6 * rng.standard_normal((len(region), 3))
    knows = knows + (0.3 * rng.standard_normal((regions, 3)))[region]
    columns = {"alphaearth/ridge": knows, "raw/ridge": noise, "hybrid/ridge": np.column_stack([knows, noise])}
    found = []
    for seed in range(SEEDS):
        for fold in range(regions):
            pool = np.flatnonzero((region != fold) & ~tested)
            train = np.zeros(len(region), dtype=bool)
            train[rng.choice(pool, 100, replace=False)] = True
            majority = np.full(len(region), np.bincount(y[train]).argmax())
            for model in CARDS:
                said = majority if model.startswith("floor") else fitted(columns[model], y, train)
                counts = Confusion.of(y[tested], said[tested], ("a", "b", "c"), clusters=Clusters.of(region[tested].astype(str)))
                scores = np.atleast_1d(counts.evaluate(METRIC, counts.vectors))
                inside = dict(zip(counts.clusters, scores.tolist(), strict=True))
                roles = {g: "test_ood" if g == fold else "test_id" for g in range(regions)}
                found.append(result(model, fold, seed, [stratum(roles[g], g, inside[str(g)], units // 2) for g in range(regions)]))
    return found


def verdicts(embedding: str, worlds: int) -> dict[str, Counter[str]]:
    """How often each hypothesis gets each verdict, and how often a contrast against noise counts."""
    found: dict[str, Counter[str]] = {"H1": Counter(), "H3": Counter(), "noise": Counter()}
    for world in range(worlds):
        judged = {v.hypothesis: v for v in judge_hypotheses(table_world(embedding, np.random.default_rng([world, len(embedding)])))}
        for name in ("H1", "H3"):
            found[name][judged[name].verdict] += 1
        against = [entry for entry in judged["H3"].comparisons if "image bands" in entry.contrast]
        found["noise"]["counts"] += any(entry.in_scope for entry in against)
        found["noise"]["refutes"] += any(entry.in_scope and entry.verdict == "refuted" for entry in against)
    return found


def main() -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=400)
    parser.add_argument("--tables", type=int, default=100)
    options = parser.parse_args()
    begin = time.process_time()
    print("# Intervals for a new region\n")
    print(
        "Two models are scored in simulated regions. Regions differ in difficulty, which model is better differs from region to region, "
        f"units of a block are alike, and each of {SEEDS} fits has its own luck ({BLOCKS} blocks of {UNITS} units a region). "
        "`rs05bench.compare` sees the results; the truth is what an endless number of regions gives. All intervals are 95 %.\n"
    )
    print(
        "| regions | strength varies by | false positives | difference held | score held | new region's difference held | new score held |"
    )
    print("|---|---|---|---|---|---|---|")
    for varies in (0.3, 0.8):
        for regions in GROUPS:
            null = coverage(regions, options.worlds, 0.0, varies)
            moved = coverage(regions, options.worlds, 0.4, varies)
            told = [null["significant"], moved["difference"], moved["score"], moved["new region"], moved["new score"]]
            print(f"| {regions} | {varies} | " + " | ".join(f"{100 * share:.1f} %" for share in told) + " |", flush=True)
    error = 100 * (0.95 * 0.05 / options.worlds) ** 0.5
    print(
        "\n*False positives*: worlds in which the models are equal on average and a difference is found (nominal 5 %). *Held*: the "
        "share of intervals that hold the truth, where one model is better by .4 on the logistic scale. *New*: a prediction interval holds "
        f"what one region more gives. {options.worlds:,} worlds a line; the simulation's own standard error is {error:.1f} points.\n"
    )
    print("# Verdicts where there is nothing to find\n")
    print(
        "A table of eight regions whose *raw* columns are noise declared optical, under leave-region-out with five draws of 100 labels. "
        "In the first row the embedding is noise too; in the second it has skill, and hybrid with it.\n"
    )
    print("| embedding | H1 supported | H1 refuted | H3 supported | H3 refuted | noise counts for H3 | noise refutes H3 |")
    print("|---|---|---|---|---|---|---|")
    for embedding in ("noise", "skill"):
        found = verdicts(embedding, options.tables)
        told = [found["H1"]["supported"], found["H1"]["refuted"], found["H3"]["supported"], found["H3"]["refuted"]]
        told += [found["noise"]["counts"], found["noise"]["refutes"]]
        print(f"| {embedding} | " + " | ".join(f"{100 * count / options.tables:.0f} %" for count in told) + " |", flush=True)
    print(
        "\nWith an embedding of noise a verdict is false whatever it says. With one of skill H1 is true, and raw noise, whose drop is "
        "zero, must neither count for H3 nor refute it."
    )
    spent = time.process_time() - begin
    print(f"\n{options.tables} tables a line; every world and table has its own fixed seed, its number; {spent:.0f} CPU seconds in all.")


if __name__ == "__main__":
    main()
