"""Active learning: uncertainty and diversity against random, under the same budget accounting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs05bench.experiment.cell import Bench
from rs05bench.protocol.budget import VALIDATION_SHARE, LabelBudget
from rs05bench.protocol.hashing import hash_many
from rs05bench.protocol.pooling import Point, Pool
from rs05bench.protocol.result import Cell
from rs05bench.protocol.taskdata import TaskData, encode_labels
from rs05bench.report.compose import Table
from rs05bench.report.drawing import Figure
from rs05bench.report.style import metric_name, with_interval
from rs05bench.studies.evidence import Side, difference, score
from rs05bench.studies.pictures import along, row
from rs05bench.studies.record import Findings, Study, compared, tally
from rs05bench.studies.setting import Own, Setting, example_card

START = 20
BUDGETS = (20, 40, 80, 160)
STRATEGIES = ("random", "uncertainty", "diversity")
ROLES = {"test_id": "in the region itself", "test_ood": "in the other regions"}
Ids = NDArray[np.object_]


def run(setting: Setting) -> Findings:
    """Acquires labels by each strategy and reads what came out."""
    found = Findings()
    folder = setting.folder("aef_landcover")
    if folder is None:
        path, group = setting.simulated("crop"), "state"
        folder = path.parent
        found.notes.append("No real data are at hand: simulated crop parcels stand in.")
    else:
        path, group = example_card("aef_landcover"), "region"
    split = f"within-{group}"
    bench = setting.bench(path, folder, [split])
    folds = bench.manifest(split).folds[: 1 if setting.quick else None]
    budgets = BUDGETS[:2] if setting.quick else BUDGETS
    models = ("alphaearth/logistic",)
    results = setting.own(bench, cells(bench, split, folds, models, budgets, range(1 if setting.quick else 10)))
    found.take(results)
    _read(found, Pool.of(results), split, models, budgets, len(folds), group)
    return found


def cells(bench: Bench, split: str, folds: list[str], models: tuple[str, ...], budgets: tuple[int, ...], seeds: range) -> list[Own]:
    """Every strategy's cells; labels are acquired once a strategy, fold and seed, and each budget is a station on the way."""
    stations: dict[tuple[str, str, str, int], dict[int, tuple[Ids, Ids]]] = {}

    def make(cell: Cell) -> tuple[Any, Any]:
        key = (cell.options["acquisition"], cell.model, cell.fold, cell.seed)
        if key not in stations:
            stations[key] = acquire(bench, cell, budgets)
        data = everything(bench, cell)
        return _model(bench, cell), shown(data, *stations[key][int(cell.budget.removesuffix("-units"))], cell.budget)

    return [
        (
            Cell(
                task=bench.card.name,
                target=bench.card.targets[0],
                split=split,
                fold=fold,
                model=model,
                budget=f"{budget}-units",
                seed=seed,
                options={"acquisition": strategy, "start": START},
            ),
            make,
        )
        for model in models
        for fold in folds
        for seed in seeds
        for strategy in STRATEGIES
        for budget in budgets
    ]


def everything(bench: Bench, cell: Cell) -> TaskData:
    """What may be asked for: the whole training and validation part of the fold, as an oracle would know it."""
    return TaskData.build(bench.source, bench.manifest(cell.split), cell.fold, "full", cell.seed, split=cell.split, target=cell.target)


def acquire(bench: Bench, cell: Cell, budgets: tuple[int, ...]) -> dict[int, tuple[Ids, Ids]]:
    """Labels in the order a strategy asks for them: budget -> training units, validation units.

    One label in five is a validation label, drawn by chance whatever the strategy: they judge, and must not be picked for being hard. All
    strategies begin with the same units, drawn by chance, for nobody knows a class before it is labelled.

    Args:
        bench: The task.
        cell: Its options name the strategy.
        budgets: Stations, ascending.
    """
    data = everything(bench, cell)
    pool, checks = by_chance(data.unit_ids("train"), cell.seed), by_chance(data.unit_ids("val"), cell.seed)
    taken = pool[: START - START // VALIDATION_SHARE]
    pick = PICKS[cell.options["acquisition"]]
    stations = {}
    for budget in budgets:
        held = min(budget // VALIDATION_SHARE, len(checks))
        wanted = min(budget - held, len(pool))
        while len(taken) < wanted:
            # Half as many again at a time: the model that asks has seen what it asked for before.
            step = min(max(len(taken) // 2, 4), wanted - len(taken))
            left = pool[~np.isin(pool, taken)]
            taken = np.concatenate([taken, pick(bench, cell, data, taken, checks[: max(held // 2, 1)], left, step)])
        stations[budget] = (taken[:wanted], checks[:held])
    return stations


def _random(bench: Bench, cell: Cell, data: TaskData, taken: Ids, checks: Ids, left: Ids, count: int) -> Ids:
    return left[:count]


def _uncertain(bench: Bench, cell: Cell, data: TaskData, taken: Ids, checks: Ids, left: Ids, count: int) -> Ids:
    """Where the two best classes are closest (margin sampling, Scheffer et al. 2001)."""
    now = shown(data, taken, checks, f"{len(taken) + len(checks)}-units", ask=left)
    predicted = _model(bench, cell).fit(now).predict(now, "reserve").probabilities
    assert predicted is not None
    best = np.sort(predicted, axis=1)[:, -2:]
    return left[np.argsort(best[:, 1] - best[:, 0], kind="stable")[:count]]


def _diverse(bench: Bench, cell: Cell, data: TaskData, taken: Ids, checks: Ids, left: Ids, count: int) -> Ids:
    """Each next unit is the one farthest from all that are labelled (core-set greedy, Sener & Savarese 2018); sees no label."""
    features = cell.model.partition("/")[0]
    where = dict(zip(data.unit_ids("train"), data.X("train", features).astype(np.float64), strict=True))
    X, labelled = np.stack([where[unit] for unit in left]), np.stack([where[unit] for unit in taken])
    nearest = ((X[:, None] - labelled[None]) ** 2).sum(2).min(1)
    picked: list[int] = []
    for _ in range(count):
        picked.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((X - X[picked[-1]]) ** 2).sum(1))
    return left[picked]


PICKS: dict[str, Callable[..., Ids]] = {"random": _random, "uncertainty": _uncertain, "diversity": _diverse}


def shown(data: TaskData, train: Ids, val: Ids, budget: str, *, ask: Ids | None = None) -> TaskData:
    """The task with just these labels.

    Args:
        data: The task with all labels of the fold.
        train: Training units.
        val: Validation units.
        budget: Name of the budget they are.
        ask: Units to predict as `reserve`, without labels.
    """
    position = pd.Series(np.arange(len(data.units)), index=data.units["unit_id"])
    labels = data._source.labels(data.target)
    rows = dict(data._rows) | {"train": position.reindex(train).to_numpy(np.int64), "val": position.reindex(val).to_numpy(np.int64)}
    if ask is not None:
        rows["reserve"] = position.reindex(ask).to_numpy(np.int64)
    known = {role: encode_labels(labels.reindex(ids), data.classes, data.card.name) for role, ids in (("train", train), ("val", val))}
    counted = LabelBudget(budget, data.seed, train, val, np.array([], dtype=object))
    return replace(data, budget=counted, _rows=rows, _labels=known)


def by_chance(ids: Ids, seed: int) -> Ids:
    """The order of a seed, the same on every machine."""
    hashes = hash_many((str(unit) for unit in ids), seed, "active learning")
    return ids[np.lexsort((ids.astype(str), hashes))]


def _model(bench: Bench, cell: Cell) -> Any:
    from rs05bench import models

    return models.create(cell.model, card=bench.card, seed=cell.seed)


def _read(found: Findings, pool: Pool, split: str, models: tuple[str, ...], budgets: tuple[int, ...], folds: int, group: str) -> None:
    points = {(point.model, point.budget, _strategy(pool, point)): point for point in pool.points}
    metric = metric_name(pool.metric(next(iter(pool.points))))
    seeds = len({result.cell.seed for result in found.results.values()})
    found.notes.append(
        f"{len(found.results):,} cells: {folds} {group}s, {seeds} seeds, {len(STRATEGIES)} strategies, budgets "
        f"{', '.join(map(str, budgets))}."
    )
    scores, gaps, lines = [], [], []
    for model in models:
        for budget in budgets:
            for role, words in ROLES.items():
                for strategy in STRATEGIES:
                    point = points.get((model, f"{budget}-units", strategy))
                    if point is None:
                        continue
                    estimate = score(pool, point, role)
                    scores.append(row(estimate, series=strategy, x=pool.labels(point), role=role, model=model))
                    if estimate is not None:
                        lines.append(
                            [
                                model,
                                f"{pool.labels(point):.0f}",
                                words,
                                strategy,
                                with_interval(estimate.value, estimate.low, estimate.high),
                            ]
                        )
                    base = points.get((model, f"{budget}-units", "random"))
                    if strategy == "random" or base is None:
                        continue
                    made = difference(pool, Side.of(point, role), Side.of(base, role))
                    if made is None:
                        continue
                    gaps.append(row(made[0], series=strategy, x=pool.labels(point), role=role, model=model) | {"digests": made[1]})
                    if budget > START:
                        here = f"{model}, {budget} labels, {words}: {strategy} sampling"
                        found.claims.append(
                            compared(
                                made[0],
                                made[1],
                                above=f"{here} beats random by {{size}} {metric}",
                                below=f"{here} falls behind random by {{size}} {metric}",
                                unclear=f"{here} and random cannot be told apart in {metric}",
                            )
                        )
    heads = []
    for strategy in STRATEGIES[1:]:
        for words in ROLES.values():
            made_here = [claim for claim in found.claims if f"{words}: {strategy} sampling" in claim.text]
            if made_here:
                about = f"{strategy.capitalize()} sampling against random, {words}, budgets above {START} labels"
                heads.append(tally(made_here, about, f"{strategy} is better", "random is better"))
    found.claims = heads + found.claims
    digests = sorted(found.results)
    for key, table, title, axis, zero in (
        ("scores", scores, "Scores by labels acquired", metric, False),
        ("gains", gaps, "Gain over random", f"difference in {metric}", True),
    ):
        frame = pd.DataFrame(table)
        if frame.empty:
            continue
        found.figures.append(
            Figure(
                key,
                title,
                f"{metric}; labels count training and validation together, and all strategies start from the same {START}. "
                "Bands are 95 % intervals over test blocks and seeds.",
                [
                    along(frame[frame["role"] == role], title=words, axis=axis, x_title="labels used, validation included", zero=zero)
                    for role, words in ROLES.items()
                    if (frame["role"] == role).any()
                ],
                frame.drop(columns="digests", errors="ignore"),
                digests,
            )
        )
    frame = pd.DataFrame(scores)
    found.tables.append(Table("scores-table", "Every score", ["Model", "#Labels", "Tested", "Strategy", f"#{metric}"], lines, frame))


def _strategy(pool: Pool, point: Point) -> str:
    return str(pool.points[point][0].cell.options["acquisition"])


STUDY = Study(
    "active-learning",
    "Which unit to label next?",
    "With the same number of labels, does asking for the most uncertain or the most different units beat drawing them by chance?",
    "Inside one region (`within-<group>`): the same 20 units, drawn by chance, start every strategy. Then *uncertainty* asks for units "
    "whose two best "
    "classes lie closest (margin), *diversity* for those farthest in the embedding from all that are labelled, *random* for the next by "
    "chance. Labels "
    "are counted as everywhere: one in five is a validation label, drawn by chance, and every label that a strategy has seen counts. "
    "Tested on the "
    "region's fixed test blocks and on those of the other regions.",
    4,
    ("aef_landcover",),
    "simulated crop parcels",
    (
        "Units are points that cost the same to label and stand ready; in the field a far-off or odd unit costs more, which uncertainty "
        "and diversity ask for.",
        "The pool is balanced by class (80 a class and region): where some classes are rare, random draws would miss them, and strategies "
        "might gain more.",
        "One learner on one embedding; a model that changes more between rounds would ask for other units.",
        "Labels are a model product (Dynamic World): an uncertain unit is sometimes a wrong label.",
    ),
    run,
)
