"""Fifty random kills of a running sweep, and whether its results are those of a run nobody disturbed.

Workers are killed (SIGKILL), drivers are killed (SIGKILL) and told to stop (SIGTERM, SIGINT), and files are cut short by a size limit,
each at a random moment: while it starts, or when it has come to a random cell. A kill that hits nothing does not count, and a size limit
has hit when a cell could not be written. Every kind comes at least once in twenty kills. When a sweep has
come to its end its results are compared with an undisturbed run and a new one begins. Results must be equal but for cost and provenance;
none may be lost, doubled or half written; no worker may outlive its driver.

    python studies/kills.py [number of kills] [seed]
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from rs05bench.experiment.store import ResultStore

KINDS = ("driver killed", "worker killed", "driver told to stop", "interrupted", "files cut short")
WEIGHTS = (5, 6, 3, 2, 2)


@dataclass
class Tally:
    """What happened.

    Attributes:
        kills: Kind -> how often.
        rounds: Sweeps that came to their end and were compared.
        outlived: Workers that were still there five seconds after their driver.
        differing: Cells whose results differ from the undisturbed run.
        lost: Cells without a result at the end.
        extra: Results nobody asked for.
        unreadable: Results or predictions that could not be read.
        idle: Kills that hit nothing, because the sweep had just ended; they are not among `kills`.
    """

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    outlived: int = 0
    differing: int = 0
    lost: int = 0
    extra: int = 0
    unreadable: int = 0
    idle: int = 0

    @property
    def sound(self) -> bool:
        return not (self.outlived or self.differing or self.lost or self.extra or self.unreadable)


def contents(store: ResultStore) -> dict[str, str]:
    """Digest of a cell -> its result without cost and provenance, after its predictions have been read and checked."""
    found = {}
    for digest in store.digests():
        record = json.loads(store.read(digest).model_dump_json(exclude={"cost", "provenance"}))
        predictions = store.predictions(digest)
        record["predictions read"] = predictions.digest
        found[digest] = json.dumps(record, sort_keys=True)
    return found


def command(grid: Path, out: Path, python: str = sys.executable) -> list[str]:
    return [python, "-m", "rs05bench.cli", "sweep", str(grid), "--out", str(out), "--quiet", "--jobs", "2"]


def file_limit(undisturbed: Path) -> int:
    """Bytes: more than a sweep that is taken up again writes before its first cell, and less than any result."""
    before = max(path.stat().st_size for path in (undisturbed / "cards").iterdir())
    result = min(path.stat().st_size for path in undisturbed.glob("cells/*/*/result.json"))
    if before >= result:
        raise SystemExit(f"no size limit cuts results only: the card takes {before} bytes, the smallest result {result}")
    return (before + result) // 2


def start(grid: Path, out: Path, limit_bytes: int | None = None) -> subprocess.Popen[bytes]:
    def limit() -> None:
        assert limit_bytes is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.Popen(
        command(grid, out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=None if limit_bytes is None else limit,
    )


def finish(grid: Path, out: Path) -> None:
    subprocess.run(command(grid, out), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Processes that the fork server started: grandchildren of the driver."""
    return [child for child in family(process) if child.ppid() != process.pid]


def strike(kind: str, process: subprocess.Popen[bytes], store: ResultStore, choice: random.Random, tally: Tally) -> bool:
    """Does one kill to a running sweep and waits for what follows from it; False where it hit nothing."""
    there = family(process)
    hit = process.poll() is None
    if hit and kind == "worker killed":
        victims = workers(process)
        hit = bool(victims)
        if victims:
            choice.choice(victims).kill()
            time.sleep(choice.uniform(0.0, 1.5))  # some of its successors are hit by what ends this run
        kind = "driver killed"
    if kind == "files cut short":
        hit = any("too large" in failure["error"] for failure in store.failures())  # what is told of a file beyond its limit
    if process.poll() is not None:
        return hit
    number = {"driver killed": signal.SIGKILL, "interrupted": signal.SIGINT}.get(kind, signal.SIGTERM)
    process.send_signal(number)
    process.wait(30)
    _, alive = psutil.wait_procs(there, timeout=5)
    tally.outlived += sum(child.status() != psutil.STATUS_ZOMBIE for child in alive)
    for child in alive:
        child.kill()
    return hit


def wait_for_the_moment(process: subprocess.Popen[bytes], store: ResultStore, cells: int, kind: str, choice: random.Random) -> None:
    """Waits for a random moment of a sweep: one in four while it starts, else when a random number of what it lacks is there."""
    began = time.monotonic()
    if kind == "files cut short":
        while process.poll() is None and time.monotonic() < began + 120 and not store.failed():
            time.sleep(0.05)
        began = time.monotonic()
        end, target = began + choice.uniform(0.0, 2.0), cells + 1
    elif choice.random() < 0.25:
        end, target = began + choice.uniform(0.2, 12.0), cells + 1
    else:
        there = len(store.digests())
        end, target = began + 300.0, there + 1 + int(choice.random() ** 2 * max(cells - there - 1, 0))
    while process.poll() is None and time.monotonic() < end and len(store.digests()) < target:
        time.sleep(0.02)


def compare(store: ResultStore, truth: dict[str, str], tally: Tally) -> None:
    store.sweep_leftovers()
    try:
        found = contents(store)
    except Exception as error:
        print(f"unreadable: {error}", file=sys.stderr)
        tally.unreadable += 1
        return
    tally.rounds += 1
    tally.lost += len(truth.keys() - found.keys())
    tally.extra += len(found.keys() - truth.keys())
    tally.differing += sum(found[digest] != truth[digest] for digest in found.keys() & truth.keys())


def run(
    grid: Path, folder: Path, kills: int, seed: int, *, kinds: Callable[[int, random.Random], str], tell: bool = False
) -> tuple[Tally, int]:
    """Kills sweeps of a grid and compares what they end with.

    Args:
        grid: Grid file.
        folder: Where to work.
        kills: How many kills.
        seed: Of moments and victims.
        kinds: The kind of the i-th kill.
        tell: Whether to say how it goes, on standard error.

    Returns:
        What happened, and how many cells the grid has.
    """
    choice, tally = random.Random(seed), Tally()
    finish(grid, folder / "undisturbed")
    truth = contents(ResultStore(folder / "undisturbed"))
    limit = file_limit(folder / "undisturbed")
    out = folder / "disturbed"
    number = 0
    while number < kills:
        kind = kinds(number, choice)
        if kind == "files cut short" and not ResultStore(out).cards():
            kind = "driver killed"  # what is written once, before the first cell, may be larger than a result
        for failed in ResultStore(out).failed():
            (out / "failures" / f"{failed}.json").unlink(missing_ok=True)
        process = start(grid, out, limit if kind == "files cut short" else None)
        wait_for_the_moment(process, ResultStore(out), len(truth), kind, choice)
        if strike(kind, process, ResultStore(out), choice, tally):
            tally.kills[kind] += 1
            number += 1
        else:
            tally.idle += 1
        there = len(ResultStore(out).digests())
        if tell:
            print(f"{number}: {kind}, {there} of {len(truth)} there", file=sys.stderr, flush=True)
        if there >= len(truth):
            compare(ResultStore(out), truth, tally)
            shutil.rmtree(out)
    finish(grid, out)
    compare(ResultStore(out), truth, tally)
    return tally, len(truth)


def small_grid(folder: Path, models: list[str], seeds: str) -> Path:
    """A grid over the simulated urban task."""
    from rs05bench.datasets.simulated import write_tables

    write_tables(folder / "data", tasks=["urban"], size="small", seed=0)
    path = folder / "grid.yaml"
    task = {"card": "data/urban/card.yaml", "targets": ["log_income"], "splits": ["leave-city-out"], "budgets": ["20-units", "50-units"]}
    path.write_text(yaml.safe_dump({"kind": "grid", "tasks": [task], "models": models, "seeds": seeds, "costs": False}))
    return path


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    with tempfile.TemporaryDirectory(prefix="rs05bench-kills-") as name:
        folder = Path(name)
        grid = small_grid(folder, ["floor/mean", "alphaearth/ridge", "raw/knn"], "0-3")

        order = [kind for kind, times in zip(KINDS, WEIGHTS, strict=True) for _ in range(times)]
        random.Random(seed).shuffle(order)

        def kind(number: int, choice: random.Random) -> str:
            first = min(10, kills // 5)  # kill -9 of the sweep
            return KINDS[0] if number < first else order[(number - first) % len(order)]

        tally, cells = run(grid, folder, kills, seed, kinds=kind, tell=True)
    print("# Random kills of a sweep\n")
    print(
        f"`studies/kills.py {kills} {seed}`: a simulated grid of {cells} cells on two workers, struck {kills} times, each time at a "
        "random moment while it starts or runs, and taken up again by the same command. "
        f"The first {min(10, kills // 5)} kill -9 the sweep itself.\n"
    )
    print("| what was done | times |\n|---|---|")
    for name in KINDS:
        print(f"| {name} | {tally.kills[name]} |")
    print("\n| what came of it | number |\n|---|---|")
    print(f"| sweeps that came to their end and were compared | {tally.rounds} |")
    print(f"| cells without a result | {tally.lost} |\n| results nobody asked for, or doubled | {tally.extra} |")
    print(f"| results that differ from the undisturbed run, but for cost and provenance | {tally.differing} |")
    print(f"| results or predictions that could not be read | {tally.unreadable} |")
    print(f"| workers that outlived their driver by 5 s | {tally.outlived} |")
    print(f"| further kills that hit nothing, not counted | {tally.idle} |")
    print(f"\nVerdict: {'sound' if tally.sound else '**not sound**'}.")
    sys.exit(0 if tally.sound else 1)


if __name__ == "__main__":
    main()
