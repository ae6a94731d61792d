"""What a process is reading just now, kept in a file that outlives the process.

A library that breaks down on a stranger's bytes takes its process with it: nothing can be caught there, and nothing said any more. What was
written down before the file was opened is then all there is to tell.
"""

from __future__ import annotations

import os
from pathlib import Path

_MOST = 300
_file: int | None = None


def begin(path: Path) -> None:
    """Keeps the trail of this process in a file."""
    global _file
    _file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)


def reading(name: str) -> None:
    """Says that a file of the bundle is about to be read; without a trail nothing happens."""
    if _file is not None:
        os.pwrite(_file, name.encode("ascii", "replace")[:_MOST].ljust(_MOST), 0)


def last(path: Path) -> str:
    """What was being read when the process ended; empty where it did not come so far."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode("ascii", "replace").strip()
    except OSError:
        return ""
