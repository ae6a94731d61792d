"""Finding a dataset's files in its folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from rs05bench.errors import DataError
from rs05bench.protocol.documents import read_json_mapping
from rs05bench.protocol.hashing import file_digest
from rs05bench.protocol.safe_paths import inside

RECEIPT = ".rs05bench-download.json"
"""What `rs05bench download` leaves beside the data: where every file came from and its SHA-256."""


def require_data(root: Path, name: str, homepage: str) -> None:
    """The folder must exist.

    Raises:
        MissingDatasetError: It does not; says how to get the data.
    """
    if not root.is_dir():
        raise missing_data(
            "the folder does not exist" if not root.exists() else "is a file, expected a folder",
            root,
            f"Run `rs05bench download {name} --root {root}`, or get the data from {homepage}.",
        )


def missing_data(problem: str, root: str | Path, remedy: str) -> DataError:
    """The error of a data set that is not in its folder; TorchGeo, which it also belongs to, is imported only now."""
    from rs05bench.datasets.absent import MissingDatasetError

    return MissingDatasetError(problem, source=root, remedy=remedy)


def find_rasters(root: Path, pattern: str) -> list[Path]:
    """All files below a folder that match a pattern, sorted.

    The published archives were packed on a Mac: beside every raster lies a resource fork named `._<raster>`, which is not a raster.
    """
    return sorted(path for path in root.rglob(pattern) if not path.name.startswith("._") and not hidden(path.relative_to(root)))


def hidden(path: Path) -> bool:
    """Whether a path runs through a folder that starts with a dot (a download in progress, a version control folder)."""
    return any(part.startswith(".") for part in path.parts[:-1])


def read_list(path: Path) -> list[str]:
    """The lines of a text file that hold something.

    Raises:
        DataError: Not a text file.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as text ({error})", source=path) from None
    return [line.strip() for line in lines if line.strip()]


def verify_receipt(root: Path, name: str) -> int:
    """Hash every file that `rs05bench download` unpacked or fetched and compare.

    Returns:
        How many files were compared.

    Raises:
        DataError: No receipt, or files that are gone or changed.
    """
    path = root / RECEIPT
    again = f"Run `rs05bench download {name} --root {root}`."
    try:
        entries = read_json_mapping(path)["files"]
    except FileNotFoundError:
        raise DataError("there is no download receipt, so there is nothing to compare checksums with", source=path, remedy=again) from None
    except (DataError, KeyError) as error:
        raise DataError(f"the download receipt cannot be read ({error!r})", source=path, remedy=again) from None
    wrong = []
    compared = 0
    for relative, entry in sorted(entries.items()):
        target = inside(root, relative, source=path)
        if entry.get("unpacked") and not target.exists():
            continue  # an archive, deleted after its files were unpacked
        compared += 1
        if not target.is_file():
            wrong.append(f"{relative} is gone")
        elif target.stat().st_size != entry["size"] or file_digest(target) != entry["sha256"]:
            wrong.append(f"{relative} has changed")
    if wrong:
        raise DataError(f"{len(wrong)} of {compared} files differ from the download: {'; '.join(wrong[:3])}", source=root, remedy=again)
    return compared


def refuse_unknown(given: Mapping[str, object], known: type) -> None:
    """Stops at a keyword that is not one of a typed dictionary, as Python does at an argument that is not declared.

    Raises:
        TypeError: Names the keyword and those there are.
    """
    names = list(known.__annotations__)
    if unknown := sorted(set(given) - set(names)):
        raise TypeError(f"no argument {unknown[0]!r}; there are also {', '.join(names)}")


def paired_files(
    root: Path, dataset: str, pattern: str, name: re.Pattern[str], unit_of: Callable[[re.Match[str]], str], example: str
) -> dict[str, tuple[Path, Path]]:
    """Image and mask of every chip by its id.

    Args:
        root: Folder that is searched.
        dataset: Name of the data set.
        pattern: Glob of the files.
        name: What their names must be, with the group `kind`: `_merged` for images.
        unit_of: The chip's id of a name.
        example: A name, for messages.

    Raises:
        DataError: No file, one of another name, two of one chip, or one without its partner.
    """
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in find_rasters(root, pattern):
        match = name.match(path.name)
        if match is None:
            raise DataError(f"expected a name like {example}", source=path, remedy="Rename it, or move it out of the dataset's folder.")
        chosen, unit_id = (images if match["kind"] == "_merged" else masks), unit_of(match)
        if unit_id in chosen:
            raise DataError(f"shows the same chip as {chosen[unit_id]}", source=path, remedy="Keep one of the two layouts or copies.")
        chosen[unit_id] = path
    if not images and not masks:
        download = f"Run `rs05bench download {dataset} --root {root}`."
        raise missing_data(f"holds no chip ({pattern.replace('.tif', '_merged.tif')})", root, download)
    for have, lack, what in ((images, masks, "mask"), (masks, images, "image")):
        alone = sorted(set(have) - set(lack))
        if alone:
            raise DataError(
                f"{len(alone)} files have no {what}, e.g. {have[alone[0]].name}",
                source=root,
                remedy="The download was cut short: run `rs05bench download` again.",
            )
    return {unit_id: (images[unit_id], masks[unit_id]) for unit_id in sorted(images)}
