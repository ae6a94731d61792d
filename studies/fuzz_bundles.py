"""Fuzzing the verification of submissions: bundles spoiled at random, each read in a process of its own with bounded memory and time.

A bundle is a good one (a table, chips of two classes, chips of three) after one to four mutations (bytes flipped, cut, repeated, inserted
or swapped), in files of the folder or in the finished .zip or .tar.gz; or it is one of the hostile kinds of the test suite. In half of the
mutated ones the digests are written anew, so that the parsers behind them are reached. Every bundle is judged in a fork that has the
libraries loaded, under the limits and with the way back of the real child process; every hundredth, and every one that was not simply
refused, goes through the real child process too, and both must say the same.

An acceptance is judged without a person (`tests/protocol/submission/sameness.py`, by other readers and scikit-learn's scores): the bundle
must hold what the good one held, or differ in nothing but texts and claims that only its authors can know, or, with digests written anew,
hold other lawful predictions whose scores are those the verdict gives. Anything else is a wrong acceptance.

`python studies/fuzz_bundles.py --bundles 10000` prints the page.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pandas as pd  # noqa: E402

from rs05bench.protocol.submission import trail  # noqa: E402
from rs05bench.protocol.submission.board import Board  # noqa: E402
from rs05bench.protocol.submission.child import BROKE_DOWN, answer_of, confine, judge_apart  # noqa: E402
from rs05bench.protocol.submission.limits import MIB, Limits  # noqa: E402
from rs05bench.protocol.submission.verdict import Verdict  # noqa: E402
from rs05bench.protocol.submission.verify import judge  # noqa: E402
from tests.protocol.submission.sameness import PLACE, PREDICTIONS, SAME, TEXT, WRONG, files_of, sameness  # noqa: E402
from tests.protocol.submission.spoilers import CHIP_KINDS, KINDS, Spoiler, tarred, zipped  # noqa: E402
from tests.protocol.submission.world import make_world, write_bundle, write_sums  # noqa: E402

LIMITS = Limits(seconds=30, memory_bytes=1024 * MIB, file_bytes=32 * MIB, unpacked_bytes=128 * MIB)
REAL_EVERY = 100
SHARES = (0.8, 0.9, 1.0)


@dataclass
class Good:
    """A good bundle and a place where it is spoiled and mended again, bundle after bundle."""

    files: dict[str, bytes]
    kinds: dict[str, tuple[Spoiler, str]]
    board: Board
    truth: Path | None
    labels: pd.Series | None
    place: Path

    def lay_out(self) -> Path:
        """The good bundle, anew."""
        shutil.rmtree(self.place, ignore_errors=True)
        for name, data in self.files.items():
            path = self.place / "bundle" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self.place / "bundle"


@dataclass
class Counts:
    """What was found."""

    ways: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    broke: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    real: int = 0
    differed: list[str] = field(default_factory=list)
    slowest: float = 0.0


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


def spoil(good: Good, rng: random.Random) -> tuple[Path, str, bool, Callable[[], object]]:
    """The spoiled bundle, in which way, whether its digests were written anew, and what mends it again."""
    bundle = good.place / "bundle"
    way = rng.choice(("file", "file", "file", "archive", "archive", "kind"))
    if way == "kind":
        return good.kinds[rng.choice(list(good.kinds))][0](bundle), "kind", False, good.lay_out
    touched = [rng.choice(list(good.files)) for _ in range(rng.randint(1, 4) if way == "file" else rng.choice((0, 0, 1)))]
    for name in touched:
        path = bundle / name
        path.write_bytes(mutate(path.read_bytes(), rng))
    anew = rng.random() < 0.5
    if anew:
        write_sums(bundle)
    packed = bundle
    if way == "archive":
        packed = rng.choice((zipped, tarred))(bundle)
        data = packed.read_bytes()
        for _ in range(rng.randint(1, 3)):
            data = mutate(data, rng)
        packed.write_bytes(data)

    def mend() -> None:
        for name in {*touched, "SHA256SUMS"}:
            (bundle / name).write_bytes(good.files[name])
        if packed != bundle:
            packed.unlink()

    return packed, way, anew, mend


def judge_forked(bundle: Path, good: Good, work: Path) -> Verdict | None:
    """Judges in a fork as the real child does, without starting an interpreter; None where it had to be stopped."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            for number, name in ((1, "log.txt"), (2, "log.txt")):
                os.dup2(os.open(work / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
            trail.begin(work / "reading.txt")
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            confine(LIMITS)
            verdict = judge(bundle, good.board, good.truth, None, LIMITS, work)
            (work / "verdict.json").write_bytes(verdict.model_dump_json(exclude_none=True).encode())
        finally:
            os._exit(0 if (work / "verdict.json").exists() else 1)
    os.close(writing)
    # The pipe is closed by whatever ends the child.
    ended, _, _ = select.select([reading], [], [], 2 * LIMITS.seconds)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reading)
    return answer_of(os.waitstatus_to_exitcode(status), work, LIMITS) if ended else None


def refused_with_masks(spoiled: Path, good: Good, root: Path) -> bool:
    """Whether a bundle of chips is refused for where its maps lie as soon as there are masks to compare them with."""
    work = root / "work"
    work.mkdir()
    verdict = judge_forked(spoiled, replace(good, truth=root / "world" / "truth"), work)
    shutil.rmtree(work)
    return verdict is not None and any("do not lie where their masks do" in fault for fault in verdict.faults)


def outside(root: Path) -> dict[str, tuple[int, int]]:
    """What lies outside the work folder."""
    found = {}
    for folder, folders, names in os.walk(root):
        if folder == str(root):
            folders.remove("work")
        for name in names + folders:
            info = os.lstat(f"{folder}/{name}")
            found[f"{folder}/{name}"] = (info.st_size, info.st_mtime_ns)
    return found


def try_one(number: int, seed: int, goods: list[Good], root: Path, counts: Counts) -> None:
    """Spoils, judges and counts one bundle."""
    rng = random.Random(f"{seed}/{number}")
    share = rng.random()
    good = next(good for good, most in zip(goods, SHARES, strict=True) if share < most)
    spoiled, way, anew, mend = spoil(good, rng)
    work = root / "work"
    work.mkdir()
    before = outside(root)
    begin = time.monotonic()
    verdict = judge_forked(spoiled, good, work)
    counts.slowest = max(counts.slowest, time.monotonic() - begin)
    counts.outside += outside(root) != before
    shutil.rmtree(work)
    counts.ways[way] += 1
    word = "stopped" if verdict is None else "unforeseen" if "unexpected" in verdict.notes else verdict.outcome
    told = verdict.faults[-1] if verdict is not None and verdict.faults else ""
    if any(BROKE_DOWN in fault for fault in (verdict.faults if verdict else ())):
        word = "broke down"
        counts.broke[re.sub(r"cells/\d+", "cells/<n>", told)[:200]] += 1
    counts.words[word] += 1
    if word in ("unforeseen", "stopped"):
        counts.reasons[f"{number}: {word}: {told}"[:300]] += 1
        print(f"{number}: {word}: {told}", file=sys.stderr, flush=True)
    if verdict is not None and verdict.ok:
        same, why = sameness(spoiled, good.files, verdict, good.labels, anew=anew)
        if same == PLACE and not refused_with_masks(spoiled, good, root):
            same, why = WRONG, f"{why}, and it was not refused with masks"
        counts.accepted[same] += 1
        print(f"{number}: {verdict.outcome}: {same} {why}", file=sys.stderr, flush=True)
        if same == WRONG:
            counts.reasons[f"{number}: {why}"[:300]] += 1
    if number % REAL_EVERY == 0 or word != "refused":
        work.mkdir()
        again = judge_apart(spoiled, good.board, good.truth, None, LIMITS, work)
        shutil.rmtree(work)
        counts.real += 1
        # How a library words its end may differ between two processes; that it ended, and on which file, may not.
        if verdict is None or (again.outcome, [_head(fault) for fault in again.faults]) != (
            verdict.outcome, [_head(fault) for fault in verdict.faults]
        ):  # fmt: skip
            counts.differed.append(f"{number}: {told[:120]} / {again.faults[-1:]}"[:300])
    mend()


def _head(fault: str) -> str:
    return fault.partition(" (")[0] if BROKE_DOWN in fault else fault


def main() -> None:
    """Runs the study and prints its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="Number of the first bundle; each is made from the seed and its number alone.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    # The parent's library threads idle while it forks; a child that hung all the same would be stopped, and counted.
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
    counts = Counts()
    started, used = time.monotonic(), _cpu()
    # In memory where the system has such a folder: some million small files are written and removed.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as folder:
        root = Path(folder)
        goods = make_goods(root)
        gc.collect()
        gc.freeze()
        # Told to stop, it finishes the bundle at hand and prints the page of those it came to.
        stopped: list[int] = []
        for told in (signal.SIGTERM, signal.SIGINT):
            signal.signal(told, lambda which, _: stopped.append(which))
        for number in range(given.first, given.first + given.bundles):
            if stopped:
                break
            try_one(number, given.seed, goods, root, counts)
            if (number + 1) % 500 == 0:
                print(f"{number + 1} {dict(counts.words)} {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    report(sum(counts.words.values()), counts, time.monotonic() - started, _cpu() - used)


def make_goods(root: Path) -> list[Good]:
    """The good bundles; each is read once here, so that every fork finds the libraries loaded."""
    board = make_world(root / "world")
    truth = root / "world" / "truth"
    labels = pd.read_parquet(truth / "labels" / "labels.parquet").set_index("unit_id")["cover"]
    # Chips are not scored: their scorer is no parser, and the parsers are what is tried here. So one seed is enough.
    single = board.model_copy(update={"least_seeds": 1})
    goods = [
        Good(files_of(write_bundle(root / "made", root / "world", board)), KINDS, board, truth, labels, root / "in" / "deep" / "table")
    ]
    for number, task in enumerate(("tiny-chips", "cover-simulated")):
        made = files_of(write_bundle(root / f"made{number}", root / "world", board, task, seeds=1, slug=f"unet-{number}"))
        goods.append(Good(made, CHIP_KINDS, single, None, None, root / "in" / "deep" / task))
    for good in goods:
        work = root / "work"
        work.mkdir()
        verdict = judge(good.lay_out(), good.board, good.truth, None, LIMITS, work)
        assert verdict.ok, verdict.faults
        assert sameness(good.place / "bundle", good.files, verdict, good.labels, anew=False)[0] == SAME
        shutil.rmtree(work)
    return goods


def _cpu() -> float:
    times = os.times()
    return sum(times[:4])


def report(bundles: int, counts: Counts, seconds: float, used: float) -> None:
    """Prints the page."""
    accepted = sum(counts.accepted.values())
    print("# Do spoiled submissions get through?\n")
    print("\n\n".join(part.replace("\n", " ") for part in str(__doc__).split("\n\n")[1:3]))
    print(f"\n{bundles:,} bundles, made by `studies/fuzz_bundles.py`:\n")
    print("| | bundles |\n|---|---|")
    for way, count in sorted(counts.ways.items()):
        print(f"| spoiled by: {way} | {count:,} |")
    print(f"| refused by a check | {counts.words['refused']:,} |")
    print(f"| refused because a library broke down on a file, and ended the child process | {counts.words['broke down']:,} |")
    print(f"| accepted, or complete (chips, not scored here) | {accepted:,} |")
    for word in (SAME, TEXT, PREDICTIONS, PLACE):
        print(f"| of these: {word} | {counts.accepted[word]:,} |")
    print(f"| **wrong acceptances** | **{counts.accepted[WRONG]:,}** |")
    print(f"| verdicts from an exception nobody foresaw | {counts.words['unforeseen']:,} |")
    print(f"| processes that had to be stopped | {counts.words['stopped']:,} |")
    print(f"| wrote outside the work folder | {counts.outside:,} |")
    print(f"| also judged by the real child process | {counts.real:,} |")
    print(f"| of these: another verdict | {len(counts.differed):,} |")
    clock = f"{seconds / 60:.1f} minutes, {used / 60:.1f} minutes of them processor time of one core"
    print(f"\nSlowest: {counts.slowest:.1f} s. In all {clock}.")
    if counts.broke:
        print("\nWhere a library broke down (a refusal in these words; nothing outside the child is touched):\n")
        for reason, count in counts.broke.most_common(20):
            print(f"- {count} x `{reason}`")
    for head, reasons in (("What was not foreseen, or is wrong", list(counts.reasons)), ("Where both processes differ", counts.differed)):
        if reasons:
            print(f"\n{head}:\n")
            for reason in reasons[:20]:
                print(f"- `{reason}`")


if __name__ == "__main__":
    main()
