"""What runs inside a worker process: opens a task once, then runs cells as they come."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from rs05bench.errors import STOPPING, BenchError, MachineError, NotApplicable, machine_error, refusal
from rs05bench.experiment.batched_probes import FittedProbe, solve_together
from rs05bench.experiment.cell import PREDICTED_ROLES, Bench, features_folder, run_cell
from rs05bench.experiment.memory import give_back_memory
from rs05bench.experiment.metering import Meter, device_name
from rs05bench.experiment.provenance import hardware_name
from rs05bench.experiment.store import ResultStore
from rs05bench.models.logs import logging_to
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.map_predictions import MOST_VALIDATION_CHIPS
from rs05bench.protocol.predictions import TablePredictions
from rs05bench.protocol.result import Cell, Cost, CountsOperations, Model, WarmsUp
from rs05bench.protocol.splits import Split
from rs05bench.protocol.taskdata import TaskView


@dataclass(frozen=True)
class Job:
    """What a worker must know to run cells: which card, which data, which store.

    Attributes:
        card: Path of the task card.
        data: Data directory.
        store: Folder of results; its manifests are used.
        splits: Splits in use.
        keep_predictions: Whether predictions are stored beside results.
        command: The command that asked for it, for the results' provenance.
        loggers: Lightning loggers of deep cells (`rs05bench.models.logs`); they write to `logs/<digest>/` in the store.
    """

    card: str
    data: str
    store: str
    splits: tuple[str, ...]
    keep_predictions: bool = True
    command: str = ""
    loggers: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str, str]:
        """Card, data and store: jobs that agree in these share an open task."""
        return self.card, self.data, self.store


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        digest: The cell's.
        model: Its model.
        ok: Whether it has a result, or needs none.
        seconds: How long it took.
        error: Why it failed.
        skipped: Why the model has nothing to answer there; such a cell is `ok` and has no result.
    """

    digest: str
    model: str
    ok: bool
    seconds: float
    error: str = ""
    skipped: str = ""


@dataclass
class OpenTask(Bench):
    """A task as a worker holds it: what a model may see is made once for all models of a fold, budget and seed."""

    _views: dict[tuple[str, str, str, str, int], TaskView] = field(default_factory=dict, repr=False)

    def data(self, cell: Cell) -> TaskView:
        """What the cell's model may see."""
        key = (cell.target, cell.split, cell.fold, cell.budget, cell.seed)
        if (kept := self._views.get(key)) is not None:
            return kept
        view = super().data(cell)
        if view.reusable:
            if len(self._views) >= MOST_VIEWS:
                self._views.clear()
            self._views[key] = view
        return view


MOST_VIEWS = 128
"""Views a worker keeps; they hold rows and labels, no features."""


def open_bench(job: Job, held: OpenTask | None = None) -> OpenTask:
    """The task of a job under the manifests of its store.

    Args:
        job: Card, data and store.
        held: That task, where it is open already; manifests of further splits are added to it.
    """
    from rs05bench.datamodules.open_data import open_source

    task = held or OpenTask(open_source(TaskCard.load(job.card), job.data), {}, features_folder(job.store))
    store = ResultStore(job.store)
    for base in dict.fromkeys(Split(split).base for split in job.splits):
        if base not in task.manifests:
            task.manifests[base] = store.manifest(task.card.name, base)
    return task


def run_cells(
    job: Job,
    cells: Sequence[Cell],
    *,
    task: OpenTask | None = None,
    started: Callable[[Sequence[str]], None] | None = None,
    done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Runs cells one after another on one thread and stores what comes out; an error of one leaves the others alone.

    Linear probes among them are solved together (`rs05bench.experiment.batched_probes`), with the same results.

    Args:
        job: Card, data, store.
        cells: Cells of the job.
        task: The task, where it is open already.
        started: Told the digests of what is begun: one cell, or the probes that are solved together.
        done: Told each outcome as it comes.
    """
    from threadpoolctl import threadpool_limits

    outcomes: list[Outcome] = []
    with threadpool_limits(1):
        task, store = task or open_bench(job), ResultStore(job.store)
        digests = [task.digest(cell) for cell in cells]
        todo = [(digest, cell) for digest, cell in zip(digests, cells, strict=True) if digest not in store]
        fitted = solve_together(task, todo, started)
        for digest, cell in zip(digests, cells, strict=True):
            if started:
                started([digest])
            with logging_to(job.loggers, store.root / "logs" / digest, f"{cell.model} {cell.fold} {cell.budget} {cell.seed}"):
                outcome = _run_one(task, store, digest, cell, job, fitted.pop(digest, None))
            give_back_memory()
            outcomes.append(outcome)
            if done:
                done(outcome)
    return outcomes


def _run_one(bench: Bench, store: ResultStore, digest: str, cell: Cell, job: Job, fitted: FittedProbe | None) -> Outcome:
    begin = time.perf_counter()
    if digest in store:
        return Outcome(digest, cell.model, True, 0.0)
    try:
        result, predictions = run_cell(bench, cell, model=fitted, command=job.command or None)
        if fitted is not None:
            result.cost.fit_s = fitted.seconds
        store.write(result, predictions if job.keep_predictions else None)
        predictions.discard()
    except NotApplicable as reason:
        store.skip(digest, cell, reason.problem)
        return Outcome(digest, cell.model, True, time.perf_counter() - begin, skipped=reason.problem)
    except MemoryError:
        error, log = "memory limit: an allocation was refused", traceback.format_exc()
    except Exception as problem:
        stop_at_machine_error(problem)
        known = isinstance(problem, BenchError)
        error, log = (str(problem), "") if known else (f"{type(problem).__name__}: {problem}", traceback.format_exc())
    else:
        return Outcome(digest, cell.model, True, time.perf_counter() - begin)
    store.fail(digest, cell, error, log)
    return Outcome(digest, cell.model, False, time.perf_counter() - begin, error)


def stop_at_machine_error(error: Exception) -> None:
    """Lets an error of one cell pass, and stops at one that every further cell would meet too (a full disk).

    Raises:
        MachineError: The machine refused what all cells need.
    """
    if isinstance(error, MachineError) or refusal(error) in STOPPING:
        raise machine_error(error) or error from error


def measure_cost(job: Job, cell: Cell) -> tuple[str, Cost]:
    """Costs of a cell in this process; call it in a fresh one, with nothing beside it.

    What a process does once (imports, the accelerator's start, kernels) is done before the clock starts, by a rehearsal; prediction is
    timed the second time, without writing. Memory is what the process held at most beyond what it held then. A frozen encoder encodes
    again: features that other cells left behind would hide what it costs.
    """
    import datetime

    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        bench = open_bench(job)
        data = bench.data(cell)
        bench.features = None
        model = bench.model(cell)
        data.show_what_is_read(model.card.tier)
        _rehearse(bench.model(cell), data)
        give_back_memory()
        meter = Meter().start()
        model.fit(data)
        fitting = meter.lap()
        _predict(model, data)
        meter.lap()
        units = _predict(model, data)
        predicting = meter.lap()
        energy, whose = meter.energy_wh(fitting, predicting)
        cost = Cost(
            fit_s=fitting.seconds,
            predict_s=predicting.seconds,
            predict_s_per_1000=predicting.seconds / max(units, 1) * 1000,
            device_hours=meter.device_hours(fitting, predicting),
            peak_memory_mb=meter.peak_memory_mb(),
            peak_device_memory_mb=meter.peak_device_memory_mb(),
            energy_wh=energy,
            energy_of=whose,
            parameters_total=model.card.parameters_total,
            parameters_trainable=model.card.parameters_trainable,
            labels_used=data.budget.labels_used,
            labels_inspected=data.budget.labels_inspected,
            hardware=" + ".join(name for name in (hardware_name(), device_name()) if name),
            alone=True,
            measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        # Counted after the clocks have stopped: it runs the network once more.
        cost.gflops_per_unit = _gflops(model, data)
    return bench.digest(cell), cost


def _rehearse(model: Model[TaskView], data: TaskView) -> None:
    """Deep tiers take one step (`warm_up`); whatever does not know how to rehearse is fitted whole, which takes seconds."""
    if isinstance(model, WarmsUp):
        model.warm_up(data)
    else:
        model.fit(data)


def _predict(model: Model[TaskView], data: TaskView) -> int:
    """Predicts what a cell predicts and keeps nothing: writing maps would hide what a fast model costs. Returns the number of units."""
    count = 0
    for role in PREDICTED_ROLES:
        if len(data.unit_ids(role)):
            predictions = model.predict(data, role)
            if isinstance(predictions, TablePredictions):
                count += len(predictions)
            else:
                count += sum(1 for _ in islice(predictions, MOST_VALIDATION_CHIPS if role == "val" else None))
    return count


def _gflops(model: Model[TaskView], data: TaskView) -> float | None:
    """Operations to predict one unit; None for models that do not count theirs."""
    return (model.gflops_per_unit(data) or None) if isinstance(model, CountsOperations) else None
