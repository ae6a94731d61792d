"""Digests of content, and order from hashes: every draw of the protocol is the same on every platform and for every order of rows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from itertools import batched
from typing import Any

import numpy as np
from numpy.typing import NDArray


def hash_unit(*parts: object) -> int:
    """A 64-bit number from any parts, the same everywhere (BLAKE2b)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def hash_many(keys: Iterable[str], *salt: object) -> NDArray[np.uint64]:
    """`hash_unit(*salt, key)` for each key, shape (n,)."""
    prefix = hashlib.blake2b(("\x1f".join(str(part) for part in salt) + "\x1f").encode(), digest_size=8)
    out = bytearray()
    for key in keys:
        state = prefix.copy()
        state.update(key.encode())
        out += state.digest()
    return np.frombuffer(bytes(out), dtype=">u8").astype(np.uint64)


def hash_order(keys: Sequence[str] | NDArray[np.object_], *salt: object) -> NDArray[np.int64]:
    """Indices that put keys into hash order; ties (equal keys) by position in sorted order."""
    hashes = hash_many(keys, *salt)
    order = np.argsort(hashes, kind="stable")
    if (np.diff(hashes[order]) == 0).any():
        return np.lexsort((np.asarray(keys, dtype=object).astype(str), hashes))
    return order


def hash_pixels(seed: int, unit_id: str, rows: int, columns: int) -> NDArray[np.uint64]:
    """A 64-bit hash for every pixel of a chip from (seed, unit, row, column), shape (rows, columns).

    The finaliser is SplitMix64 (Steele, Lea & Flood 2014, https://doi.org/10.1145/2660193.2660195), applied to a counter
    that starts at the unit's own hash, so that a pixel's draw does not depend on the size of the chip.
    """
    start = np.uint64(hash_unit("pixels", seed, unit_id))
    row = np.arange(rows, dtype=np.uint64)[:, None]
    column = np.arange(columns, dtype=np.uint64)[None, :]
    with np.errstate(over="ignore"):
        z = start + (row * np.uint64(1 << 32) + column + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def content_digest(lines: Iterable[str]) -> str:
    """SHA-256 over lines of text, independent of how they are stored."""
    digest = hashlib.sha256()
    for some in batched(lines, 10_000):  # a call a line costs more than the hash
        digest.update(("\n".join(some) + "\n").encode())
    return digest.hexdigest()


def json_digest(record: Any) -> str:
    """SHA-256 of a record as JSON with sorted keys and no spaces, so that the order of its keys does not count."""
    return text_digest(json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def text_digest(text: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def array_digest(values: NDArray[Any], dtype: str) -> str:
    """SHA-256 of an array's shape and of its values in a fixed type (`<f4`, `<i2`, `u1`), row by row."""
    return hashlib.sha256(str(values.shape).encode() + np.ascontiguousarray(values, dtype=dtype).tobytes()).hexdigest()
