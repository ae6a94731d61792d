"""Every shallow learner on the real tables, at three budgets and five seeds: at home and elsewhere; prints Markdown.

Runs the cards of `examples/cards/` over the real folders, setting by setting; results are kept in stores and never run twice. Without
the real data it says so and prints nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rs05bench.experiment.grid import parse_seeds
from rs05bench.experiment.query import read_index
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("floor", "raw", "embedding", "hybrid")


@dataclass(frozen=True)
class Setting:
    """One real table and what is asked of it."""

    store: str
    card: str
    folder: str
    title: str
    metric: str
    splits: tuple[str, ...]
    budgets: tuple[str, ...]


COUNTS = ("50-units", "100-units", "full")
SETTINGS = (
    Setting(
        "landcover",
        "aef_landcover",
        "aef_landcover",
        "Land cover, 2,880 points in four regions",
        "macro_f1",
        ("leave-region-out", "within-region", "random"),
        ("5-per-class", "20-per-class", "50-per-class"),
    ),
    Setting(
        "income",
        "aef_counties_income",
        "aef_counties",
        "Median household income of US counties",
        "r2",
        ("leave-state-out", "within-state"),
        COUNTS,
    ),
    Setting(
        "agriculture",
        "aef_counties_agriculture",
        "aef_counties",
        "Share of US counties' workers in agriculture",
        "r2",
        ("leave-state-out", "within-state"),
        COUNTS,
    ),
    Setting(
        "unemployment",
        "aef_counties_unemployment",
        "aef_counties",
        "Unemployment of US counties, 2017 and 2018",
        "r2",
        ("leave-year-out",),
        COUNTS,
    ),
    Setting("carbonflux", "carbonflux", "carbonflux_hls", "Gross primary production at 36 flux sites", "r2", ("leave-site-out",), COUNTS),
)
NAMES = {"macro_f1": "macro-F1", "r2": "R2"}


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", type=Path, help="Folder of the stores, taken up where they stopped; default a temporary one.")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--print-only", action="store_true", help="Print what the stores hold, run nothing.")
    options = parser.parse_args()
    real = Path(os.environ.get("RS05BENCH_REAL", ROOT.parent / "shared" / "real"))
    if not real.is_dir():
        print("The real tables are not on this machine (set RS05BENCH_REAL): nothing was run.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        stores = options.stores or Path(scratch)
        print("# Shallow learners on real tables\n")
        print(
            "Scores are on test units that nobody trained on: *elsewhere* in the group held out, *at home* in the groups that had "
            "training labels; the drop compares the same test units with their group in training and with it held out. Means over "
            "folds, then over seeds; ± is the standard deviation over seeds, which says nothing of other regions: for intervals over "
            "regions and paired tests run `rs05bench report` on the store. Budgets count training and validation labels. A fold is "
            "scored by itself and the folds are averaged, so the figures lie below those of the pooled test set, which "
            "`rs05bench report` shows: a fold holds few of the classes, or little of the target's spread.\n"
        )
        for setting in SETTINGS:
            store = stores / setting.store
            if not options.print_only:
                run(setting, real / setting.folder, store, parse_seeds(options.seeds), options.jobs)
            report(setting, read_index(ResultStore(store)))


def run(setting: Setting, data: Path, store: Path, seeds: list[int], jobs: int) -> None:
    """Run the cells that are missing."""
    card = ROOT / "examples" / "cards" / f"{setting.card}.yaml"
    done = sweep(card, data, store, models=["shallow"], splits=setting.splits, budgets=setting.budgets, seeds=seeds, jobs=jobs, costs=False)
    print(f"{setting.store}: {done.done} run, {done.reused} there, {len(done.failed)} failed", file=sys.stderr, flush=True)


def report(setting: Setting, table: pd.DataFrame) -> None:
    """Print what one setting shows, and its numbers."""
    print(f"## {setting.title}\n")
    for split in setting.splits:
        part = table[table["split"] == split]
        if part.empty:
            print(f"`{split}` was not run.\n")
            continue
        print(f"### {split}\n")
        where = "ood" if part[f"{setting.metric}_ood"].notna().any() else "id"
        # Of a small area one asks how well its own labels serve it; what happens elsewhere is told beside.
        local = split.startswith("within-")
        score = f"{setting.metric}_{'id' if local else where}"
        folds, seeds = part["fold"].nunique(), part["seed"].nunique()
        print(f"{len(part):,} cells, {folds} {'fold' if folds == 1 else 'folds'}, {seeds} seeds; figures are {NAMES[setting.metric]}.\n")
        for sentence in findings(part, setting, score):
            print(f"- {sentence}")
        there = "at home" if score.endswith("_id") else "elsewhere"
        largest = setting.budgets[-1]
        heads = [f"{there}, {budget}" for budget in setting.budgets]
        more = []
        if where == "ood":
            more = [
                ("elsewhere" if local else "at home", f"{setting.metric}_{'ood' if local else 'id'}"),
                ("drop", f"{setting.metric}_drop"),
            ]
        print("\n| model | " + " | ".join([*heads, *(f"{name}, {largest}" for name, _ in more)]) + " |")
        print("|---" * (1 + len(heads) + len(more)) + "|")
        for model in ordered(part):
            cells = [spread(part, model, budget, score) for budget in setting.budgets]
            cells += [spread(part, model, largest, column) for _, column in more]
            print(f"| {model} | " + " | ".join(cells) + " |")
        print()


def findings(part: pd.DataFrame, setting: Setting, score: str) -> list[str]:
    """What the numbers say; nothing is claimed beyond what was counted."""
    out = []
    for budget in setting.budgets:
        mean = part[part["budget"] == budget].groupby(["tier", "model"])[score].mean()
        best = [mean[tier].idxmax() for tier in TIERS if tier in mean.index.get_level_values(0)]
        out.append(
            f"{budget}: the best of each tier are "
            + ", ".join(f"`{model}` {mean.xs(model, level='model').iloc[0]:.2f}" for model in best)
            + "."
        )
    budget = setting.budgets[-1]
    rivals = part[part["budget"] == budget].groupby(["tier", "model"])[score].mean()
    if {"raw", "embedding"} <= set(rivals.index.get_level_values(0)):
        first, second = rivals["embedding"].idxmax(), rivals["raw"].idxmax()
        wide = part[part["budget"] == budget].pivot_table(index=["fold", "seed"], columns="model", values=score)
        gain = (wide[first] - wide[second]).dropna()
        won = f"{int((gain > 0).sum())} of {len(gain)} folds and seeds"
        out.append(f"With {budget}, `{first}` beats `{second}` in {won}, by {gain.mean():+.2f} on average.")
    return out


def ordered(part: pd.DataFrame) -> list[str]:
    """Models by tier, then by name."""
    rows = part[["tier", "model"]].drop_duplicates()
    return [model for tier in TIERS for model in sorted(rows.loc[rows["tier"] == tier, "model"])]


def spread(part: pd.DataFrame, model: str, budget: str, column: str) -> str:
    """Mean over folds, then mean and standard deviation over seeds."""
    chosen = part[(part["model"] == model) & (part["budget"] == budget)]
    if chosen.empty or chosen[column].isna().all():
        return ""
    by_seed = chosen.groupby("seed")[column].mean()
    return f"{by_seed.mean() + 0.0:.2f}".replace("-0.00", "0.00") + (
        f" ± {by_seed.std():.2f}" if len(by_seed) > 1 and by_seed.std() >= 0.005 else ""
    )


if __name__ == "__main__":
    main()
