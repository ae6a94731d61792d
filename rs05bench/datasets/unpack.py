"""Unpacking an archive that somebody else packed.

Nothing may land outside the folder, nothing may be a link or a device, and a half-unpacked archive never looks like a whole one: files
are written to a hidden folder next to the target, and moved in when all of them are there.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from rs05bench.errors import DataError

CHUNK = 1 << 20
MAX_BYTES = 400 << 30
MAX_FILES = 1_000_000
MAX_RATIO = 200
"""Unpacked bytes per packed byte beyond which an archive is refused; deflate reaches 1,032 on zeros alone."""
_SMALL = 16 << 20
"""An archive that unpacks to less is not held to the ratio."""
_LITTER = {"__MACOSX", ".DS_Store"}
_DAMAGED = "The archive is damaged: delete it and download it again."


def unpack(
    archive: Path,
    target: Path,
    *,
    replace: bool = False,
    progress: Callable[[int], None] | None = None,
    max_bytes: int = MAX_BYTES,
) -> dict[str, dict[str, Any]]:
    """Unpack a tar (plain, gz, bz2, xz) or a zip.

    Args:
        archive: The file.
        target: The folder; made if it is not there.
        replace: Whether what the folder already holds under the same names may be replaced.
        progress: Told how many files are written.
        max_bytes: Refuse archives that unpack to more.

    Returns:
        Relative path -> `size` and `sha256` of every file. What a Mac adds (`._*`, `__MACOSX`) is left out.

    Raises:
        DataError: Not an archive, damaged, too large, with members that lead out of the folder, links or devices, or files in the way.
        Nothing
            is left behind then.
    """
    target.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    work = Path(tempfile.mkdtemp(prefix=".rs05bench-unpacking-", dir=target))
    try:
        written = _write_all(archive, work, progress, max_bytes)
        if not written:
            raise DataError("holds no file", source=archive)
        _move_in(work, target, archive, replace)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return written


def _write_all(archive: Path, work: Path, progress: Callable[[int], None] | None, max_bytes: int) -> dict[str, dict[str, Any]]:
    written: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    total = 0
    most = min(max_bytes, max(_SMALL, MAX_RATIO * archive.stat().st_size))
    try:
        for name, stream in _members(archive):
            relative = _safe(name, archive)
            if any(part in _LITTER or part.startswith("._") for part in relative.parts):
                continue
            key = str(relative).casefold()  # two names that differ in case are one file on some disks
            if key in seen:
                raise DataError(f"holds {name!r} twice", source=archive)
            seen.add(key)
            if len(seen) > MAX_FILES:
                raise DataError(f"holds more than {MAX_FILES:,} files", source=archive)
            out = work.joinpath(*relative.parts)
            out.parent.mkdir(parents=True, exist_ok=True)
            digest, size = hashlib.sha256(), 0
            with out.open("xb") as sink:
                while chunk := stream.read(CHUNK):
                    size += len(chunk)
                    total += len(chunk)
                    if total > most:
                        why = f"{max_bytes / 1e9:.1f} GB" if most == max_bytes else f"{MAX_RATIO} times its own size"
                        raise DataError(f"unpacks to more than {why}", source=archive, remedy="It may be a bomb: look at it by hand.")
                    digest.update(chunk)
                    sink.write(chunk)
            written[str(relative)] = {"size": size, "sha256": digest.hexdigest()}
            if progress is not None:
                progress(len(written))
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise DataError(f"cannot be unpacked ({error})", source=archive, remedy=_DAMAGED) from None
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"holds a file and a folder of one name ({error.filename})", source=archive) from None
    except OSError as error:
        if error.errno is None:  # bz2 reports damage so
            raise DataError(f"cannot be unpacked ({error})", source=archive, remedy=_DAMAGED) from None
        raise
    return written


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and stream of every file, in the archive's order; anything but files and folders is refused."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DataError(
                        f"member {info.filename!r} is a link or a device", source=archive, remedy="Such an archive is not unpacked."
                    )
                if info.is_dir():
                    _safe(info.filename, archive)
                    continue
                with zipped.open(info) as stream:
                    yield info.filename, stream
        return
    # Streaming: the archive is read once, front to back, and its index is never held in memory.
    with _decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as packed:
        for member in packed:
            if member.isdir():
                _safe(member.name, archive)
                continue
            if not member.isreg():
                raise DataError(f"member {member.name!r} is a link or a device", source=archive, remedy="Such an archive is not unpacked.")
            content = packed.extractfile(member)
            assert content is not None  # a regular file
            yield member.name, content
        # A cut between two members looks like the end of a tar; the compressed stream knows better, if it is read to its own end.
        while stream.read(CHUNK):
            pass


def _decompressed(archive: Path) -> IO[bytes]:
    with archive.open("rb") as stream:
        magic = stream.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(archive, "rb")  # type: ignore[return-value]
    if magic.startswith(b"BZh"):
        return bz2.open(archive, "rb")
    if magic.startswith(b"\xfd7zXZ\0"):
        return lzma.open(archive, "rb")
    return archive.open("rb")


def _safe(name: str, archive: Path) -> PurePosixPath:
    """The member's path inside the folder."""
    path = PurePosixPath(name)
    windows = PureWindowsPath(name)
    parts = tuple(part for part in path.parts if part != ".")
    if path.is_absolute() or windows.drive or windows.root or "\\" in name or "\0" in name or ".." in parts:
        raise DataError(f"member {name!r} would be written outside the folder", source=archive, remedy="Such an archive is not unpacked.")
    return PurePosixPath(*parts) if parts else PurePosixPath()


def _move_in(work: Path, target: Path, archive: Path, replace: bool) -> None:
    entries = sorted(work.iterdir())
    taken = [entry.name for entry in entries if (target / entry.name).exists() or (target / entry.name).is_symlink()]
    if taken and not replace:
        raise DataError(
            f"{', '.join(taken[:3])} {'is' if len(taken) == 1 else 'are'} already in {target}",
            source=archive,
            remedy="Unpack into an empty folder, or replace what is there with --force.",
        )
    old = Path(tempfile.mkdtemp(prefix=".rs05bench-replaced-", dir=target)) if taken else None
    for entry in entries:
        if entry.name in taken and old is not None:
            (target / entry.name).rename(old / entry.name)
        entry.rename(target / entry.name)
    if old is not None:
        shutil.rmtree(old)


def _remove_leftovers(target: Path) -> None:
    """What a killed run left half unpacked."""
    for pattern in (".rs05bench-unpacking-*", ".rs05bench-replaced-*"):
        for leftover in target.glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)
