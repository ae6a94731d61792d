"""Every command of `rs05bench --help` over the small world: with which arguments, what it reads, where it writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import typer

from studies.fault_rig.world import TASK, World, online


@dataclass(frozen=True)
class Command:
    """A command and its arguments.

    Attributes:
        name: As in the help, e.g. `manifest build`.
        arguments: What follows; `OUT/...` is where it writes, `IN/...` a file of the world.
        edits: Files and folders of the world that it changes: they are copied to the place it writes to.
        online: Whether it speaks to the world's Hub.
        repeats: Whether running it once more is cheap enough to be tried.
        status: Exit status where nothing is wrong.
    """

    name: str
    arguments: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()
    online: bool = False
    repeats: bool = True
    status: int = 0

    @property
    def writes(self) -> bool:
        """Whether it writes files."""
        return any("OUT" in part for part in self.arguments)

    @property
    def reads(self) -> bool:
        """Whether it reads files of the world."""
        return bool(self.edits) or any("IN/" in part for part in self.arguments)

    def at(self, world: World, out: Path, inputs: Path | None = None) -> list[str]:
        """The whole argument list, writing to `out` and reading from the world or from another folder."""
        source = str(inputs or world.root)
        filled = (part.replace("OUT", str(out)).replace("IN/", f"{source}/").replace("MIRROR", world.mirror) for part in self.arguments)
        return [*self.name.split(), *filled]

    def environment(self, world: World) -> dict[str, str]:
        """Variables it needs."""
        return online(world) if self.online else {}

    def prepare(self, world: World, out: Path) -> None:
        """Copies what it edits to where it writes."""
        out.mkdir(parents=True, exist_ok=True)
        for name in self.edits:
            source = world.root / name
            copy: Callable[..., object] = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, out / name)


MANIFEST = f"IN/manifests/{TASK}/leave-state-out@v1.parquet"
DATA = ("--data", "IN/")
CELL = ("--split", "leave-state-out", "--budget", "20-units")
BOARD = ("--board", "IN/board")
FROZEN = ("--task", TASK, "--splits", "leave-state-out", "--budgets", "20-units,50-units", "--card-file", "card.yaml")
SWEEP = ("--models", "floor/majority", "--budgets", "20-units", "--seeds", "0", "--no-costs", "--quiet", "--jobs", "1")
RERUN = ("--rerun", "IN/mine", "--truth", "IN/runs", "--by", "B", "--hardware", "H", "--code", "C", "--deterministic")

COMMANDS = (
    Command("card init", ("IN/plots.csv", "--target", "crop", "--yes", "--out", "OUT/card.yaml")),
    Command("card check", ("IN/card.yaml", *DATA)),
    Command("card show", ("IN/card.yaml", *DATA, "--map", "--out", "OUT/map.html")),
    Command("card sensitivity", ("IN/card.yaml", *DATA, "--split-seeds", "0"), repeats=False),
    Command("advise", ("IN/card.yaml", *DATA, "--minutes", "0.05", "--jobs", "1", "--out", "OUT/advice"), repeats=False),
    Command(
        "map",
        (
            "IN/card.yaml",
            *DATA,
            "--model",
            "alphaearth/logistic",
            "--years",
            "2023",
            "--from",
            "IN/tiles",
            "--bbox",
            "-123.0,37.035,-122.99,37.045",
            "--quiet",
            "--out",
            "OUT/map",
        ),
    ),
    Command("demo", ("--out", "OUT/demo", "--quiet", "--jobs", "1"), repeats=False),
    Command("download", ("wildfire-events", "--mirror", "MIRROR", "--retries", "1", "--root", "OUT/events")),
    Command("extract", ("IN/bare.csv", "--from", "IN/tiles", "--unit", "plot", "--out", "OUT/embedding.parquet")),
    Command("layers", ("IN/bare.csv", "--layers", "IN/layers", "--only", "climate", "--out", "OUT/more.csv")),
    Command("build", ("urban-signals", "--root", "IN/counties", "--out", "OUT/built")),
    Command("simulate", ("--size", "tiny", "--tables", "--out", "OUT/simulated")),
    Command("tasks"),
    Command("models"),
    Command("models check", ("raw/logistic", "--card", "IN/card.yaml", *DATA)),
    Command("audit", (MANIFEST, "--map", "OUT/map.html")),
    Command("splits"),
    Command("manifest build", ("IN/card.yaml", *DATA, "--out", "OUT/manifests")),
    Command("manifest show", (MANIFEST,)),
    Command("manifest list"),
    Command("manifest pull", ("hls-burn-scars/leave-state-out@v1",)),
    Command("manifest verify", (MANIFEST,)),
    Command("manifest diff", (MANIFEST, MANIFEST)),
    Command("budgets", ("IN/card.yaml", *DATA, "--out", "OUT/budgets.csv")),
    Command("labels build", ("IN/card.yaml", *DATA, "--out", "OUT/labels")),
    Command("labels verify", ("IN/labels",)),
    Command("score", ("IN/cell/predictions", "--manifest", MANIFEST, "--labels", "IN/labels")),
    Command("rules", ("IN/runs",), status=1),
    Command("sweep", ("IN/card.yaml", *DATA, *SWEEP, "--out", "OUT/runs")),
    Command("plan", ("IN/grid.yaml", "--out", "OUT/plan.json")),
    Command("status", ("IN/runs",)),
    Command("resume", ("OUT/runs", "--jobs", "1", "--quiet"), edits=("runs",)),
    Command("retry-failed", ("OUT/runs", "--jobs", "1", "--quiet"), edits=("runs",)),
    Command("prune", ("OUT/runs", "--yes"), edits=("runs",)),
    Command("import", ("IN/runs", "--out", "OUT/ours")),
    Command("fit-predict", ("IN/card.yaml", *DATA, "--model", "raw/logistic", *CELL, "--out", "OUT/cell")),
    Command("results", ("IN/runs", "--to", "OUT/results.csv")),
    Command("report", ("IN/runs", "--out", "OUT/report.html")),
    Command("errors", ("IN/runs", *DATA, "--out", "OUT/errors")),
    Command("hypotheses", ("IN/runs",)),
    Command(
        "export-terratorch",
        ("IN/card.yaml", *DATA, "--model", "prithvi-tiny/frozen", "--split", "leave-state-out", "--out", "OUT/export"),
        status=2,
    ),
    Command("submit template", (TASK, *BOARD, "--out", "OUT/mine")),
    Command("submit card", ("IN/runs", "--model", "floor/majority", "--out", "OUT/fields.yaml")),
    Command("submit make", ("IN/runs", "--card", "IN/fields.yaml", *BOARD, "--out", "OUT/made")),
    Command("submit check", ("IN/mine", *BOARD)),
    Command("submit pin", ("OUT/mine", "--address", "https://example.org/predictions.parquet"), edits=("mine",)),
    Command("leaderboard verify", ("IN/mine", *BOARD, "--truth", "IN/runs", "--out", "OUT/verdict.json")),
    Command("leaderboard add", ("IN/mine", "--truth", "IN/runs", "--board", "OUT/empty-board"), edits=("empty-board",)),
    Command("leaderboard standing", BOARD),
    Command("leaderboard reproduce", ("majority", *RERUN, "--board", "OUT/board"), edits=("board",)),
    Command("leaderboard sign-off", ("majority", "--by", "A Team", "--record", "here", "--board", "OUT/board"), edits=("board",), status=2),
    Command("leaderboard seal", ("IN/mine", "--round", "OUT/round.yaml", *BOARD), edits=("round.yaml",)),
    Command("leaderboard freeze", ("IN/runs", *FROZEN, "--board", "OUT/empty-board"), edits=("empty-board", "card.yaml")),
    Command("leaderboard truth", (TASK, *DATA, *BOARD, "--out", "OUT/truth")),
    Command("leaderboard build", (*BOARD, "--out", "OUT/site")),
    Command("hub push", ("a/b", "--manifest", MANIFEST, "--stage", "OUT/stage")),
    Command("hub pull", ("a/b", "--out", "OUT/pulled"), online=True),
)


def leaves() -> Iterator[str]:
    """The names of all commands, as the help shows them."""
    from rs05bench.cli import _register, app

    _register()
    yield from _below(typer.main.get_command(app), ())


def _below(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    inner: dict[str, click.Command] = getattr(command, "commands", {})
    if path and (not inner or getattr(command, "invoke_without_command", False)):
        yield " ".join(path)
    for name, one in inner.items():
        yield from _below(one, (*path, name))
