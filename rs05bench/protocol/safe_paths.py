"""Paths made from names and digests that came from outside, so that none leads out of its folder.

A name in an index, a card, a submission or a foreign store is text that somebody wrote. Whatever is read from, written to or removed at
such a name goes through `inside` (a relative path) or `child` (one name).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Literal

from rs05bench.errors import DataError

NameKind = Literal["task", "manifest", "labels", "result"]

_TASK = r"[a-z0-9][a-z0-9.-]*"
_SEPARATOR = re.compile(r"[/\\\x00]|^[A-Za-z]:")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
"""Names that Windows takes for a device in any folder, whatever follows the first dot."""
_LONGEST = 255
"""Bytes of a name, on every common file system."""
_SPLIT = r"[^\W_][\w.+-]*"
_FORMS: dict[NameKind, tuple[re.Pattern[str], str]] = {
    "task": (re.compile(_TASK), "lower-case letters, digits, dots and dashes"),
    "labels": (re.compile(_TASK), "lower-case letters, digits, dots and dashes"),
    "manifest": (re.compile(rf"(?:simulated/)?{_TASK}/{_SPLIT}@v[1-9][0-9]{{0,5}}"), "<task>/<split>@v<N>"),
    "result": (re.compile(r"[0-9a-f]{64}"), "64 hexadecimal digits"),
}


def checked_name(kind: NameKind, name: object, *, source: str | Path | None = None) -> str:
    """The name, where it has the form of its kind.

    Args:
        kind: What it names.
        name: As it was read.
        source: Where it was read, for the message.

    Raises:
        DataError: It is not text, or not of that form.
    """
    pattern, form = _FORMS[kind]
    if not isinstance(name, str) or pattern.fullmatch(name) is None or any(_unfit(part) for part in name.split("/")):
        raise DataError(f"{name!r} is not a name of a {kind} ({form})", source=source, remedy="Nothing was written.")
    return name


def checked_digest(digest: object, *, source: str | Path | None = None) -> str:
    """The digest, where it is 64 hexadecimal digits in lower case.

    Raises:
        DataError: It is anything else.
    """
    return checked_name("result", digest, source=source)


def inside(root: str | Path, *parts: object, source: str | Path | None = None) -> Path:
    """`root` joined with parts that came from outside; symbolic links are followed before the place is judged.

    Args:
        root: The folder that the path must lie in; it need not exist.
        *parts: Names or relative paths, with forward slashes.
        source: Where the parts were read, for the message.

    Returns:
        The path, not resolved.

    Raises:
        DataError: A part is empty, absolute, holds a backslash, a drive or a NUL, or the path leads outside `root` or to `root` itself.

    >>> inside("runs", "labels", "crop").as_posix()
    'runs/labels/crop'
    """
    base = Path(root)
    path = base
    for part in parts:
        text = str(part)
        broken = not text or "\x00" in text or "\\" in text or text.startswith("/") or re.match(r"[A-Za-z]:", text)
        if broken or ".." in text.split("/"):
            raise DataError(f"{text!r} leads outside the folder", source=source or base, remedy="Nothing was written.")
        if any(_unfit(name) for name in text.split("/")):
            raise DataError(f"{text[:80]!r} is not a name of a file ({_UNFIT})", source=source or base, remedy="Nothing was written.")
        path = path / text
    resolved, folder = path.resolve(), base.resolve()
    if resolved == folder or not resolved.is_relative_to(folder):
        raise DataError(f"{path} leads outside {base}", source=source or base, remedy="Nothing was written.")
    return path


def child(root: str | Path, *names: object) -> Path:
    """`root` joined with plain names that came from outside; looks at no file, so that it can be called for every result of a store.

    Args:
        root: The folder.
        *names: Names without a separator, each a folder or file of the one before.

    Raises:
        DataError: A name is empty, leads elsewhere (`..`), or holds a separator, a drive or a NUL.

    >>> child("runs", "cells", "ab").as_posix()
    'runs/cells/ab'
    """
    path = Path(root)
    for name in names:
        text = str(name)
        if text in ("", ".", "..") or _SEPARATOR.search(text) is not None or _unfit(text):
            raise DataError(f"{text[:80]!r} is not a plain name ({_UNFIT})", source=root, remedy="Nothing was read or written.")
        path = path / text
    return path


def cache_folder(*names: str) -> Path:
    """A folder of what can be fetched or made again: under `$XDG_CACHE_HOME/rs05bench`, by default `~/.cache/rs05bench`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").joinpath("rs05bench", *names)


_UNFIT = "at most 255 bytes, no control characters, no device of Windows"


def _unfit(name: str) -> bool:
    """Whether a part of a path means something else on another system, cannot be written, or shows as something else."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        return True
    return length > _LONGEST or _DEVICE.fullmatch(name) is not None or any(ord(letter) < 32 or ord(letter) == 127 for letter in name)


def plain_files(root: str | Path) -> None:
    """Refuses a folder from outside that holds anything but files and folders.

    Raises:
        DataError: It holds a link, a pipe, a socket or a device: reading it could wait for ever, or read something else.
    """
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a link" if stat.S_ISLNK(mode) else "a pipe, a socket or a device"
                raise DataError(f"is {kind}, and only files and folders are taken", source=path, remedy="Copy the folder without it.")
