"""Arrays that cost time to make and are asked for again: in memory up to a limit, beyond it as memory maps that processes share."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.checked_arrays import CheckedArrays
from rs05bench.protocol.hashing import text_digest

KEPT_BYTES = 1 << 30
"""Arrays kept in memory take at most this much, bytes. A patch of a compressed file costs as much as the whole chip, and is asked for at
every pass."""


class KeptArrays:
    """Arrays by key.

    Attributes:
        bytes: What those in memory take.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._kept: dict[str, NDArray[Any]] = {}
        self._files = CheckedArrays()

    def get(self, key: str, size: int, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """An array, made where it was not asked for before.

        Args:
            key: What it is made of; another content needs another key.
            size: Its bytes.
            make: Makes it.
        """
        if key in self._kept:
            return self._kept[key]
        import torch

        # Workers of a loader share the maps; memory of their own would be as many copies.
        if self.bytes + size <= KEPT_BYTES and torch.utils.data.get_worker_info() is None:
            self.bytes += size
            self._kept[key] = make()
            return self._kept[key]
        values = self.on_disk(cache_folder() / "pixels" / f"{text_digest(key)}.npy", make)
        if isinstance(values, np.memmap):
            self._kept[key] = values
        return values

    def on_disk(self, path: Path, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """An array kept as a file, made where the file is missing, damaged or cannot be read.

        A cache that cannot be written costs time, not the result.
        """
        with suppress(OSError):
            # Copy on write: torch has no read-only tensors, and nothing a reader does may change the file.
            kept = self._files.load(path, "c")
            if kept is not None:
                return kept
        values = make()
        with suppress(OSError):
            self._files.save(path, values)
        return values


def file_key(*paths: Path) -> str:
    """Path, size and time of change of files."""
    found = [(path, path.stat()) for path in paths]
    return "|".join(f"{path}|{there.st_size}|{there.st_mtime_ns}" for path, there in found)


def cache_folder() -> Path:
    """`RS05BENCH_CACHE`, or `~/.cache/rs05bench`."""
    return Path(os.environ.get("RS05BENCH_CACHE") or Path.home() / ".cache" / "rs05bench")
