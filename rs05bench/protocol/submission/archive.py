"""Opening a bundle: a folder is walked, an archive is unpacked into a work folder, and neither is trusted.

Sizes, counts and ratios are checked from what the archive says before anything is unpacked, and again from what really comes out.
Nothing but plain files is ever made; no link is followed or made; an existing file is never written.
"""

from __future__ import annotations

import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rs05bench.protocol.submission import paths, trail
from rs05bench.protocol.submission.faults import Faults, HostileError, shown
from rs05bench.protocol.submission.limits import Limits

CHUNK = 1 << 20
_MOST_HEADER = 64 * 1024
_TAR_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(slots=True)
class Opened:
    """A bundle on disk.

    Attributes:
        root: Folder that holds its files.
        files: Relative path -> bytes.
    """

    root: Path
    files: dict[str, int] = field(default_factory=dict)

    @property
    def cells(self) -> list[str]:
        """Folders of the cells, in number order."""
        found = {name.rpartition("/chips/")[0] or name.rpartition("/")[0] for name in self.files if name.startswith("cells/")}
        return sorted(found, key=lambda name: int(name.split("/")[1]))


def open_bundle(bundle: Path, work: Path, limits: Limits, faults: Faults) -> Opened:
    """Opens a folder or unpacks an archive.

    Args:
        bundle: Folder, .zip, .tar or .tar.gz.
        work: An empty folder that archives are unpacked into.
        limits: How large it may be.
        faults: Takes what is wrong with single files.

    Raises:
        HostileError: Going on would be unsafe.
    """
    if bundle.is_symlink():
        raise HostileError("the bundle is a symbolic link; give the folder or file itself")
    if bundle.is_dir():
        return _walk(bundle, limits, faults)
    if not bundle.is_file():
        raise HostileError("there is no such file or folder, or it is no plain file")
    size = bundle.stat().st_size
    if size > limits.archive_bytes:
        raise HostileError(f"the archive has {size:,} bytes; at most {limits.archive_bytes:,} are allowed")
    trail.reading("the archive")
    with bundle.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        taker = _Taker(work / "bundle", limits, faults, size)
        try:
            if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                _unzip(file, size, taker)
            elif head[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=file) as plain:
                    _untar(_Counted(plain, file, limits), taker)
            elif head[257:262] == b"ustar":
                _untar(_Counted(file, file, limits), taker)
            else:
                raise HostileError("the bundle is neither a folder nor a .zip, .tar or .tar.gz (its first bytes say so)")
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, struct.error, UnicodeError) as error:
            raise HostileError(f"the archive is damaged: {shown(str(error))}") from error
        except (NotImplementedError, RuntimeError, ValueError, OSError, OverflowError) as error:
            raise HostileError(f"the archive cannot be unpacked: {shown(str(error))}") from error
    return Opened(taker.root, taker.files)


class _Taker:
    """Accepts the entries of an archive one by one."""

    def __init__(self, root: Path, limits: Limits, faults: Faults, packed: int) -> None:
        self.root, self.limits, self.faults, self.packed = root, limits, faults, packed
        self.files: dict[str, int] = {}
        self._seen: set[str] = set()
        self._wrap: str | None = None
        self._entries = self._bytes = 0
        root.mkdir(parents=True)

    def count(self) -> None:
        """Counts an entry of any kind."""
        self._entries += 1
        if self._entries > self.limits.files:
            raise HostileError(f"the archive holds more than {self.limits.files:,} entries")

    def place(self, name: str, *, folder: bool) -> str | None:
        """The path an entry belongs to inside the bundle; None where it has none (its fault is kept) or is a mere folder."""
        fault = paths.unsafe(name)
        if fault is not None:
            self.faults.add(fault)
            return None
        inner = "/".join(part for part in name.split("/") if part not in ("", "."))
        first, _, rest = inner.partition("/")
        if first not in paths.TOP and (rest or folder):
            # Most tools wrap what they pack in one folder: that one is taken off.
            if self._wrap is None and paths.is_component(first):
                self._wrap = first
            if first == self._wrap:
                inner = rest
        if not inner:
            return None
        fault = paths.misplaced_folder(inner) if folder else paths.misplaced(inner)
        if fault is not None:
            self.faults.add(fault)
            return None
        if folder:
            return None
        if inner.lower() in self._seen:
            self.faults.add(f"{shown(inner)}: occurs twice in the archive")
            return None
        self._seen.add(inner.lower())
        return inner

    def write(self, name: str, source: BinaryIO, said: int) -> None:
        """Writes one file, and stops where more comes out than the archive said or the limits allow."""
        self.check_size(name, said)
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        done = 0
        with os.fdopen(out, "wb") as file:
            while chunk := source.read(min(CHUNK, said - done + 1)):
                done += len(chunk)
                self._bytes += len(chunk)
                if done > said:
                    raise HostileError(f"{shown(name)}: holds more than the {said:,} bytes its entry says")
                if self._bytes > self.limits.unpacked_bytes:
                    raise HostileError(f"the archive unpacks to more than {self.limits.unpacked_bytes:,} bytes")
                if self._bytes > max(self.limits.ratio_free_bytes, self.limits.ratio * self.packed):
                    raise HostileError(f"the archive unpacks to more than {self.limits.ratio} times its size (a decompression bomb)")
                file.write(chunk)
        if done < said:
            raise HostileError(f"{shown(name)}: ends after {done:,} of {said:,} bytes")
        self.files[name] = done

    def check_size(self, name: str, said: int) -> None:
        """Refuses a file by what its entry says."""
        if said > self.limits.file_bytes:
            raise HostileError(f"{shown(name)}: says {said:,} bytes; at most {self.limits.file_bytes:,} a file are allowed")


def _unzip(file: BinaryIO, size: int, taker: _Taker) -> None:
    _check_directory(file, size, taker.limits)
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        said = sum(info.file_size for info in infos)
        if len(infos) > taker.limits.files:
            raise HostileError(f"the archive holds {len(infos):,} entries; at most {taker.limits.files:,} are allowed")
        if said > taker.limits.unpacked_bytes:
            raise HostileError(f"the archive says it unpacks to {said:,} bytes; at most {taker.limits.unpacked_bytes:,} are allowed")
        if said > max(taker.limits.ratio_free_bytes, taker.limits.ratio * size):
            raise HostileError(f"the archive says it unpacks to {said // max(size, 1):,} times its size (a decompression bomb)")
        if sum(info.compress_size for info in infos) > size:
            raise HostileError("the entries of the archive overlap (a decompression bomb)")
        chosen = [(info, name) for info in infos if (name := _zip_name(info, taker)) is not None]
        if taker.faults:
            return  # Nothing of an archive with unsafe names is unpacked.
        for info, name in chosen:
            with archive.open(info) as source:
                taker.write(name, source, info.file_size)  # type: ignore[arg-type]


def _zip_name(info: zipfile.ZipInfo, taker: _Taker) -> str | None:
    taker.count()
    # zipfile cuts a name at its NUL; what the archive really says is kept beside it.
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        word = "a symbolic link" if kind == stat.S_IFLNK else "no plain file"
        taker.faults.add(f"{shown(name)}: is {word}")
        return None
    if info.flag_bits & 0x1:
        taker.faults.add(f"{shown(name)}: is encrypted")
        return None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        taker.faults.add(f"{shown(name)}: is packed by method {info.compress_type}; only stored and deflated files are read")
        return None
    taker.check_size(name, info.file_size)
    return taker.place(name, folder=name.endswith("/") or kind == stat.S_IFDIR)


def _check_directory(file: BinaryIO, size: int, limits: Limits) -> None:
    """Refuses a zip by the size of its directory, before the directory is read into memory."""
    tail = min(size, 65_557)
    file.seek(size - tail)
    data = file.read(tail)
    at = data.rfind(b"PK\x05\x06")
    if at < 0 or len(data) - at < 22:
        raise HostileError("the archive is damaged: it has no end record")
    entries, length = struct.unpack("<H", data[at + 10 : at + 12])[0], struct.unpack("<L", data[at + 12 : at + 16])[0]
    locator = data.rfind(b"PK\x06\x07", 0, at)
    if locator >= 0 and (entries == 0xFFFF or length == 0xFFFFFFFF):
        file.seek(min(struct.unpack("<Q", data[locator + 8 : locator + 16])[0], size))
        record = file.read(56)
        if len(record) == 56 and record[:4] == b"PK\x06\x06":
            entries, length = struct.unpack("<Q", record[32:40])[0], struct.unpack("<Q", record[40:48])[0]
    if entries > limits.files:
        raise HostileError(f"the archive holds {entries:,} entries; at most {limits.files:,} are allowed")
    if length > limits.files * 512:
        raise HostileError(f"the directory of the archive has {length:,} bytes; that is too much for {limits.files:,} entries")
    file.seek(0)


class _Member(tarfile.TarInfo):
    """Refuses headers that say more about a file than its name could need, before they are read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _TAR_HEADERS and self.size > _MOST_HEADER:
            raise HostileError(f"a header of the archive has {self.size:,} bytes; at most {_MOST_HEADER:,} are allowed")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise HostileError(f"{shown(self.name)}: is a sparse file")
        return super()._proc_member(archive)  # type: ignore[misc]


class _Counted:
    """The bytes behind a gzip stream, counted as they come out."""

    def __init__(self, plain: BinaryIO | gzip.GzipFile, packed: BinaryIO, limits: Limits) -> None:
        self._plain, self._packed, self._limits, self._bytes = plain, packed, limits, 0

    def read(self, size: int) -> bytes:
        """Some bytes more, unless they have become too many."""
        data = self._plain.read(size)
        self._bytes += len(data)
        # Headers and padding of tar come on top of the files.
        if self._bytes > self._limits.unpacked_bytes + 1024 * self._limits.files:
            raise HostileError(f"the archive unpacks to more than {self._limits.unpacked_bytes:,} bytes")
        if self._bytes > max(self._limits.ratio_free_bytes, self._limits.ratio * self._packed.tell()):
            raise HostileError(f"the archive unpacks to more than {self._limits.ratio} times its size (a decompression bomb)")
        return data


def _untar(stream: _Counted, taker: _Taker) -> None:
    source: Any = stream
    with tarfile.open(fileobj=source, mode="r|", tarinfo=_Member, encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            taker.count()
            archive.members = []  # type: ignore[attr-defined] # tarfile would keep every header.
            if not (member.isreg() or member.isdir()) or member.issparse():
                taker.faults.add(f"{shown(member.name)}: is {_KINDS.get(member.type, 'no plain file')}")
                continue
            taker.check_size(member.name, member.size)
            name = taker.place(member.name, folder=member.isdir())
            if name is None:
                continue
            content: Any = archive.extractfile(member)
            if content is not None:
                taker.write(name, content, member.size)


def _walk(root: Path, limits: Limits, faults: Faults) -> Opened:
    found = Opened(root)
    total = entries = 0
    for name, entry in _entries(root, "", limits):
        entries += 1
        if entries > limits.files:
            raise HostileError(f"the folder holds more than {limits.files:,} entries")
        fault = paths.unsafe(name)
        if fault is None and entry.is_symlink():
            fault = f"{shown(name)}: is a symbolic link"
        if fault is None and entry.is_dir(follow_symlinks=False):
            fault = paths.misplaced_folder(name)
            if fault is None:
                continue
        if fault is None:
            info = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(info.st_mode):
                fault = f"{shown(name)}: is no plain file"
            elif info.st_nlink > 1:
                fault = f"{shown(name)}: is a hard link (the file has other names elsewhere)"
            elif info.st_size > limits.file_bytes:
                fault = f"{shown(name)}: has {info.st_size:,} bytes; at most {limits.file_bytes:,} a file are allowed"
            else:
                fault = paths.misplaced(name)
        if fault is not None:
            faults.add(fault)
            continue
        total += info.st_size
        if total > limits.unpacked_bytes:
            raise HostileError(f"the folder holds more than {limits.unpacked_bytes:,} bytes")
        found.files[name] = info.st_size
    return found


def _entries(folder: Path, prefix: str, limits: Limits) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as listing:
        for entry in listing:
            name = f"{prefix}{entry.name}"
            yield name, entry
            # A folder that has no place in a bundle is told once, and not entered.
            if entry.is_dir(follow_symlinks=False) and paths.unsafe(name) is None and paths.misplaced_folder(name) is None:
                yield from _entries(Path(entry.path), f"{name}/", limits)
