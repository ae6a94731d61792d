"""Files and folders that exist whole or not at all.

A writer works in a hidden folder next to its target, syncs what it wrote to the disk, and renames it last. A process that is killed leaves
only such a hidden folder; `clear_leftovers` removes those of processes that are gone.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

ABANDONED_S = 2 * 24 * 3600.0
"""A hidden folder of another machine that is older than this was left by a process that is gone."""
_HOST = "".join(letter for letter in socket.gethostname() if letter.isalnum() or letter == "-")[:40] or "host"
_PREFIX = ".writing-"


@contextmanager
def writing(path: str | os.PathLike[str], existing: Literal["replace", "keep"] = "replace") -> Iterator[Path]:
    """Gives a path to write a file or a folder to; when the block ends without an error it becomes `path`.

    The path given has the same name as the target, in a hidden folder next to it, so that drivers which look at a file's ending work and
    a glob over the target's folder finds nothing unfinished.

    Args:
        path: The target. Its parent folders are made.
        existing: What happens to a target that exists when the block ends: it is replaced, or it stays and the new one is discarded
            (for content that every writer would write alike).

    Raises:
        OSError: The disk refuses; the target is then as it was.

    Examples:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "scores.txt"
        >>> with writing(target) as part:
        ...     _ = part.write_text("0.71")
        >>> target.read_text(), [entry.name for entry in target.parent.iterdir()]
        ('0.71', ['scores.txt'])
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = hidden_sibling(target)
    part = work / target.name
    try:
        work.mkdir()
        yield part
        _sync(part)
        _place(part, target, work, existing)
    except OSError as error:
        # Libraries name no file, and the hidden one means nothing to anybody.
        if error.errno is not None and (error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(work)):
            error.filename = str(target)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes a text file whole, in UTF-8; returns its path."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file whole; returns its path."""
    with writing(path) as part:
        part.write_bytes(content)
    return Path(path)


def write_json(path: str | os.PathLike[str], record: Any, *, indent: int | None = 1) -> Path:
    """Writes a record as JSON, whole, with a newline at the end; returns its path."""
    return write_text(path, json.dumps(record, indent=indent, ensure_ascii=False) + "\n")


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Removes a folder so that it is never seen half removed: it gets a hidden name first."""
    target = Path(path)
    gone = hidden_sibling(target)
    try:
        os.rename(target, gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def clear_leftovers(folder: str | os.PathLike[str]) -> int:
    """Removes what writers that are gone left unfinished in a folder; returns how many pieces.

    A writer of this machine is known to be gone; one of another machine is taken to be after two days.
    """
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if entry.name.startswith(_PREFIX)]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    left = [entry for entry in entries if _abandoned(entry)]
    for entry in left:
        shutil.rmtree(entry.path, ignore_errors=True)
    return len(left)


def hidden_sibling(target: Path) -> Path:
    """A hidden name next to a target that no other writer has and that says whose it is."""
    return target.with_name(f"{_PREFIX}{_HOST}.{os.getpid()}.{uuid.uuid4().hex[:12]}")


def _place(part: Path, target: Path, work: Path, existing: Literal["replace", "keep"]) -> None:
    if existing == "keep" and target.exists():
        return
    try:
        os.replace(part, target)
    except OSError:
        if not target.is_dir():
            raise
        if existing == "keep":  # another writer was first
            return
        os.rename(target, work / "replaced")
        try:
            os.replace(part, target)
        except OSError:
            os.rename(work / "replaced", target)
            raise
    _sync_folder(target.parent)


def _sync(part: Path) -> None:
    if not part.is_dir():
        _sync_file(part)
        return
    for folder, _, names in os.walk(part):
        for name in names:
            _sync_file(Path(folder, name))
        _sync_folder(Path(folder))


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _sync_folder(path: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _abandoned(entry: os.DirEntry[str]) -> bool:
    host, _, rest = entry.name.removeprefix(_PREFIX).rpartition(".")[0].rpartition(".")
    if host == _HOST and rest.isdigit() and Path("/proc").is_dir():
        return not Path(f"/proc/{rest}").exists()
    try:
        return time.time() - entry.stat().st_mtime > ABANDONED_S
    except OSError:
        return False
