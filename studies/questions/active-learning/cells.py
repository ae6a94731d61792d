"""Labels in the order that a strategy asks for them; each budget is a station on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rs05bench import models
from rs05bench.experiment.cell import Bench
from rs05bench.protocol.budget import VALIDATION_SHARE, LabelBudget
from rs05bench.protocol.hashing import hash_order
from rs05bench.protocol.result import Cell
from rs05bench.protocol.taskdata import TaskData
from studies.questions.setting import CARDS, Found, Own, Setting

START, BUDGETS, SPLIT, MODEL = 20, (20, 40, 80, 160), "within-region", "alphaearth/logistic"
Ids = NDArray[np.object_]


def cells(setting: Setting) -> Found:
    """Every strategy's cells."""
    bench = setting.bench(CARDS / "aef_landcover.yaml", setting.data("aef_landcover"), [SPLIT])
    found = []
    for fold in bench.manifest(SPLIT).folds:
        for seed in range(1 if setting.quick else 10):
            for strategy in ("random", "uncertainty", "diversity"):
                found += _stations(bench, fold, seed, strategy)
    return Found(setting.own(bench, found))


def _stations(bench: Bench, fold: str, seed: int, strategy: str) -> list[Own]:
    asked: dict[int, LabelBudget] = {}

    def make(cell: Cell) -> tuple[Any, Any]:
        if not asked:
            asked.update(acquire(bench, fold, seed, strategy))
        budget = asked[int(cell.budget.removesuffix("-units"))]
        data = TaskData.build(bench.source, bench.manifest(SPLIT), fold, budget, seed)
        return models.create(MODEL, card=bench.card, seed=seed), data

    fields = {"task": bench.card.name, "target": bench.card.targets[0], "split": SPLIT, "fold": fold, "model": MODEL, "seed": seed}
    options = {"acquisition": strategy, "start": START}
    return [(Cell(**fields, budget=f"{budget}-units", options=options), make) for budget in BUDGETS]


def acquire(bench: Bench, fold: str, seed: int, strategy: str) -> dict[int, LabelBudget]:
    """Budget -> training and validation labels.

    One label in five is a validation label drawn at random, whatever the strategy: they judge, and must not be picked for being hard.
    """
    oracle = TaskData.build(bench.source, bench.manifest(SPLIT), fold, "full", seed)
    pool, checks = oracle.unit_ids("train"), oracle.unit_ids("val")
    X = StandardScaler().fit_transform(oracle.X("train", MODEL.partition("/")[0]).astype(np.float64))
    y = oracle.y("train")
    order, checks = hash_order(list(pool), seed, "active learning"), checks[hash_order(list(checks), seed, "active learning")]
    taken = list(order[: START - START // VALIDATION_SHARE])
    stations = {}
    for count in BUDGETS:
        held = min(count // VALIDATION_SHARE, len(checks))
        wanted = min(count - held, len(pool))
        while len(taken) < wanted:
            # Half as many again at a time: the model that asks has seen what it asked for before.
            step = min(max(len(taken) // 2, 4), wanted - len(taken))
            left = np.array([at for at in order if at not in set(taken)])
            taken += list(left[PICKS[strategy](X, y, np.array(taken), left, step)])
        empty = np.array([], dtype=object)
        stations[count] = LabelBudget(f"{count}-units", seed, pool[taken[:wanted]], checks[:held], empty)
    return stations


def _random(X: NDArray, y: NDArray, taken: NDArray, left: NDArray, count: int) -> NDArray:
    return np.arange(count)


def _uncertain(X: NDArray, y: NDArray, taken: NDArray, left: NDArray, count: int) -> NDArray:
    """Where the two best classes are closest (margin sampling, Scheffer et al. 2001)."""
    if len(set(y[taken])) < 2:
        return np.arange(count)
    best = np.sort(make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(X[taken], y[taken]).predict_proba(X[left]), axis=1)
    return np.argsort(best[:, -1] - best[:, -2], kind="stable")[:count]


def _diverse(X: NDArray, y: NDArray, taken: NDArray, left: NDArray, count: int) -> NDArray:
    """Each next unit is the one farthest from all that are labelled (core-set greedy, Sener & Savarese 2018)."""
    nearest = ((X[left][:, None] - X[taken][None]) ** 2).sum(2).min(1)
    picked: list[int] = []
    for _ in range(count):
        picked.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((X[left] - X[left][picked[-1]]) ** 2).sum(1))
    return np.array(picked)


PICKS = {"random": _random, "uncertainty": _uncertain, "diversity": _diverse}
