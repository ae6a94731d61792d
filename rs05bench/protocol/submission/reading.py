"""Reading a stranger's JSON, digests, Parquet and GeoTIFF: what the head of a file says is looked at before its body is read."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from rs05bench.protocol.submission import trail
from rs05bench.protocol.submission.faults import Faults, HostileError, shown
from rs05bench.protocol.submission.limits import Limits

TIFF_COMPRESSIONS = (None, "deflate", "zstd", "lzw", "packbits")
LONGEST_ID = 200

ChipPlace = tuple[str, tuple[float, ...], tuple[int, int]]
"""CRS as WKT (empty: none), affine transform (a, b, c, d, e, f), rows and columns."""


def read_record[Record: BaseModel](path: Path, kind: type[Record], limits: Limits, faults: Faults, name: str) -> Record | None:
    """Reads one JSON record; every fault of it is told.

    Args:
        path: The file.
        kind: What it should be.
        limits: How large and deep it may be.
        faults: Takes what is wrong.
        name: The file's name in the bundle.
    """
    trail.reading(name)
    try:
        text = _json_text(path, limits)
        json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constant)
        return kind.model_validate_json(text)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            where = ".".join(str(part) for part in item["loc"])
            faults.add(f"{name}: {shown(where) + ': ' if where else ''}{shown(item['msg'], 200).strip(chr(39))}")
    except (ValueError, RecursionError, UnicodeError) as error:
        faults.add(f"{name}: is no readable JSON: {shown(str(error), 120)}")
    return None


def _json_text(path: Path, limits: Limits) -> str:
    if path.stat().st_size > limits.json_bytes:
        raise ValueError(f"it has {path.stat().st_size:,} bytes; at most {limits.json_bytes:,} are allowed")
    text = path.read_bytes().decode("utf-8")
    depth = deepest = 0
    for mark in re.findall(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', text):
        depth += (mark in "[{") - (mark in "]}")
        deepest = max(deepest, depth)
    if deepest > limits.json_depth:
        raise ValueError(f"it is nested {deepest} deep; at most {limits.json_depth} is allowed")
    return text


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field occurs twice")
    return found


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def check_sums(root: Path, files: Collection[str], limits: Limits, faults: Faults) -> str:
    """Checks every file against `SHA256SUMS` (lines `<64 hex>  <path>`).

    Returns:
        Digest of the bundle: SHA-256 over the sorted lines `<digest>  <path>` of all other files, as found.
    """
    said = _read_sums(root / "SHA256SUMS", limits, faults) if "SHA256SUMS" in files else None
    if said is None and "SHA256SUMS" not in files:
        faults.add("SHA256SUMS is missing (write it with: find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS)")
    lines = []
    for name in sorted(set(files) - {"SHA256SUMS"}):
        with (root / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{found}  {name}\n")
        if said is not None and name not in said:
            faults.add(f"{name}: is not in SHA256SUMS")
        elif said is not None and said[name] != found:
            faults.add(f"{name}: its digest is {found[:12]}…, and SHA256SUMS says {said[name][:12]}…")
    for name in sorted(set(said or ()) - set(files)):
        faults.add(f"{shown(name)}: is in SHA256SUMS, and missing from the bundle")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_sums(path: Path, limits: Limits, faults: Faults) -> dict[str, str] | None:
    if path.stat().st_size > limits.sums_bytes:
        faults.add(f"SHA256SUMS: has {path.stat().st_size:,} bytes; at most {limits.sums_bytes:,} are allowed")
        return None
    said: dict[str, str] = {}
    try:
        lines = path.read_bytes().decode("utf-8").splitlines()
    except UnicodeDecodeError:
        faults.add("SHA256SUMS: is no UTF-8 text")
        return None
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](?:\./)?(.+)", line)
        if match is None:
            faults.add(f"SHA256SUMS: line {number} is not `<sha256>  <path>`")
        elif match[2] in said:
            faults.add(f"SHA256SUMS: {shown(match[2])} occurs twice")
        else:
            said[match[2]] = match[1]
    return said


def read_table(path: Path, columns: dict[str, str], limits: Limits, name: str, optional: Collection[str] = ()) -> pd.DataFrame:
    """Reads a Parquet file of known columns.

    Args:
        path: The file.
        columns: Column -> `text`, `number` or `whole`; nothing else may be in the file.
        limits: How large it may be.
        name: The file's name in the bundle.
        optional: Columns that may be left out.

    Raises:
        HostileError: It is not such a file, or too large; says why.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    trail.reading(name)
    _check_footer(path, limits, name)
    try:
        with pq.ParquetFile(path, **_narrow(limits)) as file:
            _check_metadata(file.metadata, columns, limits, name, optional)
            texts = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
        # Read as a dictionary, a text that is repeated a million times takes its place once.
        texts = [column for column in texts if columns[column] == "text"]
        with pq.ParquetFile(path, read_dictionary=texts, **_narrow(limits)) as file:
            table = file.read(use_threads=False)
        # Pages may say what the reader does not look at: an index beyond its dictionary, text that is no UTF-8 (found by fuzzing).
        table.validate(full=True)
    except (pa.ArrowMemoryError, MemoryError) as error:
        raise HostileError(f"{name}: reading it needs more memory than a verification may use") from error
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise HostileError(f"{name}: cannot be read as Parquet: {shown(str(error), 120)}") from error
    if table.num_rows > limits.rows:
        raise HostileError(f"{name}: holds {table.num_rows:,} rows; at most {limits.rows:,} are allowed")
    found = {}
    for column in table.column_names:
        values = table.column(column).combine_chunks()
        if values.null_count:
            raise HostileError(f"{name}: column {column!r} has {values.null_count} missing values")
        found[column] = _text(values, name, column) if columns[column] == "text" else _numbers(values, columns[column], name, column)
    return pd.DataFrame(found)


def _narrow(limits: Limits) -> dict[str, Any]:
    """Options that keep Parquet's own metadata small, and all work in this thread."""
    return {"thrift_string_size_limit": limits.parquet_footer_bytes, "thrift_container_size_limit": 100_000, "pre_buffer": False}


def _check_footer(path: Path, limits: Limits, name: str) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(size - 8, 0))
        tail = file.read(8)
    if size < 12 or head != b"PAR1" or tail[4:] != b"PAR1":
        raise HostileError(f"{name}: is no Parquet file (it does not begin and end with PAR1)")
    length = int.from_bytes(tail[:4], "little")
    if length > limits.parquet_footer_bytes or length > size - 12:
        raise HostileError(f"{name}: its metadata have {length:,} bytes; at most {limits.parquet_footer_bytes:,} are allowed")


def _check_metadata(metadata: Any, columns: dict[str, str], limits: Limits, name: str, optional: Collection[str]) -> None:
    if metadata.num_rows > limits.rows:
        raise HostileError(f"{name}: says {metadata.num_rows:,} rows; at most {limits.rows:,} are allowed")
    if metadata.num_row_groups > 1000:
        raise HostileError(f"{name}: says {metadata.num_row_groups:,} row groups; at most 1,000 are allowed")
    there = [metadata.schema.column(i).path for i in range(min(metadata.num_columns, 2000))]
    extra, missing = [c for c in there if c not in columns], [c for c in columns if c not in there and c not in optional]
    if extra or metadata.num_columns > len(columns):
        raise HostileError(f"{name}: column {shown(extra[0]) if extra else 'names'} should not be there (columns: {', '.join(columns)})")
    if missing:
        raise HostileError(f"{name}: columns {missing} are missing (found {[shown(column, 40) for column in there[:12]]})")
    # By row group: asking pyarrow for one column ends the process where its histograms have a wrong length (found by fuzzing).
    said = sum(max(metadata.row_group(group).total_byte_size, 0) for group in range(metadata.num_row_groups))
    if said > limits.parquet_bytes:
        raise HostileError(f"{name}: says it unpacks to {said:,} bytes; at most {limits.parquet_bytes:,} are allowed")


def _text(values: Any, name: str, column: str) -> np.ndarray:
    import pyarrow as pa

    if not pa.types.is_dictionary(values.type) or not (
        pa.types.is_string(values.type.value_type) or pa.types.is_large_string(values.type.value_type)
    ):
        raise HostileError(f"{name}: column {column!r} holds {values.type}, expected text")
    words = values.dictionary.to_pylist()
    if any(word is None or len(word) > LONGEST_ID for word in words):
        raise HostileError(f"{name}: column {column!r} holds texts longer than {LONGEST_ID} letters")
    return np.array(words, dtype=object)[values.indices.to_numpy(zero_copy_only=False)] if len(words) else np.array([], dtype=object)


def _numbers(values: Any, kind: str, name: str, column: str) -> np.ndarray:
    import pyarrow as pa

    fits = pa.types.is_integer(values.type) if kind == "whole" else pa.types.is_floating(values.type)
    if not fits:
        wanted = "whole numbers" if kind == "whole" else "floating-point numbers"
        raise HostileError(f"{name}: column {column!r} holds {values.type}, expected {wanted}")
    return np.asarray(values.to_numpy(zero_copy_only=False)).astype(np.int64 if kind == "whole" else np.float64)


def chip_place(chip: Any) -> ChipPlace:
    """Where an open raster lies."""
    wkt = chip.crs.to_wkt() if chip.crs is not None else ""
    return sys.intern(wkt), tuple(chip.transform)[:6], (chip.height, chip.width)


def check_chip(path: Path, classes: int, limits: Limits, name: str) -> ChipPlace:
    """Looks at the head of a GeoTIFF before any pixel is read; returns where it lies.

    Raises:
        HostileError: No GeoTIFF, too large, more than one band, an odd type, compression or tile, or no CRS.
    """
    import rasterio
    from rasterio.errors import RasterioError

    trail.reading(name)
    with path.open("rb") as file:
        if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise HostileError(f"{name}: is no TIFF (its first bytes say so)")
    try:
        # No other driver is asked: a text that begins like a TIFF must not be read as a list of further files.
        with rasterio.open(path, driver="GTiff") as chip:
            height, width, count, kind = chip.height, chip.width, chip.count, chip.dtypes[0]
            tiles, packed = chip.block_shapes, chip.profile.get("compress")
            place = chip_place(chip)
    except (RasterioError, OSError, ValueError, MemoryError) as error:
        raise HostileError(f"{name}: cannot be read as GeoTIFF: {shown(str(error), 120)}") from error
    if height > limits.chip_side or width > limits.chip_side:
        raise HostileError(f"{name}: says {height:,} x {width:,} pixels; at most {limits.chip_side} a side are allowed")
    if count != 1:
        raise HostileError(f"{name}: has {count} bands, expected 1")
    if max(max(tile) for tile in tiles) > limits.chip_side:
        raise HostileError(f"{name}: has tiles of {tiles[0]} pixels; at most {limits.chip_side} a side are allowed")
    if packed is not None and packed not in TIFF_COMPRESSIONS:
        raise HostileError(f"{name}: is compressed as {shown(str(packed))}; allowed are deflate, zstd, lzw, packbits and none")
    if kind not in (("float32", "float16", "float64") if classes == 2 else ("uint8",)):
        wanted = "float probabilities of the second class" if classes == 2 else "uint8 classes"
        raise HostileError(f"{name}: holds {kind}, expected {wanted}")
    if not place[0]:
        raise HostileError(f"{name}: has no CRS")
    return place
