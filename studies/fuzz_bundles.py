"""Fuzzing the verification of submissions: bundles spoiled at random, each read in a process of its own with bounded memory and time.

A bundle is a copy of a good one after one to four mutations (bytes flipped, cut, repeated, inserted or swapped), in files of the folder
or in the finished .zip or .tar.gz; or it is one of the hostile kinds of the test suite. In half of the mutated ones the digests are
written anew, so that the parsers behind them are reached. Counted are refusals and acceptances; verdicts from an exception nobody
foresaw; processes that died or had to be stopped; files written outside the work folder; and wrong acceptances: other files than the
good bundle's under digests that were not written anew.

`python studies/fuzz_bundles.py --bundles 10000` prints the page.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from rs05bench.protocol.submission.board import Board  # noqa: E402
from rs05bench.protocol.submission.child import confine  # noqa: E402
from rs05bench.protocol.submission.limits import MIB, Limits  # noqa: E402
from rs05bench.protocol.submission.verify import judge  # noqa: E402
from tests.protocol.submission.spoilers import CHIP_KINDS, KINDS, tarred, zipped  # noqa: E402
from tests.protocol.submission.world import make_world, write_bundle, write_sums  # noqa: E402

LIMITS = Limits(seconds=30, memory_bytes=1024 * MIB, file_bytes=32 * MIB, unpacked_bytes=128 * MIB)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One random change of some bytes."""
    if not data:
        return rng.randbytes(20)
    at, length = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8, 64))
    way = rng.randrange(7)
    if way == 0:
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if way == 1:
        return data[:at]
    if way == 2:
        return data[:at] + rng.randbytes(length) + data[at:]
    if way == 3:
        return data[:at] + data[at + length :]
    if way == 4:
        return data[:at] + data[at : at + length] * rng.choice((2, 50, 1000)) + data[at + length :]
    if way == 5:
        return data[:at] + rng.choice((b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f", b"NaN", b"1e999")) + data[at + 4 :]
    other = rng.randrange(len(data))
    return data[:at] + data[other : other + length] + data[at + length :]


def spoil(good: Path, folder: Path, rng: random.Random, kinds: dict[str, object]) -> tuple[Path, str, bool]:
    """A spoiled copy, in which way, and whether its digests were written anew."""
    bundle = Path(shutil.copytree(good, folder / "bundle"))
    way = rng.choice(("file", "file", "file", "archive", "archive", "kind"))
    if way == "kind":
        name = rng.choice(list(kinds))
        return kinds[name][0](bundle), "kind", False  # type: ignore[index]
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    for _ in range(rng.randint(1, 4) if way == "file" else rng.choice((0, 0, 1))):
        path = rng.choice(files)
        path.write_bytes(mutate(path.read_bytes(), rng))
    anew = rng.random() < 0.5
    if anew:
        write_sums(bundle)
    if way == "file":
        return bundle, way, anew
    packed = rng.choice((zipped, tarred))(bundle)
    data = packed.read_bytes()
    for _ in range(rng.randint(1, 3)):
        data = mutate(data, rng)
    packed.write_bytes(data)
    return packed, way, anew


def judge_forked(bundle: Path, board: Board, truth: Path, work: Path) -> tuple[str, str]:
    """Judges in a fork under the limits; returns outcome and, where it was unforeseen, why."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            confine(LIMITS)
            verdict = judge(bundle, board, truth, None, LIMITS, work)
            word = "unforeseen" if "unexpected" in verdict.notes else verdict.outcome
            told = verdict.faults[-1][:300] if word == "unforeseen" else verdict.bundle
            os.write(writing, f"{word}\t{told}".encode("utf-8", "replace")[:4000])
        finally:
            os._exit(0)
    os.close(writing)
    begin = time.monotonic()
    while time.monotonic() - begin < 2 * LIMITS.seconds:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.002)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        return "stopped", "too long"
    data = b"".join(iter(lambda: os.read(reading, 4096), b"")).decode("utf-8", "replace")
    os.close(reading)
    if not data:
        return "died", f"status {status}"
    word, _, told = data.partition("\t")
    return word, told


def listing(root: Path) -> set[tuple[str, int]]:
    """What lies outside the work folder."""
    found = ((path.relative_to(root), path.lstat().st_size) for path in root.rglob("*"))
    return {(str(path), size) for path, size in found if path.parts[0] != "work"}


def main() -> None:
    """Runs the study and prints its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    ways: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    outside = wrong = 0
    slowest = 0.0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = Path(folder)
        board = make_world(root / "world")
        goods = [
            (write_bundle(root / "good", root / "world", board), KINDS),
            (write_bundle(root / "chips", root / "world", board, "tiny-chips", slug="unet-tiny"), CHIP_KINDS),
        ]
        # Read once here, so that every fork finds the libraries loaded; and so that the digests of good bundles are known.
        known = set()
        for good, _ in goods:
            work = root / "work"
            work.mkdir()
            known.add(judge(good, board, None, None, LIMITS, work).bundle)
            shutil.rmtree(work)
        for number in range(given.bundles):
            rng = random.Random(f"{given.seed}/{number}")
            place = root / "in" / "deep" / "er"
            place.mkdir(parents=True)
            good, kinds = goods[rng.random() < 0.15]
            spoiled, way, anew = spoil(good, place, rng, kinds)
            before = listing(root)
            work = root / "work"
            work.mkdir()
            begin = time.monotonic()
            # Chips are not scored: the scorer is no parser, and the parsers are what is tried here.
            word, told = judge_forked(spoiled, board, root / "world" / "truth" if kinds is KINDS else None, work)
            slowest = max(slowest, time.monotonic() - begin)
            outside += listing(root) != before
            if word in ("accepted", "complete") and told not in known:
                wrong += not anew
            counts[word] += 1
            ways[way] += 1
            if word in ("unforeseen", "died", "stopped"):
                reasons[f"{word}: {told}"] += 1
            shutil.rmtree(root / "in")
            shutil.rmtree(work)
    report(given.bundles, counts, ways, reasons, outside, wrong, slowest, time.monotonic() - started)


def report(
    bundles: int, counts: Counter[str], ways: Counter[str], reasons: Counter[str], outside: int, wrong: int, slowest: float, seconds: float
) -> None:
    """Prints the page."""
    print("# Do spoiled submissions get through?\n")
    print(__doc__.split("\n\n")[1].replace("\n", " "))
    print(f"\n{bundles:,} bundles, made by `studies/fuzz_bundles.py`:\n")
    print("| | bundles |\n|---|---|")
    for way, count in sorted(ways.items()):
        print(f"| spoiled by: {way} | {count:,} |")
    for word in ("refused", "accepted", "complete", "unforeseen", "died", "stopped"):
        print(f"| {word} | {counts[word]:,} |")
    print(f"| wrote outside the work folder | {outside:,} |")
    print(f"| wrong acceptances | {wrong:,} |")
    print(f"\nSlowest: {slowest:.1f} s. In all {seconds:.0f} s.\n")
    print("*Accepted* and *complete* (chips, which are not scored here) are bundles whose change was harmless: it fell into padding of the")
    print("archive, or, with digests written anew, into a text, a cost or a prediction that still keeps every rule.")
    if reasons:
        print("\nWhat was not foreseen, or ended the process (all of it refused):\n")
        for reason, count in reasons.most_common(20):
            print(f"- {count} x `{reason[:200]}`")


if __name__ == "__main__":
    main()
