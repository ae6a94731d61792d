"""What the command writes to a terminal: names from outside are shown as they are, and none is obeyed."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_OBEYED = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]|\\r(?!\\n)")


def visible(text: str) -> str:
    r"""Text with what a terminal would obey (escape sequences, other control characters, changes of direction) written out.

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


class _Visible(io.TextIOWrapper):
    def write(self, text: str) -> int:
        super().write(visible(text))
        return len(text)


def console() -> Console:
    """A console for tables: nothing in a name is markup, an emoji or a number to colour."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, color_system=None)


def show_names_as_they_are() -> None:
    """Has standard output and error write control characters out; progress bars write to `sys.__stderr__` and keep theirs."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, _Visible):
            stream.flush()
            line = stream.line_buffering or name == "stderr"
            setattr(sys, name, _Visible(stream.buffer, stream.encoding, "backslashreplace", line_buffering=line))
