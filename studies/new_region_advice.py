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
from numpy.typing import NDArray

from rs05bench.datasets.recipes import build
from rs05bench.experiment.advice import Advice
from rs05bench.experiment.advise import AdviceAsked, advise
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.sweep import sweep
from rs05bench.protocol.card import Official, TaskCard
from rs05bench.protocol.inference.estimate import Estimate
from rs05bench.protocol.inference.over_groups import over_groups
from rs05bench.protocol.pooling import Point, Pool

ROOT = Path(__file__).resolve().parent.parent
LABELS, MORE, SEEDS = 100, 30, 5
GROUPS = (4, 8, 16)
TARGETS = ("log_income", "poverty_pct", "property_crime")
LEAST_COUNTIES = 40
HELD = "test_ood"
Array = NDArray[np.float64]


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
    inside = Pool.of(ResultStore(store).results()).inside(point, HELD, "r2" if "signals" in point.task else "macro_f1")
    return {group: float(value) for group, value in zip(inside.groups, np.nanmean(inside.values, axis=1), strict=True)}


def from_states(table: pd.DataFrame, card: TaskCard, target: str, states: Sequence[str], folder: Path) -> Told:
    """Advice from some states; the model it recommends is then trained there and scored in every other state."""
    inside = table["state"].isin(states)
    table.assign(part=np.where(inside, "seen", "new"))[inside].to_parquet(folder / "units.parquet", index=False)
    asked = card.model_copy(update={"targets": [target], "splits": ["leave-state-out"]})
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
    seen = card.model_copy(update={"preprocessing": card.preprocessing | {"where": {"region": [r for r in regions if r != held]}}})
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
    parser.add_argument("--tries", type=int, default=40, help="Sets of states per number of states and target, for the intervals alone.")
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
        print(f"## States: {', '.join(TARGETS)} of US counties, R2 inside a state\n")
        built = build("urban-signals", real, Path(scratch) / "signals")
        card = built.card.model_copy(update={"fairness_groups": [], "splits": ["leave-state-out"]})
        table = pd.read_parquet(built.folder / "units.parquet")
        sizes = table["state"].value_counts()
        table = table[table["state"].isin(sizes.index[sizes >= LEAST_COUNTIES])]
        if options.draws:
            states_table(card, table, Path(scratch), options.draws)
        print(
            "\n### The intervals alone, over many draws\n\nRidge regression on AlphaEarth, without the search of advice: each of the "
            f"states is left out in turn, {SEEDS} draws of {LABELS} labels; then a model of all of them is scored in every other state.\n"
        )
        intervals_table(table, options.tries)
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
    print("| states that advise | advices | stated | held | new states scored |")
    print("|---|---|---|---|---|")
    for count in GROUPS:
        told = []
        for target in TARGETS:
            for draw in range(draws):
                folder = scratch / f"{target}-{count}-{draw}"
                folder.mkdir()
                known = table[table[target].notna()]
                told.append(from_states(known, card, target, sorted(rng.choice(large, count, replace=False)), folder))
        each = [held for one in told for held in one.each_held]
        stated = {one.said.next_group.level for one in told if one.said.next_group is not None}
        levels = ", ".join(f"{100 * level:.0f} %" for level in sorted(stated))
        print(f"| {count} | {len(told)} | {levels} | {100 * np.mean(each):.0f} % | {len(each)} |", flush=True)


def inside_r2(x: Array, y: Array, state: Array, train: NDArray[np.intp], tested: NDArray[np.object_]) -> Array:
    """R2 inside each of some states of one ridge regression on some labels."""
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score

    mean, scale = x[train].mean(0), x[train].std(0)
    model = RidgeCV(np.logspace(-1, 4, 6)).fit((x[train] - mean) / scale, y[train])
    answers = model.predict((x - mean) / scale)
    return np.array([r2_score(y[state == one], answers[state == one]) for one in tested])


def one_draw(x: Array, y: Array, state: Array, known: NDArray[np.object_], rng: np.random.Generator) -> tuple[Estimate, Array]:
    """The estimate that leaving each known state out gives, and the R2 of a model of all of them in every other state."""
    new = np.setdiff1d(np.unique(state), known)
    pools = {one: np.flatnonzero(np.isin(state, known) & (state != one)) for one in known}
    every = np.flatnonzero(np.isin(state, known))
    held = np.array(
        [
            [inside_r2(x, y, state, rng.choice(pool, LABELS, replace=False), np.array([one]))[0] for _ in range(SEEDS)]
            for one, pool in pools.items()
        ]
    )
    found = np.mean([inside_r2(x, y, state, rng.choice(every, LABELS, replace=False), new) for _ in range(SEEDS)], axis=0)
    return over_groups(held, [str(one) for one in known], of="median"), found


def intervals_table(table: pd.DataFrame, draws: int) -> None:
    """Prints how often each interval holds, over many draws of states with one model, without the search of advice."""
    columns = [name for name in table.columns if name[0] == "A" and name[1:].isdigit()]
    print("| states | draws | mean: 95 % by t | next: 95 % by t on log(1 - R2) | next: range, stated | next: range, held |")
    print("|---|---|---|---|---|---|")
    for count in GROUPS:
        held: dict[str, list[float]] = {"mean": [], "t": [], "range": []}
        level = float("nan")
        for target in TARGETS:
            known = table[table[target].notna()]
            x, y, state = known[columns].to_numpy(float), known[target].to_numpy(float), known["state"].to_numpy(object)
            for draw in range(draws):
                rng = np.random.default_rng([draw, count])
                said, found = one_draw(x, y, state, rng.choice(np.unique(state), count, replace=False), rng)
                ends = said.next_group
                if ends is None:
                    continue
                level = ends.level
                held["mean"].append(said.low <= found.mean() <= said.high)
                held["t"].append(float(np.mean((said.new_low <= found) & (found <= said.new_high))))
                held["range"].append(float(np.mean((ends.low <= found) & (found <= ends.high))))
        shares = {name: f"{100 * np.mean(values):.0f} %" for name, values in held.items()}
        cells = [str(count), str(len(held["mean"])), shares["mean"], shares["t"], f"{100 * level:.0f} %", shares["range"]]
        print("| " + " | ".join(cells) + " |", flush=True)


def regions_table(real: Path, scratch: Path) -> None:
    """Prints what was said and found for each region of the land cover."""
    card = TaskCard.load(ROOT / "examples" / "cards" / "aef_landcover.yaml")
    data = real / "aef_landcover"
    regions = sorted({str(pd.read_csv(path, usecols=["region"])["region"].iloc[0]) for path in data.glob("*.csv")})
    head = f"{MORE} labels there, at random"
    print(f"| new region | model | range of the three (level 50 %) | found | {head}: said | found | in 5 places: said | found |")
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
            ends = "" if gain is None else f"{gain.value:+.2f} [{gain.low:.2f}, {gain.high:.2f}]"
            cells += [ends, f"{there - plain:+.2f}"]
        print(f"| {held} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
