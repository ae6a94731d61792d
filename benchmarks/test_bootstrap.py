"""10,000 bootstrap draws of a full leaderboard, and one interval against scipy's bootstrap of the predictions.

The leaderboard: 3 tasks x 3 budgets x 30 models x 5 seeds = 1,350 fits, 60 test blocks, 10 classes.
"""

from __future__ import annotations

import numpy as np
import pytest

from rs05bench.protocol.inference import Leaderboard, leaderboard, score_interval
from rs05bench.protocol.metrics import ClusterConfusion

CLASSES = tuple(f"class {k}" for k in range(10))
BLOCKS, MODELS, SEEDS, TABLES, DRAWS = 60, 30, 5, 9, 10_000


def fit(seed: int) -> ClusterConfusion:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(3 + 20 * np.eye(10), (BLOCKS, 10, 10))
    return ClusterConfusion(tuple(f"block {i:02d}" for i in range(BLOCKS)), CLASSES, counts)


@pytest.fixture(scope="module")
def table() -> dict[str, list[ClusterConfusion]]:
    return {f"model {m}": [fit(m * SEEDS + s) for s in range(SEEDS)] for m in range(MODELS)}


def full(table: dict[str, list[ClusterConfusion]]) -> list[Leaderboard]:
    return [leaderboard(table, "macro_f1", draws=DRAWS, rng=np.random.default_rng(i)) for i in range(TABLES)]


def test_full_leaderboard(benchmark, table: dict[str, list[ClusterConfusion]]) -> None:
    benchmark.extra_info["target"] = "under 30 s"
    tables = benchmark.pedantic(full, args=(table,), rounds=1, warmup_rounds=0)
    assert len(tables) == TABLES


@pytest.mark.benchmark(group="macro-F1 with a block bootstrap of 200 draws, 3,000 units")
def test_interval_from_sums(benchmark) -> None:
    benchmark.extra_info["side"] = "ours"
    truth, guess, block = units()

    def run() -> float:
        stats = ClusterConfusion.from_labels(block.astype(str), truth, guess, CLASSES)
        return score_interval(stats, "macro_f1", method="percentile", draws=200).high

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
