"""Do intervals hold for a new region, and do verdicts stay undecided where there is nothing to find? Simulated worlds of known truth.

Run: python studies/new_groups.py [--worlds 400] [--tables 100]; prints Markdown. `make studies` keeps it in docs/studies/new_groups.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.datasets.recipes import build
from rs05bench.protocol.cell_record import BudgetRecord
from rs05bench.protocol.comparison import compare
from rs05bench.protocol.hypotheses import judge_hypotheses
from rs05bench.protocol.inference.over_groups import over_groups
from rs05bench.protocol.metrics import Clusters, Confusion, find_metric
from rs05bench.protocol.metrics.declaration import Centre
from rs05bench.protocol.result import Cell, ModelCard, Result, Stratum
from rs05bench.protocol.splits import Split

GROUPS = (4, 8, 20, 50)
SEEDS, BLOCKS, UNITS = 5, 12, 20
METRIC, TABLE_METRIC = "overall_accuracy", "macro_f1"
REAL_TARGETS = ("log_income", "poverty_pct", "property_crime", "unemployment_pct")
REAL_METRICS = ("r2", "mae", "spearman", "macro_f1")
MORE = 20
"""Labels of the state held out, of which the gain is asked."""
Array = NDArray[np.float64]
Scores = dict[str, dict[tuple[str, str], Array]]
CARDS = {
    "alphaearth/ridge": ModelCard(name="alphaearth/ridge", tier="embedding", inputs="alphaearth", learner="ridge", content=["embedding"]),
    "raw/ridge": ModelCard(name="raw/ridge", tier="raw", inputs="raw", learner="ridge", content=["optical"]),
    "hybrid/ridge": ModelCard(name="hybrid/ridge", tier="hybrid", inputs="hybrid", learner="ridge", content=["embedding", "optical"]),
    "floor/majority": ModelCard(name="floor/majority", tier="floor", inputs="none", learner="majority"),
}


def result(model: str, fold: int, seed: int, strata: list[Stratum], metric: str = METRIC) -> Result:
    """A result that holds what a comparison reads."""
    return Result.model_construct(
        cell=Cell.model_construct(
            task="world", target="y", split=Split("leave-region-out"), fold=f"r{fold}", model=model, budget="50-units", seed=seed
        ),
        digest=f"{model} {fold} {seed}",
        kind="classification",
        main_metric=metric,
        higher_is_better=True,
        simulated=True,
        model=CARDS[model],
        scores={},
        strata=strata,
        budget=BudgetRecord(labels_used=50),
    )


def stratum(role: str, group: int, scores: dict[str, float], units: int) -> Stratum:
    """The scores inside one region."""
    shift = "region" if role == "test_ood" else "none"
    return Stratum.model_construct(role=role, shift=shift, ground=f"r{group}", group=f"r{group}", units=units, scores=scores)


def accuracies(regions: int, effect: float, varies: float, rng: np.random.Generator) -> Array:
    """Held-out accuracy of two models, (2, seeds, regions).

    Regions and their blocks have a difficulty that both models share. Which model is better varies from region to region with a
    standard deviation of `varies` on the logistic scale, by `effect` on average; every fit has its own luck in each region.
    """
    shared = 0.8 + 0.5 * rng.standard_normal((1, 1, regions, 1)) + 0.7 * rng.standard_normal((1, 1, regions, BLOCKS))
    half = (0.5 * (effect + varies * rng.standard_normal((regions, 1)))) * np.array([1.0, -1.0]).reshape(2, 1, 1, 1)
    own = 0.3 * rng.standard_normal((2, 1, regions, BLOCKS)) + 0.2 * rng.standard_normal((2, SEEDS, regions, 1))
    right = rng.binomial(UNITS, 1 / (1 + np.exp(-(shared + half + own))))
    return right.mean(-1) / UNITS


def one_world(regions: int, effect: float, varies: float, rng: np.random.Generator) -> tuple[list[Result], Array]:
    """Results of two models in the regions of a world, and the (2,) accuracies in one region more."""
    table = accuracies(regions + 1, effect, varies, rng)
    models = ("alphaearth/ridge", "raw/ridge")
    results = [
        result(model, fold, seed, [stratum("test_ood", fold, {METRIC: float(table[m, seed, fold])}, BLOCKS * UNITS)])
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


def of_states(real: Path, least: int = 20) -> tuple[Scores, Scores]:
    """Held-out scores of linear models in US states, and what labels of the state held out bring on top.

    Each state is left out in turn; ridge regression of the value (R2, MAE, correlation of ranks) and logistic regression of its third
    (macro-F1) learn from 100 counties of the others, and are tested on the state. For the gain (embedding only), they learn from `MORE` of
    the state's own counties as well, and both are tested on the rest of the state.

    Args:
        real: Folder of real data.
        least: Counties of the smallest state that is used; for the gain three times as many as are labelled.

    Returns:
        Scores and gains: metric -> (target, features) -> (states, seeds).
    """
    with tempfile.TemporaryDirectory() as scratch:
        table = pd.read_parquet(build("urban-signals", real, Path(scratch) / "signals").folder / "units.parquet")
    embedding, covariates = [f"A{i:02d}" for i in range(64)], ["log_density", "rural_urban_code"]
    sets = {"embedding": embedding, "covariates": covariates, "both": embedding + covariates}
    found: Scores = {name: {} for name in REAL_METRICS}
    gains: Scores = {name: {} for name in REAL_METRICS}
    for target in REAL_TARGETS:
        known = table.dropna(subset=[target, *covariates])
        known = known[known.groupby("state")["state"].transform("size") >= least]
        y, state = known[target].to_numpy(float), known["state"].to_numpy(object)
        third = np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))
        names, sizes = np.unique(state.astype(str), return_counts=True)
        for features, columns in sets.items():
            x = known[columns].to_numpy(float)
            scores = np.full((len(REAL_METRICS), len(names), SEEDS), np.nan)
            gained = scores.copy()
            for group, name in enumerate(names):
                inside = np.flatnonzero(state == name)
                for seed in range(SEEDS):
                    rng = np.random.default_rng([seed, group])
                    train = rng.choice(np.flatnonzero(state != name), 100, replace=False)
                    scores[:, group, seed] = four_scores(x, y, third, train, inside)
                    if features == "embedding" and sizes[group] >= 3 * MORE:
                        local, rest = np.split(rng.permutation(inside), [MORE])
                        plus = four_scores(x, y, third, np.concatenate([train, local]), rest)
                        gained[:, group, seed] = plus - four_scores(x, y, third, train, rest)
            for row, metric in enumerate(REAL_METRICS):
                found[metric][target, features] = scores[row]
                if features == "embedding":
                    gains[metric][target, features] = gained[row][sizes >= 3 * MORE]
    return found, gains


def four_scores(x: Array, y: Array, third: NDArray[np.intp], train: NDArray[np.intp], test: NDArray[np.intp]) -> Array:
    """(4,) scores of linear models, in the order of `REAL_METRICS`."""
    from scipy.stats import spearmanr
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.metrics import f1_score, mean_absolute_error, r2_score

    z = (x - x[train].mean(0)) / x[train].std(0)
    said = RidgeCV(np.logspace(-1, 4, 6)).fit(z[train], y[train]).predict(z[test])
    classes = LogisticRegression(C=0.1, max_iter=200).fit(z[train], third[train]).predict(z[test])
    return np.array(
        [
            r2_score(y[test], said),
            mean_absolute_error(y[test], said),
            spearmanr(y[test], said)[0],
            f1_score(third[test], classes, average="macro"),
        ]
    )


def real_coverage(tables: list[Array], of: Centre, count: int, worlds: int, rng: np.random.Generator) -> dict[str, float]:
    """How often the interval for a mean or a median holds it, in worlds whose groups are drawn from the given ones.

    Args:
        tables: (groups, seeds) each; a world is `count` of its rows, drawn with replacement, so that the truth is that of all rows.
        of: What the interval is for.
        count: Groups of a world.
        worlds: Worlds of each table.
        rng: Source of chance.

    Returns:
        Shares: `held`, `new` (one row more lies where it should), and `false` (a difference is found though the truth is zero).
    """
    names = [f"g{at}" for at in range(count)]
    held, new, false = [], [], []
    for table in tables:
        rows = table.mean(axis=1)
        truth = float(rows.mean() if of == "mean" else np.median(rows))
        for _ in range(worlds):
            drawn = rng.integers(0, len(rows), count + 1)
            said = over_groups(table[drawn[:-1]], names, of=of)
            bounds, ends = said.bounds, said.next_group
            if bounds is not None:
                held.append(bounds.low <= truth <= bounds.high)
            if ends is not None:
                new.append(ends.low <= rows[drawn[-1]] <= ends.high)
            false.append(over_groups(table[drawn[:-1]] - truth, names, of=of, test=True).significant)
    return {"held": float(np.mean(held)) if held else float("nan"), "new": float(np.mean(new)), "false": float(np.mean(false))}


def real_tables(real: Path, worlds: int) -> None:
    """Prints how the intervals hold for real scores, whose tails no simulation chose."""
    print("\n# Real scores\n")
    print(
        f"Linear models of {len(REAL_TARGETS)} signals of US counties ({', '.join(REAL_TARGETS)}) on the embedding, on two "
        "covariates and on both, 100 labels, each state left out in turn. A world is some of these states, drawn with replacement, so "
        "that the truth is that of all of them. *By t* is Student's interval for the mean, whatever the metric declares; *given* is what "
        f"`compare` gives. Differences are those of the three sets of features. {worlds} worlds for each target and set of features.\n"
    )
    print(
        "| metric | interval for | states | score, by t | score, given | difference, by t | difference, given "
        "| false positives, by t | false positives, given | new state stated | new state held |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    scores, gains = of_states(real)
    for metric, by_model in scores.items():
        of = find_metric(metric).over_groups
        gaps = [
            by_model[t, a] - by_model[t, b]
            for t in REAL_TARGETS
            for a, b in (("embedding", "covariates"), ("both", "embedding"), ("both", "covariates"))
        ]
        for count in GROUPS:
            rng = np.random.default_rng(count)
            score = {name: real_coverage(list(by_model.values()), name, count, worlds, rng) for name in ("mean", of)}
            gap = {name: real_coverage(gaps, name, count, worlds, rng) for name in ("mean", of)}
            level = over_groups(np.arange(count, dtype=float)[:, None], [str(i) for i in range(count)], of=of).new_level
            told = [score["mean"]["held"], score[of]["held"], gap["mean"]["held"], gap[of]["held"], gap["mean"]["false"], gap[of]["false"]]
            told += [level, score[of]["new"]]
            shares = ["none" if share != share else f"{100 * share:.1f} %" for share in told]
            print(f"| `{metric}` | {of} | {count} | " + " | ".join(shares) + " |", flush=True)
    print(
        "\nMost states score alike and a few far below, so that few states rarely hold one of these, and Student's interval for a mean R2 "
        "is then short and in the wrong place. The median and the sign test hold at least as often as they say, whatever the shape; they "
        "need six groups."
    )
    gain_tables(gains, worlds)


def gain_tables(gains: Scores, worlds: int) -> None:
    """Prints how the intervals of a gain hold: what labels of a new group bring there."""
    print("\n# What labels of a new group bring\n")
    first = next(iter(next(iter(gains.values())).values()))
    print(
        f"The gain from {MORE} labels of the state held out, on top of 100 of other states: the embedding, the rest of the state tested, "
        f"{len(first)} states that have at least {3 * MORE} counties. *Held* is how often the interval for the mean or median gain holds "
        "it, *one new state* how often the gain in one more state lies where it is stated to lie. "
        f"{4 * worlds} worlds for each of {len(REAL_TARGETS)} signals.\n"
    )
    print("| metric | mean gain | interval for | states | held | one new state: stated | held |")
    print("|---|---|---|---|---|---|---|")
    for metric, by_target in gains.items():
        of, tables = find_metric(metric).over_groups, list(by_target.values())
        # Errors are in the unit of each signal, and have no mean over signals.
        size = f"{np.mean([table.mean() for table in tables]):+.2f}" if find_metric(metric).higher_is_better else "–"
        for count in GROUPS[:3]:
            told = real_coverage(tables, of, count, 4 * worlds, np.random.default_rng(count))
            level = over_groups(np.arange(count, dtype=float)[:, None], [str(i) for i in range(count)], of=of).new_level
            held = "none" if told["held"] != told["held"] else f"{100 * told['held']:.1f} %"
            print(f"| `{metric}` | {size} | {of} | {count} | {held} | {100 * level:.1f} % | {100 * told['new']:.1f} % |", flush=True)


def fitted(x: Array, y: NDArray[np.intp], train: NDArray[np.bool_]) -> NDArray[np.intp]:
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
                names = (TABLE_METRIC, "balanced_accuracy")
                scores = np.stack([np.atleast_1d(counts.evaluate(name, counts.vectors)) for name in names], axis=1)
                inside = {name: dict(zip(names, row, strict=True)) for name, row in zip(counts.clusters, scores.tolist(), strict=True)}
                roles = {g: "test_ood" if g == fold else "test_id" for g in range(regions)}
                strata = [stratum(roles[g], g, inside[str(g)], units // 2) for g in range(regions)]
                found.append(result(model, fold, seed, strata, TABLE_METRIC))
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
    real = Path(os.environ.get("RS05BENCH_REAL", Path(__file__).resolve().parent.parent.parent / "shared" / "real"))
    if real.is_dir():
        real_tables(real, max(1, options.worlds // 4))
    print("\n# Verdicts where there is nothing to find\n")
    print(
        "A table of eight regions whose *raw* columns are noise declared optical, under leave-region-out with five draws of 100 labels. "
        "In the first row the embedding is noise too; in the second it has skill, and hybrid with it. Scores are macro-F1, in which "
        "noise is ahead of the majority class.\n"
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
