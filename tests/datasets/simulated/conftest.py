"""One tiny world and its files, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs05bench.datasets.simulated import World, simulate, write_files


@pytest.fixture(scope="session")
def tiny() -> World:
    return simulate("tiny", seed=0)


@pytest.fixture(scope="session")
def small() -> World:
    return simulate("small", seed=0)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_files(tmp_path_factory.mktemp("simulated"), "tiny", seed=0)
