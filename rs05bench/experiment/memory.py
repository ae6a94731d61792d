"""Giving memory back between cells."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from functools import cache


def give_back_memory() -> None:
    """Collects what is no longer used and returns it to the system and to the accelerator.

    Trainers and networks refer to each other in circles, and glibc keeps what they held for later: a worker that trains one network after
    another grew by some 20 MiB a cell. Does nothing where no network was trained (no torch).
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return
    _set_modules_aside(os.getpid())
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # glibc's; musl has none
        trim(0)


@cache
def _set_modules_aside(process: int) -> None:
    """Keeps what a process imported out of every later collection: walking through it was a third of a second a cell."""
    gc.collect()
    gc.freeze()
