"""Benchmarks measure ours and its rival side by side in one run; what counts is the ratio, printed at the end.

A benchmark puts the two into one pytest-benchmark group and marks its own side::

    @pytest.mark.benchmark(group="decode 512 px")
    def test_decode(benchmark):
        benchmark.extra_info["side"] = "ours"

The rival's side carries its name instead of "ours". Medians are compared. A rival that takes minutes may do a part of the same work:
`extra_info["times"]` then says how many such parts make the whole.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections import defaultdict  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402


def ratios(results: list[tuple[str | None, str, str, float]]) -> list[tuple[str, str, float]]:
    """How many times faster ours is than each rival, from (group, test name, side, median seconds)."""
    groups: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for group, name, side, median in results:
        groups[group or name].append((side, median))
    found = []
    for group, members in groups.items():
        ours = [median for side, median in members if side == "ours"]
        if len(ours) == 1:
            found += [(group, side, median / ours[0]) for side, median in members if side != "ours"]
    return found


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    if session is None:
        return
    measured = [bench for bench in session.benchmarks if not bench.has_error and bench.stats.rounds]
    rows = []
    for bench in measured:
        seconds = bench.stats.median * bench.extra_info.get("times", 1)
        rows.append((bench.group, bench.name, bench.extra_info.get("side", ""), seconds))
    lines = ratios(rows)
    if lines:
        terminalreporter.section("ratios (rival's time / ours; above 1, ours is faster)")
        for group, rival, ratio in lines:
            terminalreporter.write_line(f"{group:<60} {ratio:8.2f} x {rival}")
