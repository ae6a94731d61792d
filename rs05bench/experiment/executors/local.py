"""The local executor: worker processes on this machine that die with their driver, under memory and time limits, over GPU slots.

Joblib's pool (loky) would be less code, and loses two things that a sweep rests on (measured with joblib 1.6.0): when one of two workers
is killed, five of six tasks are lost to `TerminatedWorkerError`, where here only the killed cell is run again; and when the driver is
killed, both workers go on for more than 16 seconds and would write into the store, where here the kernel ends them. Nor has it limits of
memory and time for a cell.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

from rs05bench.errors import DataError
from rs05bench.experiment.executors.batches import MOST_CRASHES, Batch, Needs, Tell
from rs05bench.experiment.executors.machine import accelerators, free_memory_mb, resident_mb
from rs05bench.experiment.executors.process import serve
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.workers import Job, Outcome
from rs05bench.protocol.result import Cell

TICK_S = 0.25
"""How often limits are looked at, seconds."""
USUAL_MB = 350.0
"""What a worker is taken to need before any was seen, MiB."""
SPARE_MB = 512.0
"""Memory that is never given away, MiB."""
LOOK_AHEAD = 32
"""How many waiting batches are looked through for one that suits a worker."""


@dataclass(eq=False)
class _Worker:
    process: Any
    orders: connection.Connection
    lifeline: connection.Connection
    log: Path
    device: str | None
    batch: Batch | None = None
    left: dict[str, Cell] = field(default_factory=dict)
    running: tuple[str, ...] = ()
    since: float = 0.0
    log_start: int = 0
    key: tuple[Any, ...] = ()
    opened: bool = False


class LocalExecutor:
    """Runs batches in worker processes.

    A worker that dies takes nothing with it but the cell it was running, which is run again; one that keeps killing its worker is recorded
    as failed. A cell beyond its time or memory is stopped and recorded as such, and the rest goes on. A further worker is only given work
    while there is memory for it. Workers end when the driver does, however that ends.

    Args:
        jobs: Worker processes; default all cores.
        devices: Accelerators to use, one worker each at a time; default those of the machine.
        memory_mb: Memory all workers together may take, MiB; default what is free.
    """

    def __init__(self, jobs: int | None = None, *, devices: Sequence[str] | None = None, memory_mb: float | None = None) -> None:
        self.jobs = max(1, jobs or os.cpu_count() or 1)
        self.devices = list(accelerators() if devices is None else devices)
        self.memory_mb = memory_mb

    def run(self, batches: Sequence[Batch], tell: Tell) -> None:
        """Runs every batch and tells what becomes of each cell.

        Raises:
            DataError: Workers die before they can run anything, e.g. because the data do not fit into memory.
        """
        if not batches:
            return
        run = _LocalRun(self, deque(batches), tell)
        try:
            run.until_done()
        finally:
            run.close()


class _LocalRun:
    """One call of `LocalExecutor.run`."""

    def __init__(self, executor: LocalExecutor, waiting: deque[Batch], tell: Tell) -> None:
        self.executor, self.waiting, self.tell = executor, waiting, tell
        self.context = worker_context()
        self.workers: list[_Worker] = []
        self.crashes: Counter[str] = Counter()
        self.stillborn = 0
        self.usual_mb = USUAL_MB
        self.looked = 0.0
        self.logs = Path(tempfile.mkdtemp(prefix="rs05bench-logs-"))
        self.made = 0

    def until_done(self) -> None:
        while self.waiting or any(worker.batch for worker in self.workers):
            self._hand_out()
            ready = connection.wait([worker.orders for worker in self.workers], timeout=TICK_S)
            for worker in [worker for worker in self.workers if worker.orders in ready]:
                self._listen(worker)
            self._watch()

    # Handing out -----------------------------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        while self.waiting and self._give_one():
            pass

    def _give_one(self) -> bool:
        """Gives one waiting batch to a worker; False where none can be given now."""
        busy = sum(worker.batch.needs.cpus for worker in self.workers if worker.batch)
        idle = [worker for worker in self.workers if worker.batch is None]
        for position in self._order(idle):
            batch = self.waiting[position]
            if busy and busy + batch.needs.cpus > self.executor.jobs:
                continue
            if busy and not self._fits(batch.needs):
                continue
            worker = self._worker_for(batch, idle)
            if worker is None:
                continue
            del self.waiting[position]
            self._give(worker, batch)
            return True
        return False

    def _order(self, idle: list[_Worker]) -> list[int]:
        """Positions of waiting batches: first those whose data an idle worker holds, then in order."""
        held = {worker.key for worker in idle}
        ahead = range(min(len(self.waiting), LOOK_AHEAD))
        return sorted(ahead, key=lambda position: (self.waiting[position].key not in held, position))

    def _worker_for(self, batch: Batch, idle: list[_Worker]) -> _Worker | None:
        wants_device = batch.needs.gpus > 0 and bool(self.executor.devices)
        suited = [worker for worker in idle if (worker.device is not None) == wants_device]
        if suited:
            return min(suited, key=lambda worker: worker.key != batch.key)
        if wants_device:
            free = [name for name in self.executor.devices if name not in {worker.device for worker in self.workers}]
            return self._start(free[0]) if free else None
        if len(self.workers) >= self.executor.jobs + len(self.executor.devices):
            return None
        return self._start(None)

    def _fits(self, needs: Needs) -> bool:
        """Whether there is memory for one more worker at work beside what those at work may still take."""
        need = needs.memory_mb or self.usual_mb
        mine = {worker: resident_mb(worker.process.pid) for worker in self.workers if worker.batch}
        growth = sum(max((worker.batch.needs.memory_mb or self.usual_mb) - held, 0.0) for worker, held in mine.items() if worker.batch)
        free = free_memory_mb() - SPARE_MB
        if self.executor.memory_mb is not None:
            free = min(free, self.executor.memory_mb - sum(mine.values()))
        return need + growth <= free

    def _start(self, device: str | None) -> _Worker:
        orders, theirs = self.context.Pipe()
        lifeline, end = self.context.Pipe()
        self.made += 1
        log = self.logs / f"worker-{self.made}.log"
        process = self.context.Process(target=serve, args=(theirs, end, str(log), device), name=f"rs05bench-{self.made}")
        with _without_main():
            process.start()
        theirs.close()
        end.close()
        worker = _Worker(process, orders, lifeline, log, device)
        self.workers.append(worker)
        return worker

    def _give(self, worker: _Worker, batch: Batch) -> None:
        worker.batch, worker.left, worker.key = batch, dict(batch.cells), batch.key
        worker.running, worker.opened = (), False
        try:
            worker.orders.send((batch.job, [cell for _, cell in batch.cells], batch.needs))
        except OSError:
            self._lost(worker, "")

    # Listening -------------------------------------------------------------------------------------------------------------------------

    def _listen(self, worker: _Worker) -> None:
        outcomes: list[Outcome] = []
        try:
            while worker.orders.poll():
                kind, *content = worker.orders.recv()
                if kind == "start":
                    worker.running, worker.log_start, worker.since, worker.opened = tuple(content[0]), content[1], time.monotonic(), True
                elif kind == "done":
                    outcome: Outcome = content[0]
                    outcomes.append(outcome)
                    worker.left.pop(outcome.digest, None)
                    worker.running = tuple(digest for digest in worker.running if digest != outcome.digest)
                    worker.since = time.monotonic()
                    self.stillborn = 0
                elif kind == "idle":
                    worker.batch, worker.running = None, ()
                elif kind == "broken":
                    raise content[0]
        except (EOFError, OSError):
            self._tell(outcomes)
            self._lost(worker, "")
            return
        self._tell(outcomes)

    def _tell(self, outcomes: list[Outcome]) -> None:
        if outcomes:
            self.tell(outcomes)

    def _watch(self) -> None:
        """Stops what is beyond its limits, and learns what a worker usually takes."""
        now = time.monotonic()
        if now - self.looked < TICK_S:
            return
        self.looked = now
        for worker in [worker for worker in self.workers if worker.batch]:
            assert worker.batch is not None
            needs = worker.batch.needs
            if needs.time_s is not None and worker.running and now - worker.since > needs.time_s * len(worker.running):
                self._lost(worker, f"time limit: ran longer than {needs.time_s:g} s")
                continue
            if needs.memory_mb is None and len(self.workers) == 1:
                continue
            held = resident_mb(worker.process.pid)
            self.usual_mb = max(self.usual_mb, held)
            if needs.memory_mb is not None and held > needs.memory_mb and worker.running:
                self._lost(worker, f"memory limit: took {held:.0f} MiB of {needs.memory_mb:g} MiB")

    def _lost(self, worker: _Worker, why: str) -> None:
        """A worker died, or is stopped for `why`: what it was running is judged, the rest waits again."""
        self.workers.remove(worker)
        _kill(worker)
        batch = worker.batch
        if batch is None:
            return
        if not worker.opened:
            self.stillborn += 1
            tail = _tail(worker.log, 0)
            if self.stillborn >= MOST_CRASHES:
                raise DataError(
                    f"workers die before they run a cell of {batch.cells[0][1].task!r}; the last wrote:\n{tail or '(nothing)'}",
                    source=batch.job.data,
                    remedy="Is there memory for the data? Fewer --jobs may help.",
                )
        store = ResultStore(batch.job.store)
        again: list[tuple[str, Cell]] = []
        outcomes: list[Outcome] = []
        for digest, cell in worker.left.items():
            if digest in store:  # written, and killed before it could say so
                outcomes.append(Outcome(digest, cell.model, True, 0.0))
            elif worker.running == (digest,) and self._condemned(digest, why):
                error = why or "its worker process died (killed, or out of memory)"
                store.fail(digest, cell, error, _tail(worker.log, worker.log_start))
                outcomes.append(Outcome(digest, cell.model, False, time.monotonic() - worker.since, error))
            else:
                again.append((digest, cell))
        self._tell(outcomes)
        suspects = Batch(batch.job, [item for item in again if item[0] in worker.running], batch.needs, batch.fold)
        rest = [item for item in again if item[0] not in worker.running]
        # A suspect runs alone, so that what happens to it is told of it and of nothing else.
        for single in reversed(suspects.alone()):
            self.waiting.appendleft(single)
        if rest:
            self.waiting.appendleft(Batch(batch.job, rest, batch.needs, batch.fold))

    def _condemned(self, digest: str, why: str) -> bool:
        self.crashes[digest] += 1
        return bool(why) or self.crashes[digest] >= MOST_CRASHES

    # Ending ----------------------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends all workers: idle ones by being told, busy ones by SIGTERM, which lets them clean up, and then by SIGKILL."""
        for worker in self.workers:
            with contextlib.suppress(OSError, ValueError):
                if worker.batch is None:
                    worker.orders.send(None)
                else:
                    worker.process.terminate()
        deadline = time.monotonic() + 2.0
        for worker in self.workers:
            worker.process.join(max(deadline - time.monotonic(), 0.0))
            _kill(worker)
        self.workers.clear()
        shutil.rmtree(self.logs, ignore_errors=True)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Has a new process not run the caller's script again: what it needs is imported by name, so a script needs no `__main__` guard."""
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    try:
        if "__file__" in kept:
            del main.__file__
        main.__spec__ = None
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


def worker_context() -> Any:
    """Fresh processes that start fast: forked from a server that has imported the libraries and touched no data."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "rs05bench.experiment.workers",
            "rs05bench.models.shallow",
            "rs05bench.datasets.embedding_table",
            "sklearn.linear_model",
            "pyarrow.parquet",
        ]
    )
    return context


def _kill(worker: _Worker) -> None:
    with contextlib.suppress(OSError, ValueError):
        if worker.process.is_alive():
            worker.process.kill()
        worker.process.join(5)
        worker.orders.close()
        worker.lifeline.close()


def _tail(log: Path, start: int, most: int = 4000) -> str:
    try:
        with log.open("rb") as handle:
            handle.seek(max(start, log.stat().st_size - most))
            return handle.read().decode(errors="replace").strip()
    except OSError:
        return ""


__all__ = ["Job", "LocalExecutor", "worker_context"]
