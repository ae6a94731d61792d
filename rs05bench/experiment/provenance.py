"""Where a result comes from: versions, commit, machine, command."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

from rs05bench.protocol.cell_record import Provenance

PACKAGES = ("rs05bench", "numpy", "pandas", "scikit-learn", "xgboost", "lightgbm", "torch", "torchgeo", "terratorch", "peft")


def this_command() -> str:
    """The command that is running, at most 500 characters."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500]


def provenance(command: str | None = None) -> Provenance:
    """Versions of what results depend on, the commit of this package where it is a checkout, and the command.

    Args:
        command: Default the command that is running; a worker on another machine was started by one that no reader knows.
    """
    return Provenance(versions=_versions(), commit=_commit(), command=command or this_command())


@functools.cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def hardware_name() -> str:
    """Name of the processor and its cores."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    import os

    return f"{name} ({os.cpu_count()} cores)"


@functools.cache
def _commit() -> str | None:
    here = Path(__file__).resolve().parent.parent.parent
    if not (here / ".git").exists():
        return None
    try:
        out = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return out.stdout.strip()
