"""Decoded blocks kept for reuse, in memory up to a limit and, where asked, on disk."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rs05bench.embeddings.bytesource import is_remote
from rs05bench.embeddings.raster import Raster
from rs05bench.protocol.checked_arrays import CheckedArrays
from rs05bench.protocol.hashing import text_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_LIMIT = 2 << 30
"""Bytes of decoded blocks kept in memory: the blocks of a 4,096 px square fit twice."""


class BlockCache:
    """Blocks decompressed once.

    Random chips come back to the same blocks; decompressing all components for every chip makes a plain reader slow. In memory the
    least recently used blocks go first. On disk each block is one uncompressed file with a checksum that all loader workers map, so that a
    tile that does not fit into memory is still decompressed once.

    Args:
        limit: Bytes of decoded blocks kept in memory.
        folder: Where decoded blocks are kept on disk; None keeps none. Needs the uncompressed size (4.3 GB for a full tile).
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, folder: str | os.PathLike[str] | None = None) -> None:
        self.limit, self.folder = limit, Path(folder) if folder is not None else None
        self.decompressed = 0  # blocks decompressed so far: what the benchmarks and tests count
        self._arrays = CheckedArrays()
        self._blocks: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._size, self._lock = 0, threading.Lock()

    def block(self, raster: Raster, row: int, column: int, bands: Sequence[int] | None = None) -> NDArray[Any]:
        """The `(bands, height, width)` block of a raster, decompressed now or before."""
        key = (raster.name, row, column, bands if bands is None or isinstance(bands, tuple) else tuple(bands))
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        block = self._from_disk(raster, row, column, bands) if self.folder is not None else self._read(raster, row, column, bands)
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = block
                self._size += block.nbytes
            # The newest stays even if it alone exceeds the limit: its reader holds it anyway.
            while self._size > self.limit and len(self._blocks) > 1:
                self._size -= self._blocks.popitem(last=False)[1].nbytes
        return block

    def clear(self) -> None:
        """Forget every block in memory (what lies on disk stays)."""
        with self._lock:
            self._blocks.clear()
            self._size = 0

    @property
    def size(self) -> int:
        """Bytes of decoded blocks held in memory (or mapped)."""
        return self._size

    def _read(self, raster: Raster, row: int, column: int, bands: Sequence[int] | None) -> NDArray[Any]:
        self.decompressed += 1
        return raster.read_block(row, column, bands)

    def _from_disk(self, raster: Raster, row: int, column: int, bands: Sequence[int] | None) -> NDArray[Any]:
        assert self.folder is not None
        path = self.folder / _identity(raster, bands) / f"{row}-{column}.npy"
        kept = self._arrays.load(path)
        if kept is None:
            self._arrays.save(path, self._read(raster, row, column, bands))
            kept = self._arrays.load(path)
        return kept if kept is not None else self._read(raster, row, column, bands)

    def __getstate__(self) -> dict[str, Any]:
        # A loader worker starts with an empty memory instead of being sent gigabytes.
        return {"limit": self.limit, "folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _identity(raster: Raster, bands: Sequence[int] | None) -> str:
    """A folder name that changes when the file does."""
    parts = [raster.name, raster.product.name, str(raster.grid), str(bands if bands is None else list(bands))]
    if not is_remote(raster.name) and os.path.exists(raster.name):
        status = os.stat(raster.name)
        parts += [os.path.abspath(raster.name), str(status.st_size), str(status.st_mtime_ns)]
    return text_digest("\n".join(parts))[:24]
