"""Drawing a split, a budget and the audit of a manifest: time over units, which should grow in proportion."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest

from rs05bench.protocol import TaskCard, UnitTable, build_manifest, draw_budget
from rs05bench.protocol.audit import audit_manifest

SIZES = (10_000, 100_000, 1_000_000)


def country(n: int, states: int = 8) -> tuple[TaskCard, UnitTable, dict[str, object]]:
    """n units at about one density: larger countries, not denser ones."""
    rng = np.random.default_rng(0)
    side = np.sqrt(n) / 100.0
    state = rng.integers(0, states, n)
    frame = pd.DataFrame(
        {
            "unit_id": np.char.add("u", np.arange(n).astype(str)),
            "lon": -100.0 + (state + rng.random(n)) * side / states,
            "lat": 35.0 + rng.random(n) * side,
            "state": np.char.add("s", state.astype(str)),
        }
    )
    card = TaskCard.parse(
        {"kind": "classification", "name": "country", "targets": ["y"], "groups": ["state"], "splits": ["leave-state-out"]}
    )
    labels = dict(zip(frame["unit_id"], np.char.add("c", rng.integers(0, 5, n).astype(str)).tolist(), strict=True))
    return card, UnitTable.build(frame, groups=["state"]), labels


@pytest.mark.parametrize("n", SIZES)
def test_seconds_a_million_units(n: int, capsys: pytest.CaptureFixture[str]) -> None:
    card, units, labels = country(n)
    seconds: dict[str, float] = {}

    def timed[T](name: str, run: Callable[[], T]) -> T:
        begin = time.perf_counter()
        found = run()
        seconds[name] = time.perf_counter() - begin
        return found

    manifest = timed("build", lambda: build_manifest(card, units, "leave-state-out"))
    fold = manifest.folds[0]
    for budget in ("100-units", "100-units-in-5-blocks", "20-per-class", "full"):
        timed(budget, partial(draw_budget, card, manifest, fold, budget, 0, labels))
    timed("audit", lambda: audit_manifest(manifest))
    with capsys.disabled():
        print(f"\n{n:>9,} units x 8 folds: " + ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
