"""Arrays kept in files that carry a checksum, for caches: a changed byte is found, and the entry is made again.

A file is NumPy's format followed by eight bytes: a mark and the CRC-32 of all before. `numpy.load` reads it as it is.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from rs05bench.protocol.atomic import writing

_MARK = b"CRC1"
_CHUNK = 1 << 22


class CheckedArrays:
    """Reads and writes such files.

    Each file is read in full once per object, and mapped after that: caches are read far more often than they are written.

    Attributes:
        dropped: Files that were damaged; they were removed.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._sound: dict[Path, tuple[int, int, int]] = {}

    def load(self, path: Path, mode: Literal["r", "c"] = "r") -> NDArray[Any] | None:
        """The array, as a memory map; None where there is no file, or a damaged one.

        Args:
            path: The file.
            mode: `r` for read-only, `c` for copy-on-write.

        Raises:
            OSError: The file cannot be read, which says nothing against its content.
        """
        try:
            with path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                state = (found.st_ino, found.st_size, found.st_mtime_ns)
                if self._sound.get(path) != state:
                    if not _sound(stream, found.st_size):
                        self.dropped += 1
                        path.unlink(missing_ok=True)
                        return None
                    self._sound[path] = state
            array: NDArray[Any] = np.load(path, mmap_mode=mode, allow_pickle=False)
        except FileNotFoundError:
            return None
        return array

    def save(self, path: Path, array: NDArray[Any]) -> None:
        """Writes an array whole; one that another process wrote first stays.

        Raises:
            OSError: The disk refuses.
        """
        with writing(path, existing="keep") as part, part.open("w+b") as stream:
            np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
            stream.seek(0)
            stream.write(_MARK + _crc(stream, os.fstat(stream.fileno()).st_size).to_bytes(4, "little"))


def _sound(stream: BinaryIO, size: int) -> bool:
    if size <= 8:
        return False
    crc = _crc(stream, size - 8)
    return stream.read(8) == _MARK + crc.to_bytes(4, "little")


def _crc(stream: BinaryIO, size: int) -> int:
    """CRC-32 of the next bytes of a stream."""
    crc, left = 0, size
    while left and (chunk := stream.read(min(left, _CHUNK))):
        crc, left = zlib.crc32(chunk, crc), left - len(chunk)
    return crc
