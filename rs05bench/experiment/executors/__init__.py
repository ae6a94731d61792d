"""Where cells run: on this machine (`local`) or on a Ray cluster (`ray`), behind one small interface."""

from __future__ import annotations

from typing import Any

from rs05bench.errors import DataError
from rs05bench.experiment.executors.batches import MOST_CRASHES, Batch, Executor, Needs, Tell

EXECUTORS = ("local", "ray")

__all__ = ["EXECUTORS", "MOST_CRASHES", "Batch", "Executor", "Needs", "Tell", "make_executor"]


def make_executor(name: str, *, jobs: int | None = None, **options: Any) -> Executor:
    """An executor by name.

    Args:
        name: `local` or `ray`.
        jobs: Worker processes (local); default all cores.
        **options: Further arguments of the executor.

    Raises:
        DataError: No such executor, or what it needs is not installed.
    """
    if name == "local":
        from rs05bench.experiment.executors.local import LocalExecutor

        return LocalExecutor(jobs, **options)
    if name == "ray":
        from rs05bench.experiment.executors.ray import RayExecutor

        return RayExecutor(**options)
    raise DataError(f"no executor {name!r}", remedy=f"There are {', '.join(EXECUTORS)}.")
