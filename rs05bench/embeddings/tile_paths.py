"""What the paths of tiles say: which files there are, of which year, and what a tile is called."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rs05bench.embeddings.bytesource import is_remote
from rs05bench.embeddings.products import EmbeddingProduct
from rs05bench.errors import DataError
from rs05bench.protocol.cog import open_raster_file
from rs05bench.protocol.intake.times import parse_times

_YEAR_IN_NAME = re.compile(r"(?<!\d)(20[0-3][0-9])(?!\d)")
_YEAR_APART = re.compile(r"(?<![0-9A-Za-z])(20[0-3][0-9])(?![0-9A-Za-z])")
_YEAR = re.compile(r"20[0-3][0-9]")
_ZONE = re.compile(r"\d{1,2}[NS]")
_YEAR_TAGS = ("year", "time_coverage_start")
_SUFFIXES = (".tif", ".tiff")


def year_of(path: str | os.PathLike[str]) -> int | None:
    """The year a path names: that of the published layout (`2024/10N/file`), else the file's name, else the nearest folder that is one."""
    parts = re.split(r"[\\/]", os.fspath(path))
    if len(parts) >= 3 and _ZONE.fullmatch(parts[-2]) and _YEAR.fullmatch(parts[-3]):
        return int(parts[-3])
    name = stem(parts[-1]).replace("_", "-")
    apart, anywhere = set(_YEAR_APART.findall(name)), set(_YEAR_IN_NAME.findall(name))
    if len(apart) == 1:
        return int(apart.pop())
    folder = next((int(part) for part in reversed(parts[:-1]) if _YEAR.fullmatch(part)), None)
    # Four digits inside a word may be a hash: a folder says more.
    return folder if folder is not None or len(anywhere) != 1 else int(anywhere.pop())


def year_in_tags(path: str, of: EmbeddingProduct) -> int | None:
    """The year a local file states of its pixels: in the product's own tag, as `year`, or as the start of the time they are of.

    The tag DATETIME is when a program wrote the file, and says nothing here.
    """
    with open_raster_file(path) as file:
        tags = {name.lower(): value for name, value in file.tags().items()}
    for name in (of.tags.get("year", "year").lower(), *_YEAR_TAGS):
        times, _ = parse_times(pd.Series([tags.get(name)], dtype=object))
        if times.first.notna().all():
            return int(times.first.dt.year.iloc[0])
    return None


def refuse_other_years(files: Sequence[str], year: int | None) -> None:
    """Refuse one year for files that name several: they would be taken for tiles of one year."""
    if year is None:
        return
    named = {found for found in (year_of(file) for file in files) if found is not None}
    if len(named) > 1:
        raise DataError(
            f"year={year} was given for files that name {', '.join(map(str, sorted(named)))}",
            source=files[0],
            remedy="Leave year out, or give the files of one year.",
        )


def only_local(records: list[dict[str, Any]], root: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records whose file is there."""
    present = {os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names}
    kept = [record for record in records if record["path"] in present or os.path.exists(record["path"])] if present else []
    absent = len(records) - len(kept)
    if records and not kept:
        raise DataError(
            f"none of the {absent} tiles listed in the index is here",
            source=str(root),
            remedy="Download tiles below this folder, or read from the mirror.",
        )
    if absent:
        warnings.warn(f"{root}: {absent} of {len(records)} tiles listed in the index are not here and left out", UserWarning, stacklevel=3)
    return kept


def files_below(roots: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The GeoTIFFs below folders, and files and addresses as they are named."""
    found: set[str] = set()
    for root in roots:
        name = os.fspath(root)
        if is_remote(name):
            found.add(name)
        elif os.path.isdir(name):
            found.update(str(path) for path in Path(name).rglob("*") if path.suffix.lower() in _SUFFIXES)
        elif os.path.isfile(name):
            found.add(name)
        else:
            raise DataError("no such file or folder", source=name)
    return sorted(found)


def stem(path: str) -> str:
    """A path without the suffix of a GeoTIFF."""
    return re.sub(r"\.tiff?$", "", path, flags=re.IGNORECASE)


def tile_id_of(path: str) -> str:
    """The path from its last year folder on (`{year}/{zone}/{name}`), without the suffix; else `{zone}/{name}` or the name."""
    parts = [part for part in re.split(r"[\\/]", stem(path)) if part]
    for position in range(len(parts) - 2, -1, -1):
        if _YEAR.fullmatch(parts[position]):
            return "/".join(parts[position:])
    return "/".join(parts[-2:] if len(parts) >= 2 and _ZONE.fullmatch(parts[-2]) else parts[-1:])


def address_below(root: str | os.PathLike[str] | None, path: str) -> str:
    """Where a tile of the published index is below a folder or an address; None leaves it where the index says."""
    if root is None:
        return path
    tail = "/".join(path.split("/")[-3:])
    return f"{os.fspath(root).rstrip('/')}/{tail}" if is_remote(root) else str(Path(root) / tail)
