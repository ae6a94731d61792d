"""The one family of errors.

Every message names what was found and what to do; the command prints it without a traceback and exits with status 2.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path


class BenchError(Exception):
    """Anything rs05bench refuses to do; catch this one to catch them all."""


class ProtocolError(BenchError):
    """A rule of the fair protocol was about to be broken.

    Args:
        problem: Which rule, and why it would be broken.
        remedy: What to do instead.
    """

    def __init__(self, problem: str, *, remedy: str | None = None) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(_message(None, problem, remedy))


class NotApplicable(ProtocolError):
    """A model or a budget has nothing to answer in a cell (no earlier year, no position, no label): nothing failed, the cell is skipped."""


class DataError(BenchError):
    """A file, table or card is not what it should be.

    Args:
        problem: What is wrong: the column or field, what was expected and what was found.
        source: The file (or the name of the table) it was found in.
        remedy: How to fix it.
    """

    def __init__(self, problem: str, *, source: str | Path | None = None, remedy: str | None = None) -> None:
        self.problem, self.source, self.remedy = problem, source, remedy
        super().__init__(_message(source, problem, remedy))


class SubmissionError(BenchError):
    """A submission is faulty; carries every fault found, not only the first.

    Args:
        faults: One plain sentence a fault.
        source: The submission.
    """

    def __init__(self, faults: Sequence[str], *, source: str | Path | None = None) -> None:
        self.faults, self.source = list(faults), source
        count = len(self.faults)
        head = f"{count} fault{'' if count == 1 else 's'} found:"
        super().__init__(_message(source, "\n".join([head, *(f"  - {fault}" for fault in self.faults)]), None))


class MachineError(BenchError):
    """The machine refused: a full disk, a read-only folder, a missing permission, a file that went away. No input is to blame.

    Args:
        problem: What the machine refused.
        source: The file or folder.
        remedy: What to do.
    """

    def __init__(self, problem: str, *, source: str | Path | None = None, remedy: str | None = None) -> None:
        self.problem, self.source, self.remedy = problem, source, remedy
        super().__init__(_message(source, problem, remedy))


_FULL = "Make room there or choose another folder, then run the same command again."
_REFUSALS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", _FULL),
    errno.EDQUOT: ("the disk quota is used up", _FULL),
    errno.EFBIG: ("the file is larger than this disk allows", _FULL),
    errno.EROFS: ("the file system is read-only", "Choose a folder that can be written to."),
    errno.EACCES: ("permission denied", "Check its owner and permissions, or choose another folder."),
    errno.EPERM: ("the operation is not permitted", "Check its owner and permissions, or choose another folder."),
    errno.ENOENT: ("no such file or folder", "Check the path; if it was there when the command started, it was moved or deleted since."),
    errno.EEXIST: ("already exists", "Choose another name, or remove it."),
    errno.ENOTEMPTY: ("the folder is not empty", "Choose another name, or remove it."),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Check the path."),
    errno.EISDIR: ("is a folder, and a file is needed", "Check the path."),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "Choose a shorter path."),
    errno.ELOOP: ("too many symbolic links", "Check the links of the path."),
    errno.EMFILE: ("too many open files", "Raise the limit (ulimit -n) or use fewer --jobs."),
    errno.ENFILE: ("too many open files on this machine", "Close other programs or use fewer --jobs."),
    errno.EIO: ("the disk reports an input/output error", "Check the disk and its connection, then run the same command again."),
    errno.ESTALE: ("the network file system lost the file", "Check the mount, then run the same command again."),
    errno.ENOMEM: ("not enough memory", "Use fewer --jobs, or a machine with more memory."),
}
STOPPING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})
"""Refusals that every further write would meet too."""
_SPELLED = {
    os.strerror(code).lower(): code
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO, errno.ENOMEM)
}
_QUOTED_PATH = re.compile(r"['\"]?(/[^'\":\n]+)['\"]?")
_HIDDEN = re.compile(r"/\.writing-[^/]+")
"""The hidden folder that a writer works in (`rs05bench.protocol.atomic`): nobody knows it by that name."""
_FREE_BYTES = 1 << 20


def refusal(error: BaseException) -> int | None:
    """The `errno` with which the machine refused something, also where a library wrapped the error or only quotes its text.

    Returns:
        A code of `errno`, or None where the error is not the machine's.
    """
    for part in chain(error):
        if isinstance(part, MemoryError):
            return errno.ENOMEM
        if isinstance(part, OSError) and part.errno in _REFUSALS:
            return part.errno
        text = str(part).lower()
        for spelled, code in _SPELLED.items():
            if spelled in text:
                return code
    return None


def machine_error(error: BaseException) -> MachineError | None:
    """The one sentence about an error of the machine: what, where, and what to do; None where the error is not the machine's."""
    if isinstance(error, MachineError):
        return error
    code = refusal(error)
    if code is None:
        plain = next((part for part in chain(error) if isinstance(part, OSError)), None)
        return None if plain is None else MachineError(str(plain.strerror or plain), source=_where(plain))
    if code == errno.ENOENT and "temporary directory" in str(error):
        return MachineError("no temporary folder can be written to", remedy="Set TMPDIR to a folder that has room and can be written to.")
    problem, remedy = _REFUSALS[code]
    source = next((where for part in chain(error) if (where := _where(part)) is not None), None)
    if source is None and code in (errno.ENOSPC, errno.EDQUOT):
        source = _full_folder()
    if remedy is _FULL and source is not None and Path(source).is_relative_to(tempfile.gettempdir()):
        remedy = "Make room there or set TMPDIR to a folder that has room, then run the same command again."
    return MachineError(problem, source=source, remedy=remedy)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, the nearest first."""
    seen: set[int] = set()
    part: BaseException | None = error
    while part is not None and id(part) not in seen:
        seen.add(id(part))
        yield part
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)


def _where(error: BaseException) -> str | None:
    """The path an error names: its own, or one that its text quotes."""
    for name in (getattr(error, "filename", None), getattr(error, "filename2", None)):
        if isinstance(name, (str, bytes, os.PathLike)):
            return _HIDDEN.sub("", os.fsdecode(name))
    found = _QUOTED_PATH.search(str(error))
    return found[1].strip() if found else None


def _full_folder() -> str | None:
    """The first full folder among those a command writes to: what its arguments name, the temporary folder, the working folder."""
    named = [Path(text.partition("=")[2] or text) for text in sys.argv[1:]]
    for path in [*named, Path(os.environ.get("TMPDIR", tempfile.gettempdir())), Path()]:
        try:
            there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
            if shutil.disk_usage(there).free < _FREE_BYTES:
                return str(there)
        except (OSError, ValueError, StopIteration):
            continue
    try:
        output = os.fstatvfs(sys.stdout.fileno())
    except (OSError, ValueError):
        return None
    return "standard output" if output.f_bavail * output.f_frsize < _FREE_BYTES else None


def _message(source: str | Path | None, problem: str, remedy: str | None) -> str:
    text = f"{source}: {problem}" if source is not None else problem
    return f"{text}\n  {remedy}" if remedy else text
