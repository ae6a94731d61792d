"""The embedded benchmark, end to end: every simulated task of tables under the whole protocol, on a machine with no network.

Everything in it is simulated. It shows what the package does and what its report looks like; it says nothing about the Earth.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rs05bench.embeddings.products import DEFAULT_FAMILY
from rs05bench.experiment.demo_chips import deep_part
from rs05bench.experiment.gridfile import GridChoice, GridFile
from rs05bench.experiment.sweep import Progress, SweepSummary, sweep
from rs05bench.experiment.workers import Outcome
from rs05bench.protocol.result import Cell

SEEDS = (0, 1, 2, 3, 4)
WORLD_SEED = 0


@dataclass(frozen=True, slots=True)
class DemoTask:
    """What the demo runs on one task.

    Attributes:
        name: Simulated task.
        split: The split that holds groups out.
        budgets: Label budgets, smallest first; none is drawn by looking at labels it does not count.
        models: Model names.
        targets: Targets; empty means the card's.
        size: Size of the simulated world.
    """

    name: str
    split: str
    budgets: tuple[str, ...]
    models: tuple[str, ...]
    targets: tuple[str, ...] = ()
    size: str = "small"


CLASSIFIERS = ("floor/majority", "floor/nearest", "raw/logistic", f"{DEFAULT_FAMILY}/logistic", "hybrid/logistic")
REGRESSORS = ("floor/mean", "floor/nearest", "raw/ridge", f"{DEFAULT_FAMILY}/ridge", "hybrid/ridge")

TASKS: tuple[DemoTask, ...] = (
    DemoTask("burn-scar", "leave-ecoregion-out", ("1pct", "5pct", "10pct"), CLASSIFIERS),
    DemoTask("crop", "leave-state-out", ("1pct", "5pct", "10pct"), CLASSIFIERS),
    DemoTask("urban", "leave-city-out", ("50-units", "100-units", "200-units"), REGRESSORS, ("walk_pct",)),
)

DEEP: tuple[Callable[..., list[SweepSummary]], ...] = (deep_part,)
"""Parts with networks on chips, which need torch and longer than the rest."""


@dataclass
class DemoSummary:
    """What became of the demo.

    Attributes:
        store: Folder of results.
        sweeps: Summaries, one a grid.
    """

    store: Path
    sweeps: list[SweepSummary] = field(default_factory=list)

    @property
    def cells(self) -> int:
        """Cells of all tasks."""
        return sum(summary.cells for summary in self.sweeps)

    @property
    def reused(self) -> int:
        """Cells that had a result already."""
        return sum(summary.reused for summary in self.sweeps)

    @property
    def failed(self) -> list[Outcome]:
        """Cells that failed."""
        return [outcome for summary in self.sweeps for outcome in summary.failed]

    @property
    def stopped(self) -> bool:
        """Whether it was interrupted."""
        return any(summary.stopped for summary in self.sweeps)


def run_demo(
    out: str | Path,
    *,
    tasks: Iterable[DemoTask] = TASKS,
    deep: bool = False,
    jobs: int | None = None,
    on_start: Callable[[list[Cell], int], None] | None = None,
    on_progress: Progress | None = None,
) -> DemoSummary:
    """Simulates the tasks and runs every cell of the demo that has no result yet.

    Args:
        out: The demo's folder: data under `data/`, results under `runs/`.
        tasks: What to run.
        deep: Whether to run the networks on chips too.
        jobs: Worker processes; default all cores.
        on_start: Called for each task with its cells and how many already exist.
        on_progress: Called with outcomes as they come.

    Returns:
        What was run. Costs are measured alone for the largest budget of the split that holds groups out.

    Raises:
        DataError: The folder holds results of another version of the demo's data.
    """
    root = Path(out)
    summary = DemoSummary(root / "runs")
    for task in tasks:
        card = _simulated(root / "data", task)
        choice = GridChoice(
            models=list(task.models),
            splits=[task.split],
            budgets=list(task.budgets),
            seeds=list(SEEDS),
            targets=list(task.targets) or None,
        )
        grid = GridFile.over(card, card.parent, choice, costs=False)
        done = sweep(grid, summary.store, jobs=jobs or os.cpu_count() or 1, on_start=on_start, on_progress=on_progress)
        summary.sweeps.append(done)
        if done.stopped:
            return summary
        # Again the cells of one budget: all are there, so this only measures their costs, one process at a time with nothing beside it.
        one = choice.model_copy(update={"budgets": [task.budgets[-1]], "seeds": [SEEDS[0]]})
        sweep(GridFile.over(card, card.parent, one), summary.store, jobs=1)
    if deep:
        for part in DEEP:
            summary.sweeps += part(root, jobs=jobs or os.cpu_count() or 1, on_start=on_start, on_progress=on_progress)
    return summary


def _simulated(root: Path, task: DemoTask) -> Path:
    """The task's card, its data written where they are missing; the same seed gives the same bytes."""
    card = root / task.name / "card.yaml"
    if not card.is_file():
        from rs05bench.datasets.simulated import write_tables

        write_tables(root, tasks=[task.name], size=task.size, seed=WORLD_SEED)
    return card
