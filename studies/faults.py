"""Every command that writes, on a disk that is full, on a file system that is read-only, and with no room for temporary files.

A command holds when it ends with exit status 2 and one message that names the machine's refusal, without a traceback; when nothing half
written stands under its final name; and when the same command succeeds once there is room. It also holds where it needs nothing of what is
refused and simply succeeds. The disks are real: a small tmpfs and a read-only bind mount, which takes the rights of root.

    python studies/faults.py [command ...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("full disk", "read-only", "no room for temporary files")
SMALL = 64 << 20
CARD = {
    "kind": "classification",
    "name": "plots",
    "targets": ["crop"],
    "classes": ["corn", "rice", "wheat"],
    "unit": ["plot"],
    "groups": ["state"],
    "coordinates": {"x": "lon", "y": "lat"},
    "files": ["plots.csv"],
    "features": {"alphaearth": ["A0?"], "raw": ["B?"]},
    "splits": ["leave-state-out"],
    "split_options": {"block_size_m": 5000, "buffer_m": 500},
    "budgets": ["5-per-class"],
    "simulated": True,
}


@dataclass(frozen=True)
class Told:
    """How a command ended.

    Attributes:
        status: Exit status.
        error: Standard error.
        left: Files of its own that it left where it should write, but for hidden ones.
    """

    status: int
    error: str
    left: tuple[str, ...]

    @property
    def in_words(self) -> bool:
        """Whether it ended with one message about the machine, and no traceback."""
        return self.status == 2 and "MachineError: " in self.error and "Traceback" not in self.error


def make_world(root: Path) -> Path:
    """A small table with its card, and results over it."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    crop = np.tile(CARD["classes"], 80)
    frame = pd.DataFrame(rng.normal(size=(240, 5)), columns=["A00", "A01", "A02", "B1", "B2"]).round(5)
    frame["A00"] += np.array([CARD["classes"].index(name) for name in crop])
    frame.insert(0, "plot", [f"p{number:03d}" for number in range(240)])
    frame["state"] = np.repeat(["ia", "il", "mn", "wi"], 60)
    frame["crop"] = crop
    frame["lon"] = np.repeat([-93.0, -89.0, -94.0, -90.0], 60) + rng.uniform(0, 0.6, 240)
    frame["lat"] = np.repeat([42.0, 40.0, 46.0, 44.0], 60) + rng.uniform(0, 0.6, 240)
    frame.to_csv(root / "plots.csv", index=False)
    (root / "card.yaml").write_text(yaml.safe_dump(CARD, sort_keys=False))
    done = run([*sweep(root), "--models", "floor/majority,raw/rf", "--out", str(root / "runs")])
    if done.returncode:
        raise SystemExit(done.stderr)
    return root


def sweep(world: Path) -> list[str]:
    return ["sweep", str(world / "card.yaml"), "--data", str(world), "--seeds", "0", "--no-costs", "--quiet", "--jobs", "1"]


def commands(world: Path, out: Path) -> dict[str, list[str]]:
    """Command -> its arguments, writing to a place."""
    card, data, runs = str(world / "card.yaml"), ["--data", str(world)], str(world / "runs")
    cell = ["--model", "floor/majority", "--split", "leave-state-out", "--budget", "5-per-class"]
    return {
        "sweep": [*sweep(world), "--models", "floor/majority", "--out", str(out / "runs")],
        "fit-predict": ["fit-predict", card, *data, *cell, "--out", str(out / "cell")],
        "results --to": ["results", runs, "--to", str(out / "results.csv")],
        "report": ["report", runs, "--out", str(out / "report.html")],
        "errors": ["errors", runs, *data, "--out", str(out / "errors")],
        "import": ["import", runs, "--out", str(out / "ours")],
        "labels build": ["labels", "build", card, *data, "--out", str(out / "labels")],
        "manifest build": ["manifest", "build", card, *data, "--out", str(out / "manifests")],
        "budgets": ["budgets", card, *data, "--out", str(out / "budgets.csv")],
        "card init": ["card", "init", str(world / "plots.csv"), "--target", "crop", "--yes", "--out", str(out / "card.yaml")],
        "simulate": ["simulate", "--size", "tiny", "--out", str(out / "simulated")],
        "leaderboard build": ["leaderboard", "build", "--board", str(ROOT / "leaderboard"), "--out", str(out / "site")],
    }


def run(arguments: Sequence[str], tmpdir: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    if tmpdir is not None:
        environment["TMPDIR"] = str(tmpdir)
    command = [sys.executable, "-m", "rs05bench.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)


def may_mount() -> bool:
    """Whether this user may mount a file system here."""
    try:
        with small_disk(), tempfile.TemporaryDirectory() as folder, read_only(Path(folder)):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def mounted(*options: str, at: Path) -> Iterator[Path]:
    subprocess.run(["mount", *options, str(at)], check=True, capture_output=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True, capture_output=True)


@contextmanager
def small_disk() -> Iterator[Path]:
    """A disk of 64 MiB."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, mounted("-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", at=Path(folder)):
        yield Path(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nobody may write to, root included."""
    with mounted("--bind", str(folder), at=folder):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True, capture_output=True)
        yield


def fill(disk: Path, leave: int = 0) -> Path:
    """Fills a disk but for some bytes; returns the file that does."""
    ballast = disk / ".ballast"
    with ballast.open("wb", buffering=0) as stream:
        room = shutil.disk_usage(disk).free - leave
        while room > 0:
            try:
                room -= stream.write(bytes(min(room, 1 << 16)))
            except OSError:
                break
    return ballast


def files(folder: Path) -> tuple[str, ...]:
    """Files that are not hidden, nor in a hidden folder."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return tuple(sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)))


def try_one(kind: str, name: str, world: Path) -> tuple[Told, subprocess.CompletedProcess[str]]:
    """Runs a command where the machine refuses, and once more where it does not; returns how both ended."""
    with small_disk() as disk:
        out = disk / "out"
        out.mkdir()
        arguments = commands(world, out)[name]
        if kind == "read-only":
            with read_only(out):
                done = run(arguments)
            left = files(out)
        elif kind == "full disk":
            ballast = fill(disk, leave=0)
            done = run(arguments)
            left = files(out)
            ballast.unlink()
        else:
            temporary = disk / "temporary"
            temporary.mkdir()
            with tempfile.TemporaryDirectory(prefix="faults-out-") as elsewhere:
                fill(disk)
                done = run(commands(world, Path(elsewhere))[name], temporary)
                left = files(Path(elsewhere))
                (disk / ".ballast").unlink()
                again = run(commands(world, Path(elsewhere))[name], temporary) if done.returncode else done
            return Told(done.returncode, done.stderr, left), again
        again = run(arguments) if done.returncode else done
        return Told(done.returncode, done.stderr, left), again


def main() -> int:
    if not may_mount():
        print("This study mounts file systems; it needs the rights of root on Linux.", file=sys.stderr)
        return 1
    rows, held, tried = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="faults-world-") as folder:
        world = make_world(Path(folder))
        names = sys.argv[1:] or list(commands(world, world))
        for name in names:
            cells = []
            for kind in KINDS:
                told, again = try_one(kind, name, world)
                good = (told.in_words or told.status == 0) and again.returncode == 0
                tried, held = tried + 1, held + good
                said = "told in one sentence" if told.in_words else "not needed" if told.status == 0 else f"status {told.status}"
                cells.append(said + ("" if again.returncode == 0 else f", and again: status {again.returncode}"))
                print(
                    f"{name} / {kind}: {cells[-1]} {'' if good else (told.error + again.stderr).strip().splitlines()[-4:]}", file=sys.stderr
                )
            rows.append(f"| `{name}` | {' | '.join(cells)} |")
    print("# Full disks and read-only file systems\n")
    print("How every command that writes ends where the machine refuses, and whether the same command succeeds afterwards.\n")
    print(f"Tried: {tried}. Held: {held}.\n")
    print(f"| command | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}")
    print("\n".join(rows))
    return 0 if held == tried else 1


if __name__ == "__main__":
    sys.exit(main())
