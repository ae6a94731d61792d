"""Live fuel moisture with the real pretrained Presto against raw baselines and random-initialised twins; prints Markdown.

Runs `examples/cards/fuel_moisture.yaml` over the real samples, seed by seed, so that whatever is there when it is stopped is a whole
comparison; results are kept in a store and never run twice. Without the real data it says so and prints nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.experiment.grid import parse_seeds
from rs05bench.experiment.query import read_index
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol.card import TaskCard

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "examples" / "cards" / "fuel_moisture.yaml"
PRESTO = ("presto/frozen", "presto/lora", "presto/full")
FOREST = "raw-context/rf"
MODELS = (
    "floor/mean",
    "floor/nearest",
    "raw/ridge",
    "raw/rf",
    FOREST,
    *(name for tier in PRESTO for name in (tier, f"{tier}@random")),
)
SPLITS = ("official", "leave-region-out")


def main() -> None:
    """Run what is missing and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="Folder of results, taken up where it stopped; default a temporary one.")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--budgets", help="Default the card's, separated by commas.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--print-only", action="store_true", help="Print what the store holds, run nothing.")
    options = parser.parse_args()
    data = Path(os.environ.get("RS05BENCH_REAL", ROOT.parent / "shared" / "real")) / "lfmc_presto"
    if not data.is_dir():
        print("The real fuel-moisture samples are not on this machine (set RS05BENCH_REAL): nothing was run.")
        return
    card = TaskCard.load(CARD)
    budgets = options.budgets.split(",") if options.budgets else card.budgets
    with tempfile.TemporaryDirectory() as scratch:
        store = options.store or Path(scratch)
        if not options.print_only:
            run(data, store, budgets, parse_seeds(options.seeds), options.jobs)
        report(card, store, budgets)


def run(data: Path, store: Path, budgets: list[str], seeds: list[int], jobs: int) -> None:
    """Run the grid seed by seed, and measure costs alone on the official split with all labels."""
    for seed in seeds:
        summary = sweep(CARD, data, store, models=MODELS, splits=SPLITS, budgets=budgets, seeds=[seed], jobs=jobs, costs=False)
        print(f"seed {seed}: {summary.done} run, {summary.reused} there, {len(summary.failed)} failed", file=sys.stderr, flush=True)
        for outcome in summary.failed[:3]:
            print(f"  {outcome.model}: {outcome.error}", file=sys.stderr)
        if summary.stopped:
            return
    sweep(CARD, data, store, models=MODELS, splits=["official"], budgets=budgets[-1:], seeds=seeds[:1], jobs=1, costs=True)


def report(card: TaskCard, store: Path, budgets: list[str]) -> None:
    """Print the tables."""
    table = whole_seeds(read_index(ResultStore(store)), budgets)
    if table.empty:
        print("No seed is complete yet.")
        return
    introduce(card, sorted(table["seed"].unique()))
    print("## What it shows\n")
    for sentence in findings(table, budgets):
        print(f"- {sentence}")
    print("\n## R2\n")
    heads = [*(f"official, {name}" for name in budgets), *(f"new region, {name}" for name in budgets), f"same region, {budgets[-1]}"]
    print("| model | " + " | ".join(heads) + " | drop |")
    print("|---" * (len(heads) + 2) + "|")
    for model in MODELS:
        cells = [spread(table, split, name, model, "r2_ood") for split in SPLITS for name in budgets]
        cells += [spread(table, "leave-region-out", budgets[-1], model, column) for column in ("r2_id", "r2_drop")]
        print(f"| {model} | " + " | ".join(cells) + " |")
    folds = table.loc[table["split"] == "leave-region-out", "fold"].nunique()
    print(
        "\nOfficial: the published site split (no distance between its training and test sites is promised). "
        f"New region: {folds} folds of gathered 10 x 5 degree cells, mean over folds. Same region: test sites of the regions in training. "
        f"Drop ({budgets[-1]} labels): same test sites, scored with their region in training and with it held out.\n"
    )
    print("## What pretraining brings\n")
    print("R2 of the pretrained minus R2 of the random-initialised, paired by seed and fold; in brackets how many pairs are above zero.\n")
    print_pairs(table, budgets, {model: f"{model}@random" for model in PRESTO})
    print(f"\nThe same for Presto against the forest that sees the same inputs (`{FOREST}`):\n")
    print_pairs(table, budgets, dict.fromkeys(PRESTO, FOREST))
    costs(store, budgets[-1])


def introduce(card: TaskCard, seeds: list[int]) -> None:
    """Say what was run."""
    training = card.training
    seeded = f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})" if len(seeds) > 1 else f"one seed ({seeds[0]}), so no spread can be given"
    print("# Live fuel moisture: pretrained Presto, its random twins, and raw baselines\n")
    print(
        f"2,313 real samples at 150 sites; {seeded}; label budgets count training and validation together. "
        f"Every Presto tier: {training.steps} optimiser steps of {training.batch_size} units, learning rate "
        f"{', '.join(f'{rate:g}' for rate in training.learning_rates)}, early stopping on the budget's validation labels: a "
        "short schedule, the same for all. R2 is on test units nobody trained on; "
        "± is the standard deviation over seeds of the mean over folds.\n"
    )
    print(
        "`raw` are the satellite, weather and terrain numbers of the three months; `raw-context` adds what Presto is given as well: month, "
        "Dynamic World and coordinates. `@random` is the same network without pretraining.\n"
    )


def findings(table: pd.DataFrame, budgets: list[str]) -> list[str]:
    """What the numbers say, in sentences; nothing is claimed beyond what was counted."""
    out = []
    for split, where in zip(SPLITS, ("On the official split", "In a new region"), strict=True):
        part = table[table["split"] == split]
        means = {budget: part[part["budget"] == budget].groupby("model")["r2_ood"].mean() for budget in budgets}
        best = "; ".join(f"{budget}: {mean.idxmax()} ({mean.max():.2f})" for budget, mean in means.items())
        out.append(f"{where}, the best mean R2 is that of {best}.")
        for words in ("its random twin", "the forest on the same inputs"):
            others = {model: FOREST if "forest" in words else f"{model}@random" for model in PRESTO}
            gains = np.concatenate([differences(table, split, name, *pair) for pair in others.items() for name in budgets])
            if len(gains):
                won = int((gains > 0).sum())
                out.append(f"{where}, a pretrained Presto beats {words} in {won} of {len(gains)} pairs, by {gains.mean():+.2f} on average.")
    moved = table[(table["split"] == "leave-region-out") & (table["budget"] == budgets[-1])].groupby("model")["r2_drop"].mean()
    said = ", ".join(f"{model} {moved[model]:.2f}" for model in (FOREST, *PRESTO) if model in moved)
    out.append(f"What holding the region out costs on the same test sites ({budgets[-1]} labels), in R2: {said}.")
    return out


def print_pairs(table: pd.DataFrame, budgets: list[str], pairs: dict[str, str]) -> None:
    """A table of paired differences."""
    print("| tier | " + " | ".join(f"{split}, {name}" for split in ("official", "new region") for name in budgets) + " |")
    print("|---" * (1 + 2 * len(budgets)) + "|")
    for model, other in pairs.items():
        row = [paired(table, split, name, model, other) for split in SPLITS for name in budgets]
        print(f"| {model} | " + " | ".join(row) + " |")


def whole_seeds(table: pd.DataFrame, budgets: list[str]) -> pd.DataFrame:
    """Only the seeds of which every cell is there."""
    if table.empty:
        return table
    table = table[table["budget"].isin(budgets)]
    counts = table.groupby("seed").size()
    return table[table["seed"].isin(counts.index[counts == counts.max()])] if len(counts) else table


def spread(table: pd.DataFrame, split: str, budget: str, model: str, column: str) -> str:
    """Mean over folds, then mean and standard deviation over seeds."""
    chosen = table[(table["split"] == split) & (table["budget"] == budget) & (table["model"] == model)]
    if chosen.empty or column not in chosen or chosen[column].isna().all():
        return ""
    by_seed = chosen.groupby("seed")[column].mean()
    deviation = f" ± {by_seed.std():.2f}" if len(by_seed) > 1 and by_seed.std() >= 0.005 else ""
    return f"{by_seed.mean():.2f}{deviation}"


def differences(table: pd.DataFrame, split: str, budget: str, model: str, other: str) -> np.ndarray:
    """R2 of a model minus that of another, paired by seed and fold."""
    part = table[(table["split"] == split) & (table["budget"] == budget)]
    wide = part.pivot_table(index=["fold", "seed"], columns="model", values="r2_ood")
    return (wide[model] - wide[other]).dropna().to_numpy() if {model, other} <= set(wide.columns) else np.empty(0)


def paired(table: pd.DataFrame, split: str, budget: str, model: str, other: str) -> str:
    """Mean difference of R2 over seeds and folds, and in how many pairs the first is better."""
    gains = differences(table, split, budget, model, other)
    return f"{np.mean(gains):+.3f} ({int((gains > 0).sum())} of {len(gains)})" if len(gains) else ""


def costs(store: Path, budget: str) -> None:
    """Print what the cells measured alone cost."""
    table = read_index(ResultStore(store))
    chosen = table[(table["budget"] == budget) & (table["split"] == "official")]
    alone = chosen[chosen["alone"].astype(bool)] if "alone" in chosen else chosen.iloc[:0]
    how = "each cell alone in a fresh process on one core"
    if alone.empty:
        alone, how = chosen, "first seed, beside other work on a busy machine: for orientation only"
    if alone.empty:
        return
    print(f"\n## Cost (official split, {budget} labels, {how})\n")
    print("| model | parameters | trained | fit, s | predict 1,000 units, s | peak memory, MiB |")
    print("|---|---|---|---|---|---|")
    for model in MODELS:
        for _, row in alone[alone["model"] == model].head(1).iterrows():
            numbers = [_count(row.get("parameters_total")), _count(row.get("parameters_trainable"))]
            numbers += [_number(row.get(name), 1) for name in ("fit_s", "predict_s_per_1000")] + [_number(row.get("peak_memory_mb"), 0)]
            print(f"| {model} | " + " | ".join(numbers) + " |")


def _count(value: float | None) -> str:
    return "" if value is None or value != value else f"{int(value):,}"


def _number(value: float | None, digits: int) -> str:
    """A number, or below what it may be told at this precision."""
    if value is None or value != value:
        return ""
    least = 10.0**-digits
    return f"< {least:g}" if 0 <= value < least else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
