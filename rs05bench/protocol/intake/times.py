"""Times as people write them, read one way or refused.

Read are ISO 8601 with or without a zone, `YYYYMMDD`, `YYYYDDD`, `YYYY-MM`, `YYYY`, and seconds or milliseconds since 1970.
A date whose year stands last is refused: 03/04/2018 is the third of April in one country and the fourth of March in another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rs05bench.errors import DataError

_YEAR_LAST = re.compile(r"(\d{1,2})[/.\-](\d{1,2})[/.\-](\d{4}|\d{2})(?:[ T].*)?")
_DECIMAL_YEAR = re.compile(r"\d{4}\.\d+")
#: Digits of a whole number -> how it is read.
_SINCE_1970 = {10: "s", 12: "ms", 13: "ms", 16: "us", 19: "ns"}
_STAMPS = {12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_FORMATS = {4: "%Y", 7: "%Y%j", 8: "%Y%m%d"}
EARLIEST, LATEST = 1800, 2200


@dataclass(frozen=True, slots=True)
class Times:
    """Moments in UTC, as first and last day.

    Attributes:
        first: Moment (n,), datetime64[ns] without zone, NaT where blank: the start of a year, month or day.
        last: Its last day (n,), datetime64[D]: the last of the year for a bare year.
    """

    first: pd.Series[Any]
    last: npt.NDArray[np.datetime64]


def read_times(values: pd.Series[Any], column: str, *, source: object) -> Times:
    """A column as times.

    Args:
        values: Datetimes, text or whole numbers.
        column: Its name, for messages.
        source: The file, for messages.

    Raises:
        DataError: Values that cannot be read, with one of them; both readings of a date whose year stands last.
    """
    times, unread = parse_times(values)
    if unread.any():
        row = int(np.flatnonzero(unread)[0])
        raise DataError(
            f"column {column!r} holds times that cannot be read: {readings(values.iloc[row])} at row {row + 1}"
            + (f", and {int(unread.sum()) - 1} more" if unread.sum() > 1 else ""),
            source=str(source),
            remedy="Write ISO dates, e.g. 2021-07-04 or 2021-07-04T18:00:00Z, or a year as YYYY.",
        )
    return times


def parse_times(values: pd.Series[Any]) -> tuple[Times, npt.NDArray[np.bool_]]:
    """A column as times, and which values (n,) are not blank and cannot be read."""
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        moments = values.dt.tz_convert(None) if getattr(values.dtype, "tz", None) is not None else values
        moments = moments.astype("datetime64[ns]").reset_index(drop=True)
        return Times(moments, moments.to_numpy().astype("datetime64[D]")), np.zeros(len(values), dtype=bool)
    codes, distinct = pd.factorize(values, use_na_sentinel=True)
    read = [_one(value) for value in distinct]
    first = np.array([item[0] for item in read] + [np.datetime64("NaT", "ns")], dtype="datetime64[ns]")
    last = np.array([item[1] for item in read] + [np.datetime64("NaT", "D")], dtype="datetime64[D]")
    bad = np.array([np.isnat(item[0]) and not _is_blank(value) for item, value in zip(read, distinct, strict=True)] + [False], dtype=bool)
    return Times(pd.Series(first[codes]), last[codes]), bad[codes]


def _one(value: Any) -> tuple[np.datetime64, np.datetime64]:
    """First moment and last day of one value; NaT where it cannot be read."""
    nothing = np.datetime64("NaT", "ns"), np.datetime64("NaT", "D")
    if _is_blank(value):
        return nothing
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    if re.fullmatch(r"\d+\.0+", text):
        text = text.partition(".")[0]
    if _DECIMAL_YEAR.fullmatch(text):  # 2021.5 is the middle of 2021, and ISO 8601 readers make it May
        return nothing
    try:
        if re.fullmatch(r"\d+", text):
            return _digits(text)
        if re.fullmatch(r"\d{4}-\d{2}", text):
            month = np.datetime64(text, "M")
            return month.astype("datetime64[ns]"), (month + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
        moment = pd.to_datetime(re.sub(r"^(\d{4})/(\d{1,2})/(\d{1,2})", _with_dashes, text), format="ISO8601", utc=True)
        moment = moment.tz_convert(None)
        return moment.to_datetime64().astype("datetime64[ns]"), moment.to_datetime64().astype("datetime64[D]")
    except (ValueError, OverflowError, TypeError):
        return nothing


def _digits(text: str) -> tuple[np.datetime64, np.datetime64]:
    stamp = _STAMPS.get(len(text))
    if stamp and (match := pd.to_datetime(text, format=stamp, errors="coerce")) is not pd.NaT and EARLIEST <= match.year <= LATEST:
        return match.to_datetime64().astype("datetime64[ns]"), match.to_datetime64().astype("datetime64[D]")
    if unit := _SINCE_1970.get(len(text)):
        moment = pd.Timestamp(int(text), unit=unit).to_datetime64().astype("datetime64[ns]")
        return moment, moment.astype("datetime64[D]")
    if len(text) not in _FORMATS:
        raise ValueError(text)
    day = pd.to_datetime(text, format=_FORMATS[len(text)]).to_datetime64()
    year = day.astype("datetime64[Y]")
    if not EARLIEST <= int(year.astype(int)) + 1970 <= LATEST:
        raise ValueError(text)
    last = (
        (year + np.timedelta64(1, "Y")).astype("datetime64[D]") - np.timedelta64(1, "D") if len(text) == 4 else day.astype("datetime64[D]")
    )
    return day.astype("datetime64[ns]"), last


def _with_dashes(match: re.Match[str]) -> str:
    return f"{match[1]}-{int(match[2]):02d}-{int(match[3]):02d}"


def readings(value: Any) -> str:
    """A value, with both days it could mean where its year stands last."""
    match = _YEAR_LAST.fullmatch(str(value).strip())
    if match is None:
        return repr(value.item() if isinstance(value, np.generic) else value)
    one, two, year = int(match[1]), int(match[2]), match[3] if len(match[3]) == 4 else f"20{match[3]}"
    readings = [f"{year}-{month:02d}-{day:02d}" for day, month in ((one, two), (two, one)) if 1 <= month <= 12 and 1 <= day <= 31]
    return f"{value!r} may be {' or '.join(dict.fromkeys(readings))}" if readings else repr(value)


def _is_blank(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or value != value or str(value).strip() in ("", "NaT", "nan", "None", "<NA>")
