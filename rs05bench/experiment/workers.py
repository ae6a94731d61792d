"""What runs inside a worker process: opens a task once, then runs cells as they come."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from rs05bench.errors import BenchError
from rs05bench.experiment.cell import Bench, predict_roles, run_cell
from rs05bench.experiment.provenance import hardware_name
from rs05bench.experiment.store import ResultStore
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.names import parse_split
from rs05bench.protocol.result import Cell, Cost


@dataclass(frozen=True)
class Job:
    """What a worker must know to run cells: which card, which data, which store.

    Attributes:
        card: Path of the task card.
        data: Data directory.
        store: Folder of results; its manifests are used.
        splits: Splits in use.
        keep_predictions: Whether predictions are stored beside results.
    """

    card: str
    data: str
    store: str
    splits: tuple[str, ...]
    keep_predictions: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    digest: str
    model: str
    ok: bool
    seconds: float
    error: str = ""


_BENCHES: dict[Job, Bench] = {}


def open_bench(job: Job) -> Bench:
    """The task of a job, opened once a process, under the manifests of its store."""
    if job not in _BENCHES:
        from rs05bench.datamodules.sources import open_source

        _BENCHES.clear()
        source = open_source(TaskCard.load(job.card), job.data)
        store = ResultStore(job.store)
        bases = list(dict.fromkeys(parse_split(split).base for split in job.splits))
        _BENCHES[job] = Bench(source, {base: store.manifest(source.card.name, base) for base in bases})
    return _BENCHES[job]


def run_cells(job: Job, cells: list[Cell]) -> list[Outcome]:
    """Runs cells one after another on one thread and stores what comes out; an error of one leaves the others alone."""
    from threadpoolctl import threadpool_limits

    outcomes: list[Outcome] = []
    with threadpool_limits(1):
        bench, store = open_bench(job), ResultStore(job.store)
        for cell in cells:
            outcomes.append(_run_one(bench, store, cell, job.keep_predictions))
    return outcomes


def _run_one(bench: Bench, store: ResultStore, cell: Cell, keep: bool) -> Outcome:
    digest = bench.digest(cell)
    begin = time.perf_counter()
    if digest in store:
        return Outcome(digest, cell.model, True, 0.0)
    try:
        result, predictions = run_cell(bench, cell)
        store.write(result, predictions if keep else None)
    except BenchError as error:
        store.fail(digest, cell, str(error))
        return Outcome(digest, cell.model, False, time.perf_counter() - begin, str(error))
    except Exception as error:
        store.fail(digest, cell, f"{type(error).__name__}: {error}", traceback.format_exc())
        return Outcome(digest, cell.model, False, time.perf_counter() - begin, f"{type(error).__name__}: {error}")
    return Outcome(digest, cell.model, True, time.perf_counter() - begin)


def measure_cost(job: Job, cell: Cell) -> tuple[str, Cost]:
    """Costs of a cell in this process; call it in a fresh one, with nothing beside it.

    Memory is what the process held at most beyond what it held when the data were open. Prediction is timed the second time.
    """
    import datetime

    from threadpoolctl import threadpool_limits

    from rs05bench import models

    with threadpool_limits(1):
        bench = open_bench(job)
        data = bench.data(cell)
        model = models.create(cell.model, card=bench.card, seed=cell.seed, **cell.options)
        before = _reset_peak()
        begin = time.perf_counter()
        model.fit(data)
        fitted = time.perf_counter()
        predict_roles(model, data)
        warm = time.perf_counter()
        predictions = predict_roles(model, data)
        done = time.perf_counter()
        after = _peak_mb()
    memory = max(after - before, 0.0) if after is not None and before is not None else None
    cost = Cost(
        fit_s=fitted - begin,
        predict_s=done - warm,
        predict_s_per_1000=(done - warm) / max(len(predictions), 1) * 1000,
        peak_memory_mb=memory,
        parameters_total=model.card.parameters_total,
        parameters_trainable=model.card.parameters_trainable,
        labels_used=data.budget.labels_used,
        hardware=hardware_name(),
        alone=True,
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    return bench.digest(cell), cost


def _reset_peak() -> float | None:
    """Resets the peak of resident memory (Linux) and returns what is resident now, MiB."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _peak_mb()


def _peak_mb() -> float | None:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None
