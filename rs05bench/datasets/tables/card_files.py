"""The files of a card as one frame, with the name of the file and the row of each record."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.intake.keys import as_keys
from rs05bench.protocol.intake.tablefile import read_tablefile

INDEX_COLUMN = "system:index"  # Earth Engine's row name
FILE_COLUMN, ROW_COLUMN = "_file", "_row"


def find_files(root: Path, patterns: Sequence[str], *, source: str) -> list[str]:
    """The files a card's globs mean, in name order; `FILE#LAYER` keeps its layer.

    A file whose own name is the pattern is found before the pattern is read as a glob: `plots [v2].csv` is a name.

    Raises:
        DataError: A pattern that finds nothing, or a data directory that is not there.
    """
    if root.is_file():
        return [str(root)]
    if not root.is_dir():
        raise DataError("no such file or folder", source=root, remedy="Give the folder that holds the card's files with --data.")
    found: dict[str, None] = {}
    for pattern in patterns:
        if Path(pattern).is_absolute():
            raise DataError(f"files: {pattern!r} is absolute; patterns are relative to the data directory", source=source)
        hits = _hits(root, pattern)
        if not hits and "#" in pattern:
            name, _, layer = pattern.rpartition("#")
            hits = [f"{path}#{layer}" for path in _hits(root, name)]
        if not hits:
            here = sorted(path.name for path in root.iterdir())[:8]
            raise DataError(f"files: {pattern!r} finds no file in {root} (it holds: {', '.join(here) or 'nothing'})", source=source)
        found.update(dict.fromkeys(hits))
    return list(found)


def _hits(root: Path, pattern: str) -> list[str]:
    if (root / pattern).is_file():
        return [str(root / pattern)]
    return sorted(str(path) for path in root.glob(pattern) if path.is_file())


def read_files(
    root: Path, patterns: Sequence[str], *, text: Collection[str], needed: Collection[str] = (), source: str
) -> tuple[pd.DataFrame, list[str]]:
    """All files of the patterns as one frame, with `_file` (path without its ending, relative to `root`) and `_row`.

    Args:
        root: The data directory, or one file.
        patterns: Globs relative to it.
        text: Columns to read as text.
        needed: Columns, or globs of them, that every file must have if one has them.
        source: The card, for messages.

    Returns:
        The frame, and what was taken for granted in reading it.

    Raises:
        DataError: No file, an unreadable one, or one that lacks a needed column.
    """
    read = [read_tablefile(spec, text=text) for spec in find_files(root, patterns, source=source)]
    remarks = [f"{item.path.name}: {remark}" for item in read for remark in item.remarks]
    paths = [item.path for item in read]
    # A copy, because a reader's frame may be one block a column, and pandas warns of that to whoever adds the next one.
    frames = [item.with_wgs84().copy() for item in read]
    _refuse_gaps(frames, paths, needed)
    for path, frame in zip(paths, frames, strict=True):
        relative = path.relative_to(root) if root.is_dir() else Path(path.name)
        frame[FILE_COLUMN] = relative.as_posix().removesuffix("".join(relative.suffixes[-1:]))
        # Exports that were pasted together repeat their index; their rows still have a number.
        if INDEX_COLUMN in frame.columns and frame[INDEX_COLUMN].is_unique:
            frame[ROW_COLUMN] = as_keys(frame[INDEX_COLUMN])
        else:
            frame[ROW_COLUMN] = [str(number) for number in range(len(frame))]
    return (frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)), remarks


def _refuse_gaps(frames: Sequence[pd.DataFrame], paths: Sequence[Path], needed: Collection[str]) -> None:
    """A column that one file lacks would silently be blank in its rows."""
    owner = {str(name): path for frame, path in zip(reversed(frames), reversed(paths), strict=True) for name in frame.columns}
    wanted = [name for name in owner if any(fnmatch.fnmatchcase(name, pattern) for pattern in needed)]
    for frame, path in zip(frames, paths, strict=True):
        if lacking := [name for name in wanted if name not in frame.columns]:
            raise DataError(
                f"lacks the column{'s' if len(lacking) > 1 else ''} {', '.join(map(repr, lacking[:6]))} that {owner[lacking[0]].name} has",
                source=path,
                remedy="Export all files with the same columns, or narrow the card's `files`.",
            )
