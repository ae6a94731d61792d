"""The other end of the local executor: a process that keeps its task open and runs the cells it is sent."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def serve(orders: Connection, lifeline: Connection, log: str, device: str | None) -> None:
    """Runs batches as they come until told to stop, or until whoever started this process is gone.

    Args:
        orders: Batches come in, `("start", digests)`, `("done", outcome)` and, where the machine refused, `("broken", error)` go out.
        lifeline: Its other end lies with the driver alone and says nothing: when it closes, the driver is gone.
        log: File that standard output and error go to.
        device: The accelerator it may use; None for none.
    """
    from rs05bench.experiment.executors.machine import die_with_parent, limit_memory

    die_with_parent()
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leave by the way that cleans up
    os.environ["CUDA_VISIBLE_DEVICES"] = device or ""
    for library in ("OMP", "OPENBLAS", "MKL"):  # read when it is loaded; what limits pools later does not reach torch's
        os.environ[f"{library}_NUM_THREADS"] = "1"
    _write_to(log)
    from rs05bench.errors import BenchError, MachineError, machine_error
    from rs05bench.experiment.workers import OpenTask, Outcome, open_bench, run_cells

    task: OpenTask | None = None
    opened: tuple[str, str, str] | None = None

    def started(digests: Sequence[str]) -> None:
        orders.send(("start", list(digests), os.path.getsize(log)))

    def done(outcome: Outcome) -> None:
        sys.stdout.flush()
        orders.send(("done", outcome))

    while True:
        try:
            order: Any = orders.recv()
        except (EOFError, OSError):
            return
        if order is None:
            return
        job, cells, needs = order
        limit_memory(needs.memory_mb if needs.gpus == 0 else None)
        try:
            if opened != job.place:
                task = None  # before the next is read: two need not fit into memory
            task, opened = open_bench(job, task), job.place
            run_cells(job, cells, task=task, started=started, done=done)
            limit_memory(None)
            orders.send(("idle",))
        except Exception as error:
            told = None if isinstance(error, BenchError) and not isinstance(error, MachineError) else machine_error(error)
            if told is None:
                raise
            orders.send(("broken", told))
            return


def _end_with(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _write_to(log: str) -> None:
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
