"""The Ray executor: a batch of cells is a Ray task that asks for the CPUs, accelerators and memory it needs.

Ray places tasks, starts workers, retries what a lost node took along, and shares the opened data through its object store. Results land in
the same store, on a file system all nodes see; a task that runs twice finds what it wrote the first time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from rs05bench.errors import DataError
from rs05bench.experiment.executors.batches import Batch, Needs, Tell
from rs05bench.experiment.store import ResultStore
from rs05bench.experiment.workers import Job, OpenTask, Outcome, open_bench, run_cells
from rs05bench.extras import require
from rs05bench.protocol.result import Cell

MIB = 1024 * 1024
AHEAD = 4
"""Tasks submitted per CPU of the cluster before one is waited for: enough that no node idles, few enough to stop soon."""


class TimeLimit(BaseException):
    """Raised inside a cell that ran too long; no handler of ordinary errors swallows it."""


class RayExecutor:
    """Runs batches on a Ray cluster.

    Args:
        address: A running cluster, e.g. `ray://head:10001`, `head:6379` or `auto`; default a cluster on this machine, for this run alone.
        runtime_env: Ray's description of what a worker must have (packages, environment variables); see Ray's documentation.
        max_retries: How often Ray runs a task again whose node or worker was lost.
        share_data: Whether the opened data travel through the object store. Otherwise every worker process reads them.
        init: Further arguments of `ray.init`.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        runtime_env: dict[str, Any] | None = None,
        max_retries: int = 3,
        share_data: bool = True,
        init: dict[str, Any] | None = None,
    ) -> None:
        self.address, self.runtime_env, self.max_retries, self.share_data = address, runtime_env, max_retries, share_data
        self.init = dict(init or {})

    def run(self, batches: Sequence[Batch], tell: Tell) -> None:
        """Runs every batch and tells what becomes of each cell.

        Raises:
            DataError: Ray is not installed, or there is no cluster at the address.
        """
        if not batches:
            return
        ray = _ray()
        mine = not ray.is_initialized()
        if mine:
            self._connect(ray)
        try:
            _RayRun(ray, self, list(batches), tell).until_done()
        finally:
            if mine:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        # Threads of linear algebra are limited inside a worker, before NumPy is loaded there.
        variables = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment = dict(self.runtime_env or {})
        environment["env_vars"] = variables | dict(environment.get("env_vars", {}))
        options: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False, "configure_logging": False, **self.init}
        if self.address is None:
            options.setdefault("_node_ip_address", "127.0.0.1")
        try:
            ray.init(self.address or "local", runtime_env=environment, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise DataError(
                f"no Ray cluster: {error}", source=self.address or "local", remedy="Start one with: ray start --head."
            ) from error


class _RayRun:
    """One call of `RayExecutor.run`."""

    def __init__(self, ray: Any, executor: RayExecutor, waiting: list[Batch], tell: Tell) -> None:
        self.ray, self.executor, self.tell = ray, executor, tell
        self.waiting = waiting[::-1]
        self.running: dict[Any, Batch] = {}
        self.shared: dict[tuple[str, str, str], Any] = {}
        self.splits: dict[tuple[str, str, str], set[str]] = {}
        for batch in waiting:
            self.splits.setdefault(batch.job.place, set()).update(batch.job.splits)
        self.remote = ray.remote(_run_batch)

    def until_done(self) -> None:
        try:
            while self.waiting or self.running:
                cpus = max(1, int(self.ray.cluster_resources().get("CPU", 1)))
                while self.waiting and len(self.running) < AHEAD * cpus:
                    self._submit(self.waiting.pop())
                ready, _ = self.ray.wait(list(self.running), timeout=1.0)
                for reference in ready:
                    self._take(reference, self.running.pop(reference))
        except BaseException:
            for reference in self.running:
                with contextlib.suppress(Exception):
                    self.ray.cancel(reference, force=True)
            raise

    def _submit(self, batch: Batch) -> None:
        needs = batch.needs
        options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "max_retries": self.executor.max_retries}
        if needs.memory_mb is not None:
            options["memory"] = int(needs.memory_mb * MIB)
        if needs.gpus and not self.ray.cluster_resources().get("GPU"):
            options["num_gpus"] = 0
        reference = self.remote.options(**options).remote(batch.job, [cell for _, cell in batch.cells], needs, self._task(batch.job))
        self.running[reference] = batch

    def _task(self, job: Job) -> Any:
        """The opened task in the object store: put there once, mapped by every worker of a node."""
        if not self.executor.share_data:
            return None
        key = job.place
        if key not in self.shared:
            # In a list it stays a reference, which a worker looks up once and not once a batch.
            self.shared[key] = [self.ray.put(open_bench(Job(job.card, job.data, job.store, tuple(sorted(self.splits[key])))))]
        return self.shared[key]

    def _take(self, reference: Any, batch: Batch) -> None:
        try:
            outcomes = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            self._judge(batch, f"{type(error.cause).__name__}: {error.cause}")
            return
        except self.ray.exceptions.RayError as error:
            self._judge(batch, f"its worker was lost: {type(error).__name__}")
            return
        self.tell(outcomes)

    def _judge(self, batch: Batch, why: str) -> None:
        """A batch did not come back: what it stored counts, the rest runs again one by one; what fails alone is recorded."""
        store = ResultStore(batch.job.store)
        outcomes: list[Outcome] = []
        for digest, cell in batch.cells:
            if digest in store:
                outcomes.append(Outcome(digest, cell.model, True, 0.0))
                continue
            if len(batch.cells) == 1:  # Ray has run it again already, as often as it was told to
                store.fail(digest, cell, why)
                outcomes.append(Outcome(digest, cell.model, False, 0.0, why))
            else:
                self.waiting.append(Batch(batch.job, [(digest, cell)], batch.needs, batch.fold))
        if outcomes:
            self.tell(outcomes)


@lru_cache(maxsize=1)
def _held(reference: Any) -> OpenTask:
    """The opened task of a worker process: its arrays lie in the node's shared memory."""
    import ray

    task: OpenTask = ray.get(reference)
    return task


@lru_cache(maxsize=1)
def _opened(job: Job) -> OpenTask:
    """The task of a worker process that is not shared."""
    return open_bench(job)


def _run_batch(job: Job, cells: list[Cell], needs: Needs, shared: list[Any] | None) -> list[Outcome]:
    """What a Ray worker runs."""
    from rs05bench.experiment.executors.machine import limit_memory

    task = _opened(job) if shared is None else _held(shared[0])
    if needs.gpus == 0:
        limit_memory(needs.memory_mb)
    outcomes: list[Outcome] = []
    try:
        for cell in cells if needs.time_s is not None else [None]:
            try:
                with _time_limit(needs.time_s):
                    outcomes += run_cells(job, cells if cell is None else [cell], task=task)
            except TimeLimit:
                assert cell is not None
                digest = task.digest(cell)
                error = f"time limit: ran longer than {needs.time_s:g} s"
                ResultStore(job.store).fail(digest, cell, error)
                outcomes.append(Outcome(digest, cell.model, False, float(needs.time_s or 0.0), error))
    finally:
        limit_memory(None)
    return outcomes


@contextlib.contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raises `TimeLimit` in this thread after so long, as soon as Python code runs again."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    return require("ray", purpose="the Ray executor")
