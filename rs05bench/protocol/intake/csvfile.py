"""CSV as people write it: any separator, encoding and decimal sign, numbers in lists, blanks and words for a missing number."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from rs05bench.errors import DataError
from rs05bench.protocol.intake.keys import MISSING_WORDS

if TYPE_CHECKING:
    import pyarrow as pa

Choice = Callable[[list[str]], Collection[str]]
Columns = Collection[str] | Choice | Literal["all"]

_SEPARATORS = ",;\t|"
_SAMPLE = 200  # lines from which the dialect is told
_UNDEFINED_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"


def chosen(columns: Columns, names: list[str]) -> list[str]:
    """The names there are that are meant."""
    wanted = names if columns == "all" else columns(names) if callable(columns) else columns
    return [name for name in names if name in wanted]


def read_csv(path: Path, text: Columns = (), only: Choice | None = None) -> tuple[pd.DataFrame, list[str]]:
    """A CSV file as a table, and what was taken for granted in reading it.

    Args:
        path: The file; `.gz` is unpacked.
        text: Columns to read as text, or what chooses them; `"all"` for every one.
        only: Chooses the columns that are parsed; None takes all.

    Raises:
        DataError: It is cut short, has no header, a column twice, or rows of other lengths.
    """
    import pyarrow as pa
    import pyarrow.csv

    remarks: list[str] = []
    encoding = _encoding(path, remarks)
    try:
        with _lines(path, encoding) as lines:
            sample = [line for line, _ in zip(lines, range(_SAMPLE), strict=False)]
    except (UnicodeError, OSError, EOFError) as error:
        raise DataError(f"cannot be read as CSV: {error}", source=path, remedy="Export it again as CSV in UTF-8.") from error
    skip = 1 if sample and re.fullmatch(r"(?i)sep=.", sample[0].strip()) else 0  # a spreadsheet's own first line
    if not sample[skip:] or not sample[skip].strip():
        raise DataError("is empty", source=path, remedy="The first line names the columns.")
    separator = max(_SEPARATORS, key=sample[skip].count)
    names = [name.strip() for name in next(csv.reader([sample[skip]], delimiter=separator))]
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(f"has the column {repeated[0]!r} twice", source=path)
    unnamed = [f"_unnamed_{number}" for number, name in enumerate(names) if not name]
    names = [name or f"_unnamed_{number}" for number, name in enumerate(names)]
    comma = separator != "," and _decimal_commas(sample[skip + 1 :], separator)
    if comma:
        remarks.append("numbers have decimal commas")

    def parse(types: dict[str, pa.DataType], columns: list[str] | None = None) -> pa.Table:
        with _bytes(path) as stream:
            return pyarrow.csv.read_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=skip + 1, encoding=encoding),
                parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=types,
                    include_columns=columns,
                    strings_can_be_null=False,
                    null_values=["", *MISSING_WORDS, "NaN", "-nan", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!"],
                    decimal_point="," if comma else ".",
                ),
            )

    wanted = None if only is None else chosen(only, names)
    keys = [name for name in chosen(text, names) if wanted is None or name in wanted]
    try:
        table = parse(dict.fromkeys(keys, pa.string()), wanted)
        # Whole numbers with leading zeros are codes; what looks like times or holds nothing keeps its text for whoever knows what it means.
        doubtful = [one.name for one in table.schema if not (pa.types.is_floating(one.type) or pa.types.is_string(one.type))]
        again = parse(dict.fromkeys(doubtful, pa.string()), doubtful) if doubtful else None
    except (pa.ArrowException, UnicodeError, ValueError, OSError, EOFError) as error:
        raise DataError(
            f"cannot be read as CSV: {str(error).strip().splitlines()[0]}",
            source=path,
            remedy="One header line, then one row a unit, with as many fields as the header.",
        ) from error
    frame = pd.DataFrame({one.name: _values(table[one.name], None if again is None else again, one) for one in table.schema})
    for name in unnamed if wanted is None else []:
        if frame[name].isna().all():
            frame = frame.drop(columns=name)
        else:
            frame = frame.rename(columns={name: "index"} if name == "_unnamed_0" and "index" not in frame else {})
    for name in [column for column in frame.columns if _looks_like_lists(frame[column])]:
        frame = pd.concat([frame.drop(columns=name), expand_lists(_lists(frame[name], path), str(name), source=path)], axis=1)
    return frame, remarks


def _looks_like_lists(values: pd.Series) -> bool:
    if not pd.api.types.is_object_dtype(values.dtype):
        return False
    first = next((value for value in values if value is not None), "")
    return re.match(r"\s*\[\s*[-+.\d]", first) is not None


def _lists(values: pd.Series, path: Path) -> pd.Series:
    """Lists that were written as text, `[0.1, 0.2]` or as NumPy prints them."""
    out: list[Any] = []
    for row, value in enumerate(values):
        if value is None:
            out.append(None)
            continue
        try:
            out.append(np.array(value.strip().strip("[]").replace(",", " ").split(), dtype=np.float64))
        except ValueError as error:
            raise DataError(
                f"column {values.name!r} holds a list that cannot be read at row {row + 1}: {value[:60]!r}",
                source=path,
                remedy="Lists with '...' were cut when they were printed: save them as Parquet, or one column an item.",
            ) from error
    return pd.Series(out, index=values.index, dtype=object)


def _values(column: pa.ChunkedArray, again: pa.Table | None, field: pa.Field) -> pd.Series:
    """A parsed column as numbers or as text (objects, None where blank)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(field.type):
        return column.to_pandas()
    if not pa.types.is_string(field.type):
        assert again is not None
        written = again[field.name]
        if pa.types.is_boolean(field.type):
            return column.to_pandas() if column.null_count == 0 else column.cast(pa.float64()).to_pandas()
        if pa.types.is_integer(field.type):
            coded = pc.any(pc.match_substring_regex(pc.utf8_trim_whitespace(written), r"^[+-]?0[0-9]|^[0-9]{16,}$")).as_py()
            if not coded:
                return column.to_pandas()
        column = written
    if column.null_count == 0 and pc.all(pc.equal(column, "")).as_py():
        return pd.Series(np.full(len(column), np.nan))
    values = column.to_pandas().astype(object)
    return values.where(values.notna() & (values.str.strip() != ""), None)


def _encoding(path: Path, remarks: list[str]) -> str:
    try:
        return _told_encoding(path, remarks)
    except (OSError, EOFError) as error:  # a compressed file that was cut short
        raise DataError(f"cannot be read as CSV: {error}", source=path, remedy="Fetch or export it again.") from error


def _told_encoding(path: Path, remarks: list[str]) -> str:
    decoder, undefined = codecs.getincrementaldecoder("utf-8")(), False
    utf8 = True
    with _bytes(path) as stream:
        first = True
        while chunk := stream.read(1 << 24):
            if first and chunk[:2] in (b"\xff\xfe", b"\xfe\xff"):
                return "utf-16"
            if first and chunk[:3] == codecs.BOM_UTF8:
                return "utf-8-sig"
            first = False
            undefined |= any(byte in chunk for byte in (bytes([code]) for code in _UNDEFINED_IN_CP1252))
            if utf8:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    utf8 = False
    if utf8:
        return "utf-8"
    remarks.append(f"is not UTF-8: read as {'Latin-1' if undefined else 'Windows-1252 (Latin-1)'}; look at accents, or save it as UTF-8")
    return "latin-1" if undefined else "cp1252"


def _decimal_commas(lines: Iterable[str], separator: str) -> bool:
    fields = [value.strip() for row in csv.reader(lines, delimiter=separator) for value in row]
    commas = sum(re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", value) is not None for value in fields)
    points = sum(re.fullmatch(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", value) is not None for value in fields)
    return commas > points


def _bytes(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _lines(path: Path, encoding: str) -> Any:
    return io.TextIOWrapper(_bytes(path), encoding=encoding, newline="")


def expand_lists(values: pd.Series, name: str, *, source: str | Path) -> pd.DataFrame:
    """A column of lists of numbers as the columns `name_0`, `name_1`, ..; NaN where a row has no list.

    Raises:
        DataError: Lists of several lengths.
    """
    lengths = np.array([-1 if value is None or np.ndim(value) == 0 else len(value) for value in values])
    known = np.unique(lengths[lengths >= 0])
    if len(known) > 1:
        row = int(np.flatnonzero((lengths >= 0) & (lengths != np.bincount(lengths[lengths >= 0]).argmax()))[0])
        raise DataError(
            f"column {name!r} holds lists of several lengths ({', '.join(map(str, known[:4]))}), first other at row {row + 1}",
            source=source,
            remedy="Lists become one column an item, so all need one length: two products in one column are two columns.",
        )
    width = int(known[0]) if len(known) else 0
    matrix = np.full((len(values), width), np.nan, dtype=np.float64)
    if width and (lengths >= 0).any():
        matrix[lengths >= 0] = np.stack([np.asarray(value, dtype=np.float64) for value in values[lengths >= 0]])
    return pd.DataFrame(matrix, columns=[f"{name}_{number}" for number in range(width)])
