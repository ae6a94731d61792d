"""A short version of `studies/kills.py`."""

from __future__ import annotations

import pytest
import yaml

from studies.kills import run


@pytest.mark.slow
def test_three_kills_change_no_result(tiny, tmp_path):
    grid = tmp_path / "grid.yaml"
    task = {"card": str(tiny / "card.yaml"), "splits": ["leave-state-out"]}
    fields = {"tasks": [task], "models": ["floor/majority", "alphaearth/logistic", "raw/knn"], "seeds": "0-1", "costs": False}
    grid.write_text(yaml.safe_dump({"kind": "grid", **fields}))
    kinds = ("worker killed", "driver killed", "files cut short")
    tally, cells = run(grid, tmp_path, 3, 0, kinds=lambda number, _: kinds[number])
    assert cells == 48
    assert sum(tally.kills.values()) == 3  # each hit a running sweep
    assert tally.rounds >= 1
    assert tally.sound, tally
