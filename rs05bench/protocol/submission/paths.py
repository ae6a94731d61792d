"""The names a bundle may hold. A name that is not on the list is refused, and the message says what is wrong with it."""

from __future__ import annotations

import re
import unicodedata

from rs05bench.protocol.submission.faults import shown

CELL = r"cells/(?:0|[1-9][0-9]{0,5})"
LAYOUT = re.compile(
    rf"submission\.json|costs\.json|SHA256SUMS|{CELL}/(?:predictions\.json|units\.parquet|samples\.parquet)"
    rf"|{CELL}/chips/[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}\.tif"
)
TOP = ("submission.json", "costs.json", "SHA256SUMS", "cells")
DEEPEST = 5
_FOLDER = re.compile(rf"cells|{CELL}|{CELL}/chips")
_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_HINT = "a bundle holds submission.json, costs.json, SHA256SUMS and cells/<n>/{predictions.json,units.parquet,samples.parquet,chips/*.tif}"


def unsafe(name: str) -> str | None:
    """Why a name could do harm outside the work folder or fool a reader; None where it cannot."""
    if "\0" in name:
        return f"{shown(name)}: the name holds a NUL"
    if re.match(r"/|[A-Za-z]:|\\\\", name):
        return f"{shown(name)}: the name is an absolute path"
    parts = re.split(r"[/\\]", name.removesuffix("/"))
    if ".." in parts:
        return f"{shown(name)}: the name leads outside the bundle (..)"
    if "\\" in name:
        return f"{shown(name)}: the name holds a backslash"
    odd = next((letter for letter in name if not " " <= letter <= "~"), None)
    if odd is not None:
        return f"{shown(name)}: the name holds {_letter(odd)}; only plain ASCII letters, digits, dot, dash and underscore are allowed"
    if any(_RESERVED.fullmatch(part) for part in parts):
        return f"{shown(name)}: the name is reserved on Windows"
    if len(parts) > DEEPEST:
        return f"{shown(name)}: the folders are nested {len(parts) - 1} deep"
    if max(map(len, parts)) > 104:
        return f"{shown(name)}: the name is longer than 104 characters"
    return None


def misplaced(name: str) -> str | None:
    """Why a file has no place in a bundle; None where it has."""
    return None if LAYOUT.fullmatch(name) else f"{shown(name)}: no such file belongs into a bundle ({_HINT})"


def misplaced_folder(name: str) -> str | None:
    """Why a folder has no place in a bundle; None where it has."""
    return None if _FOLDER.fullmatch(name) else f"{shown(name)}: no such folder belongs into a bundle ({_HINT})"


def is_component(name: str) -> bool:
    """Whether a name can be the one folder an archive wraps its bundle in."""
    return _COMPONENT.fullmatch(name) is not None


def _letter(letter: str) -> str:
    return f"U+{ord(letter):04X} {unicodedata.name(letter, 'a control character')}"
