from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.limits import LIMITS, Limits
from rs05bench.protocol.submission.verdict import Verdict
from rs05bench.protocol.submission.verify import judge
from tests.protocol.submission.world import make_world, write_bundle


@dataclass
class World:
    """The tiny leaderboard and a bundle without a fault for each task."""

    root: Path
    board: Board
    good: Path
    good_chips: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    board = make_world(root)
    good = write_bundle(root / "good", root, board)
    return World(root, board, good, write_bundle(root / "good-chips", root, board, "tiny-chips", slug="unet-tiny"))


@pytest.fixture
def bundle(world: World, tmp_path: Path) -> Path:
    """A copy of the good bundle to spoil."""
    return Path(shutil.copytree(world.good, tmp_path / "in" / "bundle"))


@pytest.fixture
def chips(world: World, tmp_path: Path) -> Path:
    """A copy of the good bundle of chips to spoil."""
    return Path(shutil.copytree(world.good_chips, tmp_path / "in" / "bundle"))


@pytest.fixture
def verify(world: World, tmp_path: Path):
    """Verifies in this process, into `work`."""

    def run(path: Path, *, truth: bool = True, limits: Limits = LIMITS, others: Path | None = None) -> Verdict:
        work = tmp_path / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return judge(path, world.board, world.root / "truth" if truth else None, others, limits, work)

    return run
