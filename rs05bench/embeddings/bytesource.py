"""Byte ranges of a file, wherever it lies: the only thing the block reader asks of storage."""

from __future__ import annotations

import functools
import io
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from rs05bench.errors import DataError
from rs05bench.extras import require

if TYPE_CHECKING:
    import asyncio

REMOTE_PREFIXES = ("http://", "https://", "s3://", "gs://", "az://")
_CONCURRENT_REQUESTS = 64  # one block of a band-planar file is 64 ranges: ask for all of them at once


class NoSuchFileError(DataError):
    """There is no file or object of that name."""


class ByteSource(Protocol):
    """A file that can be read in ranges."""

    name: str
    size: int

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (offset, length), in order; a short read is a `DataError`."""

    def stream(self) -> BinaryIO:
        """A file object over the whole, for parsing the header."""

    def close(self) -> None:
        """Give back what is held."""


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an address of object storage or a web server."""
    return str(path).startswith(REMOTE_PREFIXES)


def open_bytes(path: str | os.PathLike[str], **options: Any) -> ByteSource:
    """Open a local file, or an object over HTTP, S3, GCS or Azure.

    Args:
        path: A path or an address.
        **options: Passed to `obstore.store.from_url` for addresses (e.g. `skip_signature=True`).
    """
    return ObjectBytes(str(path), **options) if is_remote(path) else LocalBytes(os.fspath(path))


class LocalBytes:
    """A file of this machine, read with positioned reads so that threads need no lock; where there are none, under one."""

    def __init__(self, path: str) -> None:
        self.name, self._lock = path, threading.Lock()
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError as error:
            raise NoSuchFileError(f"cannot be opened: {error.strerror}", source=path) from error
        except OSError as error:
            raise DataError(f"cannot be opened: {error.strerror}", source=path) from error
        self.size = os.fstat(self._descriptor).st_size

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (offset, length)."""
        found = [self._read(length, offset) for offset, length in ranges]
        for piece, (offset, length) in zip(found, ranges, strict=True):
            _check_length(piece, offset, length, self.name)
        return found

    def _read(self, length: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, length, offset)
        with self._lock:  # Windows
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, length)

    def stream(self) -> BinaryIO:
        """A file object over the whole."""
        return open(self.name, "rb")

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        # Bound above: when the interpreter ends, `os` may have gone first.
        if getattr(self, "_descriptor", -1) >= 0:
            _close(self._descriptor)


class ObjectBytes:
    """An object behind an address, read with concurrent range requests (obstore)."""

    def __init__(self, address: str, **options: Any) -> None:
        self.name, self._options, self._pid = address, options, os.getpid()
        base, _, self._key = address.rpartition("/")
        self._store = store_for(base, **options)
        try:
            self.size = int(self._store.head(self._key)["size"])
        except FileNotFoundError as error:
            raise NoSuchFileError(f"cannot be reached: {_short(error)}", source=address) from error
        except Exception as error:
            raise DataError(f"cannot be reached: {_short(error)}", source=address) from error

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (offset, length), asked for at the same time."""
        import asyncio

        _refuse_fork(self._pid, self.name)
        for offset, length in ranges:
            if offset + length > self.size:
                raise DataError(f"ends at byte {self.size}, but a block lies at {offset}..{offset + length}: truncated", source=self.name)
        try:
            found = asyncio.run_coroutine_threadsafe(self._gather(ranges), _loop()).result()
        except Exception as error:
            raise DataError(f"a range request failed: {_short(error)}", source=self.name) from error
        for piece, (offset, length) in zip(found, ranges, strict=True):
            _check_length(piece, offset, length, self.name)
        return found

    async def _gather(self, ranges: Sequence[tuple[int, int]]) -> list[Any]:
        import asyncio

        gate = asyncio.Semaphore(_CONCURRENT_REQUESTS)

        async def fetch(offset: int, length: int) -> Any:
            async with gate:
                return await self._store.get_range_async(self._key, start=offset, length=length)

        return await asyncio.gather(*(fetch(*piece) for piece in ranges))

    def stream(self) -> BinaryIO:
        """A buffered file object: headers of cloud optimised files lie in their first kilobytes."""
        import obstore

        _refuse_fork(self._pid, self.name)
        return io.BufferedReader(_Seekable(obstore.open_reader(self._store, self._key, buffer_size=1 << 18)), buffer_size=1 << 16)

    def close(self) -> None:
        """Nothing is held open."""


class _Seekable(io.RawIOBase):
    """What `io.BufferedReader` needs of an obstore reader."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def readinto(self, buffer: Any) -> int:
        piece = memoryview(self._reader.read(len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


def store_for(base: str, **options: Any) -> Any:
    """The obstore store of an address (a bucket, or a folder of a web server), made once for each process.

    Raises:
        DataError: If obstore is not installed.
    """
    _refuse_fork(_process_of_clients(), base)
    return _store(_Address(base, repr(sorted(options.items())), options))


@functools.cache
def _process_of_clients() -> int:
    """The process that first read a remote file: the clients' threads live there, and a fork does not take them along."""
    return os.getpid()


@dataclass(frozen=True)
class _Address:
    base: str
    spelled: str
    options: Mapping[str, Any] = field(compare=False)


@functools.cache
def _store(address: _Address) -> Any:
    from_url = require("obstore.store", purpose=f"reading {address.base}").from_url
    plain = {"client_options": {"allow_http": True}} if address.base.startswith("http://") else {}
    return from_url(address.base, **(plain | dict(address.options)))


def _refuse_fork(pid: int, source: str) -> None:
    """A forked process inherits the network client without its threads, and would wait for them for ever."""
    if os.getpid() != pid:
        raise DataError(
            "remote files cannot be read from a forked loader worker (the network threads did not come along)",
            source=source,
            remedy='Pass multiprocessing_context="spawn" to the DataLoader.',
        )


_loop_lock = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """The process's event loop in a thread of its own: works inside notebooks, whose own loop is running already."""
    with _loop_lock:
        return _loop_in(os.getpid())


@functools.cache
def _loop_in(pid: int) -> asyncio.AbstractEventLoop:
    import asyncio

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="rs05bench-range-requests").start()
    return loop


def _check_length(piece: bytes, offset: int, length: int, source: str) -> None:
    if len(piece) != length:
        raise DataError(f"expected {length} bytes at {offset}, found {len(piece)}: the file is truncated", source=source)


def _short(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
