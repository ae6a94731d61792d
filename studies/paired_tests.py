"""Does a paired test cry wolf, and what does it see? False positives and power under seeds, folds and correlated blocks.

Run: python studies/paired_tests.py [--replicates 1500]; prints Markdown. `make studies` keeps it in docs/studies/paired_tests.md.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from rs05bench.protocol.inference import paired_difference, wilcoxon_signed_rank
from rs05bench.protocol.metrics import Confusion

CLASSES = ("wrong", "right")
UNITS = 40
TESTS = (
    "units, one fit (naive)",
    "blocks, one fit",
    "blocks, all fits, fits kept fixed",
    "blocks and fits (default)",
    "Wilcoxon, folds (default)",
    "Wilcoxon, folds x seeds",
)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 1 / (1 + np.exp(-x))


def simulate(folds: int, blocks: int, seeds: int, effect: float, seed_noise: float, region: float, rng: np.random.Generator) -> np.ndarray:
    """Right units out of `UNITS`, (2 models, seeds, folds, blocks).

    Blocks share a difficulty, models have their own strengths in each fold and block (this is what makes units of a block witnesses of
    one another), and every fit has its own luck in each fold. `region` is how much a model's strength varies from region to region.
    Under `effect` = 0 the two models are exchangeable: there is no difference to find.
    """
    shared = 1.0 + 0.4 * rng.standard_normal((1, 1, folds, 1)) + 0.8 * rng.standard_normal((1, 1, folds, blocks))
    own = 0.5 * rng.standard_normal((2, 1, folds, blocks)) + region * rng.standard_normal((2, 1, folds, 1))
    luck = seed_noise * rng.standard_normal((2, seeds, folds, 1))
    skill = np.array([effect, 0.0]).reshape(2, 1, 1, 1)
    return rng.binomial(UNITS, sigmoid(shared + own + luck + skill))


def stats_of(right: np.ndarray) -> Confusion:
    """Sums of one fit: each block's right and wrong units as confusion counts of the class `right`."""
    flat = right.ravel()
    counts = np.zeros((flat.size, 2, 2), np.int64)
    counts[:, 1, 1], counts[:, 1, 0] = flat, UNITS - flat
    return Confusion(tuple(f"b{i:04d}" for i in range(flat.size)), counts, CLASSES)


def units_of(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which single units were right, in random order within the block."""
    return (rng.permuted(np.tile(np.arange(UNITS), (right.size, 1)), axis=1) < right.ravel()[:, None]).ravel()


def p_values(right: np.ndarray, rng: np.random.Generator, draws: int) -> dict[str, float]:
    """p-value of each test on one simulated comparison."""
    a, b = ([stats_of(fit) for fit in model] for model in right)
    metric = "overall_accuracy"
    wins = units_of(right[0, 0], rng).astype(float) - units_of(right[1, 0], rng)
    z = wins.mean() / (wins.std(ddof=1) / wins.size**0.5)
    difference = (right[0] - right[1]).mean(-1).T / UNITS  # (folds, seeds)
    from scipy.special import ndtr

    return {
        TESTS[0]: float(2 * ndtr(-abs(z))),
        TESTS[1]: paired_difference(a[0], b[0], metric, draws=draws, rng=rng).p or 0.0,
        TESTS[2]: paired_difference(a, b, metric, method="studentised", draws=draws, rng=rng).p or 0.0,
        TESTS[3]: paired_difference(a, b, metric, rng=rng).p or 0.0,
        TESTS[4]: wilcoxon_signed_rank(difference).p,
        TESTS[5]: wilcoxon_signed_rank(difference, unit="fold-seed").p,
    }


def share_found(replicates: int, draws: int, seed: int, **setting: float) -> dict[str, float]:
    """Share of replicates with p < .05."""
    found = dict.fromkeys(TESTS, 0)
    for replicate in range(replicates):
        rng = np.random.default_rng([seed, replicate])
        p = p_values(simulate(rng=rng, **setting), rng, draws)  # type: ignore[arg-type]
        for name in TESTS:
            found[name] += p[name] < 0.05
    return {name: count / replicates for name, count in found.items()}


def table(rows: list[dict[str, float]], options: argparse.Namespace) -> None:
    """Print one Markdown table, a row a setting."""
    print("| folds | blocks a fold | seeds | seed noise | region | effect (logit) | effect (accuracy) | " + " | ".join(TESTS) + " |")
    print("|---" * (7 + len(TESTS)) + "|")
    for row in rows:
        found = share_found(options.replicates, options.draws, options.seed, **row)
        rng = np.random.default_rng(1)
        wide = (
            simulate(
                folds=2000, blocks=10, seeds=1, effect=row["effect"], seed_noise=row["seed_noise"], region=row["region"], rng=rng
            ).mean((1, 2, 3))
            / UNITS
        )
        accuracy = wide[0] - wide[1] if row["effect"] else 0.0
        shares = " | ".join(f"{100 * found[name]:.1f}" for name in TESTS)
        print(
            f"| {row['folds']} | {row['blocks']} | {row['seeds']} | {row['seed_noise']:g} | {row['region']:g} | "
            f"{row['effect']:g} | {accuracy:.3f} | {shares} |"
        )
    print()


def main() -> None:
    """Print the study."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--replicates", type=int, default=1500)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.perf_counter()
    print("# Do the paired tests cry wolf, and what do they see?\n")
    print(
        f"Two models on the same test blocks ({UNITS} units each), same folds, same seeds; "
        f"{options.replicates} simulated comparisons a row, {options.draws} bootstrap "
        f"draws, seed {options.seed}. Numbers are the per cent of comparisons with p < .05. Models have their "
        f"own strengths block by block (0.5 on the logit scale), every fit "
        "has its own luck fold by fold (`seed noise`). `region`: how much a model's strength varies from "
        "region to region; tests over blocks then speak "
        "about these regions only, tests over folds about new ones. Made by `studies/paired_tests.py`.\n"
    )
    error = 196 * (0.05 * 0.95 / options.replicates) ** 0.5
    print(f"## No difference: false positives (should be 5, simulation error ±{error:.1f})\n")
    base = {"folds": 8, "blocks": 8, "seeds": 5, "seed_noise": 0.3, "region": 0.0, "effect": 0.0}
    table(
        [
            {**base, "seed_noise": 0.0},
            base,
            {**base, "folds": 4, "blocks": 6},
            {**base, "folds": 15, "blocks": 4},
            {**base, "seeds": 3},
            {**base, "seeds": 10},
            {**base, "seeds": 1},
            {**base, "region": 0.3},
        ],
        options,
    )
    print("## A real difference: power\n")
    table(
        [
            *({**base, "effect": effect} for effect in (0.1, 0.2, 0.3, 0.5)),
            *({**base, "effect": 0.2, "seeds": seeds} for seeds in (2, 10)),
            *({**base, "effect": 0.2, "folds": folds} for folds in (4, 16)),
            {**base, "effect": 0.2, "blocks": 20},
        ],
        options,
    )
    print(READING)
    print(f"{time.perf_counter() - begin:.0f} s.")


READING = """## What the package does with this

- `paired_difference` with the fits of all seeds on both sides lets blocks and fits vary: blocks and fits (default). With one fit a side
  nobody can know how lucky that fit was, and the test speaks about these two fits only (`n_seeds` is 1): rule 12 asks for five seeds.
- Single units as witnesses, and folds x seeds as if they were independent, find differences where there are none.
- Where a model's strength differs from region to region (`region`), a test over blocks of few regions says something about these regions
  (`scope` is `within-groups` when groups are given); the Wilcoxon test over folds speaks about new ones, and cannot reach p < .05 with
  fewer than six folds.
- More folds and more blocks buy more power than more seeds beyond five.
"""

if __name__ == "__main__":
    main()
