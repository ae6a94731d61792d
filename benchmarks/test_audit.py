"""Auditing a million units: ids, two group columns, distances; the rival for the distances is scikit-learn's BallTree with haversine.

The whole command (reading, checks, verdict) runs in its own process, so that its peak memory is its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

UNITS = 1_000_000
TEST_SHARE = 0.2

RUN = """
import resource, sys, time
began = time.perf_counter()
from rs05bench.protocol.audit import AuditColumns, audit_lists
columns = AuditColumns(id="unit_id", lon="lon", lat="lat", groups=["tile", "site"])
report = audit_lists(sys.argv[1], sys.argv[2], columns=columns)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux
print(time.perf_counter() - began, peak, report.n_train + report.n_test, report.verdict)
"""


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    # Clustered as surveys are: 2,000 sites with units a few kilometres around each.
    site = rng.integers(0, 2000, UNITS)
    lon = rng.uniform(-125, -67, 2000)[site] + rng.normal(0, 0.1, UNITS)
    lat = rng.uniform(25, 49, 2000)[site] + rng.normal(0, 0.1, UNITS)
    frame = pd.DataFrame(
        {
            "unit_id": [f"{i:08d}" for i in range(UNITS)],
            "lon": lon,
            "lat": lat,
            "tile": pd.Series(np.floor(lon).astype(int).astype(str)) + "_" + pd.Series(np.floor(lat).astype(int).astype(str)),
            "site": pd.Series(site).map("site{:04d}".format),
        }
    )
    test = rng.random(UNITS) < TEST_SHARE
    folder = tmp_path_factory.mktemp("million")
    paths = folder / "train.parquet", folder / "test.parquet"
    frame[~test].to_parquet(paths[0], index=False)
    frame[test].to_parquet(paths[1], index=False)
    for path in paths:
        pd.read_parquet(path).to_csv(path.with_suffix(".csv"), index=False)
    return paths


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_whole_command_on_a_million_units(million: tuple[Path, Path], suffix: str, benchmark, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(path.with_suffix(suffix)) for path in million]

    def run() -> list[str]:
        done = subprocess.run([sys.executable, "-c", RUN, *paths], check=True, capture_output=True, text=True)
        return done.stdout.split()

    seconds, megabytes, units, verdict = benchmark.pedantic(run, rounds=1, iterations=1)
    benchmark.extra_info.update(seconds=float(seconds), peak_mb=float(megabytes), units=int(units))
    with capsys.disabled():
        print(f"\naudit of {int(units):,} units from {suffix}: {float(seconds):.1f} s, peak {float(megabytes):,.0f} MB (asked: 10, 2,048)")
    assert int(units) == UNITS
    assert verdict == "leaks"


def test_nearest_distance_against_ball_tree(million: tuple[Path, Path], benchmark, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.neighbors import BallTree

    from rs05bench.protocol.audit import nearest_train
    from rs05bench.protocol.geodesy import EARTH_RADIUS_M

    train, test = (pd.read_parquet(path) for path in million)
    ours = train["lon"].to_numpy(), train["lat"].to_numpy(), test["lon"].to_numpy(), test["lat"].to_numpy()
    km, _ = benchmark.pedantic(nearest_train, args=ours, rounds=1, iterations=1, warmup_rounds=0)
    mine = benchmark.stats.stats.mean
    began = time.perf_counter()
    tree = BallTree(np.radians(np.column_stack([ours[1], ours[0]])), metric="haversine")
    found, _ = tree.query(np.radians(np.column_stack([ours[3], ours[2]])), k=1)
    theirs = time.perf_counter() - began
    benchmark.extra_info.update(rival="scikit-learn BallTree haversine", rival_seconds=theirs, ratio=theirs / mine)
    with capsys.disabled():
        print(f"\nnearest of {len(km):,} in {len(train):,}: {mine:.2f} s, BallTree {theirs:.2f} s, ratio {theirs / mine:.1f}")
    np.testing.assert_allclose(km, found[:, 0] * EARTH_RADIUS_M / 1000, rtol=0, atol=1e-6)
