"""Takes tables as people have them through `card init`, `card check`, `advise` and `report`, as a person would, and says what went wrong.

    python tools/tables_as_found.py OUT TABLE.. [--minutes 0.2] [--only init,check]

A refusal that names the table and a remedy is a right answer of `card init`; after a card is written, nothing may refuse it, no command may
end in a traceback, and no question may come back after Enter.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

STEPS = ("init", "check", "advise", "report")
#: What a person would answer where nothing in a table tells: easting and northing of Iowa, the embedding's name.
ANSWERS = {"c20_utm": ["--crs", "15N"]}


@dataclass(frozen=True)
class Step:
    """One command on one table."""

    table: str
    step: str
    code: int
    said: str

    @property
    def fault(self) -> str:
        """What is wrong with it; empty where nothing is."""
        if "Traceback (most recent call last)" in self.said:
            return "traceback"
        if self.code == 124:
            return "did not end (a question that comes back?)"
        if self.step == "init" and self.code == 2:
            return "" if len(self.said.strip().splitlines()) >= 2 else "refused without a remedy"
        return "" if self.code == 0 else f"exit {self.code} after a card was written"


def run(arguments: list[str], folder: Path, seconds: float, answers: str = "") -> tuple[int, str]:
    """One command with Enter pressed at every question."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from rs05bench.cli import main; main()", *arguments],
            cwd=folder,
            input=answers,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=os.environ | {"COLUMNS": "80"},
        )
    except subprocess.TimeoutExpired as late:
        return 124, str(late.stdout or "")
    return done.returncode, done.stdout + done.stderr


def walk(table: Path, out: Path, minutes: float, steps: tuple[str, ...]) -> list[Step]:
    """All steps on one table, in a folder of its own."""
    folder = out / table.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(table, folder / table.name)
    (folder / table.name).chmod(0o644)
    card = f"{table.stem}.yaml"
    extra = ANSWERS.get(table.stem, [])
    commands = {
        "init": ["card", "init", table.name, "-y", *extra],
        "check": ["card", "check", card],
        "advise": ["advise", card, "--minutes", str(minutes), "--out", "runs", "--jobs", "1"],
        "report": ["report", "runs", "--out", "page"],
    }
    done: list[Step] = []
    for step in steps:
        code, said = run(commands[step], folder, 60 * minutes + 240)
        (folder / f"{step}.txt").write_text(said, encoding="utf-8")
        done.append(Step(table.name, step, code, said))
        if code:
            break
    if done[0].code == 0:
        (folder / card).rename(folder / "first.yaml")
        code, said = run(["card", "init", table.name, *extra], folder, 120, answers="\n" * 40)
        done.append(Step(table.name, "init, Enter at every question", code, said))
    return done


def main() -> int:
    """Walks every table; the exit status is 1 where a step has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=0.2)
    parser.add_argument("--only", default=",".join(STEPS))
    given = parser.parse_args()
    bad = 0
    for table in given.tables:
        for step in walk(table, given.out, given.minutes, tuple(given.only.split(","))):
            bad += bool(step.fault)
            last = step.said.strip().splitlines()[-1][:100] if step.said.strip() else ""
            print(f"{'BAD ' if step.fault else 'ok  '} {step.table:28} {step.step:30} {step.fault or last}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
