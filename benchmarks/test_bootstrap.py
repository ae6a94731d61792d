"""Every paired comparison of a full leaderboard, and one interval over blocks against scipy's bootstrap of the predictions.

The leaderboard: 3 tasks x 3 budgets x 30 models x 5 seeds x 10 folds = 13,500 cells, 7,830 paired differences.
"""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.protocol.comparison import Comparison, compare
from rs05bench.protocol.inference.contrast import build_contrast, cluster_weights
from rs05bench.protocol.metrics import Clusters, Confusion
from rs05bench.protocol.result import Cell, ModelCard, Result, Stratum

CLASSES = tuple(f"class {k}" for k in range(10))
BLOCKS, MODELS, SEEDS, FOLDS = 60, 30, 5, 10


@pytest.fixture(scope="module")
def results() -> list[Result]:
    rng = np.random.default_rng(0)
    card = ModelCard(name="x/rf", tier="embedding", inputs="x", learner="rf")
    return [
        Result.model_construct(
            cell=Cell.model_construct(
                task=f"task-{task}",
                target="y",
                split="leave-state-out",
                fold=f"s{fold}",
                model=f"x{model}/rf",
                budget=f"{n}-units",
                seed=seed,
            ),
            digest=f"{task} {n} {model} {seed} {fold}",
            kind="classification",
            main_metric="macro_f1",
            model=card,
            scores={},
            strata=[
                Stratum.model_construct(
                    role="test_ood" if group == fold else "test_id",
                    shift="region" if group == fold else "none",
                    ground=f"s{group}",
                    group=f"s{group}",
                    units=50,
                    scores={"macro_f1": float(rng.random())},
                )
                for group in range(FOLDS)
            ],
            budget={"labels_used": n},
        )
        for task in range(3)
        for n in (20, 50, 100)
        for model in range(MODELS)
        for seed in range(SEEDS)
        for fold in range(FOLDS)
    ]


def test_full_leaderboard(benchmark, results: list[Result]) -> None:
    benchmark.extra_info["target"] = "under 30 s"
    found: Comparison = benchmark.pedantic(compare, args=(results,), rounds=1, warmup_rounds=0)
    assert len(found.differences) == 9 * 2 * MODELS * (MODELS - 1) // 2


@pytest.mark.benchmark(group="macro-F1 with a block bootstrap of 200 draws, 3,000 units")
def test_interval_from_sums(benchmark) -> None:
    benchmark.extra_info["side"] = "ours"
    truth, guess, block = units()

    def run() -> float:
        stats = Confusion.of(truth, guess, CLASSES, clusters=Clusters.of(block.astype(str)))
        contrast = build_contrast("macro_f1", [(1.0, stats)])
        weights = cluster_weights(BLOCKS, 200, np.random.default_rng(0))
        return float(np.quantile(contrast.value(weights), 0.975))

    benchmark.pedantic(run, rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="macro-F1 with a block bootstrap of 200 draws, 3,000 units")
def test_interval_from_predictions(benchmark) -> None:
    from sklearn.metrics import f1_score

    benchmark.extra_info["side"] = "loop over scikit-learn"
    truth, guess, block = units()
    members = [np.flatnonzero(block == b) for b in range(BLOCKS)]

    def run() -> float:
        rng = np.random.default_rng(0)
        drawn = []
        for _ in range(200):
            rows = np.concatenate([members[b] for b in rng.integers(0, BLOCKS, BLOCKS)])
            drawn.append(f1_score(truth[rows], guess[rows], average="macro"))
        return float(np.quantile(drawn, 0.975))

    benchmark.pedantic(run, rounds=2, warmup_rounds=0)


def units() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 10, 3000)
    return truth, np.where(rng.random(3000) < 0.3, rng.integers(0, 10, 3000), truth), rng.integers(0, BLOCKS, 3000)
