"""What this machine has left, and how a process is tied to the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

MIB = 1024 * 1024
_PR_SET_PDEATHSIG = 1


def free_memory_mb() -> float:
    """Memory that can still be taken, MiB: of the machine, or of the control group where that is less (a container)."""
    import psutil

    free = psutil.virtual_memory().available / MIB
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
        # Cached file pages count as used, and are given back when asked for.
        cached = next(
            (int(line.split()[1]) for line in (group / "memory.stat").read_text().splitlines() if line.startswith("inactive_file")), 0
        )
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, (int(limit) - used + cached) / MIB)


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children, MiB; 0 where it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        total = process.memory_info().rss
        for child in process.children(recursive=True):
            total += child.memory_info().rss
    except psutil.Error:
        return 0.0
    return total / MIB


def accelerators() -> list[str]:
    """Names of the accelerators that may be used, as `CUDA_VISIBLE_DEVICES` spells them; found without loading CUDA."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [part.strip() for part in told.split(",") if part.strip() and part.strip() != "-1"]
    # The driver's own list, or where a container or WSL hides it, the devices it lets in.
    found = (
        sorted(Path("/proc/driver/nvidia/gpus").glob("*")) or sorted(Path("/dev").glob("nvidia[0-9]*")) or sorted(Path("/dev").glob("dxg"))
    )
    return [str(index) for index, _ in enumerate(found)]


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent goes, also when that is killed itself (Linux; elsewhere nothing happens)."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went in between
        os._exit(1)


def limit_memory(memory_mb: float | None) -> None:
    """Makes an allocation beyond the limit fail at once with `MemoryError`, where the system can (Linux); None lifts the limit.

    Only private data are limited (`RLIMIT_DATA`): address space is reserved in tens of GiB by libraries that never touch it. What the
    process holds already is kept in mind, since reserved and resident data differ.
    """
    if not sys.platform.startswith("linux"):
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if memory_mb is None:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        return
    status = _status()
    room = max(memory_mb - status.get("VmRSS", 0.0), 1.0)
    ceiling = int((status.get("VmData", 0.0) + room) * MIB)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard), hard))


def _status() -> dict[str, float]:
    """Sizes in `/proc/self/status`, MiB."""
    sizes: dict[str, float] = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if rest.strip().endswith("kB"):
            sizes[name] = int(rest.split()[0]) / 1024
    return sizes
