from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.limits import LIMITS, Limits
from rs05bench.protocol.submission.verdict import Verdict
from rs05bench.protocol.submission.verify import verify_submission
from tests.protocol.submission.world import make_world, write_submission


@dataclass
class World:
    """The tiny leaderboard and a submission without a fault for each task."""

    root: Path
    board: Board
    good: Path
    good_maps: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    board = make_world(root)
    good = write_submission(root / "good", root, board)
    return World(root, board, good, write_submission(root / "good-maps", root, board, "tiny-chips", slug="unet-tiny"))


@pytest.fixture
def sent(world: World, tmp_path: Path) -> Path:
    """A copy of the good submission to spoil."""
    return Path(shutil.copytree(world.good, tmp_path / "in" / "sent"))


@pytest.fixture
def maps(world: World, tmp_path: Path) -> Path:
    """A copy of the good submission of maps to spoil."""
    return Path(shutil.copytree(world.good_maps, tmp_path / "in" / "sent"))


@pytest.fixture
def verify(world: World):
    """Verifies a folder."""

    def run(path: Path, *, truth: bool = True, limits: Limits = LIMITS, others: Path | None = None) -> Verdict:
        labels = world.root / "truth" if truth else None
        return verify_submission(path, world.root / "board", truth=labels, others=others, limits=limits)

    return run
