"""Paths made from names and digests that came from outside: one function, so that none leads out of its folder.

A name in an index, a card, a submission or a foreign store is text that somebody wrote. Whatever is read from, written to or removed at
such a name goes through `inside`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from rs05bench.errors import DataError

NameKind = Literal["task", "manifest", "labels", "result"]

_TASK = r"[a-z0-9][a-z0-9.-]*"
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
    if not isinstance(name, str) or pattern.fullmatch(name) is None:
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
        path = path / text
    resolved, folder = path.resolve(), base.resolve()
    if resolved == folder or not resolved.is_relative_to(folder):
        raise DataError(f"{path} leads outside {base}", source=source or base, remedy="Nothing was written.")
    return path
