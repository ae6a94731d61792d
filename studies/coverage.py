"""How often do the intervals hold the truth? Simulated maps with spatially autocorrelated errors.

Run: python studies/coverage.py [--replicates 2000] [--draws 1000]; prints Markdown. `make studies` keeps it in docs/studies/coverage.md.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np

from rs05bench.protocol.inference.contrast import build_contrast
from rs05bench.protocol.inference.over_blocks import over_blocks
from rs05bench.protocol.metrics import Clusters, Confusion, Moments

GRID, SIDE, GAP = 256, 16, 16  # 64 test blocks of 16 x 16 cells, 16 cells of buffer between them
CLASSES = tuple("abcd")
UNITS_A_BLOCK = 40


class Fields:
    """Stationary Gaussian fields of unit variance with exponential covariance on a torus, by circulant embedding."""

    def __init__(self, e_folding: float) -> None:
        steps = np.minimum(np.arange(GRID), GRID - np.arange(GRID))
        covariance = np.exp(-np.hypot(steps[:, None], steps[None, :]) / e_folding)
        self.spectrum = np.sqrt(np.maximum(np.fft.fft2(covariance).real, 0))

    def pair(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Two independent fields from one transform."""
        noise = rng.standard_normal((GRID, GRID)) + 1j * rng.standard_normal((GRID, GRID))
        both = np.fft.fft2(self.spectrum * noise) / GRID
        return both.real, both.imag


def units_of(blocks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and block of random units; blocks hold unequal numbers."""
    size = np.maximum(5, rng.poisson(UNITS_A_BLOCK * rng.lognormal(-0.125, 0.5, len(blocks))))
    of = np.repeat(np.arange(len(blocks)), size)
    corner = np.stack(np.divmod(blocks[of], GRID // (SIDE + GAP))) * (SIDE + GAP)
    return corner[0] + rng.integers(0, SIDE, len(of)), corner[1] + rng.integers(0, SIDE, len(of)), of


def simulate(fields: Fields, n_blocks: int, rng: np.random.Generator) -> tuple[Confusion, Confusion, Moments, Moments]:
    """One study area: a classification and a regression, each by block and by single unit."""
    blocks = rng.choice((GRID // (SIDE + GAP)) ** 2, n_blocks, replace=False)
    row, column, of = units_of(blocks, rng)
    kind, hard = fields.pair(rng)
    level, residual = fields.pair(rng)
    truth = np.searchsorted([-0.9, 0.2, 1.1], kind[row, column] + 0.5 * rng.standard_normal(len(of)))
    wrong = rng.random(len(of)) < 1 / (1 + np.exp(1.2 - 1.5 * hard[row, column]))
    guess = (truth + rng.integers(1, 4, len(of))) % 4
    predicted = np.where(wrong, guess, truth)
    y = 50 + 10 * level[row, column] + 5 * rng.standard_normal(len(of))
    p = 50 + 0.8 * (y - 50) + 5 * residual[row, column] + 2 * rng.standard_normal(len(of))
    name, single = of.astype(str), np.arange(len(of)).astype(str)
    return (
        Confusion.of(truth, predicted, CLASSES, clusters=Clusters.of(name)),
        Confusion.of(truth, predicted, CLASSES, clusters=Clusters.of(single)),
        Moments.of(y, p, clusters=Clusters.of(name)),
        Moments.of(y, p, clusters=Clusters.of(single)),
    )


METHODS = ("blocks", "units (naive)")


def cover(e_folding: float, n_blocks: int, replicates: int, draws: int, seed: int) -> dict[tuple[str, str], tuple[float, float]]:
    """(metric, method) -> (coverage, mean width)."""
    fields = Fields(e_folding)
    ends = defaultdict(list)
    pooled: list[Confusion | Moments] = []
    for replicate in range(replicates):
        rng = np.random.default_rng([seed, n_blocks, replicate])
        by_block, by_unit, moments, moments_unit = simulate(fields, n_blocks, rng)
        pooled.append(by_block.regroup(["all"] * n_blocks))
        pooled.append(moments.regroup(["all"] * n_blocks))
        for metric, stats, units in (("macro_f1", by_block, by_unit), ("r2", moments, moments_unit), ("mae", moments, moments_unit)):
            found = over_blocks([[(1.0, stats)]], metric, draws=draws, rng=rng)
            ends[metric, "blocks"].append((found.low, found.high))
            # The naive interval treats every unit as independent; its normal form equals the naive bootstrap at these sample sizes.
            naive = build_contrast(metric, [(1.0, units)])
            value, reach = float(naive.value()), 1.96 * float(naive.variance()[0]) ** 0.5
            ends[metric, "units (naive)"].append((value - reach, value + reach))
    result = {}
    for metric in ("macro_f1", "r2", "mae"):
        # The truth is the score of the expected sums: all replicates of this setting together.
        total = pooled[0 if metric == "macro_f1" else 1]
        for other in pooled[2 if metric == "macro_f1" else 3 :: 2]:
            total = total + other  # type: ignore[operator]
        truth = total.evaluate(metric)
        for method in METHODS:
            low, high = np.array(ends[metric, method]).T
            result[metric, method] = (float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean()))
    return result


def main() -> None:
    """Print the study."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.perf_counter()
    error = 1.96 * (0.95 * 0.05 / options.replicates) ** 0.5
    print("# Do the intervals hold the truth?\n")
    print(
        f"Nominal 95 % intervals. Each number is the share of {options.replicates} simulated study areas "
        f"whose interval holds the true score (simulation error "
        f"±{100 * error:.1f} points), {options.draws} bootstrap draws, seed {options.seed}. Test blocks of "
        f"{SIDE} x {SIDE} cells with {GAP} cells of buffer, "
        f"about {UNITS_A_BLOCK} units a block (unequal), Gaussian fields with exponential covariance for the "
        f"classes, for where errors happen, for the target and "
        "for the residuals. `units (naive)` takes every unit as independent; `blocks` is what the package does for one group. The true "
        "score is that of the expected sums "
        "(all replicates together). Made by `studies/coverage.py`.\n"
    )
    for title, rows in (
        ("Number of blocks (e-folding distance of the errors 4 cells)", [(4.0, n) for n in (6, 10, 15, 20, 30, 50, 64)]),
        ("Reach of the autocorrelation (64 blocks)", [(e, 64) for e in (1.0, 8.0, 16.0)]),
    ):
        print(f"## {title}\n")
        for metric in ("macro_f1", "r2", "mae"):
            print(f"**{metric}**\n")
            print("| blocks | e-folding, cells | " + " | ".join(METHODS) + " | mean width, blocks | mean width, naive |")
            print("|---" * (len(METHODS) + 4) + "|")
            for e_folding, n in rows:
                if (e_folding, n) not in _DONE:
                    _DONE[e_folding, n] = cover(e_folding, n, options.replicates, options.draws, options.seed)
                found = _DONE[e_folding, n]
                shares = " | ".join(f"{100 * found[metric, m][0]:.1f}" for m in METHODS)
                widths = f"{found[metric, 'blocks'][1]:.3g} | {found[metric, 'units (naive)'][1]:.3g}"
                print(f"| {n} | {e_folding:g} | {shares} | {widths} |")
            print()
    print(READING)
    print(f"{time.perf_counter() - begin:.0f} s.")


READING = """## What the package does with this

- `rs05bench.compare` resamples blocks only where a split has one group, and then says `over = blocks`: Student's t below eight
  blocks, the studentised bootstrap from there for one fit. With two groups and more it takes the groups ([coverage](new_groups.md)).
- Where errors reach across several blocks and their buffers (second part), blocks are not independent and no resampling of blocks
  repairs it: choose blocks and buffers larger than the reach of the residuals, or groups.
"""

_DONE: dict[tuple[float, int], dict[tuple[str, str], tuple[float, float]]] = {}

if __name__ == "__main__":
    main()
