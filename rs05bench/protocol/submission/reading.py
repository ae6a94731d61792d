"""Reading a stranger's Parquet and GeoTIFF: what the head of a file states is looked at before its body is read."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rs05bench.protocol.map_predictions import NODATA_CLASS
from rs05bench.protocol.submission.faults import HostileError, shown
from rs05bench.protocol.submission.limits import Limits

TIFF_COMPRESSIONS = (None, "deflate", "zstd", "lzw", "packbits")
LONGEST_ID = 200

ChipPlace = tuple[str, tuple[float, ...], tuple[int, int]]
"""CRS as WKT (empty: none), affine transform (a, b, c, d, e, f), rows and columns."""


def read_table(
    path: Path, columns: dict[str, str], limits: Limits, name: str, optional: Collection[str] = (), gaps: Collection[str] = ()
) -> pd.DataFrame:
    """Reads a Parquet file of known columns.

    Args:
        path: The file.
        columns: Column -> `text`, `number` or `whole`; nothing else may be in the file.
        limits: How large it may be.
        name: The file's name in the submission.
        optional: Columns that may be left out.
        gaps: Columns that may hold missing values, which become NaN or empty text.

    Raises:
        HostileError: It is not such a file, or too large; says why.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _check_footer(path, limits, name)
    try:
        with pq.ParquetFile(path, **_narrow(limits)) as file:
            _check_metadata(file.metadata, columns, limits, name, optional)
            there = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
        texts = [column for column in there if columns[column] == "text"]
        table = _read_pages(path, texts, limits)
        # Pages may hold what the reader does not look at: an index beyond its dictionary, text that is not UTF-8 (found by fuzzing).
        table.validate(full=True)
    except MemoryError as error:
        raise HostileError(f"{name}: reading it needs more memory than there is") from error
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise HostileError(f"{name}: cannot be read as Parquet: {shown(str(error), 120)}") from error
    if table.num_rows > limits.rows:
        raise HostileError(f"{name}: holds {table.num_rows:,} rows; at most {limits.rows:,} are allowed")
    found = {}
    for column in table.column_names:
        values = table.column(column).combine_chunks()
        if values.null_count and column not in gaps:
            raise HostileError(f"{name}: column {column!r} has {values.null_count} missing values")
        found[column] = _text(values, name, column) if columns[column] == "text" else _numbers(values, columns[column], name, column)
    return pd.DataFrame(found)


def _read_pages(path: Path, texts: list[str], limits: Limits) -> Any:
    """The table, texts as dictionaries: a text that is repeated a million times takes its place once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, read_dictionary=texts, **_narrow(limits)) as file:
            return file.read(use_threads=False)
    except (pa.ArrowNotImplementedError, OSError, ValueError):
        # Version 2 pages with delta encodings, as some writers make them, cannot be read as dictionaries.
        with pq.ParquetFile(path, **_narrow(limits)) as file:
            table = file.read(use_threads=False)
        for column in texts:
            at = table.schema.get_field_index(column)
            table = table.set_column(at, column, table.column(column).dictionary_encode())
        return table


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
        raise HostileError(f"{name}: is not a Parquet file (it does not begin and end with PAR1)")
    length = int.from_bytes(tail[:4], "little")
    if length > limits.parquet_footer_bytes or length > size - 12:
        raise HostileError(f"{name}: its metadata have {length:,} bytes; at most {limits.parquet_footer_bytes:,} are allowed")


def _check_metadata(metadata: Any, columns: dict[str, str], limits: Limits, name: str, optional: Collection[str]) -> None:
    if metadata.num_rows > limits.rows:
        raise HostileError(f"{name}: states {metadata.num_rows:,} rows; at most {limits.rows:,} are allowed")
    if metadata.num_row_groups > 1000:
        raise HostileError(f"{name}: states {metadata.num_row_groups:,} row groups; at most 1,000 are allowed")
    there = [metadata.schema.column(i).path for i in range(min(metadata.num_columns, 2000))]
    extra, missing = [c for c in there if c not in columns], [c for c in columns if c not in there and c not in optional]
    if extra or metadata.num_columns > len(columns):
        raise HostileError(f"{name}: column {shown(extra[0]) if extra else 'names'} should not be there (columns: {', '.join(columns)})")
    if missing:
        raise HostileError(f"{name}: columns {missing} are missing (found {[shown(column, 40) for column in there[:12]]})")
    # By row group: asking pyarrow for one column ends the process where its histograms have a wrong length (found by fuzzing).
    said = sum(max(metadata.row_group(group).total_byte_size, 0) for group in range(metadata.num_row_groups))
    if said > limits.parquet_bytes:
        raise HostileError(f"{name}: states that it unpacks to {said:,} bytes; at most {limits.parquet_bytes:,} are allowed")


def _text(values: Any, name: str, column: str) -> np.ndarray:
    import pyarrow as pa

    if not pa.types.is_dictionary(values.type) or not (
        pa.types.is_string(values.type.value_type) or pa.types.is_large_string(values.type.value_type)
    ):
        raise HostileError(f"{name}: column {column!r} holds {values.type}, expected text")
    words = values.dictionary.to_pylist()
    if any(word is None or len(word) > LONGEST_ID for word in words):
        raise HostileError(f"{name}: column {column!r} holds texts longer than {LONGEST_ID} letters")
    codes = values.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    return np.array([*words, ""], dtype=object)[codes]


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

    with path.open("rb") as file:
        if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise HostileError(f"{name}: is not a TIFF (by its first bytes)")
    try:
        # No other driver is asked: a text that begins like a TIFF must not be read as a list of further files.
        with rasterio.open(path, driver="GTiff") as chip:
            height, width, count, kind = chip.height, chip.width, chip.count, chip.dtypes[0]
            tiles, packed = chip.block_shapes, chip.profile.get("compress")
            place, said = chip_place(chip), _declared(chip)
    except (RasterioError, OSError, ValueError, MemoryError) as error:
        raise HostileError(f"{name}: cannot be read as GeoTIFF: {shown(str(error), 120)}") from error
    if height > limits.chip_side or width > limits.chip_side:
        raise HostileError(f"{name}: states {height:,} x {width:,} pixels; at most {limits.chip_side} a side are allowed")
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
    if said:
        raise HostileError(f"{name}: declares {said}, which scoring does not apply: write the values themselves, one for each pixel")
    return place


def _declared(chip: Any) -> str:
    """What a map states about its pixels beyond their values; the value for no class of our own writer is none of it."""
    import numpy as np

    if chip.scales[0] != 1 or chip.offsets[0] != 0:
        return "a scale or an offset"
    if chip.nodata is not None and not np.isnan(chip.nodata) and (chip.dtypes[0], chip.nodata) != ("uint8", NODATA_CLASS):
        return f"{chip.nodata:g} as no data"
    return "a mask" if any(flag.name == "per_dataset" for flag in chip.mask_flag_enums[0]) else ""
