"""Files that a cell rests on beside card, manifest and data: the code of a one-file model, and weights given by name."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from rs05bench.protocol.hashing import file_digest
from rs05bench.protocol.result import CODE, OPTION, Cell


def file_digests(cell: Cell) -> dict[str, str]:
    """SHA-256 of the files that a cell names: `code` of a model `file.py:Name`, `option.<name>` of an option that is a file.

    A file that is not there has none; making the model tells of it. What a model's file imports is not covered.
    """
    found: dict[str, str] = {}
    if ".py:" in cell.model:
        found |= _digest_of(CODE, cell.model.rpartition(":")[0])
    for name, value in sorted(cell.options.items()):
        found |= _digest_of(f"{OPTION}{name}", value)
    return found


def _digest_of(name: str, value: Any) -> dict[str, str]:
    # A file of weights has an ending; a word such as `linear` names none, whatever lies in the working directory.
    if not isinstance(value, str) or not Path(value).suffix or len(value) > 4096:
        return {}
    try:
        path = Path(value).expanduser()
        if not path.is_file():
            return {}
        found = path.stat()
    except (OSError, RuntimeError, ValueError):  # no name of a file on this system
        return {}
    return {name: _sha256(path.resolve(), found.st_size, found.st_mtime_ns)}


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    """Digest of a file, read once for as long as size and time of change stay the same."""
    return file_digest(path)
