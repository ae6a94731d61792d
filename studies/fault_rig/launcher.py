"""Starts the command from a process that has its libraries already: a run costs its own work, not its imports.

`python -m studies.fault_rig.launcher` reads one request a line and answers one. Every run is a child in a session of its own,
and is killed with all that it started.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
CAPSET = {"x86_64": 126, "aarch64": 91}.get(platform.machine(), -1)
PRELOADED = ("pyarrow.parquet", "scipy.stats", "sklearn.ensemble", "sklearn.linear_model", "rs05bench.cli", "rs05bench.experiment.sweep")

# A process with a second thread must not fork: a lock that this thread holds is never released in the child, which then hangs. The
# allocator of pyarrow starts such a thread, and BLAS and OpenMP do.
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


@dataclass(frozen=True)
class Request:
    """One run.

    Attributes:
        arguments: Of the command.
        environment: Variables to set.
        output: File for standard output.
        error: File for standard error.
        powerless: Run without the capabilities of root: what belongs to somebody else cannot be written.
        kill_after: Kill it with all its children after so many seconds.
        limit: Seconds after which it is stopped as hanging.
    """

    arguments: list[str]
    environment: dict[str, str]
    output: str
    error: str
    powerless: bool = False
    kill_after: float | None = None
    limit: float = 300.0


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        status: Exit status; negative where a signal ended it.
        seconds: Wall time.
        output: Standard output.
        error: Standard error.
    """

    status: int
    seconds: float
    output: str = field(default="", repr=False)
    error: str = field(default="", repr=False)


class Launcher:
    """A context that runs commands."""

    def __enter__(self) -> Launcher:
        environment = os.environ | SINGLE_THREADED | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        self._work = tempfile.TemporaryDirectory(prefix="faults-told-")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:  # a run is still going
            self._process.kill()
            self._process.wait()
        self._work.cleanup()

    def run(
        self,
        arguments: Sequence[str],
        environment: dict[str, str] | None = None,
        *,
        output: str | None = None,
        powerless: bool = False,
        kill_after: float | None = None,
    ) -> Ended:
        """Runs the command with these arguments."""
        told, error = Path(self._work.name) / "output", Path(self._work.name) / "error"
        request = Request(list(arguments), environment or {}, output or str(told), str(error), powerless, kill_after)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(request)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        said = "" if output else told.read_text(errors="replace")
        return Ended(answer["status"], answer["seconds"], said, error.read_text(errors="replace"))


def _serve() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    if len(threads := os.listdir("/proc/self/task")) > 1:
        raise RuntimeError(f"{len(threads)} threads run before the first fork; a run may hang")
    for line in sys.stdin:
        request = Request(**json.loads(line))
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _become(request)
        status = _wait(child, began, request)
        print(json.dumps({"status": status, "seconds": time.monotonic() - began}), flush=True)


def _become(request: Request) -> None:
    """The child: never returns."""
    status = 1
    try:
        os.setsid()
        for path, number in ((request.output, 1), (request.error, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.environ |= request.environment
        tempfile.tempdir = None  # TMPDIR is read again
        if request.powerless:
            _drop_capabilities()
        sys.argv = ["rs05bench", *request.arguments]
        from rs05bench.cli import main

        main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _drop_capabilities() -> None:
    """Leaves root its name alone (capabilities(7)); programs that it starts get none back."""
    libc = ctypes.CDLL(None, use_errno=True)
    securebits, no_root, version = 28, 1, 0x20080522
    none = (ctypes.c_uint32 * 6)()
    if libc.prctl(securebits, no_root, 0, 0, 0) or libc.syscall(CAPSET, (ctypes.c_uint32 * 2)(version, 0), none):
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


def _wait(child: int, began: float, request: Request) -> int:
    end = began + (request.limit if request.kill_after is None else request.kill_after)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it left behind
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    _serve()
