from __future__ import annotations

from pathlib import Path

import pytest

from rs05bench.report.site import build_site
from tests.report.site.fake import make_leaderboard

SPLITS = (("fuel-moisture", "leave-region-out", False), ("crop", "leave-region-out", False), ("urban", "leave-city-out", True))


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up leaderboard of twelve submissions, one of each model."""
    return make_leaderboard(tmp_path_factory.mktemp("leaderboard"), 12, splits=SPLITS, seeds=2)


@pytest.fixture(scope="session")
def site(board: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its site."""
    return build_site(board, tmp_path_factory.mktemp("site") / "out").parent
