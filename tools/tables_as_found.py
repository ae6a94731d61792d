"""Takes tables as people have them through `card init`, `card check`, `advise` and `report`, as a person would, and says what went wrong.

    python tools/tables_as_found.py OUT TABLE|FOLDER.. [--minutes 0.2] [--only init,check]

A refusal that names the table and a remedy is a right answer of `card init`; after a card is written, nothing may refuse it, no command may
end in a traceback, and no question may come back after Enter.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.testing import CliRunner

from rs05bench.cli import card, results, runs
from rs05bench.errors import BenchError

STEPS = ("init", "check", "advise", "sweep", "report")
#: What a person would answer where nothing in a table tells: the zone of Iowa, and which of many columns is predicted.
ANSWERS = {
    "c20_utm": ["--crs", "15N"],
    "chip_tracker": ["--target", "bad_pct_max"],
    "crime_data": ["--target", "crime_rate_per_100000"],
    "data_train_hls_37sites_v0_1": ["--target", "GPP"],
    "events": ["--target", "biome_group"],
    "indicators": ["--target", "MedHHInc", "--groups", "State"],
    "transit_scores": ["--target", "transit_scores - population weighted averages aggregated from town/city level to county"],
    "urban_signals": ["--target", "violent_crime_per_100k"],
}


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
        if "Enter" in self.step and "Aborted" in self.said:
            return "asks for ever"
        if self.code == 2 and (self.step.startswith("init") or "rs05bench extract" in self.said):
            return "" if len(self.said.strip().splitlines()) >= 2 else "refused without a remedy"
        return "" if self.code == 0 else f"exit {self.code} after a card was written"


def run(arguments: list[str], folder: Path, answers: str = "") -> tuple[int, str]:
    """One command in this process, with what is typed; a question that outlasts it ends the command with an error."""
    app = typer.Typer()
    for family in (card, runs, results):
        family.register(app)
    with contextlib.chdir(folder):
        done = CliRunner(env={"COLUMNS": "80"}).invoke(app, arguments, input=answers)
    error = done.exception
    if error is None or isinstance(error, SystemExit):
        return done.exit_code, done.output
    if isinstance(error, BenchError):
        return 2, f"{done.output}{type(error).__name__}: {error}"
    return 1, done.output + "".join(traceback.format_exception(error))


def walk(table: Path, out: Path, minutes: float, steps: tuple[str, ...], extra: Sequence[str] = ()) -> list[Step]:
    """All steps on one table, in a folder of its own."""
    folder = out / table.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(table, folder / table.name)
    (folder / table.name).chmod(0o644)
    made = f"{table.stem}.yaml"
    extra = extra or ANSWERS.get(table.stem, [])
    commands = {
        "init": ["card", "init", table.name, "-y", *extra],
        "check": ["card", "check", made],
        "advise": ["advise", made, "--minutes", str(minutes), "--out", "runs", "--jobs", "1"],
        "sweep": [
            "sweep",
            made,
            "--models",
            "floor/nearest,*/logistic,*/ridge",
            "--seeds",
            "0",
            "--jobs",
            "1",
            "--no-costs",
            "--out",
            "runs",
        ],
        "report": ["report", "runs", "--out", "page"],
    }
    done: list[Step] = []
    for step in steps:
        code, said = run(commands[step], folder)
        (folder / f"{step}.txt").write_text(said, encoding="utf-8")
        done.append(Step(table.name, step, code, said))
        if code:
            break
    if done[0].code == 0:
        (folder / made).rename(folder / "first.yaml")
        code, said = run(["card", "init", table.name, *extra], folder, answers="\n" * 40)
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
    tables = [
        one for path in given.tables for one in (sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path])
    ]
    for table in tables:
        for step in walk(table, given.out, given.minutes, tuple(given.only.split(","))):
            bad += bool(step.fault)
            last = step.said.strip().splitlines()[-1][:100] if step.said.strip() else ""
            print(f"{'BAD ' if step.fault else 'ok  '} {step.table:28} {step.step:30} {step.fault or last}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
