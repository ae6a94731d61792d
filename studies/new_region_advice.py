"""Is advice right in regions it never saw? Advice from some states (or regions), scored in all the others; prints Markdown.

Run: python studies/new_region_advice.py [--draws 6]; `make studies` keeps it in docs/studies/new_region_advice.md. Without the real data it
states so and prints nothing else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rs05bench.datasets.recipes import build
from rs05bench.experiment.advice import Advice
from rs05bench.experiment.advise import AdviceAsked, advise
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol.card import Official, TaskCard
from rs05bench.protocol.inference.estimate import Estimate
from rs05bench.protocol.pooling import Point, Pool

ROOT = Path(__file__).resolve().parent.parent
LABELS, MORE, SEEDS = 100, 30, 5
GROUPS = (4, 8, 16)
TARGETS = ("log_income", "poverty_pct", "property_crime")
THIRD = "income_third"
"""The classification: which third of all counties the income is in; its metric is macro-F1."""
LEAST_COUNTIES = 40
HELD = "test_ood"


@dataclass(frozen=True)
class Told:
    """What advice said of the next group, and what was found in groups it never saw.

    Attributes:
        said: Its estimate for the model it recommends.
        found: Group -> score of that model there.
    """

    said: Estimate
    found: dict[str, float]

    @property
    def each_held(self) -> list[bool]:
        """Whether the range that advice gives for the next group holds each group never seen."""
        ends = self.said.next_group
        return [] if ends is None else [bool(ends.low <= value <= ends.high) for value in self.found.values()]


def scores(store: Path, point: Point) -> dict[str, float]:
    """Held-out score of a point in each group, the mean over seeds."""
    pool = Pool.of(ResultStore(store).results())
    inside = pool.inside(point, HELD, pool.metric(point))
    return {group: float(value) for group, value in zip(inside.groups, np.nanmean(inside.values, axis=1), strict=True)}


def from_states(table: pd.DataFrame, card: TaskCard, target: str, states: Sequence[str], folder: Path) -> Told:
    """Advice from some states; the model it recommends is then trained there and scored in every other state."""
    inside = table["state"].isin(states)
    table.assign(part=np.where(inside, "seen", "new"))[inside].to_parquet(folder / "units.parquet", index=False)
    kind = {"kind": "classification", "classes": ["low", "middle", "high"], "main_metric": "macro_f1"} if target == THIRD else {}
    asked = card.model_copy(update={"targets": [target], "splits": ["leave-state-out"], **kind})
    asked.save(folder / "card.yaml")
    advice = advise(folder / "card.yaml", folder, folder / "advice", question=AdviceAsked(labels=LABELS), minutes=0, jobs=1)
    whole = folder / "whole"
    whole.mkdir()
    table.assign(part=np.where(inside, "seen", "new")).to_parquet(whole / "units.parquet", index=False)
    published = Official(column="part", train=["seen"], test=["new"], shift="region")
    asked.model_copy(update={"splits": ["official"], "official": published}).save(whole / "card.yaml")
    budget, model = f"{advice.labels}-units", advice.recommended
    choice = GridChoice(models=[model], splits=["official"], budgets=[budget], seeds=range(SEEDS))
    sweep(GridFile.over(whole / "card.yaml", whole, choice, costs=False), folder / "runs", jobs=1)
    found = scores(folder / "runs", Point(card.name, target, "official", model, budget))
    return Told(advice.reaches[HELD], found)


def from_regions(card: TaskCard, data: Path, held: str, regions: Sequence[str], folder: Path) -> tuple[Advice, dict[str, float]]:
    """Advice from all regions but one, with what labels of a new region bring; and the same three scores in that one."""
    seen = card.model_copy(
        update={"preprocessing": card.preprocessing.model_copy(update={"where": {"region": [r for r in regions if r != held]}})}
    )
    seen.save(folder / "card.yaml")
    out = folder / "advice"
    advice = advise(folder / "card.yaml", data, out, question=AdviceAsked(labels=LABELS, more=MORE), minutes=0, jobs=1)
    split = "leave-region-out"
    plus = [f"{split}+{MORE}-units", f"{split}+{MORE}-units-in-5-blocks"]
    # With more draws another of these may be recommended.
    budget, models = f"{advice.labels}-units", list(dict.fromkeys([advice.recommended, "alphaearth/logistic", "hybrid/logistic"]))
    choice = GridChoice(models=models, splits=[split, *plus], budgets=[budget], seeds=range(SEEDS))
    sweep(GridFile.over(out / "advised-card.yaml", data, choice, costs=False), out, jobs=1)
    advice = advise(folder / "card.yaml", data, out, question=AdviceAsked(labels=LABELS, more=MORE), minutes=0, jobs=1)
    card.save(folder / "whole.yaml")
    sweep(GridFile.over(folder / "whole.yaml", data, choice, costs=False), folder / "runs", jobs=1)
    points = {name: Point(card.name, card.targets[0], name, advice.recommended, budget) for name in (split, *plus)}
    return advice, {name: scores(folder / "runs", point)[held] for name, point in points.items()}


def main() -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=6, help="Sets of states per number of states and target.")
    options = parser.parse_args()
    real = Path(os.environ.get("RS05BENCH_REAL", ROOT.parent / "shared" / "real"))
    if not real.is_dir():
        print("The real tables are not on this machine (set RS05BENCH_REAL): nothing was run.")
        return
    print("# Advice in regions it never saw\n")
    print(
        f"`advise` is given some groups only. The model that it recommends is then trained on {LABELS} labels of those groups, {SEEDS} "
        "draws, and scored inside every group that the advice never saw. *Stated*: the probability that advice states for one new group. "
        "*Held*: the share of groups never seen whose score lies in the range that it gives.\n"
    )
    with tempfile.TemporaryDirectory() as scratch:
        print(f"## States: {', '.join(TARGETS)} of US counties (R2 inside a state), and the third of income (macro-F1)\n")
        built = build("urban-signals", real, Path(scratch) / "signals")
        card = built.card.model_copy(update={"fairness_groups": [], "splits": ["leave-state-out"]})
        table = pd.read_parquet(built.folder / "units.parquet")
        sizes = table["state"].value_counts()
        table = table[table["state"].isin(sizes.index[sizes >= LEAST_COUNTIES])]
        table[THIRD] = pd.qcut(table["log_income"], 3, labels=["low", "middle", "high"]).astype(object)
        states_table(card, table, Path(scratch), options.draws)
        print("\n## Land cover: three regions advise, the fourth is new; macro-F1\n")
        regions_table(real, Path(scratch))
    print(
        "\nAdvice is of the first round here (linear models and baselines, one draw of labels). New groups share the labels of the seen "
        "ones, so groups of one draw are not independent, and a share over them has more error than its number of groups suggests."
    )


def states_table(card: TaskCard, table: pd.DataFrame, scratch: Path, draws: int) -> None:
    """Prints how often advice holds over states."""
    large = sorted(table["state"].unique())
    rng = np.random.default_rng(0)
    print("| metric | states that advise | advices | stated | held | new states scored |")
    print("|---|---|---|---|---|---|")
    for metric, targets, count in [("R2", TARGETS, count) for count in GROUPS] + [("macro-F1", (THIRD,), count) for count in GROUPS]:
        told = []
        for target in targets:
            for draw in range(draws):
                folder = scratch / f"{target}-{count}-{draw}"
                folder.mkdir()
                known = table[table[target].notna()]
                told.append(from_states(known, card, target, sorted(rng.choice(large, count, replace=False)), folder))
        each = [held for one in told for held in one.each_held]
        stated = {one.said.next_group.level for one in told if one.said.next_group is not None}
        levels = ", ".join(f"{100 * level:.0f} %" for level in sorted(stated))
        print(f"| {metric} | {count} | {len(told)} | {levels} | {100 * np.mean(each):.0f} % | {len(each)} |", flush=True)


def regions_table(real: Path, scratch: Path) -> None:
    """Prints what was said and found for each region of the land cover."""
    card = TaskCard.load(ROOT / "examples" / "cards" / "aef_landcover.yaml")
    data = real / "aef_landcover"
    regions = sorted({str(pd.read_csv(path, usecols=["region"])["region"].iloc[0]) for path in data.glob("*.csv")})
    head = f"{MORE} labels there, at random"
    print(f"| new region | model | 95 % by t | found | {head}: said | found | in 5 places: said | found |")
    print("|---|---|---|---|---|---|---|---|")
    for held in regions:
        folder = scratch / held
        folder.mkdir()
        advice, found = from_regions(card, data, held, regions, folder)
        plain, random, clustered = found.values()
        reached = advice.reaches[HELD].next_group
        assert reached is not None
        said = [advice.more_there, advice.more_there_clustered]
        cells = [advice.recommended, f"{reached.low:.2f} to {reached.high:.2f}", f"{plain:.2f}"]
        for gain, there in zip(said, (random, clustered), strict=True):
            one = None if gain is None else gain.next_group
            ends = "" if gain is None or one is None else f"{gain.value:+.2f}, one region {one.low:.2f} to {one.high:.2f}"
            cells += [ends, f"{there - plain:+.2f}"]
        print(f"| {held} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
