"""Judging a bundle in a process of its own: bounded memory, time, file size and output, and a verdict as the only way back.

What parses a stranger's bytes (zlib, Parquet, GeoTIFF) is large C++; whatever it does when it fails, it does there. Where the system has
no resource limits (Windows) only time and output are bounded, and the verdict says so.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rs05bench.protocol.submission import trail
from rs05bench.protocol.submission.board import Board
from rs05bench.protocol.submission.faults import shown
from rs05bench.protocol.submission.limits import MIB, Limits
from rs05bench.protocol.submission.verdict import Verdict

MOST_OUTPUT = 256 * MIB
BROKE_DOWN = "the library that reads it broke down on its content"
_START = "import sys; sys.path[:] = sys.argv[1].split('|'); from rs05bench.protocol.submission.child import main; main()"
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_HTTP_MAX_RETRY": "0",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def judge_apart(bundle: Path, board: Board, truth: str | Path | None, others: str | Path | None, limits: Limits, work: Path) -> Verdict:
    """Judges a bundle in a child process.

    Args:
        bundle: The bundle.
        board: What counts.
        truth: Folder of the frozen labels.
        others: `leaderboard/submissions`.
        limits: Limits of the bundle and of the child.
        work: An empty folder; the child writes nowhere else.
    """
    request = {
        # Links to the bundle itself stay visible to the child, which refuses them.
        "bundle": os.path.abspath(bundle),
        "board": board.model_dump(mode="json"),
        "truth": str(Path(truth).resolve()) if truth is not None else None,
        "others": str(Path(others).resolve()) if others is not None else None,
        "limits": dataclasses.asdict(limits),
        "work": str(work.resolve()),
    }
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    home = work / "home"
    home.mkdir()
    path = "|".join([str(Path(__file__).resolve().parents[3]), *(entry for entry in sys.path if entry)])
    with (work / "verdict.json").open("wb") as stdout, (work / "log.txt").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, path],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            cwd=home,
            env=kept | _ENVIRONMENT | {"HOME": str(home), "TMPDIR": str(home)},
            start_new_session=True,
        )
        try:
            process.communicate(json.dumps(request).encode(), timeout=2 * limits.seconds + 30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return _refusal(f"reading the bundle takes longer than {2 * limits.seconds + 30} s")
        except BaseException:
            process.kill()
            process.wait()
            raise
    return answer_of(process.returncode, work, limits)


def answer_of(status: int, work: Path, limits: Limits) -> Verdict:
    """The verdict a child left in its work folder, or the refusal that its end amounts to.

    Args:
        status: How it ended, as `subprocess` counts: negative for a signal.
        work: Its work folder, with `verdict.json`, `log.txt` and `reading.txt`.
        limits: What it was bound by.
    """
    out = work / "verdict.json"
    if status != 0 or out.stat().st_size > MOST_OUTPUT:
        return _refusal(_why(status, limits, work))
    try:
        return Verdict.model_validate_json(out.read_bytes())
    except ValueError:
        return _refusal("the process that read the bundle gave no verdict")


def _why(status: int, limits: Limits, work: Path) -> str:
    if status == -getattr(signal, "SIGXCPU", 24) or status == -signal.SIGTERM:
        return f"reading the bundle needs more than {limits.seconds} s of processor time"
    if status == -getattr(signal, "SIGXFSZ", 25):
        return f"a file of the bundle is larger than {limits.file_bytes:,} bytes"
    with (work / "log.txt").open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - 4000, 0))
        tail = file.read().decode("utf-8", "replace")
    if "MemoryError" in tail or "bad_alloc" in tail or "malloc" in tail or "annot allocate" in tail:
        return f"reading the bundle needs more than {limits.memory_bytes:,} bytes of memory"
    words = tail.strip().splitlines()[-1:]
    how = signal.Signals(-status).name if -status in set(signal.Signals) else f"status {status}"
    told = "; ".join([how, *(shown(word.strip()) for word in words)])
    where = trail.last(work / "reading.txt")
    if where:
        return f"{shown(where)[1:-1]}: {BROKE_DOWN}, and nothing more of the bundle was read ({told})"
    return f"the process that reads the bundle ended before it began ({told})"


def _refusal(sentence: str) -> Verdict:
    import datetime
    import importlib.metadata

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Verdict(outcome="refused", faults=[sentence], verified_at=now, version=importlib.metadata.version("rs05bench"))


def confine(limits: Limits) -> str | None:
    """Binds this process by resource limits; returns what could not be bound."""
    try:
        import resource
    except ImportError:
        return "this system has no resource limits: memory and file size were not bounded"
    held = 0
    try:
        held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        held = 2048 * MIB
    _lower(resource, resource.RLIMIT_AS, held + limits.memory_bytes)
    # The soft limit tells why; the hard one, a little later, kills what does not listen.
    _lower(resource, resource.RLIMIT_CPU, limits.seconds, limits.seconds + 5)
    _lower(resource, resource.RLIMIT_FSIZE, max(limits.file_bytes, MOST_OUTPUT))
    _lower(resource, resource.RLIMIT_NOFILE, 256)
    _lower(resource, resource.RLIMIT_CORE, 0)
    return None


def _lower(resource: Any, what: int, soft: int, hard: int | None = None) -> None:
    most = resource.getrlimit(what)[1]
    wanted = soft if hard is None else hard
    ceiling = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(what, (min(soft, ceiling), ceiling))


def main() -> None:
    """What the child runs: a request on standard input, a verdict on standard output."""
    # A library that prints must not print into the verdict.
    answer = os.dup(1)
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.read())
    limits = Limits(**request["limits"])
    board = Board.model_validate(request["board"])

    import pyarrow.parquet

    from rs05bench.protocol.submission.verify import judge

    trail.begin(Path(request["work"]) / "reading.txt")
    unbound = confine(limits)
    verdict = judge(Path(request["bundle"]), board, request["truth"], request["others"], limits, Path(request["work"]))
    if unbound:
        verdict.notes.append(unbound)
    with os.fdopen(answer, "wb") as out:
        out.write(verdict.model_dump_json(exclude_none=True).encode())
    del pyarrow
