"""How far shallow learners fall on the simulated tables when the place or the year changes; prints Markdown.

Each learner is fitted on at most 900 units with full labels; held-out groups are taken one at a time, or in three random quarters where
there are more than twenty. These are quick checks of the simulator, not runs under the protocol.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.linear_model import RidgeClassifier, RidgeCV
from sklearn.metrics import f1_score, r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rs05bench.datasets.simulated import simulate
from rs05bench.datasets.simulated.export import card_text
from rs05bench.protocol import TaskCard

_LIMIT = 900

Score = Callable[[Any, Any], float]


def main() -> None:
    """Print one table a target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", default="small")
    options = parser.parse_args()
    import yaml

    world = simulate(options.size, options.seed)
    for task, moves in {
        "burn-scar": ["fire", "region", "biome", "year"],
        "crop": ["block", "county", "state", "crop_system", "year"],
        "urban": ["block", "city", "year"],
    }.items():
        card = TaskCard.parse(yaml.safe_load(card_text(task)))
        table = world.table(task)
        for target in card.targets:
            _print(task, target, table, card, moves)


def _print(task: str, target: str, table: pd.DataFrame, card: TaskCard, moves: list[str]) -> None:
    classes = card.kind == "classification"
    score: Score = (lambda a, b: float(f1_score(a, b, average="macro"))) if classes else r2_score
    y, names = table[target].to_numpy(), list(table.columns)
    inputs = {"coordinates": table[["longitude", "latitude"]].to_numpy() * [np.cos(np.deg2rad(38)), 1]}
    inputs |= {name: table[card.feature_columns(name, names)].to_numpy(float) for name in ("raw", "alphaearth", "hybrid")}
    groups = {"random": np.arange(len(y))} | {move: _blocks(table) if move == "block" else table[move].to_numpy() for move in moves}
    print(f"\n**{task}**, `{target}`, {'macro-F1' if classes else 'R2'}, {len(y)} units\n")
    print("| input | learner | " + " | ".join(groups) + " | 50 labels |")
    print("|---" * (3 + len(groups)) + "|")
    for name, x in inputs.items():
        for learner in ["nearest"] if name == "coordinates" else ["linear", "trees"]:
            scores = [_held_out(learner, classes, x, y, group, score) for group in groups.values()]
            print(
                f"| {name} | {learner} | " + " | ".join(f"{value:.2f}" for value in [*scores, _few(learner, classes, x, y, score)]) + " |",
                flush=True,
            )


def _blocks(table: pd.DataFrame) -> Any:
    north = np.floor(table["latitude"] * 111.3)
    east = np.floor(table["longitude"] * 111.3 * np.cos(np.deg2rad(table["latitude"])))
    return (north * 100_000 + east).to_numpy()


def _learner(name: str, classes: bool) -> Any:
    if name == "nearest":
        return KNeighborsClassifier(5) if classes else KNeighborsRegressor(5)
    if name == "linear":
        return make_pipeline(StandardScaler(), RidgeClassifier(10.0) if classes else RidgeCV(np.logspace(-1, 4, 8)))
    if classes:
        return ExtraTreesClassifier(40, random_state=0, min_samples_leaf=2)
    return ExtraTreesRegressor(40, random_state=0, min_samples_leaf=3, max_features=0.4)


def _held_out(learner: str, classes: bool, x: Any, y: Any, group: Any, score: Score) -> float:
    values = np.unique(group)
    few = len(values) <= 20
    folds = [[v] for v in values] if few else [np.random.default_rng(i).permutation(values)[: len(values) // 4] for i in range(3)]
    results = []
    for fold in folds:
        away = np.isin(group, fold)
        train = np.random.default_rng(1).permutation(np.flatnonzero(~away))[:_LIMIT]
        results.append(score(y[away], _learner(learner, classes).fit(x[train], y[train]).predict(x[away])))
    return float(np.mean(results))


def _few(learner: str, classes: bool, x: Any, y: Any, score: Score) -> float:
    results = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(y))
        train, test = order[:50], order[50:1200]
        results.append(score(y[test], _learner(learner, classes).fit(x[train], y[train]).predict(x[test])))
    return float(np.mean(results))


if __name__ == "__main__":
    main()
