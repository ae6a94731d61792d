"""Verifying a submission of a table task with 900 test units per fold: 30 cells and 120 cells.

No rival verifies submissions; the figures are seconds per submission and per cell.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rs05bench.protocol.submission import verify_submission
from tests.protocol.submission.world import make_world, write_submission

SEEDS = {"30 cells": 5, "120 cells": 20}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard whose table task has 900 test units per fold, as the real small tasks have."""
    root = tmp_path_factory.mktemp("world")
    make_world(root, a_region=1000)
    return root


@pytest.mark.parametrize("size", SEEDS)
def test_verify_table(benchmark, world: Path, tmp_path: Path, size: str) -> None:
    from rs05bench.protocol.submission.board import Board

    board = Board.load(world / "board")
    folder = write_submission(tmp_path / "sent", world, board, seeds=SEEDS[size])
    cells = 6 * SEEDS[size]
    benchmark.extra_info["cells"] = cells
    verdict = benchmark.pedantic(verify_submission, args=(folder, world / "board"), kwargs={"truth": world / "truth"}, rounds=2)
    assert verdict.outcome == "accepted", verdict.faults[:3]
    benchmark.extra_info["seconds a cell"] = round(verdict.seconds / cells, 4)
    print(f"\n{size}: {verdict.seconds:.2f} s, {1000 * verdict.seconds / cells:.1f} ms per cell")
