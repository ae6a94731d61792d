"""Chunks of a Zarr v3 array, read in byte ranges and decompressed in threads.

zarr-python takes every chunk through its asynchronous pipeline, which for chunks of 32 pixels a side costs several times the
decompression itself. This reader takes local and remote arrays whose codecs it knows, with or without shards, and leaves every other array
to zarr-python; both give the same values.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rs05bench.embeddings.bytesource import ByteSource, NoSuchFileError, is_remote, open_bytes
from rs05bench.embeddings.raster import in_threads
from rs05bench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

type Span = tuple[int, int]
type _Object = tuple[ByteSource, NDArray[np.uint64] | None]

_OPEN_SHARDS = 64
_MISSING = np.uint64(2**64 - 1)  # offset and length of a chunk that a shard does not hold
_INDEX_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


@dataclass(frozen=True, slots=True)
class _Piece:
    """The part of one chunk that a selection needs: where it is in the chunk, and where in the selection."""

    chunk: tuple[int, ...]
    inside: tuple[slice, ...]
    target: tuple[slice, ...]


class ChunkReader:
    """Reads rectangles of an array.

    Args:
        base: Folder or address of the array.
        key_of: The key of a stored object (a shard, or a chunk where there are no shards) from its position.
        chunk: Shape of a chunk.
        shard: Shape of a shard; None where every chunk is an object of its own.
        index_first: Whether a shard begins with its index, instead of ending with it.
        dtype: Of the stored numbers.
        decoders: From the bytes of a chunk to those of its numbers, in order.
        fill: The value of what was never written.
    """

    def __init__(
        self,
        base: str,
        *,
        key_of: Callable[[tuple[int, ...]], str],
        chunk: tuple[int, ...],
        shard: tuple[int, ...] | None,
        index_first: bool,
        dtype: np.dtype[Any],
        decoders: Sequence[Callable[[bytes], bytes]],
        fill: Any,
    ) -> None:
        self.base, self.chunk, self.dtype, self.fill = base.rstrip("/"), chunk, dtype, fill
        self._chunk_bytes = math.prod(chunk) * dtype.itemsize
        self._key_of, self._decoders, self._index_first = key_of, tuple(decoders), index_first
        self._per_shard = None if shard is None else tuple(outer // inner for outer, inner in zip(shard, chunk, strict=True))
        self._open, self._lock = OrderedDict[tuple[int, ...], _Object | None](), threading.Lock()

    def read(self, spans: Sequence[Span]) -> NDArray[Any]:
        """The values of a rectangle, in the machine's byte order.

        Args:
            spans: First and last (exclusive) index along every axis.

        Raises:
            DataError: A chunk cannot be read or is damaged.
        """
        out = np.empty([stop - start for start, stop in spans], dtype=self.dtype.newbyteorder("="))
        pieces = list(self._pieces(spans))
        fetched = self._fetch([piece.chunk for piece in pieces])

        def decode(number: int) -> None:
            piece, raw = pieces[number], fetched[number]
            out[piece.target] = self.fill if raw is None else self._decoded(raw, piece.chunk)[piece.inside]

        in_threads(decode, len(pieces))
        return out

    def _pieces(self, spans: Sequence[Span]) -> Iterator[_Piece]:
        along = []
        for (start, stop), size in zip(spans, self.chunk, strict=True):
            parts = []
            for number in range(start // size, (stop - 1) // size + 1) if stop > start else ():
                first, last = max(start, number * size), min(stop, (number + 1) * size)
                parts.append((number, slice(first - number * size, last - number * size), slice(first - start, last - start)))
            along.append(parts)
        for combined in itertools.product(*along):
            number, inside, target = zip(*combined, strict=True)
            yield _Piece(number, inside, target)

    def _fetch(self, chunks: Sequence[tuple[int, ...]]) -> list[bytes | None]:
        """The stored bytes of chunks, one request for all of an object; None for those that were never written."""
        found: list[bytes | None] = [None] * len(chunks)
        by_object: dict[tuple[int, ...], list[int]] = {}
        for number, chunk in enumerate(chunks):
            by_object.setdefault(self._object_of(chunk), []).append(number)
        for position, members in by_object.items():
            opened = self._opened(position)
            if opened is None:
                continue
            source, index = opened
            wanted, ranges = [], []
            for number in members:
                if index is None:
                    where = (0, source.size)
                else:
                    assert self._per_shard is not None
                    offset, length = index[tuple(at % count for at, count in zip(chunks[number], self._per_shard, strict=True))]
                    if offset == _MISSING and length == _MISSING:
                        continue
                    where = (int(offset), int(length))
                wanted.append(number)
                ranges.append(where)
            for number, raw in zip(wanted, source.read(ranges), strict=True):
                found[number] = raw
            if index is None:
                source.close()
        return found

    def _object_of(self, chunk: tuple[int, ...]) -> tuple[int, ...]:
        return chunk if self._per_shard is None else tuple(at // count for at, count in zip(chunk, self._per_shard, strict=True))

    def _opened(self, position: tuple[int, ...]) -> _Object | None:
        """A stored object and its index; None where it was never written. The last few shards stay open."""
        if self._per_shard is None:
            return self._connect(position)
        with self._lock:
            if position in self._open:
                self._open.move_to_end(position)
                return self._open[position]
        opened = self._connect(position)
        with self._lock:
            self._open[position] = opened
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        return opened

    def _connect(self, position: tuple[int, ...]) -> _Object | None:
        try:
            source = open_bytes(f"{self.base}/{self._key_of(position)}")
        except NoSuchFileError:
            return None
        if self._per_shard is None:
            return source, None
        size = 16 * math.prod(self._per_shard) + 4
        if source.size < size:
            raise DataError(f"a shard of {source.size} bytes is shorter than its index of {size}", source=source.name)
        (raw,) = source.read([(0 if self._index_first else source.size - size, size)])
        return source, np.frombuffer(_checked(raw, source.name), dtype="<u8").reshape(*self._per_shard, 2)

    def _decoded(self, raw: bytes, chunk: tuple[int, ...]) -> NDArray[Any]:
        name = f"{self.base}, chunk {'/'.join(map(str, chunk))}"
        try:
            for decoder in self._decoders:
                raw = decoder(raw)
        except DataError:
            raise
        except Exception as error:  # codecs have their own exceptions
            raise DataError(f"a chunk cannot be read ({type(error).__name__}: {str(error)[:200]})", source=name) from error
        if len(raw) != self._chunk_bytes:
            raise DataError(f"a chunk has {len(raw)} bytes, expected {self.chunk} of {self.dtype}", source=name)
        return np.frombuffer(raw, dtype=self.dtype).reshape(self.chunk)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open, self._lock = OrderedDict(), threading.Lock()


def chunk_reader(array: Any, address: str) -> ChunkReader | None:
    """A reader of an opened array; None where only zarr-python can read it.

    Args:
        array: A `zarr.Array`.
        address: Folder or address of the store that it was opened in.
    """
    from zarr.storage import LocalStore

    remote = is_remote(address)
    if array.metadata.zarr_format != 3 or not (remote or isinstance(array.store, LocalStore)):
        return None
    codecs = [codec.to_dict() for codec in array.metadata.codecs]
    shard, index_first = None, False
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        setting = codecs[0]["configuration"]
        if [_plain(codec) for codec in setting["index_codecs"]] != _INDEX_CODECS:
            return None
        shard, index_first, codecs = tuple(array.shards), setting["index_location"] == "start", list(setting["codecs"])
    elif remote:
        return None  # one object a chunk: nothing is saved
    decoders = _decoders(codecs)
    if decoders is None:
        return None
    order = codecs[0].get("configuration", {}).get("endian", "little")
    base = address.rstrip("/") if remote else str(Path(array.store.root))
    return ChunkReader(
        f"{base}/{array.path}" if array.path else base,
        key_of=array.metadata.encode_chunk_key,
        chunk=tuple(array.chunks),
        shard=shard,
        index_first=index_first,
        dtype=np.dtype(array.dtype).newbyteorder("<" if str(order) == "little" else ">"),
        decoders=decoders,
        fill=array.fill_value,
    )


def _decoders(codecs: Sequence[dict[str, Any]]) -> list[Callable[[bytes], bytes]] | None:
    """What undoes a chain of codecs, the last first; None where one of them is not known here."""
    from numcodecs import blosc, gzip, zstd

    known = {"blosc": blosc.decompress, "zstd": zstd.decompress, "gzip": gzip.GZip().decode, "crc32c": _checked}
    if not codecs or codecs[0]["name"] != "bytes" or any(codec["name"] not in known for codec in codecs[1:]):
        return None
    return [known[codec["name"]] for codec in reversed(codecs[1:])]


def _checked(raw: bytes, source: str = "") -> bytes:
    """The bytes in front of a CRC-32C checksum, where it is theirs."""
    import google_crc32c

    body = bytes(raw[:-4])
    if google_crc32c.value(body) != int.from_bytes(raw[-4:], "little"):
        raise DataError("the checksum is not that of the bytes: damaged", source=source or None)
    return body


def _plain(codec: dict[str, Any]) -> dict[str, Any]:
    """A codec as JSON would hold it: enumerations as their text."""
    return {
        name: {k: str(getattr(v, "value", v)) for k, v in value.items()} if isinstance(value, dict) else value
        for name, value in codec.items()
    }
