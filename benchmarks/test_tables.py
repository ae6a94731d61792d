"""Tables of 10,000 to a million rows: a split, its budgets and its audit, `card check` and `advise`; time should grow in proportion.

`python benchmarks/test_tables.py 10000 100000 200000` prints CPU seconds of every command for tables of 64 columns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

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


def write_table(n: int, path: Path) -> None:
    """A table of n points in eight states, five crops and an embedding of 64 columns that knows a little of them."""
    _, units, labels = country(n)
    rng = np.random.default_rng(1)
    frame = units.frame[["unit_id", "lon", "lat", "state"]].rename(columns={"unit_id": "id"}).assign(year=2022)
    crop = pd.factorize(frame["id"].map(labels), sort=True)[0]
    vectors = rng.normal(0, 0.1, (n, 64)).astype(np.float32)
    vectors[np.arange(n), crop] += 0.2
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = pd.DataFrame(vectors.round(5), columns=[f"A{band:02d}" for band in range(64)])
    pd.concat([frame.assign(crop=np.char.add("c", crop.astype(str))).reset_index(drop=True), columns], axis=1).to_parquet(path, index=False)


def main(sizes: list[int], minutes: float = 2.0) -> None:
    """Prints CPU seconds, wall seconds and peak memory of each command."""
    command = Path(sys.executable).with_name("rs05bench")
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_table(n, Path(folder) / "table.parquet")
            for words in (
                ["card", "init", "table.parquet", "-y"],
                ["card", "check", "table.yaml"],
                ["advise", "table.yaml", "--minutes", str(minutes), "--out", "runs", "--jobs", "1"],
            ):
                began = time.perf_counter()
                child = subprocess.Popen([command, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                _, status, used = os.wait4(child.pid, 0)
                wall, cpu = time.perf_counter() - began, used.ru_utime + used.ru_stime
                done = f"exit {os.waitstatus_to_exitcode(status)}"
                name = " ".join(words[:2] if words[0] == "card" else words[:1])
                print(f"{n:>9,} rows  {name:<11} {cpu:7.1f} s CPU {wall:7.1f} s  {used.ru_maxrss / 2**20:5.1f} GB  {done}", flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(SIZES))
