"""The grid: what a cell costs beyond its own work, the table of 100,000 results, and linear probes solved together.

The rivals of the probes are what a user would write with scikit-learn, a pipeline of scaler and regression for each budget, seed and
regularisation value, and the linear probe of torchgeo-bench, with four values and with its own forty. All start from the same embeddings,
choose by validation accuracy and predict the same test units; scores must agree. Ours is scaled and solved as a cell's model does it.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import numpy as np
import pytest

CLASSES, DIMENSIONS, TEST = 6, 64, 2000
BUDGETS, SEEDS, FOLDS = (5, 10, 20, 50), 5, 4
CS = (0.1, 1.0, 0.01, 10.0)
FORTY = tuple(np.logspace(-6, 4, 40))
"""The values torchgeo-bench tries by itself."""
CELLS, RESULTS = (int(os.environ.get(name, size)) for name, size in (("RS05BENCH_CELLS", 10_000), ("RS05BENCH_RESULTS", 100_000)))


def embeddings(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    centre = np.random.default_rng(0).normal(size=(CLASSES, DIMENSIONS)) * 0.5
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    X = centre[y] + rng.normal(size=(count, DIMENSIONS))
    return X / np.linalg.norm(X, axis=1, keepdims=True), y


@pytest.fixture(scope="module")
def problems() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    found = []
    test, y_test = embeddings(TEST, 99)
    for budget in BUDGETS:
        for seed in range(SEEDS * FOLDS):
            X, y = embeddings(budget * CLASSES, 1000 * budget + seed)
            cut = (budget - budget // 5) * CLASSES
            found.append((X[:cut], y[:cut], X[cut:], y[cut:], test, y_test))
    return found


SCORES: dict[str, dict[str, list[float]]] = {"few": {}, "forty": {}}


def agree(what: str, side: str, scores: list[float]) -> None:
    SCORES[what][side] = scores
    for other in SCORES[what].values():
        assert np.mean(other) == pytest.approx(np.mean(scores), abs=5e-3)


def ours(problems, Cs) -> list[float]:
    from rs05bench.models.probes import logistic_paths
    from rs05bench.models.shallow import Scaler

    scalers = [Scaler(X, impute=True) for X, *_ in problems]
    paths = logistic_paths([(scale(X), y) for scale, (X, y, *_) in zip(scalers, problems, strict=True)], Cs)
    scores = []
    for scale, lines, (_, _, val, y_val, test, y_test) in zip(scalers, paths, problems, strict=True):
        Z = scale(val)
        best = max(lines, key=lambda line: (line(Z).argmax(axis=1) == y_val).mean())
        scores.append(float((best(scale(test)).argmax(axis=1) == y_test).mean()))
    return scores


def scikit_learn(problems, Cs, **options) -> list[float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = []
    for X, y, val, y_val, test, y_test in problems:
        fits = [make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000, **options)).fit(X, y) for C in Cs]
        best = max(fits, key=lambda model: model.score(val, y_val))
        scores.append(float((best.predict(test) == y_test).mean()))
    return scores


def torchgeo_bench(problems, Cs) -> list[float]:
    torch = pytest.importorskip("torch")
    linear = pytest.importorskip("torchgeo_bench.linear")
    torch.set_num_threads(1)

    scores = []
    for X, y, val, y_val, test, y_test in problems:
        mean, deviation = X.mean(axis=0), X.std(axis=0)
        scaled, Z, T = (torch.from_numpy((part - mean) / deviation) for part in (X, val, test))
        # Step limit and tolerance are those of its own evaluation; its last fit on the chosen value is left out.
        fits = [linear.LogisticRegression(C=C, max_iter=2000, tol=1e-6).fit(scaled, torch.from_numpy(y)) for C in Cs]
        best = max(fits, key=lambda model: (model.predict(Z) == y_val).mean())
        scores.append(float((best.predict(T) == y_test).mean()))
    return scores


@pytest.mark.benchmark(group="logistic probes, 4 budgets x 5 seeds x 4 folds x 4 C")
def test_probes_together(benchmark, problems) -> None:
    benchmark.extra_info["side"] = "ours"
    agree("few", "ours", benchmark.pedantic(ours, args=(problems, CS), rounds=15, warmup_rounds=1))


@pytest.mark.benchmark(group="logistic probes, 4 budgets x 5 seeds x 4 folds x 4 C")
@pytest.mark.parametrize("tol", [1e-4, 1e-5])
def test_probes_scikit_learn(benchmark, problems, tol) -> None:
    benchmark.extra_info["side"] = f"scikit-learn, one by one, tol {tol:g}{' (its default)' if tol == 1e-4 else ''}"
    agree("few", f"scikit-learn {tol}", benchmark.pedantic(scikit_learn, (problems, CS), {"tol": tol}, rounds=5, warmup_rounds=1))


@pytest.mark.benchmark(group="logistic probes, 4 budgets x 5 seeds x 4 folds x 4 C")
def test_probes_torchgeo_bench(benchmark, problems) -> None:
    benchmark.extra_info["side"] = "torchgeo-bench"
    agree("few", "torchgeo-bench", benchmark.pedantic(torchgeo_bench, (problems, CS), rounds=2, warmup_rounds=1))


@pytest.mark.benchmark(group="logistic probes, 4 budgets x 5 seeds x 4 folds x 40 C")
def test_forty_together(benchmark, problems) -> None:
    benchmark.extra_info["side"] = "ours"
    agree("forty", "ours", benchmark.pedantic(ours, args=(problems, FORTY), rounds=5, warmup_rounds=1))


@pytest.mark.benchmark(group="logistic probes, 4 budgets x 5 seeds x 4 folds x 40 C")
def test_forty_torchgeo_bench(benchmark, problems) -> None:
    benchmark.extra_info["side"] = "torchgeo-bench"
    agree("forty", "torchgeo-bench", benchmark.pedantic(torchgeo_bench, (problems, FORTY), rounds=1))


@pytest.mark.benchmark(group="ridge probes, 4 budgets x 5 seeds x 4 folds x 4 penalties")
def test_ridges_together(benchmark, problems) -> None:
    benchmark.extra_info["side"] = "ours"
    from rs05bench.models.probes import ridge_paths

    benchmark.pedantic(
        ridge_paths, args=([(X, X[:, 0] + y) for X, y, *_ in problems], [10.0, 1.0, 100.0, 1000.0]), rounds=9, warmup_rounds=1
    )


@pytest.mark.benchmark(group="ridge probes, 4 budgets x 5 seeds x 4 folds x 4 penalties")
def test_ridges_scikit_learn(benchmark, problems) -> None:
    benchmark.extra_info["side"] = "scikit-learn, one by one"
    from sklearn.linear_model import Ridge

    def work() -> list[object]:
        return [Ridge(alpha=alpha).fit(X, X[:, 0] + y) for X, y, *_ in problems for alpha in (10.0, 1.0, 100.0, 1000.0)]

    benchmark.pedantic(work, rounds=5, warmup_rounds=1)


def record(index: int) -> dict[str, object]:
    model, fold = f"alphaearth/m{index // 10 % 50}", f"r{index % 10}"
    scores = {
        "macro_f1": index % 97 / 97,
        "overall_accuracy": index % 89 / 89,
        "ece": 0.1,
        "brier": 0.4,
        "balanced_accuracy": 0.5,
        "nll": 1.0,
    }
    strata = [
        {"role": "test_ood" if ground == fold else "test_id", "shift": "region", "ground": ground, "units": 100, "scores": scores}
        for ground in (f"r{k}" for k in range(10))
    ]
    cell = {
        "task": "bench",
        "target": "y",
        "split": "leave-region-out",
        "fold": fold,
        "model": model,
        "budget": "full",
        "seed": index // 500,
    }
    card = {"name": model, "tier": "embedding", "inputs": "alphaearth", "learner": "m"}
    return {
        "cell": cell, "digest": "", "kind": "classification", "main_metric": "macro_f1", "higher_is_better": True, "simulated": True,
        "model": card, "scores": {"test_id": scores, "test_ood": scores}, "strata": strata, "cost": {"fit_s": 0.1},
    }  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    for index in range(RESULTS):
        digest = uuid.uuid5(uuid.NAMESPACE_OID, str(index)).hex * 2
        folder = root / "cells" / digest[:2] / digest
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(record(index) | {"digest": digest}))
    return root


def test_compact_a_hundred_thousand_results(benchmark, large: Path) -> None:
    from rs05bench.experiment.query import compact
    from rs05bench.experiment.store import ResultStore

    benchmark.pedantic(compact, args=(ResultStore(large),), rounds=1)


def test_ask_a_hundred_thousand_results(benchmark, large: Path) -> None:
    import subprocess
    import sys

    benchmark.extra_info["target"] = "under 2 s, the start of Python included"
    command = [
        sys.executable,
        "-m",
        "rs05bench.cli",
        "results",
        str(large),
        "--where",
        "seed < 10",
        "--columns",
        "model,avg(macro_f1_ood) as ood",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    benchmark.pedantic(subprocess.run, args=(command,), kwargs={"check": True, "stdout": subprocess.DEVNULL}, rounds=3)


WORKERS = 2


@pytest.mark.parametrize("cells", [CELLS // 10, 3 * CELLS // 10, CELLS])
def test_overhead_of_cells(benchmark, tmp_path: Path, cells: int) -> None:
    """Time of two workers beyond what their cells took, a cell: under 5 ms, and the same for a tenth of the cells as for all.

    Cells are floors, ridge and nearest neighbours; what a cell takes itself is reading its view, fitting, predicting, scoring and storing.
    """
    import time

    from rs05bench.datasets.simulated import write_tables
    from rs05bench.experiment.gridfile import GridChoice, GridFile
    from rs05bench.experiment.sweep import sweep

    write_tables(tmp_path, tasks=["urban"], size="small", seed=0)
    card = tmp_path / "urban" / "card.yaml"
    models = ["floor/mean", "alphaearth/ridge", "raw/knn"]
    choice = GridChoice(
        models=models,
        splits=["leave-city-out"],
        budgets=["20-units", "50-units"],
        seeds=list(range(-(-cells // 36))),
        targets=["log_income"],
    )
    grid = GridFile.over(card, card.parent, choice, costs=False, keep_predictions=False)
    moments, own = [], []

    def tell(outcomes) -> None:
        moments.append(time.perf_counter())
        own.extend(outcome.seconds for outcome in outcomes)

    begun = time.perf_counter()
    benchmark.pedantic(sweep, args=(grid, tmp_path / "runs"), kwargs={"jobs": WORKERS, "on_progress": tell}, rounds=1)
    whole = time.perf_counter() - begun
    running = moments[-1] - moments[0]  # without what starts once: processes, imports, opening the data
    overhead = 1000 * (WORKERS * running - sum(own[1:])) / len(own)
    benchmark.extra_info |= {"cells": len(own), "overhead_ms_per_cell": overhead, "own_ms_per_cell": 1000 * sum(own) / len(own)}
    print(
        f"\n{len(own)} cells on {WORKERS} workers in {whole:.1f} s: overhead {overhead:.2f} ms a cell, "
        f"a cell itself {1000 * sum(own) / len(own):.2f} ms"
    )
