"""Every command of `rs05bench --help` where the machine refuses, where it is killed, and where its files have vanished.

| what happens | what must come of it |
|---|---|
| the disk is full, the folder read-only, or somebody else's | exit status 2, one message that names the refusal; nothing half written |
| no room for temporary files, no room for standard output | the same, or the command needs none and succeeds |
| the files it reads have vanished | exit status 2 and one message; no traceback |
| kill -9 at a random moment | every visible file can be read, and the same command carries on |

The disks are real (a small tmpfs, a read-only bind mount), which takes the rights of root on Linux. After a full disk and after a kill the
same command is run once more, and must end as on a healthy machine.

    python studies/faults.py [command ...]
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from studies.fault_rig.commands import COMMANDS, Command
from studies.fault_rig.launcher import Ended, Launcher
from studies.fault_rig.world import World, make_world

SMALL = 96 << 20
NOBODY = 65534


@dataclass(frozen=True)
class Outcome:
    """What came of one trial.

    Attributes:
        words: In words, for the table.
        held: Whether it is as promised.
        told: What the command said, where it did not hold.
    """

    words: str
    held: bool
    told: str = ""


NOTHING = Outcome("–", held=True)


@dataclass(frozen=True)
class Rig:
    """What a trial is made with.

    Attributes:
        world: The files that commands read.
        launcher: Starts them.
    """

    world: World
    launcher: Launcher

    def run(self, command: Command, out: Path, **how: object) -> Ended:
        """Runs a command that writes to `out`."""
        extra = dict(how.pop("environment", {}))  # type: ignore[call-overload]
        return self.launcher.run(command.at(self.world, out), command.environment(self.world) | extra, **how)  # type: ignore[arg-type]


def told(ended: Ended, command: Command, *, machine: bool) -> Outcome:
    """Judges a run that may have been refused."""
    words = [line for line in ended.error.splitlines() if line.strip() and not line.startswith("Warning: ")]
    if "Traceback" in ended.error or ended.status < 0:
        return Outcome("a traceback" if "Traceback" in ended.error else f"ended by signal {-ended.status}", held=False, told=ended.error)
    # `download` looks for room before it asks for a byte.
    named = any(line.startswith("MachineError: ") or "Make room" in line for line in words)
    if ended.status == 2 and (named or not machine) and any("Error: " in line for line in words):
        return Outcome("one message", held=True)
    if ended.status == command.status and not named:
        return Outcome("not needed", held=True)
    return Outcome(f"status {ended.status}", held=False, told=ended.error or ended.output)


def again(rig: Rig, command: Command, out: Path, first: Outcome, *, killed: bool = False) -> Outcome:
    """The same command once more, on a healthy machine."""
    if not command.repeats or not first.held:
        return first
    done = rig.run(command, out)
    if done.status == command.status and "Traceback" not in done.error:
        return first
    if "already" in done.error and (killed or first.words == "not needed"):
        return first  # it had been done; nothing is edited in place
    return Outcome(f"{first.words}; again: status {done.status}", held=False, told=done.error)


def files(folder: Path) -> tuple[Path, ...]:
    """Files that are not hidden, nor in a hidden folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return tuple(sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)))


def broken(folder: Path) -> list[str]:
    """Visible files that are cut short: what their own format's reader refuses."""
    import pandas as pd
    import rasterio
    import yaml

    readers: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".yaml": lambda path: yaml.safe_load(path.read_text()),
        ".parquet": pd.read_parquet,
        ".tif": lambda path: rasterio.open(path).read(),
    }
    found = []
    for path in files(folder):
        try:
            readers.get(path.suffix, lambda path: path.read_bytes())(path)
        except Exception as error:
            found.append(f"{path.relative_to(folder)}: {error}")
    return found


# The trials -----------------------------------------------------------------------------------------------------------------


def full_disk(rig: Rig, command: Command) -> Outcome:
    """Not a byte is left where the command writes."""
    if not command.writes:
        return NOTHING
    with small_disk() as disk:
        out = disk / "out"
        command.prepare(rig.world, out)
        ballast = fill(disk)
        found = told(rig.run(command, out), command, machine=True)
        if found.held and (cut := broken(out)):
            return Outcome("half a file", held=False, told=cut[0])
        ballast.unlink()
        return again(rig, command, out, found)


def read_only(rig: Rig, command: Command) -> Outcome:
    """Nobody may write there, root included."""
    if not command.writes:
        return NOTHING
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        command.prepare(rig.world, Path(folder))
        before = files(Path(folder))
        with mounted("--bind", folder, at=Path(folder)):
            subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True, capture_output=True)
            found = told(rig.run(command, Path(folder)), command, machine=True)
        return found if files(Path(folder)) == before else Outcome("something was written", held=False)


def no_rights(rig: Rig, command: Command) -> Outcome:
    """The folder is somebody else's, and the command has no capability of root."""
    if not command.writes:
        return NOTHING
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        command.prepare(rig.world, Path(folder))
        before = files(Path(folder))
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.chown(path, NOBODY, NOBODY)
            path.chmod(0o755 if path.is_dir() else 0o644)
        found = told(rig.run(command, Path(folder), powerless=True), command, machine=True)
        return found if files(Path(folder)) == before else Outcome("something was written", held=False)


def no_temporary(rig: Rig, command: Command) -> Outcome:
    """TMPDIR is on a full disk."""
    with small_disk() as disk, tempfile.TemporaryDirectory(prefix="faults-") as folder:
        temporary = disk / "temporary"
        temporary.mkdir()
        fill(disk)
        command.prepare(rig.world, Path(folder))
        return told(rig.run(command, Path(folder), environment={"TMPDIR": str(temporary)}), command, machine=True)


def no_output(rig: Rig, command: Command) -> Outcome:
    """Standard output is full."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        command.prepare(rig.world, Path(folder))
        return told(rig.run(command, Path(folder), output="/dev/full"), command, machine=True)


def vanished(rig: Rig, command: Command) -> Outcome:
    """What it should read is not there."""
    if not command.reads:
        return NOTHING
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        gone = Path(folder) / "gone"
        arguments = command.at(rig.world, Path(folder) / "out", gone)
        found = told(rig.launcher.run(arguments, command.environment(rig.world)), command, machine=False)
        if found.words == "not needed" and command.status == 0:
            return Outcome("succeeded without its files", held=False)
        return found


def killed(rig: Rig, command: Command) -> Outcome:
    """Kill -9 of the command and all that it started, at a moment drawn by the command's name."""
    if not command.writes:
        return NOTHING
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        whole, out = Path(folder) / "whole", Path(folder) / "out"
        if command.repeats:
            command.prepare(rig.world, whole)
            usual = rig.run(command, whole).seconds
        else:
            usual = 3.0
        command.prepare(rig.world, out)
        ended = rig.run(command, out, kill_after=random.Random(zlib.crc32(command.name.encode())).uniform(0.2, 1.0) * usual)
        if cut := broken(out):
            return Outcome("half a file", held=False, told=cut[0])
        first = Outcome("killed" if ended.status < 0 else "had ended", held=True)
        return again(rig, command, out, first, killed=True)


TRIALS: dict[str, Callable[[Rig, Command], Outcome]] = {
    "full disk": full_disk,
    "read-only": read_only,
    "no rights": no_rights,
    "no room for temporary files": no_temporary,
    "full standard output": no_output,
    "files vanished": vanished,
    "kill -9": killed,
}


# Disks ----------------------------------------------------------------------------------------------------------------------


def may_mount() -> bool:
    """Whether this user may mount a file system here."""
    try:
        with small_disk():
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
    """A disk of 96 MiB."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, mounted("-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", at=Path(folder)):
        yield Path(folder)


def fill(disk: Path) -> Path:
    """Fills a disk; returns the file that does."""
    ballast = disk / ".ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(1 << 16)):
                pass
        except OSError:
            pass
    return ballast


@contextmanager
def make_rig() -> Iterator[Rig]:
    """A world and a launcher."""
    with (
        tempfile.TemporaryDirectory(prefix="faults-world-") as folder,
        Launcher() as launcher,
        make_world(Path(folder) / "world", launcher) as world,
    ):
        yield Rig(world, launcher)


def main() -> int:
    """Tries everything and prints the page."""
    if not may_mount():
        print("This study mounts file systems; it needs the rights of root on Linux.", file=sys.stderr)
        return 1
    chosen = [command for command in COMMANDS if not sys.argv[1:] or command.name in sys.argv[1:]]
    rows, tried, held = [], dict.fromkeys(TRIALS, 0), dict.fromkeys(TRIALS, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # what was tried until then is printed
    with contextlib.suppress(KeyboardInterrupt, SystemExit), make_rig() as rig:
        for command in chosen:
            cells = []
            for kind, trial in TRIALS.items():
                outcome = trial(rig, command)
                cells.append(outcome.words if outcome.held else f"**{outcome.words}**")
                if outcome is not NOTHING:
                    tried[kind] += 1
                    held[kind] += outcome.held
                print(f"{command.name} / {kind}: {outcome.words}", *outcome.told.strip().splitlines()[-4:], sep="\n    ", file=sys.stderr)
            rows.append(f"| `{command.name}` | {' | '.join(cells)} |")
    print("# Faults of the machine, over every command\n")
    print((__doc__ or "").split("\n\n", 1)[1].rsplit("\n\n", 1)[0])
    print(f"\nCommands: {len(rows)} of {len(COMMANDS)}. Tried: {sum(tried.values())}. Held: {sum(held.values())}.\n")
    print(f"| | {' | '.join(TRIALS)} |\n|---|{'---|' * len(TRIALS)}")
    print(f"| held of tried | {' | '.join(f'{held[kind]} of {tried[kind]}' for kind in TRIALS)} |")
    print("\n".join(rows))
    print("\nA dash: the command writes nothing there, or reads nothing. *Not needed*: it succeeds all the same.")
    return 0 if held == tried else 1


if __name__ == "__main__":
    sys.exit(main())
