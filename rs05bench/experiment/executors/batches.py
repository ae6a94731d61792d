"""What executors run: batches of cells with their needs.

An executor takes batches of cells and tells what became of each. It never writes a result: workers do, into the store, whole and renamed
last. So an executor may run a cell twice, lose one, or be killed itself, and the store stays right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rs05bench.experiment.workers import Job, Outcome
from rs05bench.protocol.result import Cell

Tell = Callable[[Sequence[Outcome]], None]

MOST_CRASHES = 3
"""A cell whose worker died this often while it ran alone is recorded as failed."""


@dataclass(frozen=True)
class Needs:
    """What a cell asks for, and what it may take at most.

    Attributes:
        cpus: Cores.
        gpus: Accelerators; more than the machine has are not waited for.
        memory_mb: Resident memory of the process that runs it, MiB: it starts when so much is free, and is stopped when it takes more.
        time_s: Longest wall time, seconds.
    """

    cpus: int = 1
    gpus: int = 0
    memory_mb: float | None = None
    time_s: float | None = None


@dataclass
class Batch:
    """Cells that share data and needs, so that one worker runs them one after another.

    Attributes:
        job: Card, data and store.
        cells: (digest, cell), in order.
        needs: What each of them needs.
        fold: What they share; batches of one fold prefer the worker that ran the last one.
    """

    job: Job
    cells: list[tuple[str, Cell]]
    needs: Needs = field(default_factory=Needs)
    fold: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """What a worker keeps open for it."""
        return (self.job, *self.fold)

    def alone(self) -> list[Batch]:
        """A batch for each of its cells."""
        return [Batch(self.job, [cell], self.needs, self.fold) for cell in self.cells]


class Executor(Protocol):
    """Runs batches until all are done."""

    def run(self, batches: Sequence[Batch], tell: Tell) -> None:
        """Runs every batch and tells what becomes of each cell, once.

        Raises:
            KeyboardInterrupt: It was stopped; what was running is gone, what was stored stays.
        """
